"""Write what is predicted for a scene, block of rows by block of rows: labels, probabilities, and both as GeoTIFF."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError  # errors of GDAL that rasterio does not wrap
from rasterio.errors import RasterioError
from rasterio.shutil import copy
from torch import Tensor

from segtune.data.labels import Indices, Labels
from segtune.data.listing import FACTS
from segtune.data.raster import alone, beside
from segtune.data.reading import Valid
from segtune.errors import one_line
from segtune.evaluation.predict import probabilities
from segtune.evaluation.predicted_masks import MOST_LABELS, Category, add_categories, write_colours
from segtune.evaluation.scene_source import SceneSource
from segtune.files import temporary as in_place
from segtune.files.atomic import replaced_file

BLOCK = 256  # pixels, the side of a block of the files; rows are written so many at a time
_LAYOUT: dict[str, Any] = {
    "driver": "GTiff",
    "tiled": True,
    "blockxsize": BLOCK,
    "blockysize": BLOCK,
    "compress": "deflate",
    "bigtiff": "if_safer",
}


@dataclass(frozen=True)
class Rows:
    """What is predicted for some rows of a scene, of its whole width."""

    top: int
    indices: Indices  # (H, W)
    logits: Tensor  # (outputs, H, W), on the CPU
    valid: Valid  # pixels with data, (H, W)


@dataclass(frozen=True)
class SceneOutputs:
    """The files that a prediction writes; None for those that it does not."""

    binary: Path | None = None  # labels of the data set, a GeoTIFF
    raw: Path | None = None  # probabilities, a GeoTIFF with a band per output
    polygons: Path | None = None  # outlines, a GeoPackage
    categories: Sequence[Category] = ()  # colours and names in `binary`
    cog: bool = False  # cloud-optimized GeoTIFFs
    simplify: float | None = None  # metres by which outlines may be simplified


def _checked(target: Any, write: Callable[[], object]) -> None:
    """Write; OSError where the disk is full."""
    try:
        write()
    except (RasterioError, CPLE_BaseError) as error:
        raise OSError(errno.EIO, one_line(error.__cause__ or error), target.name) from None


@contextmanager
def scene_writer(outputs: SceneOutputs, source: SceneSource, labels: Labels) -> Iterator[Callable[[Rows], None]]:
    """Yield a function that writes the next rows of a scene to the GeoTIFFs of its prediction.

    The files get their names when the block ends without an error. OSError where the disk is full.
    """
    with ExitStack() as stack:
        binary = raw = None
        if outputs.binary:
            dtype = labels.to_labels(np.zeros((1, 1), np.uint8)).dtype
            profile = {"count": 1, "dtype": dtype, "nodata": unused_label(labels, dtype)}
            binary = stack.enter_context(_geotiff(outputs.binary, source, profile, outputs, outputs.categories))
        if outputs.raw:
            profile = {"count": labels.outputs, "dtype": "float32", "nodata": np.nan, "predictor": 3, "zlevel": 1}
            raw = stack.enter_context(_geotiff(outputs.raw, source, profile, outputs))
            for number, name in enumerate(output_names(labels), start=1):
                raw.set_band_description(number, name)

        def write(rows: Rows) -> None:
            span = (rows.top, rows.top + len(rows.indices)), (0, source.width)
            if binary:
                found = labels.to_labels(rows.indices)
                found[~rows.valid] = binary.nodata
                _checked(binary, lambda: binary.write(found, 1, window=span))
            if raw:
                shares = probabilities(rows.logits, labels).numpy()
                shares[:, ~rows.valid] = np.nan
                _checked(raw, lambda: raw.write(shares, window=span))

        yield write


@contextmanager
def _geotiff(
    path: Path, source: SceneSource, profile: dict[str, Any], outputs: SceneOutputs, categories: Sequence[Category] = ()
) -> Iterator[Any]:
    """Open a tiled GeoTIFF of the scene's size and place for writing."""
    profile = {**_LAYOUT, "height": source.height, "width": source.width, **source.place.profile, **profile}
    named = [category for category in categories if category.name and 0 <= category.label < MOST_LABELS]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as final:
        facts = beside(final, FACTS)
        whole = in_place.beside(path, "tmp") if outputs.cog else final
        try:
            with alone(), rasterio.open(whole, "w", **profile) as target:
                write_colours(target, categories)
                yield target
            if outputs.cog:
                _copy_as_cog(whole, final, "average" if profile["dtype"] == "float32" else "nearest")
            if named:
                add_categories(facts, named)
            if facts.exists():
                os.replace(facts, beside(path, FACTS))
        finally:
            facts.unlink(missing_ok=True)
            if outputs.cog:
                whole.unlink(missing_ok=True)
                beside(whole, FACTS).unlink(missing_ok=True)


def _copy_as_cog(whole: Path, final: Path, resampling: str) -> None:
    with alone():
        copy(whole, final, driver="COG", compress="deflate", bigtiff="if_safer", overview_resampling=resampling)


def unused_label(labels: Labels, dtype: np.dtype[Any]) -> int:
    """Return a number of this type that is no label: 255 or 0 if possible, else the largest one."""
    used = {labels.background_label, *labels.classes, *labels.ignore}
    largest = int(np.iinfo(dtype).max)
    return next(number for number in (255, 0, *range(largest, -1, -1)) if number not in used and number <= largest)


def output_names(labels: Labels) -> list[str]:
    """Return the names of the network's outputs, in their order."""
    return ["background", *map(labels.text, labels.classes)][labels.first :]
