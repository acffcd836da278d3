"""VRT files, by which GDAL reads several files as one: only of local files in the formats that are read anyway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from segtune.data.formats import FORMATS, driver_of
from segtune.errors import InputError, one_line

_HEAD, _MOST = 512, 64 * 2**20  # bytes
_BUILT = "gdalbuildvrt makes one that is read"
# What gdalbuildvrt and gdal_translate write. GDAL knows more: programs in the file, raw bytes of any file, servers. It
# also finds names in any case, so everything else is refused.
_ELEMENTS = frozenset(
    {
        *("VRTDataset", "SRS", "GeoTransform", "GCPList", "GCP", "Metadata", "MDI", "OverviewList", "MaskBand"),
        *("VRTRasterBand", "Description", "UnitType", "Offset", "Scale", "ColorInterp", "CategoryNames", "Category"),
        *("ColorTable", "Entry", "NoDataValue", "HideNoDataValue", "Histograms", "HistItem", "HistMin", "HistMax"),
        *("BucketCount", "IncludeOutOfRange", "Approximate", "HistCounts", "Overview"),
        *("SimpleSource", "ComplexSource", "AveragedSource", "NoDataFromMaskSource"),
        *("SourceFilename", "SourceBand", "SourceProperties", "SrcRect", "DstRect", "NODATA", "UseMaskBand"),
        *("ScaleOffset", "ScaleRatio", "ColorTableComponent", "LUT", "Exponent", "Clamp"),
        *("SrcMin", "SrcMax", "DstMin", "DstMax", "MaskValueThreshold", "RemappedValue"),
    }
)
_ATTRIBUTES = frozenset(
    {
        *("rasterXSize", "rasterYSize", "dataAxisToSRSAxisMapping", "coordinateEpoch", "domain", "key", "resampling"),
        *("dataType", "band", "blockXSize", "blockYSize", "relativeToVRT", "shared", "xOff", "yOff", "xSize", "ySize"),
        *("RasterXSize", "RasterYSize", "DataType", "BlockXSize", "BlockYSize", "c1", "c2", "c3", "c4"),
        *("Projection", "Id", "Info", "Pixel", "Line", "X", "Y", "Z"),
    }
)


def is_vrt(path: Path) -> bool:
    """Return whether a file is a VRT by its content; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return b"<VRTDataset" in file.read(_HEAD)
    except OSError:
        return False


def checked_vrt(path: Path) -> str:
    """Return a VRT as text that GDAL opens, with absolute paths.

    The text holds what was checked and nothing else, such as comments. Raises InputError where it does more than to
    arrange local GeoTIFF, PNG, JPEG or BMP files.
    """
    if path.stat().st_size > _MOST:
        raise InputError(f"{path}: is larger than any VRT")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if "<!" in text.replace("<!--", ""):
            raise InputError(f"{path}: a VRT has no document type; {_BUILT}")
        root = ElementTree.fromstring(text)
        for name in _foreign(root):
            raise InputError(f"{path}: only a VRT that arranges files is read, not {name[:40]}; {_BUILT}")
        _check_sources(path, root)
        return ElementTree.tostring(root, "unicode")
    except (UnicodeDecodeError, ElementTree.ParseError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as a VRT ({one_line(error)})") from None


def _foreign(root: ElementTree.Element) -> Iterator[str]:
    """Yield what an arrangement of files does not need: elements, attributes, and values of those that change names."""
    if root.tag != "VRTDataset":
        yield root.tag
    for element in root.iter():
        if element.tag not in _ELEMENTS:
            yield element.tag
        for name, value in element.items():
            if name not in _ATTRIBUTES:
                yield f"{name}={value!r}"
            if name == "relativeToVRT" and value not in ("0", "1"):
                yield f"{name}={value!r}"


def _check_sources(path: Path, root: ElementTree.Element) -> None:
    """Make the names of files absolute; raise InputError where one is none that is read, or where there is none."""
    names = []
    for element in root.iter("SourceFilename"):
        beside = element.attrib.pop("relativeToVRT", "0") == "1"
        name = Path(element.text.strip() if element.text else "")
        names.append((path.parent / name if beside else name).absolute())
        element.text = str(names[-1])
    if not names:
        raise InputError(f"{path}: the VRT names no file; {_BUILT}")
    for name in dict.fromkeys(names):
        driver_of(name, "an image")
        with name.open("rb") as file:
            # GDAL looks for words such as <VRTDataset in a file's first bytes, up to a zero, before its signature.
            if b"\0" not in file.read(16):
                raise InputError(f"{name}: cannot be read as an image: it is none of {FORMATS}")
