"""Compare configurations by their runs with fresh seeds, and put what that shows into one record."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from segtune.confirmed import Confirmed, Repeated
from segtune.errors import InputError
from segtune.evaluation.confirmation import Confirmation, Mean, Repeats, confirm
from segtune.evaluation.grouping import Grouping
from segtune.evaluation.measure import Measure
from segtune.evaluation.overlap import TileCounts
from segtune.models.manifest import Manifest
from segtune.tuning.repeats import RepeatRun

_BASELINE = "0"


def compared_runs(
    runs: Mapping[int, Sequence[RepeatRun]],
    counts: Mapping[str, TileCounts],
    grouping: Grouping,
    measure: Measure,
    limits: str | None = None,
) -> Confirmed:
    """Return what the runs of at least two configurations show.

    Parameters
    ----------
    runs: those that are done, by trial; at least two of each.
    counts: what each run counted on each tile, by the name of the run.
    grouping: which tiles are drawn together.
    measure: what is compared.
    limits: the limits of costs, which `fits` of the trials is about.

    Raises InputError where there are fewer than two tiles, or groups.
    """
    repeats = [Repeats(str(number), tuple(counts[run.name] for run in own)) for number, own in runs.items()]
    over = [str(number) for number, own in runs.items() if not own[0].trial.fits]
    found = confirm(repeats, grouping.groups, _BASELINE, measure, over)
    configurations = tuple(_repeated(mean, runs[int(mean.name)], found) for mean in found.means)
    drawn = _drawn(grouping, found, confirm(repeats, measure=measure, outside=over))
    return Confirmed(
        configurations,
        found.tiles,
        found.groups,
        drawn=drawn,
        objective=found.objective,
        unsure=found.unsure,
        limits=limits,
        folds=next(iter(runs.values()))[0].trial.folds,
    )


def _repeated(mean: Mean, runs: Sequence[RepeatRun], found: Confirmation) -> Repeated:
    lead, gain = found.gain_over(mean.name), found.over_reference.get(mean.name)
    seconds = [epochs[-1].seconds for run in runs if (epochs := run.epochs())]
    trial = runs[0].trial
    return Repeated(
        trial=trial.number,
        settings=dict(trial.searched),
        searched=trial.score if trial.folds == 1 else None,  # a mean over folds; these are of all tiles together
        seeds=tuple(run.seed for run in runs),
        scores=mean.scores,
        mean=mean.mean,
        deviation=mean.deviation,
        seconds=statistics.median(seconds) if seconds else 0.0,
        run=runs[mean.median].model,
        lead=lead.miou if lead else None,
        probability=lead.probability if lead else None,
        interval=mean.interval,
        gain=gain.miou if gain else None,
        fits=trial.fits,
        times=tuple(seconds),
        latencies=_latencies(runs),
    )


def _latencies(runs: Sequence[RepeatRun]) -> tuple[float, ...]:
    """Return the latency that each run measured, in milliseconds; those of unreadable files are left out."""
    found = []
    for run in runs:
        try:
            found.append(Manifest.read(run.folder.run_yaml).latency)
        except InputError:
            continue
    return tuple(latency for latency in found if latency)


def _drawn(grouping: Grouping, found: Confirmation, alone: Confirmation) -> str:
    """Return a line about what was drawn for the intervals, where that matters; empty for none.

    `alone` is what is found where tiles are drawn one by one.
    """
    if grouping.groups is None:
        return grouping.remark or ""
    if found.unsure:
        return ""
    first, single = found.gains[0], alone.gain_over(found.gains[0].over)
    what = "the interval of the winner's lead"
    return (single and grouping.difference(first.miou, single.miou, what)) or ""
