"""One image or mask file, opened: only formats that are meant, only what memory has room for, all of its pages."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio._err import CPLE_BaseError  # what GDAL reports where rasterio has no error of its own for it
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from segtune.data.formats import MOST_BANDS, UPRIGHT, Orientation, Page, driver_of, png_orientation, tiff_pages
from segtune.data.listing import FACTS, MASKS, place_files
from segtune.data.place import Place, read_place
from segtune.errors import InputError, counted, one_line
from segtune.machine import free_memory

# PNG, JPEG and BMP have no georeference, and need none here.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

_GDAL = {
    # A JPEG cut short is only a warning to libjpeg, which fills it up with grey; a PNG cut short is read without a word
    # by GDAL's own faster way.
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
    # No name in a file leads to a server.
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
}
# A listing of the folder for each file opened makes large folders quadratic: GDAL sees no other file, or looks up each
# name that it knows.
_ALONE, _WITH_SIDECARS = "EMPTY_DIR", "TRUE"
_MOST_FACTS = 64 * 2**20  # bytes of an .aux.xml

# Bytes that reading and counting a tile takes at most, as measured: for each pixel, and for each number in it.
_PER_PIXEL, _PER_NUMBER, _COPIES = 24, 16, 2
SHARE = 0.5  # of the memory that is free, for one file, or for those that are read at a time
_SMALL = 100e6  # bytes that are always there

Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Raster:
    """An open file: a picture of one page, or of several whose bands follow each other."""

    path: Path
    source: rasterio.DatasetReader  # the first page
    more: Sequence[Page]  # the others
    orientation: Orientation

    @property
    def bands(self) -> int:
        """Bands of all pages."""
        return self.source.count + sum(page.tags["bands"] for page in self.more)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, as it is shown."""
        return self.orientation.size(self.source.height, self.source.width)

    @property
    def alpha(self) -> int | None:
        """The band, counted from 1, that the file declares as transparency."""
        kinds = self.source.colorinterp
        return kinds.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in kinds and not self.more else None

    @property
    def place(self) -> Place:
        """Where it lies, of a file opened with its place; one that is shown turned lies nowhere."""
        return read_place(self.source) if self.orientation == UPRIGHT else Place(None, None, (), None)

    def read(self, without: int | None = None) -> tuple[Pixels, list[float | None]]:
        """The pixels as stored, (bands, H, W), without one of the bands, and the nodata value of each band."""
        bands = [band for band in self.source.indexes if band != without]
        arrays = [self.source.read(bands)]
        nodata = [self.source.nodatavals[band - 1] for band in bands]
        for page in self.more:
            with rasterio.open(_name(self.path, page), driver="GTiff") as source:
                arrays.append(source.read())
                nodata += source.nodatavals
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays), nodata

    def mask(self) -> npt.NDArray[np.bool_] | None:
        """Pixels, (H, W) as stored, that the file's own mask keeps; None where it has none."""
        flags = self.source.mask_flag_enums[0]
        if MaskFlags.all_valid in flags or MaskFlags.alpha in flags or flags == [MaskFlags.nodata]:
            return None
        if MaskFlags.per_dataset in flags:
            return self.source.read_masks(1) > 0
        return (self.source.read_masks() > 0).any(axis=0)


@contextmanager
def opened(path: Path, what: str, place: bool = False) -> Iterator[Raster]:
    """Open a file; errors say `what` it was to be, such as "an image".

    With `place`, GDAL also reads files beside it that say where it lies. Raises InputError where it cannot be read,
    here or in the block, is of another format, or needs more memory than there is.
    """
    driver = driver_of(path, what)
    pages = tiff_pages(path, what) if driver == "GTiff" else []
    first = pages[0] if pages else None
    try:
        turn = first.orientation if first else png_orientation(path) if driver == "PNG" else None
        # Whether a picture that may be turned is shown so depends on its place.
        sight = _WITH_SIDECARS if _has_sidecars(path, place or turn != UPRIGHT) else _ALONE
        settings = rasterio.Env(**_GDAL, GDAL_DISABLE_READDIR_ON_OPEN=sight)
        with settings, rasterio.open(_name(path, first), driver=driver) as source:
            raster = Raster(path, source, pages[1:], _shown(source, turn))
            _check_cost(raster)
            for mask in MASKS:
                _check_mask_beside(raster, beside(path, mask))
            yield raster
    except (RasterioError, CPLE_BaseError, OSError) as error:
        reason = one_line(error.__cause__ or error) or type(error).__name__
        raise InputError(f"{path}: cannot be read as {what} ({reason})") from None


def alone() -> rasterio.Env:
    """Settings under which GDAL looks at no file but the one that it opens or writes."""
    return rasterio.Env(**_GDAL, GDAL_DISABLE_READDIR_ON_OPEN=_ALONE)


def _name(path: Path, page: Page | None) -> Path | str:
    """What GDAL opens a page by; as the file itself, the first one comes with its mask."""
    return path if page is None or page.number == 1 else f"GTIFF_DIR:{page.number}:{path}"


def _shown(source: rasterio.DatasetReader, turn: Orientation | None) -> Orientation:
    """How an open file is shown that is to be turned so; GDAL knows that of a JPEG (None).

    A georeference is that of the pixels as they are stored, whatever their orientation (GeoTIFF 1.1, device space), and
    geographic information systems show them so.
    """
    if turn is None:
        number = source.tags().get("EXIF_Orientation", "")
        turn = Orientation.of(int(number) if number.isdigit() else 1)
    placed = turn != UPRIGHT and read_place(source).known(source.height)
    return UPRIGHT if placed else turn


def beside(path: Path, ending: str) -> Path:
    """The file beside another one that has its name and this ending."""
    return path.with_name(path.name + ending)


def _has_sidecars(path: Path, place: bool) -> bool:
    """Whether anything stands beside a file that changes what is read; with `place`, also what says where it lies."""
    facts = beside(path, FACTS)
    if facts.exists():
        if facts.stat().st_size > _MOST_FACTS:
            raise InputError(f"{facts}: is larger than any file of this kind")
        return True
    places = map(path.with_name, place_files(path.name)) if place else ()
    return any(file.exists() for file in (*(beside(path, mask) for mask in MASKS), *places))


def _check_mask_beside(raster: Raster, path: Path) -> None:
    """InputError where the mask beside a file is none: GDAL would open any format there, and read any size."""
    if not path.exists():
        return
    if driver_of(path, "a mask") != "GTiff":
        raise InputError(f"{path}: cannot be read as a mask: a mask beside a file is a GeoTIFF")
    with rasterio.open(path, driver="GTiff") as mask:
        if mask.shape != raster.source.shape:
            raise InputError(f"{path}: its size differs from that of {raster.path}")


def reading_cost(height: int, width: int, bands: int, itemsize: int) -> float:
    """About how many bytes reading and counting a file takes."""
    return float(height * width * (_PER_PIXEL + bands * (_PER_NUMBER + _COPIES * itemsize)))


def _check_cost(raster: Raster) -> None:
    """InputError where a file has more bands or pixels than can be read: a header can claim any number."""
    height, width, bands = raster.source.height, raster.source.width, raster.bands
    if bands > MOST_BANDS:
        raise InputError(f"{raster.path}: has {bands} bands; an image has at most {MOST_BANDS}")
    itemsize = max(np.dtype(dtype).itemsize for dtype in raster.source.dtypes)
    needed = reading_cost(height, width, bands, itemsize)
    free = free_memory() if needed > _SMALL else None
    if free is not None and needed > SHARE * free:
        raise InputError(
            f"{raster.path}: its header claims {width}x{height} pixels of {counted(bands, 'band')}; reading them takes "
            f"about {needed / 1e9:.0f} GB, and a tile may take half of the {free / 1e9:.0f} GB of memory that are free"
        )
