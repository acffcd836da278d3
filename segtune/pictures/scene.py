"""Draw a predicted scene, of any size, beside its labels."""

from __future__ import annotations

from pathlib import Path

import rasterio
from rasterio.enums import Resampling

from segtune.data.bands import rgb_positions
from segtune.data.labels import IGNORED, Indices, Labels
from segtune.data.raster import alone
from segtune.evaluation.scene_source import Preview, SceneSource
from segtune.models.manifest import Manifest
from segtune.pictures.layout import Legend, Row, class_legend, ignored_legend, layout, swatch
from segtune.pictures.render import CERTAIN, Picture, class_titles, painted, render

_LARGEST = 1024  # pixels, the longer side of the picture of a scene
_NARROWEST = 160  # pixels of a column, so that its name can be read


def preview_of(source: SceneSource, manifest: Manifest) -> Preview:
    """Return the source of a scene that keeps what `scene_picture` shows of it."""
    return Preview(source, rgb_positions(manifest.config.rgb, manifest.bands), _LARGEST)


def scene_picture(title: str, preview: Preview, binary: Path, manifest: Manifest) -> Picture:
    """Draw image and predicted labels side by side.

    `preview` is the source that was predicted, `binary` the GeoTIFF that was written; pixels without data are hatched.
    """
    shape = preview.image.shape[:2]
    with alone(), rasterio.open(binary) as file:
        labels = file.read(1, out_shape=shape, resampling=Resampling.nearest)
        missing = file.read_masks(1, out_shape=shape) == 0
    found: Indices = manifest.labels.to_indices(labels)
    found[missing] = IGNORED
    bands = [manifest.bands[position] for position in rgb_positions(manifest.config.rgb, manifest.bands)]
    picture = render(preview.image, bands, range(len(bands)))
    cells = [picture, painted(found, manifest.labels, shape)]
    column = max(shape[1], _NARROWEST)
    return layout(title, _legend(manifest.labels, found), ["image", "output"], [Row("", "", cells)], column)


def _legend(labels: Labels, found: Indices) -> Legend:
    """Return the entries for the colours of `painted`."""
    if labels.binary:
        return [swatch(class_titles(labels)[1], CERTAIN), *ignored_legend([found])]
    return class_legend(labels, [found])
