"""What may change when a run is resumed, and what must not."""

from __future__ import annotations

from collections.abc import Collection

from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.data.transform_nodes import read_transforms
from segtune.errors import InputError
from segtune.fields import CHANGEABLE_IN_RUN, DATA_PLACES
from segtune.files.folders import RunFolder
from segtune.files.transforms_file import TransformsFile
from segtune.models.compatibility import unknown_encoder
from segtune.models.manifest import Manifest
from segtune.models.weights import read_weights, weights_file
from segtune.training.resolve import anchored
from segtune.values import AUTO, augmentation_file
from segtune.vocabulary import yaml_text


def started_with(config: RunConfig, folder: RunFolder | None) -> RunConfig:
    """Return the config with what `encoder_weights: auto` stood for when the run in the folder began, if one did."""
    if config.encoder_weights != AUTO or folder is None or not folder.begun:
        return config
    return config.model_copy(update={"encoder_weights": Manifest.read(folder.run_yaml).config.encoder_weights})


def check_same_settings(folder: RunFolder, config: RunConfig) -> None:
    """Check that a run is resumed with its own settings, as far as they may not change.

    Raises InputError that lists the settings that changed. A new value that no run could have is told instead: it is a
    slip of the pen, and no wish for another setting.
    """
    before, now = Manifest.read(folder.run_yaml).config.settings(), anchored(config).settings()
    now["image_size"] = now["image_size"] or before["image_size"]
    changed = [name for name in before if name not in CHANGEABLE_IN_RUN and before[name] != now[name]]
    if changed:
        _check_possible(config, changed)
        told = (f"{name} ({yaml_text(before[name])} -> {yaml_text(now[name])})" for name in changed)
        raise InputError(
            f"{folder.path}: cannot go on with other settings: {', '.join(told)}; another folder starts a new run"
        )


def _check_possible(config: RunConfig, changed: Collection[str]) -> None:
    """Raise InputError where a setting that changed names an encoder or a file that does not exist."""
    if "encoder" in changed and (unknown := unknown_encoder(config.encoder)):
        raise InputError(unknown)
    if "encoder_weights" in changed and (weights := weights_file(config.encoder_weights)):
        read_weights(weights)
    if "augmentation" in changed and (file := TransformsFile.of(config.augmentation)):
        read_transforms(file)


def transforms_of(config: RunConfig, folder: RunFolder | None) -> TransformsFile | None:
    """Return the file of transforms that `augmentation` names, or None for a level.

    If the run in `folder` is resumed and the file is gone, it is what run.yaml keeps of it. Raises InputError with the
    mistakes in the file, and where it changed since the run began.
    """
    path = augmentation_file(config.augmentation)
    before = Manifest.read(folder.run_yaml).transforms if folder and folder.state.is_file() else None
    if before and path and not path.exists():
        return before
    now = TransformsFile.of(config.augmentation)
    if folder and before and now and before.text != now.text:
        raise InputError(
            f"{folder.path}: cannot go on: {now.path} changed since the run began (its text then is in "
            f"{folder.run_yaml.name}, under augmentation_file); another folder starts a new run"
        )
    if now:
        read_transforms(now)
    return now


def check_same_data(folder: RunFolder, info: DataInfo, config: RunConfig) -> None:
    """Check that a run is resumed on its own tiles, wherever they are now.

    Raises InputError that says which folders are others, or that the tiles changed.
    """
    stored = Manifest.read(folder.run_yaml)
    if stored.fingerprint == info.fingerprint:
        return
    before, now = stored.config.settings(), anchored(config).settings()
    moved = [f"{name} ({before[name]} -> {now[name]})" for name in DATA_PLACES if before[name] != now[name]]
    what = (
        f"other tiles: {', '.join(moved)}" if moved else f"the tiles of {config.dataset}, which changed since it began"
    )
    raise InputError(f"{folder.path}: cannot go on with {what}")
