"""Some of the runs that a search would draw."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.errors import InputError
from segtune.planning.feasibility import possible_run
from segtune.space.parameters import RandomSuggest
from segtune.space.space import Space

_SAMPLES = 10  # configurations shown
_PROBED = 3  # of them measured, beside the first run
_MOST_DRAWS = 10_000
_MOST_REPEATED = 1_000  # draws of known runs, after which a small space counts as exhausted


@dataclass(frozen=True)
class Samples:
    """Some runs that a search would draw."""

    runs: list[RunConfig]  # with image_size and paths filled in
    searched: list[dict[str, Any]]  # of each run, the settings that were drawn
    refused: list[str]  # why draws were not taken: a reason for each


def draw_samples(space: Space, info: DataInfo) -> Samples:
    """Return the first runs of a grid, or different runs drawn at random.

    Impossible combinations of settings and repeated runs are drawn again.
    """
    suggest = RandomSuggest(random.Random(space.search.seed))
    endless = (space.draw(suggest) for _ in itertools.count())
    draws = map(space.settings_at, space.grid()) if space.search.sampler == "grid" else endless
    runs: list[RunConfig] = []
    drawn: list[dict[str, Any]] = []
    reasons: list[str] = []
    repeated = 0
    for settings in draws:
        try:
            run = possible_run(space, info, settings)
        except InputError as error:
            reasons.append(error.mistakes[0])
        else:
            if run in runs:
                repeated += 1
            else:
                runs.append(run)
                drawn.append({name: value for name, value in settings.items() if name not in space.fixed})
        if len(runs) == _SAMPLES or len(reasons) == _MOST_DRAWS or repeated == _MOST_REPEATED:
            break
    return Samples(runs, drawn, reasons)


def measured_runs(first: RunConfig, samples: Sequence[RunConfig]) -> dict[str, RunConfig]:
    """Return the runs to measure, by name: the baseline, and some of the other samples."""
    others = [(f"run {number}", run) for number, run in enumerate(samples, start=1) if run != first]
    return {"baseline": first, **dict(others[:_PROBED])}
