"""Read the state of a search from its folder, in another process and without writing anything."""

from __future__ import annotations

from segtune.files.folders import SearchFolder
from segtune.trials import SearchState
from segtune.tuning.results import Results
from segtune.tuning.search_yaml import stored_space
from segtune.tuning.stopping import reason_of, seconds_of
from segtune.tuning.study import read_study


def search_state(folder: SearchFolder) -> SearchState:
    """Return the state of the search in a folder; raise InputError where there is none."""
    folder.check_begun()
    space, damage = stored_space(folder)
    study = read_study(folder)
    results = Results(study, folder, space, study.user_attrs.get("fingerprint", ""))
    return SearchState(
        folder.path,
        results.trials(),
        space.trials(),
        seconds_of(study),
        folder.holder(),
        space.search.time_budget,
        reason_of(study),
        [*([damage] if damage else []), *results.remarks()],
    )
