"""The scale at which a model sees a scene: that of its training, in pixels of tiles and in metres on the ground."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from segtune.errors import InputError
from segtune.evaluation.scene_source import SceneSource
from segtune.models.manifest import Manifest
from segtune.values import resolution_number

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
    found, trained = source.place.resolution(source.height, source.width), manifest.resolution
    side = tile_side(manifest)
    remarks = _size_remark(manifest, source, side, resolution is not None)
    if resolution is None:
        largest = max(source.height, source.width)
        as_tile = is_tile(manifest, largest)
        if as_tile and manifest.config.fit != "crop":
            side = max(largest, manifest.config.image_size or 0)
        return Scale(side, as_tile, remarks | _resolution_remark(source, found, trained))
    wanted = resolution_number(resolution) or trained
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
    return Scale(side, remarks=remarks | _shape_remark(source))


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
    if not found or not trained or _near(found / trained):
        return {}
    text = (
        f"warning: {source.name} has {found:.3g} m per pixel, and the model was trained at {trained:.3g} m; "
        f"--resolution auto resamples for the model"
    )
    return {"resolution": text}


def _shape_remark(source: SceneSource) -> dict[str, str]:
    """Return a line about a scene whose pixels are not square on the ground, if they are not."""
    sides = source.place.pixel_sides(source.height, source.width)
    if sides is None or _near(sides[0] / sides[1]):
        return {}
    text = (
        f"warning: a pixel of {source.name} is {sides[0]:.3g} m wide and {sides[1]:.3g} m high on the ground; "
        f"--resolution resamples both sides alike; gdalwarp to a projected coordinate system gives square pixels"
    )
    return {"shape": text}


def tile_remarks(manifest: Manifest, folder: str, largest: int, resolution: float | None) -> list[str]:
    """Return lines about tiles that the model sees at another scale than in training; none where it is near.

    `largest` is the longest side among the tiles in pixels, `resolution` their metres per pixel, None if not known. A
    tile is resized as a whole with `fit` resize, whatever its size.
    """
    trained, trained_side = manifest.resolution, manifest.tile_size
    resized = manifest.config.fit == "resize" and trained_side is not None
    larger = largest / trained_side if resized and trained_side else 1.0
    coarser = resolution / trained if resolution and trained else 1.0
    if resized and resolution and trained and _near(larger * coarser):
        return []  # one of the two makes up for the other
    lines = []
    if resized and not is_tile(manifest, largest):
        lines.append(
            f"warning: tiles in {folder} have up to {largest} pixels a side, and the model was trained on tiles of up "
            f"to {trained_side}; each is resized as a whole, so objects look {_seen(larger)} to the model than "
            f"in training"
        )
    if resolution and trained and not _near(coarser):
        lines.append(
            f"warning: tiles in {folder} have {resolution:.3g} m per pixel, and the model was trained at "
            f"{trained:.3g} m; so objects look {_seen(coarser)} to the model than in training"
        )
    return lines


def _near(ratio: float) -> bool:
    return 1 / _FAR <= ratio <= _FAR


def _seen(ratio: float) -> str:
    return f"{ratio:.2g} times smaller" if ratio > 1 else f"{1 / ratio:.2g} times larger"
