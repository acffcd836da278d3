"""Read what the page of a search shows from the search's folder; searches of former releases can be read, too."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from segtune import confirmed
from segtune.config import RunConfig
from segtune.errors import InputError, SegtuneError, one_line
from segtune.evaluation.validate import OnDone
from segtune.files.folders import RunFolder, SearchFolder
from segtune.files.yamlfile import read_yaml, yaml_of
from segtune.models.manifest import Manifest
from segtune.pictures.render import class_titles
from segtune.report.commands import results_dir, script_command, words_of
from segtune.report.confirmation import capital, page_confirmation, unconfirmed
from segtune.report.effects import compared_after, influences
from segtune.report.record import ClassRow, Command, Curve, DataFigures, Examples, Report
from segtune.report.text import next_commands
from segtune.report.tiles import look_at_winner
from segtune.space.space import Space
from segtune.training.result import EpochResult
from segtune.training.runlog import read_results
from segtune.trials import SearchState, Trial, ranked
from segtune.tuning.fold_rows import best_of_folds
from segtune.tuning.insight import insight
from segtune.tuning.search_yaml import stored_space
from segtune.tuning.status import search_state

_NO_WINNER = "no trial has a model yet"


def gather(folder: SearchFolder, with_examples: bool = True, on_done: OnDone | None = None) -> Report:
    """Return all that the page of a search shows; what cannot be read is left out, and a remark says why.

    Parameters
    ----------
    folder: the search, running or not.
    with_examples: predict the validation tiles with the winner's model, which takes as long as one evaluation.
    on_done: called after each of these tiles with the numbers of tiles that are done and of all.

    Raises InputError where there is no search, or where its study cannot be read.
    """
    state, (space, _) = search_state(folder), stored_space(folder)
    known = insight(folder)
    remarks = list(state.remarks)
    results = {trial.number: _results(folder, trial, remarks) for trial in state.trials}
    folded = space.search.folds is not None
    curves = {number: _curve(epochs, folded) for number, epochs in results.items() if epochs}
    manifest = _manifest(folder, state.trials)
    examples, no_examples = _examples(folder, with_examples, on_done)
    if examples and space.search.folds:
        examples = _beside_folds(examples)
    return Report(
        name=folder.path.name,
        state=state,
        written=time.time(),
        space=yaml_of(space.dump()),
        searched=space.searched(),
        began=known.began,
        curves=curves,
        ended_after=known.ended,
        influences=influences(state.trials, curves, known.drawn, known.importance),
        compared_after=compared_after(curves),
        classes=_classes(folder, state, results, manifest, examples),
        examples=examples,
        no_examples=no_examples,
        data=_data(manifest, space.baseline) if manifest else None,
        **_confirmation(folder, state.trials, remarks),
        versions=_versions(folder, state.trials),
        commands=_commands(folder, space, state),
        remarks=tuple(remarks),
    )


def _results(folder: SearchFolder, trial: Trial, remarks: list[str]) -> list[EpochResult]:
    """Return the epochs of a trial; those of a damaged table are left out, and a remark of the state says so."""
    try:
        found = read_results(folder.trial(trial.number), trial.epochs)
    except InputError as error:
        if not any(str(error) in remark for remark in remarks):
            remarks.append(str(error))
        return []
    return [result for result in found if result.epoch <= trial.epochs_done]


def _curve(results: Sequence[EpochResult], folded: bool) -> Curve:
    """Return the scores by epoch; by folds, the mean so far of the best ones, since each fold begins anew."""
    scores = [(result.epoch, result.best_score if folded else result.score) for result in results]
    scored = [(epoch, score) for epoch, score in scores if score is not None]
    return Curve(tuple(epoch for epoch, _ in scored), tuple(score for _, score in scored))


def _confirmation(folder: SearchFolder, trials: Sequence[Trial], remarks: list[str]) -> dict[str, Any]:
    """Return what fresh seeds showed; a damaged file is left out, and a remark of the state says so."""
    try:
        found = confirmed.Confirmation.read(folder.confirmation)
    except InputError as error:
        if str(error) not in remarks:
            remarks.append(str(error))
        found = None
    lines = tuple(map(capital, unconfirmed(found, trials, folder)))
    return {"confirmation": page_confirmation(found, trials), "unconfirmed": lines}


def _manifest(folder: SearchFolder, trials: Sequence[Trial]) -> Manifest | None:
    """Return the run.yaml of the winner or, where it cannot be read, of another trial."""
    order = ranked(trials)
    # By folds, a trial's own run.yaml is that of its first one, which has other tiles.
    finals = [folder.final(trial.number) for trial in order[:1] if trial.folds > 1]
    for run in [*finals, *(folder.trial(trial.number) for trial in [*order, *trials])]:
        try:
            return Manifest.read(run.run_yaml)
        except InputError:
            continue  # the state has a remark of it
    return None


def _examples(folder: SearchFolder, wanted: bool, on_done: OnDone | None) -> tuple[Examples | None, str]:
    if not wanted:
        return None, Report.no_examples
    if not folder.best.is_dir():
        return None, _NO_WINNER
    try:
        return look_at_winner(folder, on_done), ""
    except (SegtuneError, OSError) as error:
        return None, one_line(error)


def _beside_folds(seen: Examples) -> Examples:
    """Return what is seen on val without intervals: scores of folds are of other models, and of other tiles as well."""
    return replace(seen, interval=None, classes={}, unsure=None)


def _classes(
    folder: SearchFolder,
    state: SearchState,
    results: Mapping[int, Sequence[EpochResult]],
    manifest: Manifest | None,
    seen: Examples | None,
) -> tuple[ClassRow, ...]:
    """Return the IoU of each class in the best epochs of winner and baseline, and of background at the end.

    Where fresh seeds confirmed them, it is that of the run with the median score, whose model is kept.
    """
    order = ranked(state.trials)
    if manifest is None or not order:
        return ()
    winner = _iou(folder, order[0], results)
    first = next((trial for trial in state.trials if trial.baseline), None)
    baseline = _iou(folder, first, results) if first else {}
    background, *titles = class_titles(manifest.labels)
    labels = dict(zip(map(str, manifest.labels.classes), titles, strict=True))
    if winner.get("background") is not None:
        labels["background"] = background
    return tuple(
        ClassRow(
            title,
            winner.get(label),
            baseline.get(label),
            seen.classes.get(label) if seen else None,
            seen.shares.get(label) if seen else None,
        )
        for label, title in labels.items()
    )


def _iou(
    folder: SearchFolder, trial: Trial, results: Mapping[int, Sequence[EpochResult]]
) -> Mapping[str, float | None]:
    epochs, best = results.get(trial.number, ()), trial.best_epoch
    if trial.folds > 1:
        return _mean_iou(epochs, trial.folds)
    if trial.confirmed:
        try:
            epochs = read_results(RunFolder(folder.path / trial.confirmed.run), trial.epochs)
        except InputError:
            return {}
        best = epochs[-1].best_epoch if epochs else None
    found = next((result for result in epochs if result.epoch == best), None)
    return found.scores.iou if found and found.scores else {}


def _mean_iou(epochs: Sequence[EpochResult], folds: int) -> Mapping[str, float | None]:
    """Return the IoU of each class in the best epochs of all folds: the mean over those whose tiles hold the class."""
    found: dict[str, list[float]] = {}
    for one in best_of_folds(epochs, folds):
        for name, value in (one.scores.iou if one.scores else {}).items():
            found.setdefault(name, []).extend([] if value is None else [value])
    return {name: statistics.fmean(values) if values else None for name, values in found.items()}


def _data(manifest: Manifest, baseline: RunConfig) -> DataFigures:
    return DataFigures(
        baseline.dataset or "",
        dict(manifest.tiles),
        dict(manifest.left_out),
        tuple(class_titles(manifest.labels)[1:]),
        tuple((band.name, band.mean, band.std, band.low, band.high) for band in manifest.bands),
        manifest.tile_size,
        manifest.resolution,
        manifest.fingerprint,
    )


def _versions(folder: SearchFolder, trials: Sequence[Trial]) -> dict[str, str]:
    """Return the versions that the best trial was trained with."""
    for trial in ranked(trials):
        try:
            found: Any = read_yaml(folder.trial(trial.number).run_yaml).get("versions")
        except InputError:
            continue
        if isinstance(found, dict):
            return {str(name): str(version) for name, version in found.items()}
    return {}


def _commands(folder: SearchFolder, space: Space, state: SearchState) -> tuple[Command, ...]:
    """Return what to type to go on with a search, to repeat it, to measure its winner and to predict with it."""
    flag = "confirm" if state.searched else "resume"
    found = [] if state.over else [Command("go on with this search", _script("run_search.py", f"--{flag}", folder))]
    again = ["--space", str(folder.search_yaml), "--name", f"{folder.path.name}_again"]
    found.append(Command("repeat this search", script_command("run_search.py", [*again, *results_dir(folder)])))
    *of_winner, curves = (
        Command(*one) for one in next_commands(folder, space.baseline, str(folder.path.parent)).items()
    )
    found += of_winner
    if folder.best.is_dir():
        predict = ["-cd", str(folder.path), "-d", "SCENE.tif", "-o", "OUT"]
        found.append(Command("predict an image with the winner", script_command("validate.py", predict)))
    found.append(curves)
    found.append(Command("write this page again", _script("run_search.py", "--report", folder)))
    return tuple(found)


def _script(name: str, flag: str, folder: SearchFolder) -> str:
    return script_command(name, words_of(flag, folder))
