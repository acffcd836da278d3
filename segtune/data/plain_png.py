"""PNG files of plain kinds: OpenCV decodes them in less time than GDAL, and finds every damage that GDAL finds."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp, MaskFlags

_LARGEST = 2**24  # bytes of a file that is read at once
_START = 8  # of the first chunk
_HEADER = struct.Struct(">II5B")  # width, height, bits, colours, compression, filter, interlacing
_AROUND = 12  # bytes of a chunk besides its content: length, kind, checksum
_GREY, _COLOUR, _COLOUR_AND_ALPHA = 0, 2, 6
_BANDS = {
    _GREY: (ColorInterp.gray,),
    _COLOUR: (ColorInterp.red, ColorInterp.green, ColorInterp.blue),
    _COLOUR_AND_ALPHA: (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha),
}
_ORDER = {_COLOUR: cv2.COLOR_BGR2RGB, _COLOUR_AND_ALPHA: cv2.COLOR_BGRA2RGBA}  # OpenCV gives blue first
_PIXELS, _END = b"IDAT", b"IEND"
# These change no pixel and no place. Any other chunk, such as a palette, a nodata value or EXIF data, is GDAL's.
_CHUNKS = frozenset({b"IHDR", _PIXELS, _END, b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tIME", b"tEXt", b"zTXt", b"iTXt"})

Pixels = npt.NDArray[np.uint8]
Span = tuple[tuple[int, int], tuple[int, int]]  # the first row and the one after the last; columns likewise


@dataclass(frozen=True)
class PlainPng:
    """An open PNG with those attributes and methods of rasterio's readers that tiles are read by."""

    path: Path
    content: bytes  # of the file
    height: int
    width: int
    colours: int  # PNG's number of the kind

    driver: ClassVar[str] = "PNG"
    transform: ClassVar[rasterio.Affine] = rasterio.Affine.identity()
    gcps: ClassVar[tuple[Sequence[Any], None]] = ((), None)
    crs: ClassVar[None] = None
    rpcs: ClassVar[None] = None

    @property
    def colorinterp(self) -> tuple[ColorInterp, ...]:
        """What each band is."""
        return _BANDS[self.colours]

    @property
    def count(self) -> int:
        """The number of bands."""
        return len(self.colorinterp)

    @property
    def indexes(self) -> tuple[int, ...]:
        """The numbers of the bands, from 1."""
        return tuple(range(1, self.count + 1))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The type of each band."""
        return ("uint8",) * self.count

    @property
    def nodatavals(self) -> tuple[None, ...]:
        """The nodata value of each band: none."""
        return (None,) * self.count

    @property
    def mask_flag_enums(self) -> tuple[list[MaskFlags], ...]:
        """Where the mask of each band comes from: the alpha band, if there is one."""
        if self.colours != _COLOUR_AND_ALPHA:
            return ([MaskFlags.all_valid],) * self.count
        return *([MaskFlags.per_dataset, MaskFlags.alpha],) * (self.count - 1), [MaskFlags.all_valid]

    def read(self, bands: int | Sequence[int] | None = None, window: Span | None = None) -> Pixels:
        """Return bands, (bands, H, W), or one band, (H, W); with `window`, only its rows and columns.

        Raises RasterioError where pixels are missing or damaged.
        """
        rows, columns = (slice(*ends) for ends in window or ((0, self.height), (0, self.width)))
        pixels = self._pixels[:, rows, columns]
        if bands is None or bands == [*self.indexes]:
            return pixels
        return pixels[bands - 1] if isinstance(bands, int) else pixels[[band - 1 for band in bands]]

    @cached_property
    def _pixels(self) -> Pixels:
        """All bands, (bands, H, W). Where OpenCV refuses a file, GDAL decides, and says what is wrong."""
        found = self._decoded()
        if found is not None and found.reshape(*found.shape[:2], -1).shape == (*self.shape, self.count):
            bands: Pixels = found.reshape(*self.shape, self.count).transpose(2, 0, 1)
            return bands
        with rasterio.open(self.path, driver=self.driver) as source:
            return source.read()

    def _decoded(self) -> Pixels | None:
        """Return the pixels, (H, W) or (H, W, bands), as OpenCV decodes them; None where it refuses the file."""
        # libpng would find wrong checksums, too, and write them to the terminal.
        if not all(zlib.crc32(data) == checksum for _, data, checksum in _chunks(self.content)):
            return None
        with suppress(cv2.error):  # more pixels than OpenCV takes
            found = cv2.imdecode(np.frombuffer(self.content, np.uint8), cv2.IMREAD_UNCHANGED)
            if found is not None and found.dtype == np.uint8:
                code = _ORDER.get(self.colours)
                return found if code is None or found.ndim == 2 else cv2.cvtColor(found, code)
        return None


def plain_png(path: Path) -> PlainPng | None:
    """Open a PNG that has 8 bits per band, is grey, RGB or RGBA, and holds nothing that changes its pixels.

    Returns None for any other PNG, and for one that is cut short. Raises OSError.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        return None
    found = list(_chunks(content))
    if not found or found[-1][0] != _END or not {kind for kind, *_ in found} <= _CHUNKS:
        return None
    kind, data, checksum = found[0]
    if kind != b"IHDR" or len(data) != 4 + _HEADER.size or zlib.crc32(data) != checksum:
        return None
    width, height, bits, colours, *rest = _HEADER.unpack_from(data, 4)
    usual = bits == 8 and colours in _BANDS and not any(rest) and width and height
    return PlainPng(path, content, height, width, colours) if usual else None


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Yield the kind, the kind with the data, and the checksum of each chunk that is there as a whole."""
    view, place = memoryview(content), _START
    while place + _AROUND <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        end = place + _AROUND + length
        if end > len(content):
            return
        kind = content[place + 4 : place + 8]
        yield kind, view[place + 4 : end - 4], int.from_bytes(content[end - 4 : end], "big")
        if kind == _END:
            return
        place = end
