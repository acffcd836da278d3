"""What training the best trials of a search again with fresh seeds showed, as plain data, and confirmation.json."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from segtune.errors import InputError, one_line
from segtune.evaluation.intervals import Interval
from segtune.fields import SCORE_NEUTRAL
from segtune.files.atomic import write_text
from segtune.objectives import MIOU
from segtune.trials import Seeds, Trial, by_score
from segtune.vocabulary import yaml_text

_MUCH_SLOWER = 1.2  # times: runs beside each other on one machine take so much longer by chance
_NAMED = 2  # settings that a name holds
_LOOSE = SCORE_NEUTRAL | {"threads"}  # settings in which two trials may differ and be one configuration
_BASELINE = "the baseline"


@dataclass(frozen=True)
class Repeated:
    """A configuration that was trained with several seeds."""

    trial: int
    settings: Mapping[str, Any]  # those that the search chose
    searched: float | None  # the search's own number
    seeds: tuple[int, ...]  # the first, second, ... fresh seed; without those whose run failed
    scores: tuple[float, ...]  # by the objective of the search, by seed
    mean: float
    deviation: float | None
    seconds: float  # of training and evaluation: the median over the seeds
    run: str  # the folder of the run with the median score
    lead: Interval | None = None  # how much better the winner's mean is; None for the winner
    probability: float | None = None  # that the winner is better in truth; None for the winner
    interval: Interval | None = None  # of the mean, for other seeds and other tiles
    gain: Interval | None = (
        None  # of the mean over that of the baseline; None for the baseline, or where that is missing
    )
    fits: bool = True  # whether it keeps the limits of costs that the search had then
    times: tuple[float, ...] = ()  # seconds of training and evaluation, of each run; older files lack them
    latencies: tuple[float, ...] = ()  # milliseconds of a forward pass of one image, of each run that measured it

    @property
    def baseline(self) -> bool:
        """Whether it is the baseline."""
        return self.trial == 0

    @property
    def score(self) -> float:
        """The score of the run whose model is kept, which is the median; of two in the middle, the lower one."""
        return sorted(self.scores)[(len(self.scores) - 1) // 2]

    @property
    def optimism(self) -> float | None:
        """How much the search's own number is above the mean over fresh seeds."""
        return None if self.searched is None else self.searched - self.mean


@dataclass(frozen=True)
class Confirmed:
    """The configurations by their means over fresh seeds, the winner first and those over limits of costs last."""

    configurations: tuple[Repeated, ...]
    tiles: int
    groups: int | None  # None where tiles were drawn one by one
    sentence: str = ""
    drawn: str = ""  # what was drawn for the intervals, where that matters
    objective: str = MIOU  # what all scores are
    unsure: str | None = None  # why there are no leads and no intervals; None where there are
    limits: str | None = None  # of costs, that the search had then
    folds: int = 1  # of the runs, whose models are then not kept

    @property
    def winner(self) -> Repeated:
        """The configuration with the best mean; of those that keep the limits of costs, if there are any."""
        return self.configurations[0]

    @property
    def baseline(self) -> Repeated | None:
        """The baseline; None where it could not be repeated."""
        return next((one for one in self.configurations if one.baseline), None)

    @property
    def gained(self) -> bool:
        """Whether the winner's gain over the baseline is more than chance brings."""
        return bool(self.baseline and self.baseline.lead and self.baseline.lead.low > 0)


@dataclass(frozen=True)
class Look:
    """A look at the test tiles."""

    split: str
    tiles: int
    winner: int  # the trial
    miou: float  # the score of the winner; mIoU, or the objective of the search
    interval: Interval | None  # of the winner's score; None for a single tile
    baseline: float | None  # None where the winner is the baseline, or where that could not be repeated
    gain: Interval | None
    look: int = 1  # how often the test tiles were looked at, this time included
    objective: str = MIOU  # what the scores are, also the one that is called miou
    unsure: str | None = None  # why several tiles give no interval and no gain; None elsewhere


@dataclass(frozen=True)
class Confirmation:
    """The state of a confirmation: what is to be trained, what failed, and what was found."""

    top: int  # as asked for
    wanted: int  # seeds, as asked for
    trials: tuple[int, ...]  # those that train again; the baseline among them comes first
    seeds: int
    failed: Mapping[str, str] = field(default_factory=dict)  # by folder: the reason
    result: Confirmed | None = None
    tests: tuple[Look, ...] = ()

    by_flags: bool = False  # the numbers asked for are those of flags, whatever the settings of the search say
    reduced: bool = False  # fewer trials or seeds than asked for, because time was short

    def repeats_the_best(self, trials: Sequence[Trial]) -> bool:
        """Return whether the trials that train again are still the best ones."""
        return self._best_now(trials) == list(self.trials)

    def lapsed(self, trials: Sequence[Trial]) -> str | None:
        """Return why it no longer counts; None where it does.

        It counts as long as the same trials are the best ones, and the limits of costs part them as they did: that none
        keeps the limits is the same as that all do.
        """
        if not self.repeats_the_best(trials):
            return f"the best trials are now {called(self._best_now(trials))}"
        known = {trial.number: trial.fits for trial in trials}
        configurations = self.result.configurations if self.result else ()
        before, now = [one.fits for one in configurations], [known.get(one.trial) for one in configurations]
        if before != now and not len(set(before)) == len(set(now)) == 1:
            return "the limits of costs leave others of them"
        return None

    def holds(self, trials: Sequence[Trial]) -> bool:
        """Return whether it still counts."""
        return self.lapsed(trials) is None

    def _best_now(self, trials: Sequence[Trial]) -> list[int]:
        return chosen(trials, sum(number > 0 for number in self.trials))

    def attached(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the trials with what fresh seeds showed; as they are where that no longer counts."""
        if not self.result or not self.holds(trials):
            return list(trials)
        gained = self.result.gained
        found = {
            one.trial: Seeds(
                one.mean, one.run, one.score, gained and one is self.result.winner, one.deviation, one.interval
            )
            for one in self.result.configurations
        }
        return [replace(trial, confirmed=found.get(trial.number)) for trial in trials]

    def write(self, path: Path) -> None:
        """Write confirmation.json."""
        write_text(path, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Confirmation | None:
        """Read confirmation.json; None where there is none. Raises InputError where it is damaged."""
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise InputError(f"{path}: damaged, not a confirmation ({one_line(error)})") from None


def chosen(trials: Iterable[Trial], top: int) -> list[int]:
    """Return the trials that are to train again: the baseline, and the best others by the search's own numbers.

    A trial that was stopped, or waits, counts with the score that it has. One that failed would fail again. Of trials
    with the same settings, the best one counts.
    """
    found: list[int] = []
    seen = []
    known = [trial for trial in by_score(trials) if trial.status != "failed"]
    for trial in sorted(known, key=lambda trial: not trial.baseline):  # stable
        settings = {name: value for name, value in trial.settings.items() if name not in _LOOSE}
        if settings in seen or not (trial.baseline or trial.learnt):
            continue
        seen.append(settings)
        found.append(trial.number)
    return found[: top + (0 in found)]


def called(trials: Sequence[int]) -> str:
    """Return the numbers of trials as people call them: ``the baseline, #3 and #5``."""
    *names, last = [_BASELINE if number == 0 else f"#{number}" for number in trials] or ["none"]
    return f"{', '.join(names)} and {last}" if names else last


def sentence(found: Confirmed) -> str:
    """Say what was found, in one sentence: what is better than what, by how much, and what cannot be told apart."""
    winner, base = found.winner, found.baseline
    parts = [_of_winner(found, base)]
    for one in found.configurations[1:]:
        if one.baseline or not one.lead or one.lead.low > 0:
            continue
        if winner.fits and not one.fits:
            parts.append(f"{named(found, one)} is over the limits, and the gain over it is {_lead(one, '95%: ')}")
        else:
            parts.append(f"{named(found, one)} is not distinguishable from it {_close(one)}{_pace(one, winner)}")
    if found.unsure:
        parts.append(found.unsure)
    return "; ".join(parts) + "."


def _of_winner(found: Confirmed, base: Repeated | None) -> str:
    """Say how good the winner is beside the baseline, which may have a better mean and be over the limits of costs."""
    winner, name = found.winner, named(found, found.winner)
    limited = found.limits is not None and winner.fits  # another trial may be better, and not have trained again
    those = f" of those that keep the limits ({found.limits})" if limited else ""
    best = f"{name} has the best mean over its seeds{those}, {winner.mean:.3f}"
    if base is None:
        return f"{best}; the baseline could not be repeated"
    if winner.baseline:
        return f"{best}: nothing that was tried{' and keeps them' if limited else ''} beats it"
    if limited and not base.fits:
        gain = f"the gain over it is {_lead(base, '95%: ')}" if base.lead else f"has {base.mean:.3f}"
        return f"{best}; {_BASELINE} is over the limits, and {gain}"
    if found.unsure:
        return f"{best}, and {_BASELINE} has {base.mean:.3f}"
    if found.gained:
        return f"{name} is better than {_BASELINE} by {_lead(base, '95%: ')}"
    return f"{name} has the best mean{those}, but is not distinguishable from {_BASELINE} {_close(base)}"


def named(found: Confirmed, one: Repeated) -> str:
    """Return a configuration as people call it: the baseline, or its number and the settings that set it apart."""
    if one.baseline:
        return _BASELINE
    others = [other.settings for other in found.configurations if not other.baseline]
    apart = [name for name in one.settings if len({yaml_text(settings.get(name)) for settings in others}) > 1]
    words = [name for name in apart if isinstance(one.settings[name], str)] or apart
    values = [_text(name, one.settings[name]) for name in words[:_NAMED]]
    return f"trial #{one.trial}" + (f" ({', '.join(values)})" if values else "")


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {yaml_text(value)}"


def _lead(one: Repeated, before: str) -> str:
    assert one.lead
    return f"{one.lead.value:.3f} ({before}{one.lead.low:z.3f} to {one.lead.high:z.3f})"


def _close(one: Repeated) -> str:
    assert one.lead
    return f"({one.lead.value:.3f}, {one.lead.low:z.3f} to {one.lead.high:z.3f})"


def _pace(one: Repeated, winner: Repeated) -> str:
    """Say how much slower or faster one is, where each of its runs is so beside each run of the winner."""
    for own, others, what in ((one.latencies, winner.latencies, "predict"), (one.times, winner.times, "train")):
        if not own or not others:
            continue
        times = statistics.median(own) / statistics.median(others)
        if min(own) >= _MUCH_SLOWER * max(others):
            return f", and {times:.1f} times slower to {what}"
        if min(others) >= _MUCH_SLOWER * max(own):
            return f", and {1 / times:.1f} times faster to {what}"
    return ""
