"""How often does a confirmation find the configuration that is better in truth, and how often does it say so?

    python benchmarks/power.py --searches 300

Each simulated search has 40 trials of equal worth but one, which is better by some deviations of a score from seed to
seed. The search has one noisy score of each trial. The three best and the baseline, the first trial, train again with
fresh seeds, on the same tiles, and `segtune.evaluation.confirmation` compares them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from segtune.evaluation.confirmation import Confirmation, Repeats, confirm
from segtune.evaluation.overlap import TileCounts

PIXELS = 4096
TRIALS, SKILL = 40, 0.75


@dataclass
class World:
    """Runs on the same tiles, which are hard for all of them alike.

    `seed`: deviation of a run from its configuration, as a share of right pixels; `style`: of a configuration on single
    tiles; `both`: of a run on single tiles.
    """

    random: np.random.Generator
    tiles: int = 30
    seed: float = 0.02
    style: float = 0.05
    both: float = 0.03

    def __post_init__(self) -> None:
        self.hard = self.random.normal(0, 0.1, self.tiles)
        self.share = self.random.beta(2, 5, self.tiles)

    def repeats(self, name: str, skill: float, seeds: int = 3) -> Repeats:
        """A configuration of this skill, a share of right pixels, with several seeds."""
        own = self.random.normal(0, self.style, self.tiles)
        return Repeats(name, tuple(self.run(skill + own) for _ in range(seeds)))

    def run(self, skill: float | np.ndarray) -> TileCounts:
        """What one run counts on the tiles; `skill` may have a value for each tile, (tiles)."""
        moved = self.seed * self.random.normal() + self.both * self.random.normal(size=self.tiles)
        right = np.clip(skill + self.hard + moved, 0.02, 0.98)
        objects = self.random.binomial(PIXELS, self.share)
        hits = self.random.binomial(objects, right)
        alarms = self.random.binomial(PIXELS - objects, 0.25 * (1 - right))
        numbers = [PIXELS - objects - alarms, alarms, objects - hits, hits]
        return TileCounts.of(np.stack(numbers, axis=-1).reshape(-1, 2, 2))


def searched(random: np.random.Generator, skills: Sequence[float], top: int = 3, seeds: int = 3) -> Confirmation:
    """Search among configurations, with one noisy score each, and confirm the best ones; the first is the baseline."""
    world = World(random)
    # The noise of a share of right pixels is that of one seed, and of the configuration's own tiles.
    noise = np.sqrt(world.seed**2 + (world.style**2 + world.both**2) / world.tiles)
    scores = np.array(skills) + noise * random.normal(size=len(skills))
    best = 1 + np.argsort(-scores[1:])[:top]
    return confirm([world.repeats(str(number), skills[number], seeds) for number in (0, *best.tolist())])


def claimed(found: Confirmation) -> bool:
    """Whether the confirmation says that its best is better than the baseline."""
    gain = found.gain_over("0")
    return gain is not None and gain.shown


@dataclass(frozen=True)
class Power:
    """How many of some simulated searches end how, where one trial is better in truth."""

    retrained: int  # the better one is among those that train again
    best: int  # it has the best mean
    found: int  # it has the best mean, and its gain over the baseline is claimed
    other: int  # the gain of another one is claimed


def power(searches: int, deviations: float, seeds: int, number: int = 0) -> Power:
    """Simulate searches in which one trial is better by so many deviations from seed to seed."""
    random, better = np.random.default_rng(number), str(TRIALS - 1)
    skills = [SKILL] * (TRIALS - 1) + [SKILL + deviations * World.seed]
    each = [searched(random, skills, seeds=seeds) for _ in range(searches)]
    best = [found for found in each if found.best.name == better]
    return Power(
        sum(any(mean.name == better for mean in found.means) for found in each),
        len(best),
        sum(map(claimed, best)),
        sum(map(claimed, each)) - sum(map(claimed, best)),
    )


def table(searches: int) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    yield "| better by, deviations | seeds | trains again | best mean | its gain claimed | that of another |"
    yield "|---|---|---|---|---|---|"
    for deviations in (0, 2, 3, 4):
        for seeds in (3, 5, 10):
            got = power(searches, deviations, seeds)
            shares = [f"{part / searches:.0%}" for part in (got.retrained, got.best, got.found, got.other)]
            yield f"| {deviations} | {seeds} | {' | '.join(shares)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=300, help="simulated searches for each row")
    for line in table(parser.parse_args().searches):
        print(line, flush=True)


if __name__ == "__main__":
    main()
