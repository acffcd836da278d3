"""Decide which runs of a space are possible on this machine and this data, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segtune.config import RunConfig
from segtune.data.cache_folder import Say
from segtune.data.dataset import DataInfo
from segtune.data.scan import Progress, scan
from segtune.errors import InputError
from segtune.models.build import check_weights
from segtune.models.compatibility import incompatibility
from segtune.planning.resources import Plan, local_resources, make_plan
from segtune.space.space import Space
from segtune.training.resolve import check_input, resolve


def check_space(space: Space, address: str | None = None, fetch: bool = True) -> None:
    """Check a space before anything is written; raise InputError with every mistake.

    With an address, the resources are those of a cluster and are checked when the search joins it. Without `fetch`,
    ImageNet weights are neither looked for nor downloaded.
    """
    baseline = space.baseline
    mistakes = _clashes(space)
    if ":" in baseline.device:
        mistakes.append(
            f"device: must be cuda or auto, because a search assigns the GPUs itself, but got {baseline.device}"
        )
    if baseline.use_only_add_val and baseline.adv_freq > 1:
        mistakes.append(
            f"adv_freq: must be 1, because with use_only_add_val a search needs a score in each epoch, "
            f"but got {baseline.adv_freq}"
        )
    if mistakes:
        raise InputError(f"{space.path}: {mistake}" for mistake in mistakes)
    if not address:
        check_precision(space, make_plan(space.search, [local_resources()], baseline.device))
    starts = space.combinations("model", "encoder", "encoder_weights")
    check_weights(start for start in starts if fetch or start[2] != "imagenet")


def check_precision(space: Space, plan: Plan) -> None:
    """Raise InputError if a trial would use fp16 without a GPU."""
    if not plan.gpus_per_trial and "fp16" in (*space.values_of("precision"), space.baseline.precision):
        raise InputError(f"{space.path}: precision: fp16 needs a GPU, but trials get none")


def scan_data(space: Space, progress: Progress | None = None, say: Say | None = None) -> DataInfo:
    """Scan the data set for all trials, and fill the cache; raise InputError with every mistake."""
    baseline = space.baseline
    info = scan(baseline, space.channels(), progress, space.combinations("fit", "image_size"), say)
    mistakes = _clashes(space, info.image_size())
    for settings in _inputs(space, info.image_size()):
        try:
            check_input(baseline.model_copy(update=settings), info)
        except InputError as error:
            mistakes += error.mistakes
    if mistakes:
        raise InputError(f"{space.path}: {mistake}" for mistake in dict.fromkeys(mistakes))
    return info


def _inputs(space: Space, image_size: int) -> list[dict[str, Any]]:
    """Return the settings that decide a network's input and initial weights, in every possible combination."""
    names = ("model", "encoder", "encoder_weights", "channels", "normalization", "image_size")
    runs = [dict(zip(names, values, strict=True)) for values in space.combinations(*names)]
    return [run for run in runs if not incompatibility(run["model"], run["encoder"], run["image_size"] or image_size)]


def _clashes(space: Space, image_size: int | None = None) -> list[str]:
    """Return a line for each architecture, encoder and image size that works with nothing else in the space.

    A value that works with some of the others is no mistake: the sampler draws impossible combinations again. A grid
    and the first run are not drawn: all of their combinations must be possible. `image_size` is the size of runs that
    do not set one; None before the data is known.
    """
    runs = space.combinations("model", "encoder", "image_size")
    mistakes = {run: incompatibility(run[0], run[1], run[2] or image_size) for run in runs}
    found: list[str] = []
    for position in range(3):
        for value in dict.fromkeys(run[position] for run in runs):
            texts = [text for run, text in mistakes.items() if run[position] == value]
            found += [texts[0]] if all(texts) and texts[0] else []
    settings = space.baseline.settings()
    first = mistakes[settings["model"], settings["encoder"], settings["image_size"]]
    if first and first not in found:
        found.append(f"{first}; this is the first run, and baseline: can give another one")
    if space.search.sampler == "grid":
        why = "a grid tries every combination that is not excluded under forbid:"
        found += [f"{text}; {why}" for text in mistakes.values() if text and text not in found]
    return list(dict.fromkeys(found))


def possible_run(space: Space, info: DataInfo, settings: Mapping[str, Any]) -> RunConfig:
    """Return the run of a point of the space on this data, resolved; InputError for a point that cannot be run."""
    if reason := space.forbidden(settings):
        raise InputError(reason)
    run = resolve(RunConfig.from_settings(settings), info)
    if reason := incompatibility(run.model, run.encoder, run.image_size):
        raise InputError(reason)
    return run
