"""The report of replayed searches: tables of what was found by training spent, wins and losses as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from found import ARITHMETIC, GEOMETRIC, Array, Band, Results, ratios
from judge import CHOSEN, OWN_CURVES, candidates, cross_validate, epochs_of
from methods import BEFORE, DEFAULT, METHODS, PLAIN, RIVAL
from recorded import Recorded, pools
from simulation import BUDGETS, OWN, SURROGATE, TABLE, Replay

_AIM, _LEAST_AIM = 0.10, 0.20  # of its training time
_EARLY, _LATE = 5, 20  # full trainings: what `BEFORE` has after the second is to be found after the first
_TITLES = {
    SURROGATE: "surrogate of the curves of all data sets",
    OWN: "surrogate of the data set's own curves alone",
    TABLE: "recorded configurations alone (no surrogate)",
}
_NAME = 36  # characters of a method's name
_CELL = 19


def report(replays: Sequence[Replay], sets: Mapping[str, Recorded]) -> Iterator[str]:
    """The whole report, line by line."""
    landscapes = {replay.key.landscape for replay in replays}
    for landscape, regression in ((SURROGATE, CHOSEN), (OWN, OWN_CURVES)):
        if landscape in landscapes:
            yield from about(sets, regression)
    yield from tables(replays, sets)


def tables(replays: Sequence[Replay], sets: Mapping[str, Recorded]) -> Iterator[str]:
    """What the replays found, and what they took, line by line."""
    for landscape in dict.fromkeys(replay.key.landscape for replay in replays):
        for workers in sorted({replay.key.workers for replay in replays}):
            some = [r for r in replays if (r.key.landscape, r.key.workers) == (landscape, workers)]
            for pool in pools(sets):
                own = {recorded.name: recorded for recorded in pool}
                found = [r for r in some if r.key.set in own]
                results = Results([r for r in found if not METHODS[r.key.method].oracle], own)
                oracles = Results([r for r in found if r.key.method == BEFORE or METHODS[r.key.method].oracle], own)
                seeds = max(results.seeds, oracles.seeds)
                if seeds:
                    yield ""
                    yield f"=== {_TITLES[landscape]}, {count(workers, 'worker')}, {count(seeds, 'seed')} ==="
                if results.sets:
                    yield from _tables(results)
                if any(METHODS[method].oracle for method in oracles.methods):
                    yield from _oracles(oracles)
    yield from _costs(replays)


def count(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def about(sets: Mapping[str, Recorded], regression: str) -> Iterator[str]:
    """Say how good a surrogate is on curves that it was not fitted to."""
    yield f"surrogate ({regression}) on configurations that are left out of the fit on all data sets:"
    yield "mean absolute error, Spearman, Spearman in the upper half; a score's deviation from seed to seed there"
    for pool in pools(sets):
        found = cross_validate(pool, candidates()[regression], everywhere=True)
        for recorded in pool:
            for epoch, quality in zip(epochs_of(recorded), found[recorded.name], strict=True):
                yield f"  {recorded.name:14} epoch {epoch:2}  {quality}   {_chance(recorded, epoch):.4f}"


def _chance(recorded: Recorded, epoch: int) -> float:
    repeats = recorded.repeats
    upper = repeats.level >= np.median(recorded.best[:, -1])
    pairs = repeats.miou[upper] if upper.any() else repeats.miou
    return float(np.sqrt(np.mean(pairs[:, epoch - 1] ** 2)))


def _tables(results: Results) -> Iterator[str]:
    yield _head(results.budgets)
    for name in results.sets:
        yield f"best mIoU on {name}, by full trainings"
        yield from _rows(results, {method: _scores(results, name, method) for method in results.methods})
    if len(results.sets) > 1:
        yield f"best mIoU, mean over {count(len(results.sets), 'data set')}"
        yield from _rows(results, {method: _mean_scores(results, method) for method in results.methods})
        yield "regret, mean over data sets: 0 is the best recorded configuration, 1 the median one"
        yield from _rows(results, {method: _regrets(results, method) for method in results.methods})
    if results.in_table:
        yield "share of the recorded configurations that were begun, mean over data sets and seeds"
        columns = (*results.budgets, results.targets[-1])
        yield _head(columns)
        shares = {m: [f"{results.share_tried(m, budget):.0%} " for budget in columns] for m in results.methods}
        yield from _rows(results, shares)
    if PLAIN in results.methods:
        yield from _times(results)
    if BEFORE in results.methods:
        yield from _early(results)
    if DEFAULT in results.methods:
        yield from _equal(results)
    if RIVAL in results.methods:
        yield f"+ -: significantly better or worse than {RIVAL} (paired by seed, 95 %)"
        yield from _losses(results)


def _oracles(results: Results) -> Iterator[str]:
    """Show what a prior brings or costs at most: it is the best or worst configuration of the searched data set."""
    yield "oracles: they know the best or the worst recorded configuration of the data set that they search"
    yield _head(results.budgets)
    for name in results.sets:
        yield f"best mIoU on {name}, by full trainings"
        yield from _rows(results, {method: _scores(results, name, method) for method in results.methods})


def _head(budgets: Iterable[int]) -> str:
    return f"{'':{_NAME}}" + "".join(f"{f'after {budget}':>{_CELL}}" for budget in budgets)


def _rows(results: Results, cells: Mapping[str, Iterable[str]]) -> Iterator[str]:
    for method, row in cells.items():
        name = f"  {method}{' (default)' if method == DEFAULT else ''}"
        yield f"{name:{_NAME}}" + "".join(f"{cell:>{_CELL}}" for cell in row)


def _scores(results: Results, name: str, method: str) -> list[str]:
    found = [(results.at(name, method, budget), _rival(results, name, budget)) for budget in results.budgets]
    return [f"{Band.of(ours)}{_sign(ours, rival)}" for ours, rival in found]


def _mean_scores(results: Results, method: str) -> list[str]:
    ours = [results.mean_at(method, budget) for budget in results.budgets]
    rivals = [results.mean_at(RIVAL, budget) if RIVAL in results.methods else None for budget in results.budgets]
    return [f"{Band.of(mine)}{_sign(mine, rival)}" for mine, rival in zip(ours, rivals, strict=True)]


def _regrets(results: Results, method: str) -> list[str]:
    ours = [results.mean_regret(method, budget) for budget in results.budgets]
    rivals = [results.mean_regret(RIVAL, budget) if RIVAL in results.methods else None for budget in results.budgets]
    return [
        f"{Band.of(mine)}{_sign(-mine, None if rival is None else -rival)}"
        for mine, rival in zip(ours, rivals, strict=True)
    ]


def _rival(results: Results, name: str, budget: int) -> Array | None:
    return results.at(name, RIVAL, budget) if RIVAL in results.methods else None


def _sign(ours: Array, rival: Array | None) -> str:
    return " " if rival is None else Band.of(ours - rival).sign


def _times(results: Results) -> Iterator[str]:
    """Training time until an mIoU is reached."""
    columns = results.sets if len(results.sets) == 1 else [*results.sets, GEOMETRIC, ARITHMETIC]
    for budget in results.targets:
        yield f"training time until the mIoU that {PLAIN} has after {budget} full trainings, as a multiple of its"
        yield f"time; 95 % interval over seeds; a time beyond {BUDGETS[-1]} counts as {BUDGETS[-1]}"
        found = ratios(results, budget)
        yield f"{'':{_NAME}}" + "".join(f"{name:>{_CELL}}" for name in columns)
        cells = {method: [f"{found[method][name]} " for name in columns] for method in results.methods}
        yield from _rows(results, cells)
    yield f"aim: at most {_AIM:.2f}, or at least below {_LEAST_AIM:.2f}"
    for method in results.methods:
        mean = found[method][columns[-1]].value
        if mean < _LEAST_AIM:
            yield f"  {method}: {mean:.2f}, {'reached' if mean <= _AIM else f'below {_LEAST_AIM:.2f}'}"


def _early(results: Results) -> Iterator[str]:
    """Compare the start of each method with what `BEFORE` has later."""
    yield f"regret after {_EARLY} full trainings, less that of {BEFORE} after {_LATE}; aim: not above 0; *: significant"
    columns = results.sets if len(results.sets) == 1 else [*results.sets, ARITHMETIC]
    yield f"{'':{_NAME}}" + "".join(f"{name:>{_CELL}}" for name in columns)
    cells = {}
    for method in results.methods:
        less = {
            name: results.regret(name, method, _EARLY) - results.regret(name, BEFORE, _LATE) for name in results.sets
        }
        less[ARITHMETIC] = np.mean([less[name] for name in results.sets], axis=0)
        bands = [Band.of(less[name]) for name in columns]
        cells[method] = [f"{band.mean:+.3f} ±{band.half:.3f}{'*' if band.sign.strip() else ' '}" for band in bands]
    yield from _rows(results, cells)


def _equal(results: Results) -> Iterator[str]:
    """Say when the others have what the default has early."""
    yield f"full trainings after which another has what the default has after {_EARLY}: by mean regret, by mean mIoU"
    for method in results.methods:
        if method != DEFAULT:
            found = (results.equal_regret(DEFAULT, method, _EARLY), results.equal_miou(DEFAULT, method, _EARLY))
            yield f"  {method:{_NAME - 2}}" + "".join(f"{'never' if each is None else each:>{_CELL}}" for each in found)


def _losses(results: Results) -> Iterator[str]:
    """List every case in which a method is significantly worse than `RIVAL`."""
    cases = len(results.sets) * len(results.budgets)
    yield f"significantly worse than {RIVAL}, of {cases} cases each (chance alone: 1 in 40)"
    for method in results.methods:
        if method in (RIVAL, PLAIN):
            continue
        worse = []
        for name in results.sets:
            for budget in results.budgets:
                band = Band.of(results.at(name, method, budget) - results.at(name, RIVAL, budget))
                worse += [f"{name} after {budget} ({band.mean:+.4f})"] if band.sign == "-" else []
        yield f"  {method}: {', '.join(worse) or 'never'}"


def _costs(replays: Sequence[Replay]) -> Iterator[str]:
    """Say what the replays themselves took."""
    yield ""
    yield "CPU seconds of a replay, and its trials"
    for method in dict.fromkeys(replay.key.method for replay in replays):
        own = [replay for replay in replays if replay.key.method == method]
        seconds, trials = np.mean([(r.cpu_seconds, r.trials[-1]) for r in own], axis=0)
        yield f"  {method:{_NAME - 2}}{seconds:8.2f}{trials:8.0f}"
    yield f"  all {len(replays)}: {sum(replay.cpu_seconds for replay in replays) / 60:.0f} minutes"
