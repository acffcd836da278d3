"""Reading image and mask files into arrays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from rasterio.enums import ColorInterp

from segtune.data.alignment import Georeference, compare, georeference_of
from segtune.data.alpha import transparency
from segtune.data.labels import UNLABELLED
from segtune.data.raster import SHARE, Raster, Span, opened, reading_cost
from segtune.data.tiles import ReadSettings, Tile
from segtune.errors import InputError, counted
from segtune.machine import available_cpus, free_memory

_AS_IT_IS = ReadSettings()
_LARGEST_DECLARED_LABEL = 65535
_IMAGE_TYPES = ("uint8", "uint16", "int16", "float32", "float64")
_LOWEST, _LARGEST = -999, 1e20  # nodata values beyond these cannot be measurements
_MERGED = 64  # bands that OpenCV interleaves
_SAMPLED = 16  # tiles that the memory per tile is estimated from

Image = npt.NDArray[np.uint8 | np.uint16 | np.int16 | np.float32]
Valid = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Header:
    """The size and type of an image by its header."""

    height: int
    width: int
    bands: int
    itemsize: int  # bytes of a number as the cache keeps it
    dtype: str


def read_header(path: Path, scene: bool = False) -> Header:
    """Read an image's size and type; InputError where the file is unreadable. An alpha band counts as one.

    A `scene` may be larger than memory, and a VRT.
    """
    with opened(path, "an image", scene=scene) as raster:
        height, width = raster.size
        itemsize = min(np.dtype(raster.source.dtypes[0]).itemsize, np.dtype(np.float32).itemsize)
        return Header(height, width, raster.bands, itemsize, raster.source.dtypes[0])


def ground_resolution(path: Path) -> float | None:
    """Return the metres per pixel of an image; None where its place on the ground is not known."""
    with opened(path, "an image", place=True) as raster:
        return raster.place.resolution(*raster.source.shape)


def readable_at_once(tiles: Sequence[Tile]) -> int:
    """Return how many tiles can be read at a time: one for each core, as far as memory allows."""
    cores, free = available_cpus(), free_memory()
    if free is None or cores == 1:
        return cores
    costs = [0.0]
    for tile in tiles[:: -(-len(tiles) // _SAMPLED)]:
        with suppress(InputError):  # reported when the tile is read
            header = read_header(tile.image)
            costs.append(reading_cost(header.height, header.width, header.bands, header.itemsize))
    return max(1, min(cores, int(SHARE * free / max(*costs, 1.0))))


class TilePixels(NamedTuple):
    """What the files of a tile hold, all of one size."""

    sources: list[Image]  # the image and each channel, (H, W, bands)
    valid: Valid  # pixels that hold data in all of them, (H, W)
    mask: npt.NDArray[np.integer]  # labels, (H, W)


def read_tile(tile: Tile, settings: ReadSettings = _AS_IT_IS, compare_places: bool = False) -> TilePixels:
    """Read a tile: its image, its channels and its mask.

    Raises InputError where a file is unreadable or the sizes of the tile's files differ, and with `compare_places`
    also where mask or channels lie elsewhere on the ground than the image.
    """

    def place_of(raster: Raster) -> Georeference | None:
        return georeference_of(raster) if compare_places else None

    with opened(tile.image, "an image", compare_places) as raster:
        image, valid = read_pixels(raster, settings)
        place = place_of(raster)
    sources, places = [image], dict[Path, Georeference | None]()
    for path in tile.channels:
        with opened(path, "an image", compare_places) as raster:
            channel, channel_valid = read_pixels(raster, replace(settings, alpha="auto", bands=1, order=()))
            places[path] = place_of(raster)
        if channel.shape[2] != 1:
            raise InputError(f"{path}: an extra channel has one band, but this has {channel.shape[2]}")
        check_sizes(tile.image, image.shape, path, channel.shape)
        sources.append(channel)
        valid &= channel_valid
    with opened(tile.mask, "a mask", compare_places) as raster:
        mask = read_labels(raster)
        places[tile.mask] = place_of(raster)
    check_sizes(tile.image, image.shape, tile.mask, mask.shape)
    compare(tile.image, place, places)
    return TilePixels(sources, valid, mask)


def read_image(path: Path, settings: ReadSettings = _AS_IT_IS) -> tuple[Image, Valid]:
    """Read an image, (H, W, bands), as viewers show it, and which of its pixels hold data, (H, W).

    Pixels that are NaN, infinite, nodata, transparent, or left out by the file's mask are not valid.
    """
    with opened(path, "an image") as raster:
        return read_pixels(raster, settings)


def read_pixels(raster: Raster, settings: ReadSettings, span: Span | None = None) -> tuple[Image, Valid]:
    """Read the pixels of an open image, (H, W, bands), and which of them hold data, (H, W).

    With `span`, only its rows and columns are read. Bands that `settings.order` leaves out are not looked at, but for
    an alpha band. Raises InputError where the image lacks one of them.
    """
    if settings.order:
        transparent = raster.alpha if raster.alpha not in settings.order else None
        array, declared = raster.read(span=span)
    else:
        transparent = transparency(raster, settings.alpha, settings.bands)
        array, declared = raster.read(transparent, span)
    if array.dtype.name not in _IMAGE_TYPES:
        raise InputError(f"{raster.path}: pixels are {array.dtype}; uint8, uint16, int16 and float are supported")
    palette = _palette(raster)
    if settings.order and palette is None:
        array, declared = _ordered(raster, array, settings.order), [declared[i - 1] for i in settings.order]
    valid = has_data(array, declared)
    if (mask := raster.mask(span)) is not None:
        valid &= mask
    if transparent:
        valid &= raster.source.read(transparent, window=span) > 0
    if palette is not None:
        valid &= palette[:, 3][array[0]] > 0
        array = _coloured(palette, array)
        if settings.order:
            array = _ordered(raster, array, settings.order)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # values too large for float32 become infinite
            array = array.astype(np.float32, copy=False)
        valid &= np.isfinite(array).all(axis=0)
    if settings.nodata is not None:
        valid &= has_data(array, [settings.nodata] * len(array))
    image = _interleaved(raster.orientation.upright(array))
    return image, np.ascontiguousarray(raster.orientation.upright(valid))


def _interleaved(array: Image) -> Image:
    """Return an array (bands, H, W) as (H, W, bands); OpenCV does this twenty times as fast as numpy."""
    image = array.transpose(1, 2, 0)
    if image.flags.c_contiguous or not 1 < len(array) <= _MERGED:
        return np.ascontiguousarray(image)
    merged: Image = cv2.merge([np.ascontiguousarray(band) for band in array])
    return merged


def _ordered(raster: Raster, array: Image, order: Sequence[int]) -> Image:
    """Return the bands, (bands, H, W), with these numbers; InputError where there are fewer."""
    if max(order) > len(array):
        together = " together with the other files" if raster.files else ""
        raise InputError(
            f"--bands: there is no band {max(order)}: {raster.path} has {counted(len(array), 'band')}{together}"
        )
    return array[[number - 1 for number in order]]


def _palette(raster: Raster) -> npt.NDArray[np.uint8] | None:
    """Return the colours, (n, 4), that the pixels of an image are indices of; None where they are values."""
    if raster.source.colorinterp[0] != ColorInterp.palette or raster.more or raster.files:
        return None
    colours = raster.source.colormap(1)
    return np.array([colours[i] for i in range(len(colours))], dtype=np.uint8)


def _coloured(palette: npt.NDArray[np.uint8], array: Image) -> Image:
    """Replace palette indices, (1, H, W), by colours, (3, H, W)."""
    # Grey BMPs carry a palette of 256 greys, and still have one band.
    if (palette[:, :3] == np.arange(len(palette))[:, None]).all():
        return array
    return palette[:, :3][array[0]].transpose(2, 0, 1)


def has_data(array: npt.NDArray[Any], nodata: Sequence[float | None]) -> Valid:
    """Return which pixels, (H, W), of an array (bands, H, W) hold data; each band may have a nodata value.

    A pixel has no data where all of its bands have the nodata value: a single black band, such as water in near
    infrared, is data. A value that cannot be a measurement marks the pixel in any band.
    """
    if all(value is None for value in nodata):
        return np.ones(array.shape[1:], bool)
    present = np.zeros(array.shape[1:], bool)
    impossible = np.zeros(array.shape[1:], bool)
    for band, value in zip(array, nodata, strict=True):
        differs = np.ones(band.shape, bool) if value is None else band != value
        present |= differs
        if value is not None and unmeasurable(value):
            impossible |= ~differs
    return present & ~impossible


def unmeasurable(value: float) -> bool:
    """Return whether a nodata value cannot be a measurement: in any single band it marks a pixel without data."""
    return value <= _LOWEST or abs(value) >= _LARGEST


def read_mask(path: Path) -> npt.NDArray[np.integer]:
    """Read the labels of a mask, (H, W); those of a palette image are its indices.

    Pixels without data are UNLABELLED: NaN, and a declared nodata value that cannot be a label. A nodata value that can
    be a label is one: label editors declare labels that are in use.
    """
    with opened(path, "a mask") as raster:
        return read_labels(raster)


def read_labels(raster: Raster) -> npt.NDArray[np.integer]:
    """Read the labels of an open mask, (H, W), as `read_mask` does."""
    mask, missing = read_values(raster)
    if mask.dtype.kind not in "iu":
        with np.errstate(invalid="ignore"):
            whole = mask.real.astype(np.int64)
        if not np.array_equal(whole[~missing], mask[~missing]):
            raise InputError(f"{raster.path}: a mask holds whole numbers, but this has fractions")
        mask = whole
    return np.where(missing, UNLABELLED, mask.astype(np.int64)) if missing.any() else mask


def read_values(raster: Raster) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Read the values of an open mask, (H, W), as they are stored, and which of its pixels have no label, (H, W)."""
    if raster.bands != 1:
        raise InputError(f"{raster.path}: a mask has one band of labels, but this has {_counted(raster)}")
    mask, (nodata,) = raster.source.read(1), raster.source.nodatavals
    labelled = raster.mask()
    mask = np.ascontiguousarray(raster.orientation.upright(mask))
    missing = _without_label(mask, nodata)
    if labelled is not None:
        missing |= ~raster.orientation.upright(labelled)
    return mask, missing


def _counted(raster: Raster) -> str:
    """Describe the bands or pages of a mask that has several."""
    if raster.more:
        return f"{1 + len(raster.more)} pages; write the labels to one page, each class with a number of its own"
    return f"{raster.bands}{', one of them transparency' if raster.alpha else ''}"


def _without_label(mask: npt.NDArray[Any], nodata: float | None) -> npt.NDArray[np.bool_]:
    """Return which pixels of a mask, (H, W), are NaN or a nodata value that cannot be a label."""
    missing = np.zeros(mask.shape, bool) if mask.dtype.kind in "iu" else np.isnan(mask)
    if nodata is not None and not (0 <= nodata <= _LARGEST_DECLARED_LABEL and nodata == round(nodata)):
        missing |= mask == nodata
    return missing


def check_sizes(first: Path, size: tuple[int, ...], second: Path, other: tuple[int, ...]) -> None:
    """Raise InputError where the second file's size, (height, width), differs from that of the first one."""
    if size[:2] != other[:2]:
        sizes = f"{size[1]}x{size[0]} and {other[1]}x{other[0]}"
        raise InputError(f"{second}: its size differs from that of {first} ({sizes})")
