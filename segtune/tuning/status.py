"""Read the state of a search from its folder, in another process and without writing anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from segtune.confirmed import Confirmation
from segtune.errors import counted
from segtune.files.folders import SearchFolder
from segtune.trials import SearchState, Trial, ranked
from segtune.tuning.repeats import runs_of
from segtune.tuning.results import Results, with_intervals
from segtune.tuning.search_yaml import stored_space
from segtune.tuning.stopping import reason_of, seconds_of
from segtune.tuning.study import read_study


def search_state(folder: SearchFolder) -> SearchState:
    """Return the state of the search in a folder; raise InputError where there is none."""
    folder.check_begun()
    space, damage = stored_space(folder)
    study = read_study(folder)
    results = Results(study, folder, space, study.user_attrs.get("fingerprint", ""))
    trials = with_intervals(results.trials(), folder)
    waiting = _waiting(results.confirmation, trials, folder)
    if space.search.folds and (order := ranked(trials)):
        waiting += not folder.final(order[0].number).tiles.is_file()
    return SearchState(
        folder.path,
        trials,
        space.trials(),
        seconds_of(study),
        folder.holder(),
        space.search.time_budget,
        reason_of(study),
        [*([damage] if damage else []), *results.remarks()],
        list(_confirmed(results.confirmation, trials, folder)),
        space.search.costs,
        space.search.prefer,
        waiting,
    )


def _waiting(confirmation: Confirmation | None, trials: Sequence[Trial], folder: SearchFolder) -> int:
    """Return how many runs are left of a confirmation that counts."""
    if confirmation is None or not confirmation.holds(trials):
        return 0
    return sum(not run.done and run.name not in confirmation.failed for run in runs_of(confirmation, trials, folder))


def _confirmed(confirmation: Confirmation | None, trials: Sequence[Trial], folder: SearchFolder) -> Iterator[str]:
    """Yield how the confirmation of the winner stands."""
    if confirmation is None or not confirmation.holds(trials):
        return
    runs = list(runs_of(confirmation, trials, folder))
    done = sum(run.done for run in runs)
    failed = f", {len(confirmation.failed)} failed" if confirmation.failed else ""
    yield f"confirmation: {done} of {counted(len(runs), 'run')} with fresh seeds done{failed}"
    if confirmation.result:
        yield f"  {confirmation.result.sentence}"
