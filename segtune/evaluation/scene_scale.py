"""The scale at which a model sees a scene: that of its training, in pixels of tiles and in metres on the ground."""

from __future__ import annotations

from dataclasses import dataclass

from segtune.errors import InputError
from segtune.evaluation.scene_source import SceneSource
from segtune.models.manifest import Manifest

_FAR = 1.2  # times the resolution of the training, or one part of it
_FAR_TILE = 1.5  # times the size of the training's tiles, or one part of it
_LEAST, _MOST = 8, 16384  # pixels of a window


@dataclass(frozen=True)
class Scale:
    """How many pixels of a scene a window covers, and what is odd about it."""

    side: int  # pixels of the scene
    remarks: tuple[str, ...] = ()


def tile_side(manifest: Manifest) -> int:
    """Return the side, in pixels of a training tile, of what the network sees at a time.

    A model that was trained with `fit` resize, or on tiles that `fit` pad shrank, saw tiles of `tile_size` at the size
    `image_size`. With `fit` crop, it saw windows of `image_size`.
    """
    size = manifest.config.image_size or 0
    known = manifest.tile_size or size
    if manifest.config.fit == "resize":
        return known
    return max(known, size) if manifest.config.fit == "pad" else size


def scene_scale(manifest: Manifest, source: SceneSource, resolution: float | str | None = None) -> Scale:
    """Return how a model sees a scene.

    `resolution`, in metres per pixel, resamples the scene for the model; `auto` stands for the resolution of the
    training. Without it, a pixel of the scene counts as one of a training tile. Raises InputError where a resolution
    that is needed is not known.
    """
    found = source.place.resolution(source.height)
    trained, side, remarks = manifest.resolution, tile_side(manifest), []
    if manifest.config.fit == "resize" and manifest.tile_size is None:
        remarks.append(
            f"warning: run.yaml lacks data.tile_size, so windows have the side that the network sees, {side} pixels; "
            f"if the training's tiles were larger or smaller, write their side there"
        )
    if resolution is None:
        if found and trained and not 1 / _FAR <= found / trained <= _FAR:
            remarks.append(
                f"warning: {source.name} has {found:.3g} m per pixel, and the model was trained at {trained:.3g} m; "
                f"--resolution auto resamples for the model"
            )
        return Scale(side, tuple(remarks))
    wanted = trained if resolution == "auto" else _number(resolution)
    if wanted is None:
        raise InputError("--resolution: auto needs data.resolution in run.yaml, which it lacks; give the metres")
    if found is None:
        raise InputError(f"--resolution: the resolution of {source.name} is not known: it has no georeference")
    side = round(side * wanted / found)
    if not _LEAST <= side <= _MOST:
        raise InputError(
            f"--resolution: at {wanted:.3g} m per pixel, a window would have {side} pixels of {source.name}, which has "
            f"{found:.3g} m per pixel"
        )
    return Scale(side, tuple(remarks))


def _number(resolution: float | str) -> float:
    try:
        number = float(resolution)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise InputError(f"--resolution: must be auto or metres per pixel above 0, but got {resolution!r}")
    return number


def tile_remark(manifest: Manifest, name: str, height: int, width: int) -> str | None:
    """Return a line about a tile that `fit` resize brings to another scale than the training's; None where it is near.

    The tile is resized as a whole, whatever its size: objects in it are then larger or smaller than in training.
    """
    trained = manifest.tile_size
    if manifest.config.fit != "resize" or trained is None:
        return None
    ratio = max(height, width) / trained
    if 1 / _FAR_TILE <= ratio <= _FAR_TILE:
        return None
    seen = f"{ratio:.2g} times as small" if ratio > 1 else f"{1 / ratio:.2g} times as large"
    return (
        f"warning: {name} has {width}x{height} pixels, and the model was trained on tiles of up to {trained}; resized "
        f"as a whole, objects in it look {seen} as in training"
    )
