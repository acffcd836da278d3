"""Warm start: tell a new search the trials of earlier ones, before its first trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from segtune.config import RunConfig
from segtune.errors import InputError, counted
from segtune.fields import SCORE_NEUTRAL, present_spelling
from segtune.files.folders import SearchFolder
from segtune.objectives import MIOU
from segtune.space.space import Space
from segtune.tuning.points import Signature, distributions, encode, signature
from segtune.tuning.study import FOLDS, WARM_START, expected_value, is_paused, read_study

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def check_earlier(
    searches: Sequence[Path], space: Space, fingerprint: str, anyway: bool, own: SearchFolder | None = None
) -> None:
    """Raise InputError for earlier searches that cannot teach this one.

    These are folders without a study, searches on other data unless `anyway` is set, and the search's `own` folder; and
    all folders if the space's sampler does not learn from trials.
    """
    mistakes = []
    if searches and space.search.sampler != "tpe":
        mistakes.append(f"--warm-start: sampler {space.search.sampler} does not learn from trials, only tpe does")
    for path in searches:
        if own and path.resolve() == own.path.resolve():
            mistakes.append(f"--warm-start {path}: is this search itself, which has its own trials already")
            continue
        try:
            study = read_study(SearchFolder(path))
            known = study.user_attrs.get("fingerprint")
        except InputError as error:
            mistakes += [f"--warm-start {mistake}" for mistake in error.mistakes]
            continue
        if (objective := _objective_of(study)) not in (None, space.search.objective):
            text = f"was searched by {objective}, and this search by {space.search.objective}; their scores differ"
            mistakes.append(f"--warm-start {path}: {text}")
        if (folds := _folds_of(study)) != space.search.folds:
            asked = f"this search by {space.search.folds}" if space.search.folds else "this search by none"
            text = f"was scored by {counted(folds, 'fold') if folds else 'no folds'}, and {asked}; their scores differ"
            mistakes.append(f"--warm-start {path}: {text}")
        if known != fingerprint and not anyway:
            mistakes.append(
                f"--warm-start {path}: was searched on other data; --warm-start-anyway takes it for similar enough"
            )
    if mistakes:
        raise InputError(mistakes)


def _objective_of(study: optuna.Study) -> str | None:
    """Return what the trials of a study were compared by; None where it has none."""
    own = [trial.user_attrs for trial in study.get_trials(deepcopy=False) if WARM_START not in trial.user_attrs]
    return next((each["settings"].get("objective", MIOU) for each in own if "settings" in each), None)


def _folds_of(study: optuna.Study) -> int | None:
    """Return how many folds the trials of a study were scored by; None where they were scored on val."""
    own = [trial.user_attrs for trial in study.get_trials(deepcopy=False) if WARM_START not in trial.user_attrs]
    return next((each.get(FOLDS) for each in own if "settings" in each), None)


def tell_earlier(study: optuna.Study, space: Space, resolved: RunConfig, searches: Sequence[Path]) -> list[str]:
    """Add the trials of other searches that lie in this space; return a line per search with their number.

    A paused trial teaches what a stopped one does: a search that ended by its time leaves its best unfinished ones so.
    They keep their values by epoch, and are marked with their origin. They do not count as trials of this search,
    cannot win it, and fill no rung of ASHA: its own trials would be compared with weights that it does not have.
    `resolved` is the baseline with the settings that depend on the data.
    """
    lines = []
    here = {_content(trial) for trial in study.get_trials(deepcopy=False)}
    for path in {path.resolve(): path for path in reversed(searches)}.values():
        earlier = read_study(SearchFolder(path)).get_trials(deepcopy=False)
        ended = [trial for trial in earlier if trial.state in _ENDED or is_paused(trial)]
        told = [told for trial in ended if (told := _as_told(trial, space, resolved, path)) is not None]
        new = {_content(trial): trial for trial in told if _content(trial) not in here}
        study.add_trials(new.values())
        here |= new.keys()
        kind = "ended or paused" if any(map(is_paused, ended)) else "ended"
        lines.append(f"{path}: {len(told)} of its {len(ended)} {kind} trials lie in this space, and teach the sampler")
    return lines


def _content(trial: FrozenTrial) -> tuple[Signature, frozenset[tuple[int, float]]]:
    """Return what a trial teaches, to recognize it again: its search's folder may have been moved or copied."""
    return signature(trial.params), frozenset(trial.intermediate_values.items())


def _as_told(trial: FrozenTrial, space: Space, resolved: RunConfig, origin: Path) -> FrozenTrial | None:
    settings = trial.user_attrs.get("settings")
    if settings is None or not trial.intermediate_values:  # from a third search, or without an epoch
        return None
    point = space.locate(_comparable(settings, space.baseline.settings(), resolved.settings()))
    if point is None:
        return None
    known = dict(distributions(space.parameters))
    return create_trial(
        state=TrialState.PRUNED if is_paused(trial) else trial.state,
        value=expected_value(trial),
        params=encode(point),
        distributions={key: known[key] for key in point},
        intermediate_values=trial.intermediate_values,
        user_attrs={WARM_START: f"{origin.absolute()} #{trial.number}"},
    )


def _comparable(settings: Mapping[str, Any], written: Mapping[str, Any], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as this search's file would have them: open where the data decides, and of this machine."""
    # In the present spelling: an earlier release may have written a value differently.
    known = {name: present_spelling(name, value) for name, value in settings.items() if name in RunConfig.model_fields}
    for name, value in written.items():
        if name in SCORE_NEUTRAL or known.get(name) == resolved[name]:
            known[name] = value
    return known
