"""Read the state of a search from its folder, in another process and without writing anything."""

from __future__ import annotations

from segtune.files.folders import SearchFolder
from segtune.trials import SearchState, ranked
from segtune.tuning.results import Results, with_intervals
from segtune.tuning.search_yaml import stored_space
from segtune.tuning.standing import runs_left, standing
from segtune.tuning.stopping import reason_of, seconds_of
from segtune.tuning.study import read_study


def search_state(folder: SearchFolder) -> SearchState:
    """Return the state of the search in a folder; raise InputError where there is none."""
    folder.check_begun()
    space, damage = stored_space(folder)
    study = read_study(folder)
    results = Results(study, folder, space, study.user_attrs.get("fingerprint", ""))
    trials = with_intervals(results.trials(), folder)
    confirmation = results.confirmation
    waiting = runs_left(confirmation, trials, folder)
    if space.search.folds and (order := ranked(trials)):
        waiting += not folder.final(order[0].number).tiles.is_file()
    stands = standing(confirmation, trials, folder)
    found = confirmation.result if confirmation and confirmation.holds(trials) else None
    return SearchState(
        folder.path,
        trials,
        space.trials(),
        seconds_of(study),
        folder.holder(),
        space.search.time_budget,
        reason_of(study),
        [*([damage] if damage else []), *results.remarks()],
        [*([stands] if stands else []), *([f"  {found.sentence}"] if found else [])],
        space.search.costs,
        space.search.prefer,
        waiting,
    )
