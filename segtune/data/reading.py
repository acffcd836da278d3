"""Image and mask files -> arrays."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from segtune.data.pairs import Tile
from segtune.errors import InputError, one_line
from segtune.schema import UNLABELLED

# PNG, JPEG and BMP have no georeference, and need none here.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

# A listing of the folder for each file opened makes large folders quadratic. A JPEG cut short is only a warning to
# libjpeg, which fills it up with grey; a PNG cut short is read without a word by GDAL's own faster way.
_GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
}
_LARGEST_DECLARED_LABEL = 65535
_IMAGE_TYPES = ("uint8", "uint16", "int16", "float32", "float64")

Image = npt.NDArray[np.uint8 | np.uint16 | np.int16 | np.float32]
Valid = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Header:
    """What a file says of itself, without its pixels."""

    height: int
    width: int
    bands: int
    itemsize: int  # bytes of a number as it is kept


def read_header(path: Path) -> Header:
    """Read an image's size and type; InputError where the file is unreadable."""
    with rasterio.Env(**_GDAL):
        try:
            with rasterio.open(path) as source:
                bands = len(source.indexes) - len(_alpha_bands(source))
                itemsize = min(np.dtype(source.dtypes[0]).itemsize, np.dtype(np.float32).itemsize)
                return Header(source.height, source.width, bands, itemsize)
        except (RasterioError, OSError) as error:
            raise InputError(f"{path}: cannot be read as an image ({_reason(error)})") from None


def read_tile(tile: Tile, nodata: float | None = None) -> tuple[list[Image], Valid, npt.NDArray[np.integer]]:
    """Read a tile: one (H, W, bands) array per source (image, then channels), valid pixels, mask (H, W).

    `nodata` is that of images and channels, besides what their files declare. Raises
    InputError where a file is unreadable or the sizes of the tile's files differ.
    """
    image, valid = read_image(tile.image, nodata)
    sources = [image]
    for path in tile.channels:
        channel, channel_valid = read_image(path, nodata)
        if channel.shape[2] != 1:
            raise InputError(f"{path}: an extra channel has one band, but this has {channel.shape[2]}")
        _same_size(tile.image, image, path, channel)
        sources.append(channel)
        valid &= channel_valid
    mask = read_mask(tile.mask)
    _same_size(tile.image, image, tile.mask, mask)
    return sources, valid, mask


def read_image(path: Path, nodata: float | None = None) -> tuple[Image, Valid]:
    """Read an image, (H, W, bands), and which of its pixels hold data, (H, W).

    `nodata` stands for no data as a value does that the file declares. NaN, infinite and nodata pixels are not valid,
    nor are transparent ones; an alpha band is not one of the bands.
    In a GeoTIFF there is no alpha band: what GDAL takes for one is near infrared in this field.
    """
    with rasterio.Env(**_GDAL):
        try:
            with rasterio.open(path) as source:
                alpha = _alpha_bands(source)
                array = source.read([band for band in source.indexes if band not in alpha])
                valid = _with_data(source, array)
                palette = source.colormap(1) if source.colorinterp[0] == ColorInterp.palette else None
        except (RasterioError, OSError) as error:
            raise InputError(f"{path}: cannot be read as an image ({_reason(error)})") from None
    if array.dtype.name not in _IMAGE_TYPES:
        raise InputError(f"{path}: pixels are {array.dtype}; uint8, uint16, int16 and float are supported")
    image = np.ascontiguousarray(array.transpose(1, 2, 0))
    if palette is not None:
        colours = np.array([palette[i] for i in range(len(palette))], dtype=np.uint8)[image[..., 0]]
        valid &= colours[..., 3] > 0
        # Every grey BMP carries a palette of the 256 greys, and has one band all the same.
        if not all(palette[i][:3] == (i, i, i) for i in range(len(palette))):
            image = np.ascontiguousarray(colours[..., :3])
    if image.dtype.kind == "f":
        with np.errstate(over="ignore"):  # too large for float32 is infinite
            image = image.astype(np.float32, copy=False)
        valid &= np.isfinite(image).all(axis=2)
    if nodata is not None:
        valid &= _present(image.transpose(2, 0, 1), nodata)
    return image, valid


def _alpha_bands(source: rasterio.DatasetReader) -> list[int]:
    if source.driver == "GTiff":
        return []
    return [band for band, kind in zip(source.indexes, source.colorinterp, strict=True) if kind == ColorInterp.alpha]


def _with_data(source: rasterio.DatasetReader, array: Image) -> Valid:
    """Pixels, (H, W), of an array (bands, H, W) that are not nodata, nor masked out by the file."""
    if source.nodata is not None:
        return _present(array, source.nodata)
    if source.driver == "GTiff" and ColorInterp.alpha in source.colorinterp:
        # GDAL's own mask would be that of the band that it takes for alpha.
        return np.ones(array.shape[1:], bool)
    return source.dataset_mask() > 0


def _present(array: Image, nodata: float) -> Valid:
    """Pixels, (H, W), of an array (bands, H, W) that are not nodata."""
    # Eight bits leave no value to spare: black is nodata only where it is so in every band.
    present = array != nodata
    return present.any(axis=0) if array.dtype == np.uint8 else present.all(axis=0)


def read_mask(path: Path) -> npt.NDArray[np.integer]:
    """Read a mask's labels, (H, W); a palette's colours are not looked at, its indices are the labels.

    Pixels without data are UNLABELLED: NaN, and a nodata value that the mask declares and that can be no label. One
    that can be a label is one: label editors declare a label in use.
    """
    with rasterio.Env(**_GDAL):
        try:
            with rasterio.open(path) as source:
                count = source.count
                mask = source.read(1) if count == 1 else None
                nodata = source.nodata
        except (RasterioError, OSError) as error:
            raise InputError(f"{path}: cannot be read as a mask ({_reason(error)})") from None
    if mask is None:
        raise InputError(f"{path}: a mask has one band of labels, but this has {count}")
    missing = _without_label(mask, nodata)
    if mask.dtype.kind not in "iu":
        with np.errstate(invalid="ignore"):
            whole = mask.real.astype(np.int64)
        if not np.array_equal(whole[~missing], mask[~missing]):
            raise InputError(f"{path}: a mask holds whole numbers, but this has fractions")
        mask = whole
    return np.where(missing, UNLABELLED, mask.astype(np.int64)) if missing.any() else mask


def _without_label(mask: npt.NDArray[np.generic], nodata: float | None) -> npt.NDArray[np.bool_]:
    """Where a mask, (H, W), holds NaN, or a nodata value that can be no label."""
    missing = np.zeros(mask.shape, bool) if mask.dtype.kind in "iu" else np.isnan(mask)
    if nodata is not None and not (0 <= nodata <= _LARGEST_DECLARED_LABEL and nodata == round(nodata)):
        missing |= mask == nodata
    return missing


def _same_size(first: Path, a: npt.NDArray[np.generic], second: Path, b: npt.NDArray[np.generic]) -> None:
    if a.shape[:2] != b.shape[:2]:
        sizes = f"{a.shape[1]}x{a.shape[0]} and {b.shape[1]}x{b.shape[0]}"
        raise InputError(f"{second}: its size differs from that of {first} ({sizes})")


def _reason(error: Exception) -> str:
    return one_line(error.__cause__ or error) or type(error).__name__
