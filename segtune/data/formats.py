"""Formats of files by their first bytes, and what GDAL does not pass on of their headers: orientation and pages."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy.typing as npt

from segtune.errors import InputError

FORMATS = "GeoTIFF, PNG, JPEG and BMP"
MOST_BANDS = 4096  # of an image

# GDAL opens about two hundred formats; some of them write files, or name other files and servers to read from. Only
# these are opened, each by its own driver.
_DRIVERS = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
}
# Of scenes that are cut into tiles, where a file is none of these: drivers that read one local raster each.
OTHER_DRIVERS = (
    *("JP2OpenJPEG", "HFA", "ENVI", "EHdr", "NITF", "AAIGrid", "GRASSASCIIGrid", "SRTMHGT", "DTED", "USGSDEM"),
    *("RST", "SAGA", "GSAG", "GSBG", "GS7BG", "PNM", "WEBP", "GIF"),
)
_OTHERS = {  # names of formats in error messages
    b"GIF8": "GIF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\x89HDF": "HDF5 or netCDF",
    b"CDF": "netCDF",
    b"%PDF": "PDF",
    b"SQLite format 3": "SQLite or GeoPackage",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"SIMPLE  =": "FITS",
    b"NITF": "NITF",
    b"GRIB": "GRIB",
    b"8BPS": "Photoshop",
    b"EHFA_HEADER_TAG": "Erdas Imagine",
    b"version https://git-lfs": "a pointer of Git LFS, whose file was not fetched",
}
_XML = {"VRTDataset": "VRT", "MRF_META": "MRF", "GDAL_WMS": "WMS"}
_HEAD = 512  # bytes that are read to recognize a format
_TAGS = {  # of a page, with their defaults
    254: ("subfile", 0),
    255: ("old_subfile", 0),
    256: ("width", 0),
    257: ("height", 0),
    258: ("bits", 1),
    274: ("orientation", 1),
    277: ("bands", 1),
    339: ("number_kind", 1),
}
_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # integer types of TIFF
_KEYS = {34735: (3, 2), 34736: (12, 8), 34737: (2, 1)}  # tags of a coordinate system: their type, bytes of a number
_LONGEST_KEYS = 65536  # bytes
_KINDS = {1: "unsigned", 2: "signed", 3: "float"}  # of a page's numbers
_REDUCED, _MASK = 1, 4  # bits of a page's subfile type
_OLD_REDUCED = 2
_FARTHEST = 2**62  # largest offset in a file
_MOST = f"an image has at most {MOST_BANDS} bands"

# By the orientation of EXIF or TIFF: whether rows and columns are swapped, and then whether rows and columns are
# reversed.
_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclass(frozen=True)
class Orientation:
    """How stored pixels are turned into what viewers show."""

    swapped: bool  # rows become columns
    rows_back: bool  # then rows are reversed
    columns_back: bool

    @classmethod
    def of(cls, number: object) -> Orientation:
        """Return the orientation for an EXIF number; an unknown number changes nothing, as in viewers."""
        return cls(*_TURNS.get(number if isinstance(number, int) else 1, _TURNS[1]))

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size, (height, width), at which stored pixels are shown."""
        return (width, height) if self.swapped else (height, width)

    def upright(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn stored pixels, (..., H, W), as viewers show them."""
        shown = array.swapaxes(-1, -2) if self.swapped else array
        shown = shown[..., ::-1, :] if self.rows_back else shown
        return shown[..., ::-1] if self.columns_back else shown


UPRIGHT = Orientation.of(1)


@dataclass(frozen=True)
class Page:
    """One image of a TIFF."""

    number: int  # in the file, counted from 1 as GDAL does
    tags: dict[str, int]
    keys: bytes = b""  # GeoTIFF's keys of its coordinate system, as stored; empty where they are not known

    @property
    def orientation(self) -> Orientation:
        """How viewers show this page."""
        return Orientation.of(self.tags["orientation"])

    @property
    def kind(self) -> str:
        """Size and type, such as "64x64 8-bit unsigned"; pages of one kind are bands of one image."""
        tags = self.tags
        number = _KINDS.get(tags["number_kind"], "other")
        return f"{tags['width']}x{tags['height']} {tags['bits']}-bit {number}"

    @property
    def lesser(self) -> bool:
        """Whether it is an overview, a thumbnail or a mask of another page."""
        return bool(self.tags["subfile"] & (_REDUCED | _MASK)) or self.tags["old_subfile"] == _OLD_REDUCED


def driver_of(path: Path, what: str) -> str:
    """Return the GDAL driver of a file by its content; InputError where its format is not supported."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise InputError(f"{path}: cannot be read as {what} ({error.strerror or error})") from None
    for signature, driver in _DRIVERS.items():
        if head.startswith(signature):
            return driver
    found = "it is empty" if not head else f"its content is {_named(head)}"
    raise InputError(f"{path}: cannot be read as {what}: {found}; {FORMATS} are read")


def _named(head: bytes) -> str:
    """Name the format of a file that is not supported, by its first bytes."""
    for signature, name in _OTHERS.items():
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return "AVIF, HEIC or video"
    if element := re.search(rb"<([A-Za-z_][\w:.-]*)", head):
        name = element[1].decode("ascii")[:40]
        return _XML.get(name, f"XML or HTML ({name})")
    text = all(byte >= 32 or byte in b"\t\r\n\f" for byte in head)
    return "text" if text else f"unknown (it begins with {head[:8].hex(' ')})"


def png_orientation(path: Path) -> Orientation:
    """Return the orientation in the EXIF data of a PNG."""
    with path.open("rb") as file:
        file.seek(8)
        while len(start := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", start)
            if kind == b"eXIf":
                return _exif_orientation(file, file.tell())
            file.seek(length + 4, 1)
    return UPRIGHT


def _exif_orientation(file: IO[bytes], base: int) -> Orientation:
    """Return the orientation in EXIF data, which are a TIFF without pixels; damaged data are ignored."""
    try:
        return next((page.orientation for page in _pages(file, base)), UPRIGHT)
    except _DamagedError:
        return UPRIGHT


def tiff_pages(path: Path, what: str) -> list[Page]:
    """Return the pages of a TIFF without overviews, thumbnails and masks of other pages.

    Raises InputError where their list is damaged or too long, or where they are not of one kind.
    """
    found = []
    with path.open("rb") as file:
        try:
            for page in _pages(file, 0):
                if page.number > MOST_BANDS:
                    raise InputError(f"{path}: has more than {MOST_BANDS} pages; {_MOST}")
                found.append(page)
        except _DamagedError as error:
            raise InputError(f"{path}: cannot be read as {what} ({error})") from None
    if not found:
        raise InputError(f"{path}: cannot be read as {what} (it has no page)")
    pages = [page for page in found if not page.lesser] or found[:1]
    bands = sum(page.tags["bands"] for page in pages)
    if bands > MOST_BANDS:
        raise InputError(f"{path}: its header claims {bands} bands; {_MOST}")
    odd = next((page for page in pages if page.kind != pages[0].kind), None)
    if odd:
        raise InputError(
            f"{path}: page {odd.number} is {odd.kind}, and page {pages[0].number} {pages[0].kind}; pages are read as "
            f"bands where they are alike, so keep one of them in this file, or bring all to one size and type"
        )
    return pages


class _DamagedError(Exception):
    """A TIFF's directories are damaged."""


def _pages(file: IO[bytes], base: int) -> Iterator[Page]:
    """Yield all pages of a TIFF that begins at `base`."""
    read = _Numbers(file, base)
    seen: set[int] = set()
    offset = read.first
    while offset:
        if offset in seen:
            raise _DamagedError("the list of its pages runs in a circle")
        seen.add(offset)
        tags, keys, offset = read.directory(offset)
        yield Page(len(seen), dict(_TAGS.values()) | tags, keys)


class _Numbers:
    """Reads a TIFF's directories, whatever its byte order, classic or BigTIFF."""

    def __init__(self, file: IO[bytes], base: int) -> None:
        self._file, self._base = file, base
        self._order, self._big = "<", False
        mark, version = self._at(0, "2sH")
        if mark == b"MM":
            self._order = ">"
            _, version = self._at(0, "2sH")
        self._big = version == 43
        (self.first,) = self._at(8, "Q") if self._big else self._at(4, "I")

    def directory(self, offset: int) -> tuple[dict[str, int], bytes, int]:
        """Return the tags of a directory, its GeoTIFF keys, and the offset of the next one; 0 after the last."""
        (count,) = self._at(offset, "Q" if self._big else "H")
        start, size = offset + (8 if self._big else 2), 20 if self._big else 12
        if count > 65535:
            raise _DamagedError("a page has more tags than there are")
        self._file.seek(self._base + start)
        entries = self._file.read(count * size)
        if len(entries) < count * size:
            raise _DamagedError("the list of its pages is cut short")
        tags, keys = {}, []
        kinds = struct.iter_unpack(f"{self._order}HH{size - 4}x", entries)
        for place, (tag, kind) in enumerate(kinds):
            if tag in _TAGS and kind in _NUMBERS:
                tags[_TAGS[tag][0]] = self._value(entries[place * size : (place + 1) * size], _NUMBERS[kind])
            elif tag in _KEYS:
                keys.append(entries[place * size : (place + 1) * size])
        (following,) = self._at(start + count * size, "Q" if self._big else "I")
        return tags, self._keys(keys), following

    def _keys(self, entries: Sequence[bytes]) -> bytes:
        """Return the content of tags as it is stored; empty where one of them is damaged, or is not as it should be."""
        found = [self._order.encode()]
        for entry in entries:
            tag, kind, count = struct.unpack_from(self._order + ("HHQ" if self._big else "HHI"), entry)
            own, each = _KEYS[tag]
            rest = entry[-8:] if self._big else entry[-4:]
            if kind != own or count * each > _LONGEST_KEYS:
                return b""
            if count * each > len(rest):
                (offset,) = struct.unpack(self._order + ("Q" if self._big else "I"), rest)
                try:
                    (rest,) = self._at(offset, f"{count * each}s")
                except _DamagedError:
                    return b""
            found += [entry[:-8] if self._big else entry[:-4], rest]
        return b"".join(found) if entries else b""

    def _value(self, entry: bytes, form: str) -> int:
        """Return the first number of a tag; the numbers lie elsewhere where the entry is too short for them."""
        count, rest = struct.unpack_from(self._order + ("Q" if self._big else "I"), entry, 4)[0], entry[-8:]
        rest = rest if self._big else rest[-4:]
        if count * struct.calcsize(form) > len(rest):
            (offset,) = struct.unpack(self._order + ("Q" if self._big else "I"), rest)
            return self._at(offset, form)[0]
        return struct.unpack_from(self._order + form, rest)[0]

    def _at(self, offset: int, form: str) -> tuple[Any, ...]:
        form = self._order + form
        if offset > _FARTHEST:
            raise _DamagedError("the list of its pages is cut short")
        self._file.seek(self._base + offset)
        found = self._file.read(struct.calcsize(form))
        if len(found) < struct.calcsize(form):
            raise _DamagedError("the list of its pages is cut short")
        return struct.unpack(form, found)
