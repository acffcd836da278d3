"""validate.py --bands: images whose bands lie in another order than those of the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from tests.evaluation.runs import Run, Trained, errors, pixels

pytestmark = pytest.mark.usefixtures("blank_charts")

Capsys = pytest.CaptureFixture[str]
SLOW = pytest.mark.slow


def read(path: Path) -> tuple[NDArray[Any], dict[str, Any]]:
    with rasterio.open(path) as file:
        return file.read(), file.profile


def write(path: Path, bands: Sequence[NDArray[Any]], profile: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without this, GDAL declares the fourth band of 8 bits as transparency.
    with rasterio.open(path, "w", **(profile | {"count": len(bands), "alpha": "no", "photometric": "minisblack"})) as f:
        f.write(np.stack(bands))
    return path


def reordered(case: Trained, folder: Path, nir: bool, masks: bool = True) -> Path:
    """Copy a split with images of blue, green, red and a band of noise; `nir` puts the channel behind them."""
    shutil.copytree(case.val, folder)
    for path in sorted((folder / "images").iterdir()):
        image, profile = read(path)
        noise = np.random.default_rng(0).integers(0, 255, image.shape[1:], np.uint8)
        last = read(folder / "nir" / path.name)[0] if nir else noise[None]
        write(path, [*image[::-1], *last], profile)
    if nir:
        shutil.rmtree(folder / "nir")
    if not masks:
        shutil.rmtree(folder / "gt")
    return folder


def found(out: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    return result


@pytest.mark.parametrize(("numbers", "nir"), [pytest.param("3,2,1", False, marks=SLOW), ("3,2,1,4", True)])
def test_tiles_in_another_order_score_as_before(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys, numbers: str, nir: bool
) -> None:
    split = reordered(binary, tmp_path / "val", nir)
    assert run("-cd", binary.folder, "-d", split, "-o", tmp_path / "out", "--bands", numbers) == 0
    best = binary.results[binary.results[-1].best_epoch - 1].scores
    metrics = found(tmp_path / "out")
    assert metrics["miou"] == best.miou
    assert metrics["bands"] == [int(number) for number in numbers.split(",")]
    said = " ".join(capsys.readouterr().out.split())
    assert "bands: image:1 from band 3, image:2 from band 2, image:3 from band 1" in said
    assert ("nir from band 4" in said) is nir


@pytest.mark.slow
def test_without_the_flag_no_order_is_stored_or_named(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path, "--com") == 0
    assert found(tmp_path)["bands"] is None
    assert "bands:" not in capsys.readouterr().out


@pytest.mark.parametrize(("numbers", "nir"), [("3,2,1", False), pytest.param("3 2 1 4", True, marks=SLOW)])
def test_folders_without_masks_are_predicted_as_before(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys, numbers: str, nir: bool
) -> None:
    plain = Path(shutil.copytree(binary.val, tmp_path / "plain"))
    shutil.rmtree(plain / "gt")
    assert run("-cd", binary.folder, "-d", plain, "-o", tmp_path / "a", "--plots") == 0
    split = reordered(binary, tmp_path / "val", nir, masks=False)
    assert run("-cd", binary.folder, "-d", split, "-o", tmp_path / "b", "--plots", "--bands", *numbers.split()) == 0
    assert "image:1 from band 3" in capsys.readouterr().out
    assert json.loads((tmp_path / "b" / "prediction.json").read_text())["bands"][0] == 3
    for number in range(4):
        name = f"{number:03}"
        first, second = (pixels(tmp_path / out / "binary" / f"{name}.tif") for out in "ab")
        assert first.any()
        assert np.array_equal(first, second)
        assert (tmp_path / "a" / "plots" / f"{name}.png").read_bytes() == (
            tmp_path / "b" / "plots" / f"{name}.png"
        ).read_bytes()


@pytest.mark.parametrize("how", [pytest.param("files", marks=SLOW), "vrt", pytest.param("channel file", marks=SLOW)])
def test_files_of_single_bands_and_vrts_are_mapped(binary: Trained, tmp_path: Path, run: Run, how: str) -> None:
    image = binary.val / "images" / "000.tif"
    assert run("-cd", binary.folder, "-d", image, "-o", tmp_path / "a") == 0
    (red, green, blue), profile = read(image)
    nir = read(binary.val / "nir" / "000.tif")[0][0]
    names = {"nir": nir, "blue": blue, "green": green, "red": red}
    files = {name: write(tmp_path / "new" / f"{name}.tif", [band], profile) for name, band in names.items()}
    given, numbers = list(files.values()), "4,3,2,1"
    if how == "vrt":
        given = [write_vrt(tmp_path / "new" / "all.vrt", given, profile)]
    if how == "channel file":
        given, numbers = [*given[1:], files["nir"]], "3,2,1"
    assert run("-cd", binary.folder, "-d", *given, "-o", tmp_path / "b", "--bands", numbers) == 0
    (written,) = (tmp_path / "b" / "binary").glob("*.tif")
    assert np.array_equal(pixels(tmp_path / "a" / "binary" / "000.tif"), pixels(written))


def write_vrt(path: Path, files: Sequence[Path], profile: dict[str, Any]) -> Path:
    """Write a VRT with a band for each file."""
    size = f'rasterXSize="{profile["width"]}" rasterYSize="{profile["height"]}"'
    transform = ", ".join(str(number) for number in profile["transform"].to_gdal())
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{number}"><SimpleSource><SourceFilename relativeToVRT="1">{file.name}'
        f"</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for number, file in enumerate(files, start=1)
    )
    place = f"<SRS>EPSG:32632</SRS><GeoTransform>{transform}</GeoTransform>"
    path.write_text(f"<VRTDataset {size}>{place}{bands}</VRTDataset>", encoding="utf-8")
    return path


@pytest.mark.slow
def test_bands_that_are_left_out_are_not_looked_at(binary: Trained, tmp_path: Path, run: Run) -> None:
    split = reordered(binary, tmp_path / "val", nir=False)
    for path in (split / "images").iterdir():
        image, profile = read(path)
        write(path, list(image), profile | {"nodata": 7})  # no pixel has it in all of the model's bands
    assert run("-cd", binary.folder, "-d", split, "-o", tmp_path / "out", "--bands", "3,2,1", "--com") == 0
    assert found(tmp_path / "out")["miou"] == binary.results[-1].best_miou


@pytest.mark.parametrize(
    ("numbers", "line"),
    [
        ("1,2", "--bands: needs 3 numbers, or 4 if the images hold nir too, one for each band of the model (image:1, "),
        ("1,2,3,4,5", "--bands: needs 3 numbers, or 4 if the images hold nir too"),
        ("1,2,5", "--bands: there is no band 5: "),
        ("0,1,2", "--bands: needs the numbers of bands, from 1, such as 3,2,1, but got '0,1,2'"),
        ("-1,1,2", "--bands: needs the numbers of bands, from 1, such as 3,2,1, but got '-1,1,2'"),
        ("red,green,blue", "--bands: needs the numbers of bands, from 1"),
        ("1,,2", "--bands: needs the numbers of bands, from 1"),
        ("1,2,99999999999", "--bands: needs the numbers of bands, from 1"),
    ],
)
@pytest.mark.parametrize("masks", [True, False])
def test_numbers_that_cannot_be_are_refused_in_one_line(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys, numbers: str, line: str, masks: bool
) -> None:
    place = binary.val if masks else binary.val / "images" / "000.tif"
    assert run("-cd", binary.folder, "-d", place, "-o", tmp_path / "out", "--bands", numbers) == 2
    (error,) = errors(capsys)
    assert error.startswith(f"error: {line}")
    if "no band 5" in line:
        assert f"{binary.val / 'images' / '000.tif'} has 3 bands" in error
    assert not (tmp_path / "out").exists()


def test_more_bands_than_the_model_has_are_answered_with_the_flag(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    split = reordered(binary, tmp_path / "val", nir=False)
    for place in (split, split / "images" / "000.tif"):
        assert run("-cd", binary.folder, "-d", place, "-o", tmp_path / "out") == 2
        (line,) = errors(capsys)
        assert f"{split / 'images' / '000.tif'}: has 5 bands in all, but the model was trained on 4" in line
        assert line.endswith("--bands says which ones to read, such as --bands 1,2,3")


def test_a_missing_channel_is_answered_with_the_flag(binary: Trained, tmp_path: Path, run: Run, capsys: Capsys) -> None:
    split = reordered(binary, tmp_path / "val", nir=True)
    for place in (split, split / "images" / "000.tif"):
        assert run("-cd", binary.folder, "-d", place, "-o", tmp_path / "out") == 2
        (line,) = errors(capsys)
        assert "--bands" in line
        assert "nir" in line


@pytest.mark.slow
def test_exports_are_compared_on_mapped_tiles_and_keep_the_models_bands(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    split = reordered(binary, tmp_path / "val", nir=True)
    flags = ["--bands", "3,2,1,4", "--com", "--export", "torchscript"]
    assert run("-cd", binary.folder, "-d", split, "-o", tmp_path / "out", *flags) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the file takes the model's own bands: image:1, image:2, image:3, nir" in said
    assert "on 4 tiles" in said


@pytest.mark.slow
def test_a_stored_threshold_leaves_the_order_out_of_run_yaml(binary: Trained, tmp_path: Path, run: Run) -> None:
    folder = Path(shutil.copytree(binary.folder, tmp_path / "run"))
    split = reordered(binary, tmp_path / "val", nir=True)
    flags = ["--bands", "3,2,1,4", "--com", "--store-threshold"]
    assert run("-cd", folder, "-d", split, "-o", tmp_path / "out", *flags) == 0
    assert run("-cd", folder, "-d", binary.val, "-o", tmp_path / "again", "--com") == 0
    best, again = found(tmp_path / "out")["min_areas"]["best"], found(tmp_path / "again")
    assert (again["bands"], again["threshold"]) == (None, best["threshold"])
    assert again["miou"] == pytest.approx(best["miou"], abs=1e-9)
