"""Draw a predicted scene, of any size, beside its labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling

from segtune.data.bands import rgb_positions
from segtune.data.labels import IGNORED, Indices, Labels
from segtune.data.raster import alone, opened
from segtune.evaluation.scene_source import SceneFiles
from segtune.models.manifest import Manifest
from segtune.pictures.layout import Legend, Row, class_legend, ignored_legend, layout, swatch
from segtune.pictures.render import CERTAIN, Picture, class_titles, painted, render

_LARGEST = 1024  # pixels, the longer side of the picture of a scene


def scene_picture(scene: SceneFiles, binary: Path, manifest: Manifest) -> Picture:
    """Draw image and predicted labels side by side, both read at the size at which they are drawn.

    `binary` is the GeoTIFF that was predicted; pixels without data are hatched.
    """
    with alone(), rasterio.open(binary) as file:
        scale = min(1.0, _LARGEST / max(file.shape))
        shape = max(1, round(file.height * scale)), max(1, round(file.width * scale))
        labels = file.read(1, out_shape=shape, resampling=Resampling.nearest)
        missing = file.read_masks(1, out_shape=shape) == 0
    found: Indices = manifest.labels.to_indices(labels)
    found[missing] = IGNORED
    picture = render(
        _image(scene, shape, manifest.order), manifest.bands, rgb_positions(manifest.config.rgb, manifest.bands)
    )
    cells = [picture, painted(found, manifest.labels, (shape[1], shape[0]))]
    return layout(scene.name, _legend(manifest.labels, found), ["image", "output"], [Row("", "", cells)], shape[1])


def _legend(labels: Labels, found: Indices) -> Legend:
    """Return the entries for the colours of `painted`."""
    if labels.binary:
        return [swatch(class_titles(labels)[1], CERTAIN), *ignored_legend([found])]
    return class_legend(labels, [found])


def _image(
    scene: SceneFiles, shape: tuple[int, int], order: Sequence[int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Read the bands of a scene that the model sees, (h, w, bands), at a smaller size."""
    image = _bands(scene.image, shape)
    parts = [image[[number - 1 for number in order]] if order else image]
    if scene.channels:
        parts.append(_bands(scene.channels, shape))
    return np.concatenate(parts).transpose(1, 2, 0)


def _bands(paths: Sequence[Path], shape: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Read all bands of some files, (bands, h, w), at a smaller size."""
    parts = []
    for path in paths:
        with opened(path, "an image", scene=True) as raster:
            part = raster.source.read(out_shape=(raster.source.count, *shape), resampling=Resampling.average)
        parts.append(part.astype(np.float32))
    return np.concatenate(parts)
