"""What may change when a run is resumed, and what must not."""

from __future__ import annotations

from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.errors import InputError
from segtune.fields import CHANGEABLE_IN_RUN, DATA_PLACES
from segtune.files.folders import RunFolder
from segtune.models.manifest import Manifest
from segtune.training.resolve import anchored


def check_same_settings(folder: RunFolder, config: RunConfig) -> None:
    """Check that a run is resumed with its own settings, as far as they may not change.

    Raises InputError that lists the settings that changed.
    """
    before, now = Manifest.read(folder.run_yaml).config.settings(), anchored(config).settings()
    now["image_size"] = now["image_size"] or before["image_size"]
    changed = [
        f"{name} ({before[name]} -> {now[name]})"
        for name in before
        if name not in CHANGEABLE_IN_RUN and before[name] != now[name]
    ]
    if changed:
        raise InputError(
            f"{folder.path}: cannot go on with other settings: {', '.join(changed)}; another folder starts a new run"
        )


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
