"""The scale at which a model sees a scene: that of its training, in pixels of tiles and in metres on the ground."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    as_tile: bool = False  # the scene has the size of a training tile, and is predicted as one
    remarks: Mapping[str, str] = field(default_factory=dict)  # a line about each subject


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
    found, trained, side = source.place.resolution(source.height), manifest.resolution, tile_side(manifest)
    remarks = _size_remark(manifest, source, side, resolution is not None)
    if resolution is None:
        largest = max(source.height, source.width)
        as_tile = is_tile(manifest, largest)
        if as_tile and manifest.config.fit != "crop":
            side = max(largest, manifest.config.image_size or 0)
        return Scale(side, as_tile, remarks | _resolution_remark(source, found, trained))
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
    return Scale(side, remarks=remarks)


def is_tile(manifest: Manifest, largest: int) -> bool:
    """Return whether an image whose longer side has so many pixels has about the size of the training's tiles.

    Such an image is predicted as in the training's evaluation. Only `fit` resize enlarges a smaller one.
    """
    if manifest.tile_size is None:
        return False
    ratio = largest / manifest.tile_size
    return ratio <= _FAR_TILE and (ratio >= 1 / _FAR_TILE or manifest.config.fit != "resize")


def _size_remark(manifest: Manifest, source: SceneSource, side: int, resampled: bool) -> dict[str, str]:
    """Return a line about a scene whose size differs from that of the training's tiles, if it matters."""
    if manifest.config.fit != "resize":
        return {}
    if manifest.tile_size is None:
        text = (
            f"run.yaml lacks data.tile_size, so windows have the side that the network sees, {side} pixels; if the "
            f"training's tiles were larger or smaller, write their side there"
        )
    elif resampled or is_tile(manifest, max(source.height, source.width)):
        return {}
    else:
        text = (
            f"{source.name} has {source.width}x{source.height} pixels, and the model was trained on tiles of up to "
            f"{side}; it is predicted in windows of {side} pixels, at the scale of the training"
        )
    return {"size": f"warning: {text}"}


def _resolution_remark(source: SceneSource, found: float | None, trained: float | None) -> dict[str, str]:
    """Return a line about a scene whose pixels are far from the training's in metres, if they are."""
    if not found or not trained or 1 / _FAR <= found / trained <= _FAR:
        return {}
    text = (
        f"warning: {source.name} has {found:.3g} m per pixel, and the model was trained at {trained:.3g} m; "
        f"--resolution auto resamples for the model"
    )
    return {"resolution": text}


def _number(resolution: float | str) -> float:
    try:
        number = float(resolution)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise InputError(f"--resolution: must be auto or metres per pixel above 0, but got {resolution!r}")
    return number


def tile_remark(manifest: Manifest, folder: str, largest: int) -> str | None:
    """Return a line about tiles that `fit` resize brings to another scale than the training's; None where it is near.

    `largest` is the longest side among them in pixels. A tile is resized as a whole, whatever its size.
    """
    trained = manifest.tile_size
    if manifest.config.fit != "resize" or trained is None or is_tile(manifest, largest):
        return None
    ratio = largest / trained
    seen = f"{ratio:.2g} times smaller" if ratio > 1 else f"{1 / ratio:.2g} times larger"
    return (
        f"warning: tiles in {folder} have up to {largest} pixels a side, and the model was trained on tiles of up to "
        f"{trained}; each is resized as a whole, so objects look {seen} to the model than in training"
    )
