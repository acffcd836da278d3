"""Opening image and mask files: only supported formats, only what fits into memory, all pages."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio._err import CPLE_BaseError  # errors of GDAL that rasterio does not wrap
from rasterio._path import _parse_path as parsed_path
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.env import getenv, hasenv
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from segtune.data.formats import (
    MOST_BANDS,
    OTHER_DRIVERS,
    UPRIGHT,
    Orientation,
    Page,
    driver_of,
    png_orientation,
    tiff_pages,
)
from segtune.data.georeference import Place, read_place
from segtune.data.listing import FACTS, MASKS, place_files
from segtune.data.plain_png import PlainPng, plain_png
from segtune.data.vrt import checked_vrt, is_vrt
from segtune.errors import InputError, SegtuneError, counted, one_line
from segtune.machine import free_memory

# PNG, JPEG and BMP often have no georeference, and need none here.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

_GDAL = {
    # libjpeg only warns of a truncated JPEG and fills it with grey; GDAL's faster reader of PNG does not notice a
    # truncated file at all.
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
    # Names in files must not lead to servers.
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
}
# Listing the folder for each opened file would take quadratic time: GDAL sees no other file, or looks up the names of
# sidecar files one by one.
_ALONE, _WITH_SIDECARS = "EMPTY_DIR", "TRUE"
_MOST_FACTS = 64 * 2**20  # bytes of an .aux.xml file

# Measured upper bounds of the bytes that reading and counting a tile takes, per pixel and per number in it.
_PER_PIXEL, _PER_NUMBER, _COPIES = 24, 16, 2
SHARE = 0.5  # of the free memory, for one file, or for all files that are read at a time
_SMALL = 100e6  # bytes that are always available
_MOST_SYSTEMS = 64  # that are remembered

Pixels = npt.NDArray[Any]
Span = tuple[tuple[int, int], tuple[int, int]]  # the first row and the one after the last; columns likewise


@dataclass(frozen=True)
class Raster:
    """An open file of one page, or several pages or files whose bands follow each other."""

    path: Path
    source: DatasetReader  # the first page; a PlainPng stands in for the reader of one
    more: Sequence[Page]  # the others
    orientation: Orientation
    files: Sequence[Raster] = ()  # of the same size, whose bands follow

    @property
    def bands(self) -> int:
        """The number of bands of all pages and files."""
        own = self.source.count + sum(page.tags["bands"] for page in self.more)
        return own + sum(file.bands for file in self.files)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as the file is shown."""
        return self.orientation.size(self.source.height, self.source.width)

    @property
    def alpha(self) -> int | None:
        """The band, counted from 1, that the file declares as transparency."""
        kinds = self.source.colorinterp
        single = not self.more and not self.files
        return kinds.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in kinds and single else None

    @cached_property
    def place(self) -> Place:
        """The place of a file opened with it; a file that is shown turned has none."""
        return read_place(self.source) if self.orientation == UPRIGHT else Place(None, None, (), None)

    def read(self, without: int | None = None, span: Span | None = None) -> tuple[Pixels, list[float | None]]:
        """Read the pixels as stored, (bands, H, W), without one of the bands, and the nodata value of each band.

        With `span`, only its rows and columns are read.
        """
        bands = [band for band in self.source.indexes if band != without]
        arrays = [self.source.read(bands, window=span)]
        nodata = [self.source.nodatavals[band - 1] for band in bands]
        for page in self.more:
            with rasterio.open(_name(self.path, page), driver="GTiff") as source:
                arrays.append(source.read(window=span))
                nodata += source.nodatavals
        for file in self.files:
            pixels, declared = file.read(span=span)
            arrays.append(pixels)
            nodata += declared
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays), nodata

    def mask(self, span: Span | None = None) -> npt.NDArray[np.bool_] | None:
        """Read which pixels, (H, W) as stored, the files' own masks mark as valid; None where they have none."""
        found = [mask for mask in (self._mask(span), *(file.mask(span) for file in self.files)) if mask is not None]
        return np.logical_and.reduce(found) if found else None

    def _mask(self, span: Span | None) -> npt.NDArray[np.bool_] | None:
        flags = self.source.mask_flag_enums[0]
        if MaskFlags.all_valid in flags or MaskFlags.alpha in flags or flags == [MaskFlags.nodata]:
            return None
        if MaskFlags.per_dataset in flags:
            return self.source.read_masks(1, window=span) > 0
        return (self.source.read_masks(window=span) > 0).any(axis=0)


class _TiffReader(DatasetReader):  # type: ignore[misc]
    """A reader of a TIFF that takes its coordinate system from an earlier file with the same GeoTIFF keys.

    PROJ looks into its database for each file, which takes 0.3 ms, as long as decoding a small tile.
    """

    known: ClassVar[dict[bytes, CRS]] = {}

    def __init__(self, name: Path | str, keys: bytes) -> None:
        self._keys = keys
        super().__init__(parsed_path(name), driver="GTiff")

    def read_crs(self) -> CRS:
        """Return the coordinate system. In a file without a transform, keys are those of ground control points."""
        if not self._keys or self.read_transform() == [*Affine.identity().to_gdal()]:
            return super().read_crs()
        found = self.known.get(self._keys)
        if found is None:
            found = super().read_crs()
            if len(self.known) >= _MOST_SYSTEMS:
                self.known.clear()
            self.known[self._keys] = found
        return found


@contextmanager
def opened(
    path: Path, what: str, place: bool = False, scene: bool = False, any_format: bool = False
) -> Iterator[Raster]:
    """Open a file; errors name `what` was expected, such as "an image".

    With `place`, GDAL also reads files beside it that hold its georeference. A `scene` is read in parts: it may be
    larger than memory, and a VRT; with `any_format`, it may have other formats of local rasters, too. Raises InputError
    where it cannot be read, here or in the block, has another format, or needs more memory than there is.
    """
    virtual = checked_vrt(path) if scene and is_vrt(path) else None
    driver = "VRT" if virtual else _driver(path, what, any_format)
    pages = tiff_pages(path, what) if driver == "GTiff" else []
    first = pages[0] if pages else None
    with reading(path, what):
        plain = plain_png(path) if driver == "PNG" and not scene else None
        turn = first.orientation if first else _png_turn(path, plain) if driver == "PNG" else None
        # Whether a picture is shown turned depends on whether its place is known.
        sidecars = not virtual and (driver in OTHER_DRIVERS or _has_sidecars(path, place or turn != UPRIGHT))
        with _settings(_WITH_SIDECARS if sidecars else _ALONE):
            own = None if sidecars or virtual else _opened_alone(path, driver, first, plain)
            with own or rasterio.open(virtual or _name(path, first), driver=driver) as source:
                raster = Raster(path, source, pages[1:], _shown(source, turn))
                _check_cost(raster, scene)
                for mask in MASKS if sidecars or virtual else ():
                    if os.path.exists(f"{path}{mask}"):
                        _check_mask_beside(raster, beside(path, mask))
                yield raster


def _opened_alone(
    path: Path, driver: str, first: Page | None, plain: PlainPng | None
) -> AbstractContextManager[DatasetReader]:
    """Open a file that has no others beside it. `rasterio.open` takes 0.05 ms more, to prepare for servers."""
    if plain:
        return nullcontext(plain)
    return _TiffReader(_name(path, first), first.keys) if first else DatasetReader(parsed_path(path), driver=driver)


def _png_turn(path: Path, plain: PlainPng | None) -> Orientation:
    return UPRIGHT if plain else png_orientation(path)


def _settings(others: str) -> AbstractContextManager[object]:
    """Return GDAL's settings for one file. Setting them takes 0.1 ms: nothing is done where `alone` holds the same."""
    wanted = {**_GDAL, "GDAL_DISABLE_READDIR_ON_OPEN": others}
    same = hasenv() and wanted.items() <= getenv().items()
    return nullcontext() if same else rasterio.Env(**wanted)


def _driver(path: Path, what: str, any_format: bool) -> str:
    """Return the driver of a file by its content, or the first of `OTHER_DRIVERS` that opens it."""
    try:
        return driver_of(path, what)
    except InputError:
        if any_format and path.is_file():
            for driver in OTHER_DRIVERS:
                with (
                    suppress(RasterioError, CPLE_BaseError),
                    rasterio.Env(**_GDAL, GDAL_DISABLE_READDIR_ON_OPEN=_WITH_SIDECARS),
                    rasterio.open(path, driver=driver),
                ):
                    return driver
        raise


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Raise an InputError that names the file for each error of the system or of GDAL in the block."""
    try:
        yield
    except (RasterioError, CPLE_BaseError, OSError) as error:
        reason = one_line(error.__cause__ or error) or type(error).__name__
        raise InputError(f"{path}: cannot be read as {what} ({reason})") from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise a SegtuneError that names the file for each error of GDAL in the block, such as that of a full disk."""
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:
        reason = one_line(error.__cause__ or error) or type(error).__name__
        raise SegtuneError(f"{path}: cannot be written ({reason})") from None


@contextmanager
def opened_together(paths: Sequence[Path], what: str, any_format: bool = False) -> Iterator[Raster]:
    """Open the files of a scene, whose bands follow each other, with their places; InputError as of `opened`."""
    with ExitStack() as stack:
        first, *others = (stack.enter_context(opened(path, what, True, True, any_format)) for path in paths)
        yield replace(first, files=others)


def alone() -> rasterio.Env:
    """Return settings under which GDAL looks only at the file that it opens or writes; many are opened faster in it."""
    return rasterio.Env(**_GDAL, GDAL_DISABLE_READDIR_ON_OPEN=_ALONE)


def _name(path: Path, page: Page | None) -> Path | str:
    """Return the name by which GDAL opens a page; opened as the file itself, the first page comes with its mask."""
    return path if page is None or page.number == 1 else f"GTIFF_DIR:{page.number}:{path}"


def _shown(source: rasterio.DatasetReader, turn: Orientation | None) -> Orientation:
    """Return the orientation in which viewers show an open file; `turn` is None for a JPEG, whose EXIF GDAL reads.

    A georeference describes the pixels as stored, whatever their orientation (GeoTIFF 1.1, device space), and
    geographic information systems show them so: a file with a known place is not turned.
    """
    if turn is None:
        number = source.tags().get("EXIF_Orientation", "")
        turn = Orientation.of(int(number) if number.isdigit() else 1)
    placed = turn != UPRIGHT and read_place(source).known(source.height)
    return UPRIGHT if placed else turn


def beside(path: Path, ending: str) -> Path:
    """Return the path with this ending added to its name."""
    return path.with_name(path.name + ending)


def _has_sidecars(path: Path, place: bool) -> bool:
    """Return whether a file beside this one changes what is read; with `place`, also its place on the ground."""
    whole = str(path)  # pathlib takes longer than the system
    facts = whole + FACTS
    if os.access(facts, os.F_OK):  # os.path.exists raises and catches an error for each file that is not there
        if os.stat(facts).st_size > _MOST_FACTS:
            raise InputError(f"{facts}: is larger than any file of this kind")
        return True
    places = place_files(whole) if place else ()
    return any(os.access(file, os.F_OK) for file in (*(whole + mask for mask in MASKS), *places))


def _check_mask_beside(raster: Raster, path: Path) -> None:
    """Raise InputError where the mask beside a file is not a GeoTIFF of its size: GDAL would read any format."""
    if driver_of(path, "a mask") != "GTiff":
        raise InputError(f"{path}: cannot be read as a mask: a mask beside a file is a GeoTIFF")
    with rasterio.open(path, driver="GTiff") as mask:
        if mask.shape != raster.source.shape:
            raise InputError(f"{path}: its size differs from that of {raster.path}")


def reading_cost(height: int, width: int, bands: int, itemsize: int) -> float:
    """Estimate the bytes of memory that reading and counting a file takes."""
    return float(height * width * (_PER_PIXEL + bands * (_PER_NUMBER + _COPIES * itemsize)))


def _check_cost(raster: Raster, in_parts: bool) -> None:
    """Raise InputError where a file has more bands or pixels than can be read: a header can claim any number."""
    height, width, bands = raster.source.height, raster.source.width, raster.bands
    if bands > MOST_BANDS:
        raise InputError(f"{raster.path}: has {bands} bands; an image has at most {MOST_BANDS}")
    if in_parts:
        return
    itemsize = max(np.dtype(dtype).itemsize for dtype in raster.source.dtypes)
    needed = reading_cost(height, width, bands, itemsize)
    free = free_memory() if needed > _SMALL else None
    if free is not None and needed > SHARE * free:
        raise InputError(
            f"{raster.path}: its header claims {width}x{height} pixels of {counted(bands, 'band')}; reading them takes "
            f"about {needed / 1e9:.0f} GB, and a tile may take half of the {free / 1e9:.0f} GB of memory that are free"
        )
