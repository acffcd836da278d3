"""Decide which runs of a space are possible on this machine and this data, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.data.scan import Progress, scan
from segtune.data.transform_nodes import read_transforms
from segtune.errors import InputError
from segtune.evaluation.cross_validation import deal_folds
from segtune.files.transforms_file import TransformsFile
from segtune.mistakes import SettingsError
from segtune.models.auto_weights import decide_weights
from segtune.models.build import check_weights, initial_file
from segtune.models.compatibility import incompatibility, incompatibility_of
from segtune.planning.duplicates import same_values
from segtune.planning.portfolio import portfolio_of
from segtune.planning.resources import Plan, local_resources, make_plan
from segtune.remarks import Say, unheard
from segtune.space.parameters import Choice, walk
from segtune.space.space import WEIGHTS, Space
from segtune.space.unused import unused_settings
from segtune.training.resolve import check_augmentation, check_input, resolve
from segtune.values import AUTO, augmentation_file

# Settings whose values do not all work together, besides those that RunConfig refuses.
_TOGETHER = ("model", "encoder", "image_size", "drop_path", "decoder_attention")
_GRID = "a grid tries every combination that is not excluded under forbid:"
_POINTS = 10_000  # of a grid that are checked, which takes a second; larger ones are not tried to the end


def check_space(
    space: Space, address: str | None = None, fetch: bool = True, started: Space | None = None, say: Say = unheard
) -> Space:
    """Check a space before anything is written, and return it complete; raise InputError with every mistake.

    It gets the files of transforms that it names, and a decision for `encoder_weights: auto`; `say` gets a line where
    the user should know. With an address, the resources are those of a cluster and are checked when the search joins
    it. Without `fetch`, ImageNet weights are not downloaded, and a server is asked only for auto. `started` is the
    space that a search that is resumed was started with.
    """
    baseline = space.baseline
    mistakes = _clashes(space)
    if space.search.sampler == "grid" and not started:
        mistakes += _clashes_of_a_grid(space)
    if ":" in baseline.device:
        mistakes.append(
            f"device: must be cuda or auto, because a search assigns the GPUs itself, but got {baseline.device}"
        )
    if baseline.gpus > 1:
        mistakes.append(f"gpus: in a search, gpus_per_trial: {baseline.gpus} under search: gives a trial several GPUs")
    if space.search.folds and space.search.scheduler == "asha" and len(space.values_of("epochs")) > 1:
        mistakes.append("search.folds: asha compares trials in their first fold; give one value for epochs")
    if baseline.use_only_add_val and baseline.adv_freq > 1:
        mistakes.append(
            f"adv_freq: must be 1, because with use_only_add_val a search needs a score in each epoch, "
            f"but got {baseline.adv_freq}"
        )
    listed = (parameter for parameter in walk(space.parameters) if parameter.name == WEIGHTS)
    if any(isinstance(parameter, Choice) and AUTO in parameter.values for parameter in listed):
        mistakes.append(f"{WEIGHTS}: auto stands for imagenet or none; under space:, list these, or files")
    idle = unused_settings(space)
    mistakes += [found.text for found in idle if found.dead and not started]
    if mistakes:
        raise InputError(f"{space.path}: {mistake}" for mistake in mistakes)
    for found in idle:
        if found.dead or not started:
            say(f"note: {found.text}")
    if not started:  # the study of a search that goes on has what it begins with
        portfolio_of(space.search.start)
    if not address:
        plan = make_plan(space.search, [local_resources()], baseline.device)
        check_precision(space, plan)
        if "gpu_memory" in space.search.costs and not plan.gpus_per_trial:
            raise InputError(f"{space.path}: search.objectives: gpu_memory needs a GPU, but trials get none")
    _check_batches(space)
    starts = space.combinations("model", "encoder", WEIGHTS)
    given = [start for start in starts if start[2] != AUTO and (fetch or initial_file(*start[1:]))]
    check_weights(given)
    return with_weights_decided(with_transforms(space, started), fetch, say)


def with_weights_decided(space: Space, fetch: bool = True, say: Say = unheard) -> Space:
    """Return a space with `encoder_weights: auto` decided for all of its encoders; see `decide_weights`."""
    starts = space.combinations("model", "encoder", WEIGHTS)
    open_networks = [(model, encoder) for model, encoder, weights in starts if weights == AUTO]
    if not open_networks:
        return space
    for parameter in space.parameters:
        if isinstance(parameter, Choice) and parameter.name == WEIGHTS:  # then only the first run is open
            return space.with_weights("imagenet" if "imagenet" in parameter.values else parameter.values[0])
    decided = decide_weights(open_networks, fetch)
    for line in decided.remarks:
        say(line)
    return space.with_weights(decided.weights)


def with_transforms(space: Space, started: Space | None = None) -> Space:
    """Return a space with the texts of the files that `augmentation` names; a resumed search keeps those that are gone.

    Raises InputError with the mistakes in the files, and where a file changed since the search was started.
    """
    kept = started or space
    texts: dict[str, str] = {}
    mistakes = []
    for setting in (value for (value,) in space.combinations("augmentation")):
        path = augmentation_file(setting)
        if path is None:
            continue
        if same := [other for other in texts if Path(other).name == path.name]:
            mistakes.append(f"augmentation: {same[0]} and {setting} have the same name; rename one of the files")
            continue
        before = kept.transforms_of(setting)
        try:
            now = before if before and not path.exists() else TransformsFile.of(setting)
            if now and before and now.text != before.text:
                text = (
                    "changed since the search was started (search.yaml has its text then); --name starts another search"
                )
                mistakes.append(f"{setting}: {text}")
            elif now:
                read_transforms(now)
                texts[setting] = now.text
        except InputError as error:
            lost = not (path.exists() or path.is_absolute())
            mistakes += [_looked_for(path, space)] if lost else error.mistakes
    if mistakes:
        raise InputError(mistakes)
    return replace(space, transforms=texts)


def _looked_for(path: Path, space: Space) -> str:
    """Return where a file of transforms is not, and where it is if it lies beside the space file."""
    beside = space.path.parent / path
    hint = f"; it is beside {space.path.name}: write {beside}" if beside.is_file() else ""
    return f"augmentation: {path}: no such file in {Path.cwd()}, where relative paths of a space start{hint}"


def _check_batches(space: Space) -> None:
    least = min(*space.values_of("batch_size"), space.baseline.batch_size)
    gpus = space.search.gpus_per_trial or 0.0
    if least < gpus:
        text = f"must be at least gpus_per_trial ({gpus:g}), a tile for each GPU, but got {least}"
        raise InputError(f"{space.path}: batch_size: {text}")


def check_precision(space: Space, plan: Plan) -> None:
    """Raise InputError if a trial would use fp16 without a GPU."""
    if not plan.gpus_per_trial and "fp16" in (*space.values_of("precision"), space.baseline.precision):
        raise InputError(f"{space.path}: precision: fp16 needs a GPU, but trials get none")


def scan_data(space: Space, progress: Progress | None = None, say: Say = unheard) -> DataInfo:
    """Scan the data set for all trials, and fill the cache; raise InputError with every mistake."""
    baseline, wanted = space.baseline, space.combinations("fit", "image_size")
    said: set[str] = set()

    def once(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    channels, search = space.channels(), space.search
    info = scan(baseline, channels, progress, wanted, once, folded=search.folds is not None)
    if search.folds:
        confirm, scored = (
            search.confirms(),
            "a trial's score is the mean over them, each scored by a model of the others",
        )
        pattern, setting = confirm.group if confirm else None, "search.confirm.group"
        dealt, _ = deal_folds(baseline, search.folds, pattern, setting, scored, channels, wanted, progress, once)
        info = replace(info, folds=dealt.infos)
    mistakes = [*_clashes(space, info.image_size()), *_unsuitable_transforms(space, info)]
    for settings in _inputs(space, info.image_size()):
        for part in info.folds or (info,):
            try:
                check_input(baseline.model_copy(update=settings), part)
            except InputError as error:
                mistakes += error.mistakes
    if mistakes:
        raise InputError(f"{space.path}: {mistake}" for mistake in dict.fromkeys(mistakes))
    for line in same_values(space, info):
        say(f"note: {line}")
    return info


def _unsuitable_transforms(space: Space, info: DataInfo) -> list[str]:
    """Return what of the files of transforms does not suit the data, at any image size and with any channels."""
    mistakes: list[str] = []
    names = ("augmentation", "image_size", "channels")
    for values in space.combinations(*names):
        settings = dict(zip(names, values, strict=True))
        if file := space.transforms_of(settings["augmentation"]):
            try:
                check_augmentation(space.baseline.model_copy(update=settings), info, file)
            except InputError as error:
                mistakes += error.mistakes
    return mistakes


def _inputs(space: Space, image_size: int) -> list[dict[str, Any]]:
    """Return the settings that decide a network's input and initial weights, in every possible combination."""
    names = ("encoder_weights", "channels", "normalization", *_TOGETHER)
    runs = [dict(zip(names, values, strict=True)) for values in space.combinations(*names)]
    return [run for run in runs if not _incompatible(run, image_size)]


def _clashes(space: Space, image_size: int | None = None) -> list[str]:
    """Return a line for each architecture, encoder and image size that works with nothing else in the space.

    A value that works with some of the others is no mistake: the sampler draws impossible combinations again. A grid
    and the first run are not drawn: all of their combinations must be possible. `image_size` is the size of runs that
    do not set one; None before the data is known.
    """
    runs = space.combinations(*_TOGETHER)
    mistakes = {run: _incompatible(dict(zip(_TOGETHER, run, strict=True)), image_size) for run in runs}
    found: list[str] = []
    for position in range(len(_TOGETHER)):
        for value in dict.fromkeys(run[position] for run in runs):
            texts = [text for run, text in mistakes.items() if run[position] == value]
            found += [texts[0]] if all(texts) and texts[0] else []
    settings = space.baseline.settings()
    first = mistakes[tuple(settings[name] for name in _TOGETHER)]
    if first and first not in found:
        found.append(f"{first}; this is the first run, and baseline: can give another one")
    if space.search.sampler == "grid":
        found += [f"{text}; {_GRID}" for text in mistakes.values() if text and text not in found]
    return list(dict.fromkeys(found))


def _clashes_of_a_grid(space: Space) -> list[str]:
    """Return a line for each clash of settings among the points of a grid."""
    found: dict[str, None] = {}
    for point in islice(space.grid(), _POINTS):
        try:
            RunConfig.from_settings(space.settings_at(point))
        except SettingsError as error:
            for mistake in error.found:
                first, *others = (name for name in mistake.settings if name in space.searched())
                apart = f", or give {first} to the values of {others[0]} that take it, in a branch" if others else ""
                found[f"{mistake.message}; {_GRID}{apart}"] = None
    return list(found)


def _incompatible(run: Mapping[str, Any], image_size: int | None) -> str | None:
    """Return why these settings do not work together; `image_size` is the size of a run that sets none."""
    model, encoder, size, drop_path, attention = (run[name] for name in _TOGETHER)
    return incompatibility(model, encoder, size or image_size, drop_path, attention)


def possible_run(space: Space, info: DataInfo, settings: Mapping[str, Any]) -> RunConfig:
    """Return the run of a point of the space on this data, resolved; InputError for a point that cannot be run."""
    if reason := space.forbidden(settings):
        raise InputError(reason)
    run = resolve(RunConfig.from_settings(settings), info)
    if reason := incompatibility_of(run):
        raise InputError(reason)
    return run


def why_impossible(space: Space, info: DataInfo, settings: Mapping[str, Any]) -> str | None:
    """Return why a point of the space cannot be run on this data; None where it can."""
    try:
        possible_run(space, info, settings)
    except InputError as error:
        return error.mistakes[0]
    return None
