"""VRT files, by which GDAL reads several files as one: only of local files in the formats that are read anyway."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from segtune.data.formats import driver_of
from segtune.errors import InputError, one_line

_HEAD, _MOST = 512, 64 * 2**20  # bytes
_BUILT = "gdalbuildvrt makes one that is read"
# GDAL can also compute pixels by a program in the file, or read them by a nested description.
_REFUSED = (
    "VRTWarpedDataset",
    "VRTPansharpenedDataset",
    "VRTProcessedDataset",
    "VRTDerivedRasterBand",
    "VRTRawRasterBand",
)


def is_vrt(path: Path) -> bool:
    """Return whether a file is a VRT by its content; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return b"<VRTDataset" in file.read(_HEAD)
    except OSError:
        return False


def check_vrt(path: Path) -> None:
    """Raise InputError where a VRT does more than to arrange local GeoTIFF, PNG, JPEG or BMP files."""
    if path.stat().st_size > _MOST:
        raise InputError(f"{path}: is larger than any VRT")
    text = path.read_bytes()
    if b"<!" in text.replace(b"<!--", b""):
        raise InputError(f"{path}: a VRT has no document type; {_BUILT}")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: cannot be read as a VRT ({one_line(error)})") from None
    names = []
    for element in root.iter():
        kind = element.get("subClass", "VRTRasterBand")
        if kind in _REFUSED or element.tag in ("SourceDataset", "GroupDataset", "Array"):
            raise InputError(f"{path}: only a VRT that arranges files is read, not {kind}; {_BUILT}")
        if element.tag == "SourceFilename":
            beside = element.get("relativeToVRT") == "1"
            names.append(path.parent / (element.text or "") if beside else Path(element.text or ""))
    if not names:
        raise InputError(f"{path}: the VRT names no file; {_BUILT}")
    for name in dict.fromkeys(names):
        driver_of(name, "an image")
