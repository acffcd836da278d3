"""How the confirmation of a search stands, in words: how much of it is done, or why it no longer counts."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from segtune.confirmed import Confirmation, called, chosen
from segtune.errors import counted
from segtune.files.folders import SearchFolder
from segtune.trials import Trial
from segtune.tuning.repeats import runs_of


def confirm_command(folder: SearchFolder) -> str:
    """Return what to type to confirm the winner of a search, or to go on with that."""
    place = folder.path.absolute()
    usual = place.parent == Path("ray_results").absolute()
    return f"run_search.py --confirm {shlex.quote(place.name if usual else str(place))}"


def runs_left(confirmation: Confirmation | None, trials: Sequence[Trial], folder: SearchFolder) -> int:
    """Return how many runs are left of a confirmation that counts."""
    if confirmation is None or not confirmation.holds(trials):
        return 0
    return sum(not run.done and run.name not in confirmation.failed for run in runs_of(confirmation, trials, folder))


def standing(confirmation: Confirmation | None, trials: Sequence[Trial], folder: SearchFolder) -> str | None:
    """Return how a confirmation stands: how many runs are done, or why it no longer counts; None where there is none.

    Where a command goes on with it, that is named, unless a process has the search.
    """
    if confirmation is None:
        return None
    then = "" if folder.holder() else f"; {confirm_command(folder)}"
    if lapsed := confirmation.lapsed(trials):
        done, runs = _done(replace(confirmation, trials=tuple(chosen(trials, confirmation.top))), trials, folder)
        again = f"{then} confirms again, and {done} of the {counted(runs, 'run')} for that are done" if then else ""
        return f"the confirmation of {called(confirmation.trials)} no longer counts, since {lapsed}{again}"
    done, runs = _done(confirmation, trials, folder)
    failed = f", {len(confirmation.failed)} failed" if confirmation.failed else ""
    goes_on = f"{then} goes on" if then and runs_left(confirmation, trials, folder) else ""
    return f"confirmation: {done} of {counted(runs, 'run')} with fresh seeds done{failed}{goes_on}"


def _done(confirmation: Confirmation, trials: Sequence[Trial], folder: SearchFolder) -> tuple[int, int]:
    runs = list(runs_of(confirmation, trials, folder))
    return sum(run.done for run in runs), len(runs)
