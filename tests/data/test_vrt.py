"""A VRT arranges local files of the formats that are read, and does nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy

from segtune.data.raster import opened
from segtune.errors import InputError
from tests.evaluation.scenes import picture, write_scene

SOURCE = '<SourceFilename relativeToVRT="1">honest.tif</SourceFilename><SourceBand>1</SourceBand>'
SIMPLE = f"<SimpleSource>{SOURCE}</SimpleSource>"


@pytest.fixture
def honest(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "honest.tif", picture(8, 8, 1))


def vrt(bands: str, head: str = "", attributes: str = "") -> str:
    return f'{head}<VRTDataset rasterXSize="8" rasterYSize="8"{attributes}>{bands}</VRTDataset>'


def band(content: str, attributes: str = "", name: str = "VRTRasterBand") -> str:
    return f'<{name} dataType="Byte" band="1"{attributes}>{content}</{name}>'


def source(name: str, relative: str = "1", tag: str = "SourceFilename", attribute: str = "relativeToVRT") -> str:
    return f'<SimpleSource><{tag} {attribute}="{relative}">{name}</{tag}><SourceBand>1</SourceBand></SimpleSource>'


def read(path: Path) -> np.ndarray:
    with opened(path, "an image", scene=True) as raster:
        return raster.read()[0]


RAW = "<sourcefilename>/etc/passwd</sourcefilename><ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset>"
FUNCTION = f"<PixelFunctionType>inv</PixelFunctionType>{SIMPLE}"
RAW_BAND = band(RAW, ' subClass="VRTRawRasterBand"')
CASES = {
    "raw bytes": (band(RAW + SIMPLE, ' subclass="VRTRawRasterBand"'), "subclass"),
    "raw bytes in capitals": (band(RAW + SIMPLE, ' SUBCLASS="VRTRawRasterBand"'), "SUBCLASS"),
    "raw bytes, as GDAL writes it": (band(SIMPLE, ' subClass="VRTRawRasterBand"'), "subClass"),
    "computed pixels": (band(FUNCTION, ' subclass="VRTDerivedRasterBand"'), "subclass"),
    "computed pixels of a plain band": (band(FUNCTION), "PixelFunctionType"),
    "another file, in lower case": (band(source("other.img", tag="sourcefilename") + SIMPLE), "sourcefilename"),
    "a band in lower case": (band(SIMPLE, name="vrtrasterband"), "vrtrasterband"),
    "where names begin, as 01": (band(source("honest.tif", "01")), "relativeToVRT='01'"),
    "where names begin, as true": (band(source("honest.tif", "true")), "relativeToVRT='true'"),
    "where names begin, in lower case": (band(source("honest.tif", attribute="relativetovrt")), "relativetovrt"),
    "options of the driver": (band(SIMPLE + '<OpenOptions><OOI key="A">B</OOI></OpenOptions>'), "OpenOptions"),
    "an array": (band(f"<ArraySource>{SIMPLE}</ArraySource>"), "ArraySource"),
    "another name space": (band(SIMPLE, ' xmlns="http://a.invalid"'), "{http://a.invalid}"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_arranges_no_files_is_refused_in_any_case(tmp_path: Path, honest: Path, case: str) -> None:
    bands, named = CASES[case]
    path = tmp_path / "a.vrt"
    path.write_text(vrt(bands))
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: only a VRT that arranges files is read, not {named}")


@pytest.mark.parametrize("attribute", ["subClass", "subclass"])
def test_data_sets_that_warp_are_refused(tmp_path: Path, honest: Path, attribute: str) -> None:
    (tmp_path / "a.vrt").write_text(vrt(band(SIMPLE), attributes=f' {attribute}="VRTWarpedDataset"'))
    with pytest.raises(InputError, match=attribute):
        read(tmp_path / "a.vrt")


ENTITY = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    "text",
    [
        vrt(band(source("&b;")), ENTITY),
        vrt(band(source("&b;"))),
        vrt(band(source("<![CDATA[honest.tif]]>"))),
        vrt(band(SIMPLE))[:-5],
        vrt(""),
    ],
    ids=["document type", "unknown entity", "character data", "cut off", "no file"],
)
def test_other_xml_is_refused(tmp_path: Path, honest: Path, text: str) -> None:
    (tmp_path / "a.vrt").write_text(text)
    with pytest.raises(InputError, match=r"a\.vrt: "):
        read(tmp_path / "a.vrt")


def test_a_document_in_another_encoding_is_refused(tmp_path: Path, honest: Path) -> None:
    """The checks must see the names that GDAL sees, which knows UTF-8 alone."""
    write_scene(tmp_path / "Ã©.tif", picture(8, 8, 1))
    text = vrt(band(source("Ã©.tif")), '<?xml version="1.0" encoding="iso-8859-1"?>')
    (tmp_path / "a.vrt").write_bytes(text.encode("iso-8859-1"))
    with pytest.raises(InputError, match=r"é\.tif: cannot be read"):
        read(tmp_path / "a.vrt")
    (tmp_path / "a.vrt").write_bytes(("<!--<VRTDataset-->" + text).encode("utf-16"))
    with pytest.raises(InputError):
        read(tmp_path / "a.vrt")


@pytest.mark.parametrize(
    "name",
    [
        "/vsicurl/http://a.invalid/a.tif",
        "http://a.invalid/a.tif",
        "/vsizip/a.zip/a.tif",
        "/vsimem/a.tif",
        "/etc/passwd",
    ],
)
def test_sources_that_are_no_local_image_are_refused(tmp_path: Path, honest: Path, name: str) -> None:
    for text in (source(name, "0"), source(name, "1"), source(name.replace("/", "&#47;"), "0")):
        (tmp_path / "a.vrt").write_text(vrt(band(SIMPLE + text)))
        with pytest.raises(InputError, match="cannot be read as an image"):
            read(tmp_path / "a.vrt")


@pytest.mark.parametrize(
    "start", [b"", b"BM", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"], ids=["plain", "BMP", "JPEG", "PNG"]
)
def test_a_nested_vrt_is_refused_under_any_signature(tmp_path: Path, honest: Path, start: bytes) -> None:
    inner = vrt(RAW_BAND)
    (tmp_path / "inner.tif").write_bytes(start + inner.encode())
    (tmp_path / "a.vrt").write_text(vrt(band(source("inner.tif"))))
    with pytest.raises(InputError, match=r"inner\.tif: cannot be read as an image"):
        read(tmp_path / "a.vrt")


def test_what_gdal_alone_would_see_is_not_read(tmp_path: Path, honest: Path) -> None:
    """To GDAL a processing instruction is an element; to XML all of it is one word."""
    expected = read(honest)
    (tmp_path / "a.vrt").write_text(vrt(f"<!-- two --><?a ></?a>{RAW_BAND}?>" + band(SIMPLE)))
    np.testing.assert_array_equal(read(tmp_path / "a.vrt"), expected)


def test_files_beside_the_sources_are_not_opened(tmp_path: Path, honest: Path) -> None:
    expected = read(honest)
    (tmp_path / "honest.tif.msk").write_text(vrt(RAW_BAND))
    (tmp_path / "a.vrt.aux.xml").write_text("<PAMDataset/>")
    content = SIMPLE + f"<MaskBand>{band(SIMPLE.replace('>1<', '>mask,1<'))}</MaskBand>"
    (tmp_path / "a.vrt").write_text(vrt(band(content)))
    with opened(tmp_path / "a.vrt", "an image", scene=True) as raster:
        np.testing.assert_array_equal(raster.read()[0], expected)
        assert raster.source.read_masks(1).all()


def test_programs_of_gdal_make_vrts_that_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "rôle <a> & b"
    files = [write_scene(folder / f"{number}.tif", picture(8, 8, 3, number), nodata=3) for number in range(2)]
    copy(files[0], folder / "copy.vrt", driver="VRT")
    whole = read(files[0])
    np.testing.assert_array_equal(read(folder / "copy.vrt"), whole)
    with opened(folder / "copy.vrt", "an image", scene=True) as raster, rasterio.open(files[0]) as file:
        assert (raster.source.crs, raster.source.transform) == (file.crs, file.transform)
    if not shutil.which("gdalbuildvrt"):
        pytest.skip("gdalbuildvrt, of GDAL's programs, is not installed")
    for number, flags in enumerate(
        (["-separate"], ["-addalpha", "-r", "cubic"], ["-srcnodata", "3", "-vrtnodata", "7", "-hidenodata"], [])
    ):
        subprocess.run(["gdalbuildvrt", "-q", *flags, f"{number}.vrt", "0.tif", "1.tif"], cwd=folder, check=True)
        assert read(folder / f"{number}.vrt").shape[1:] == (8, 8)
    points = ["-gcp", "0", "0", "1", "2", "-gcp", "3", "3", "4", "5"]
    for number, flags in enumerate((["-stats"], ["-scale"], ["-mask", "1"], points)):
        output = f"t{number}.vrt"
        subprocess.run(["gdal_translate", "-q", "-of", "VRT", *flags, "0.tif", output], cwd=folder, check=True)
        assert read(folder / output).shape == (3, 8, 8)
