"""Predict an image at once: an array, a file or an open data set of rasterio, with the result in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.io import DatasetReaderBase

from segtune.data.alpha import transparency
from segtune.data.formats import UPRIGHT
from segtune.data.listing import channels_beside
from segtune.data.raster import SHARE, Raster
from segtune.data.reading import Valid
from segtune.errors import InputError, counted
from segtune.evaluation.predict import probabilities
from segtune.evaluation.predictor import Predictor
from segtune.evaluation.scene import predicted_rows, scene_grid
from segtune.evaluation.scene_output import unused_label
from segtune.evaluation.scene_scale import scene_scale
from segtune.evaluation.scene_source import (
    ArraySource,
    FileSource,
    SceneSource,
    check_bands,
    find_scene,
    opened_scene,
)
from segtune.machine import free_memory
from segtune.models.manifest import Manifest
from segtune.remarks import Say, unheard
from segtune.values import OVERLAP

Array = npt.NDArray[Any]
ImageLike: TypeAlias = Array | str | PathLike[str] | rasterio.DatasetReader
_WHAT = "a numpy array (H, W, bands), the path of an image or an open data set of rasterio"
_TYPES = ("uint8", "uint16", "int16", "float16", "float32", "float64")


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for an image of H x W pixels.

    labels: (H, W), the label values of the data set, in the smallest type that holds them all.
    probabilities: (outputs, H, W), float32. With one class, there is one output: the probability of the class. With
        several, the outputs add up to 1; `Model.outputs` names them.
    valid: (H, W), bool. Pixels of a file that hold no data are not valid: `labels` is a value there that is no label,
        and probabilities are NaN. The pixels of an array are all valid.
    """

    labels: npt.NDArray[np.integer[Any]]
    probabilities: npt.NDArray[np.float32]
    valid: Valid


def predict_image(predictor: Predictor, image: ImageLike, overlap: float = OVERLAP, say: Say = unheard) -> Prediction:
    """Predict an image of any size whose prediction fits into memory, by the same windows as a scene.

    Parameters
    ----------
    predictor: the model.
    image: see `image_source`.
    overlap: share of their side by which neighbouring windows overlap at least, from 0 to 0.9.
    say: called with one line about each thing that is odd.

    Raises InputError where the image or the overlap is wrong.
    """
    manifest, labels = predictor.manifest, predictor.manifest.labels
    with image_source(image, manifest) as source:
        shape = source.height, source.width
        scale = scene_scale(manifest, source)
        grid = scene_grid(source, scale, overlap)
        _check_memory(source, labels.outputs)
        for remark in scale.remarks.values():
            say(remark)
        found = Prediction(
            np.empty(shape, labels.to_labels(np.zeros((1, 1), np.uint8)).dtype),
            np.empty((labels.outputs, *shape), np.float32),
            np.empty(shape, bool),
        )
        for rows in predicted_rows(predictor, source, grid):
            part = np.s_[rows.top : rows.top + len(rows.indices)]
            found.labels[part] = labels.to_labels(rows.indices)
            found.probabilities[:, part] = probabilities(rows.logits, labels).numpy()
            found.valid[part] = rows.valid
    found.labels[~found.valid] = unused_label(labels, found.labels.dtype)
    found.probabilities[:, ~found.valid] = np.nan
    return found


@contextmanager
def image_source(image: ImageLike, manifest: Manifest) -> Iterator[SceneSource]:
    """Open an image for a prediction.

    An array is (H, W, bands), or (H, W) for a model of one band; the model's extra channels are its last bands. The
    extra channels of a file are found as for a scene, beside it. An open data set is read as its file. It is read as it
    is where it is no file on disk, or where it has all bands of the model: then no extra channel lies beside, and no
    band is transparency. Raises InputError where the image does not fit the model.
    """
    if isinstance(image, np.ndarray):
        yield array_source(image, manifest)
    elif isinstance(image, str | PathLike):
        with opened_scene(find_scene([Path(image)], manifest), manifest) as source:
            yield source
    elif isinstance(image, DatasetReaderBase):
        if image.closed:
            raise InputError(f"image: the data set {image.name} is closed")
        raster = Raster(Path(image.name), image, (), UPRIGHT)
        whole = _is_whole(raster, manifest)
        if raster.path.is_file() and not whole:
            with opened_scene(find_scene([raster.path], manifest), manifest) as source:
                yield source
            return
        manifest = manifest.with_order(image.indexes) if whole else manifest
        source = FileSource(raster, (), manifest)
        check_bands(source, manifest)
        yield source
    else:
        raise InputError(f"image: must be {_WHAT}, but got {type(image).__name__}")


def _is_whole(raster: Raster, manifest: Manifest) -> bool:
    """Return whether an open data set has all bands of the model, the extra channels among them."""
    if raster.bands != len(manifest.bands):
        return False
    return not manifest.channel_files or not (
        channels_beside(raster.path, manifest.channel_files) or transparency(raster, "auto", bands=None)
    )


def array_source(image: Array, manifest: Manifest) -> ArraySource:
    """Return an array, (H, W, bands) or (H, W), as a source; raise InputError where it does not fit the model."""
    image = _with_bands(image, manifest)
    _check_type(image, manifest)
    if image.dtype.kind == "f":
        with np.errstate(over="ignore"):  # values too large for float32 become infinite
            image = image.astype(np.float32, copy=False)
        if broken := image.size - int(np.isfinite(image).sum()):
            raise InputError(
                f"image: {counted(broken, 'value')} of {image.size} are NaN or infinite; fill them, or predict a file, "
                f"whose pixels without data are left out"
            )
    source = ArraySource(image.astype(image.dtype.newbyteorder("="), copy=False))
    check_bands(source, manifest)
    return source


def _with_bands(image: Array, manifest: Manifest) -> Array:
    """Return an array as (H, W, bands); raise InputError where it has another shape."""
    names, shape = [band.name for band in manifest.bands], image.shape
    count = len(names)
    needed = f"the model takes (H, W, {count}): {', '.join(names)}"
    if image.ndim == 2 and count == 1:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] != count:
        first = image.ndim == 3 and shape[0] == count
        hint = "; its bands come first: image.transpose(1, 2, 0) puts them last" if first else ""
        raise InputError(f"image: has the shape {shape}, but {needed}{hint}")
    if not image.size:
        raise InputError(f"image: has the shape {shape}, which holds no pixel; {needed}")
    return image


def _check_type(image: Array, manifest: Manifest) -> None:
    """Raise InputError where an array has a type that no file has, or that looks divided by 255; see `check_types`."""
    if manifest.uint8 and image.dtype != np.uint8:
        scaled = image.dtype.kind == "f" and image.size and image.min() >= 0 and image.max() <= 1
        hint = "(image * 255).round().astype('uint8'), if it was divided by 255" if scaled else "give the stored values"
        raise InputError(f"image: is {image.dtype}, but the model was trained on uint8, 0 to 255: {hint}")
    if image.dtype.name not in _TYPES:
        raise InputError(
            f"image: is {image.dtype}; uint8, uint16, int16 and float are supported: image.astype('float32')"
        )


def _check_memory(source: SceneSource, outputs: int) -> None:
    """Raise InputError where the prediction of an image takes more memory than there is."""
    needed, free = source.height * source.width * (outputs * 4 + 9), free_memory()
    if free is not None and needed > SHARE * free:
        raise InputError(
            f"{source.name}: its prediction of {source.width}x{source.height} pixels takes {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB of memory are free; validate.py -cd MODEL -d FILE writes it to a file instead"
        )
