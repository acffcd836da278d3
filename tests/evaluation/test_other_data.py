"""validate.py compares data with what the model was trained on: bands, types, channels and labels, at every place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from numpy.typing import NDArray

from tests.evaluation.plain import flags, plain_model
from tests.evaluation.runs import Run, Trained, errors

pytestmark = pytest.mark.usefixtures("blank_charts")

Capsys = pytest.CaptureFixture[str]
Change = Callable[[NDArray[Any]], NDArray[Any]]
SLOW = pytest.mark.slow
PLACES = [pytest.param("split", marks=SLOW), "folder", "scene", pytest.param("files", marks=SLOW)]


def changed(case: Trained, folder: Path, change: Change, which: str = "images") -> Path:
    """Copy a split; `change` gets the bands, (bands, H, W), of its files in a folder."""
    shutil.copytree(case.val, folder)
    for path in sorted((folder / which).iterdir()):
        with rasterio.open(path) as file:
            image, profile = change(file.read()), file.profile
        options = {"count": len(image), "dtype": image.dtype, "photometric": "minisblack", "alpha": "no"}
        with rasterio.open(path, "w", **(profile | options)) as file:
            file.write(image)
    return folder


def data(split: Path, place: str) -> list[Path]:
    """Return what -d names: a split, a folder without masks, a scene, or a scene with its channel."""
    if place == "folder":
        shutil.rmtree(split / "gt")
    image, nir = (split / name / "000.tif" for name in ("images", "nir"))
    return {"scene": [image], "files": [image, nir]}.get(place, [split])


def refused(run: Run, capsys: Capsys, model: Path, given: list[Path], out: Path) -> str:
    assert run("-cd", model, "-d", *given, "-o", out) == 2
    (line,) = errors(capsys)
    assert not out.exists()
    return line


@pytest.mark.parametrize("place", PLACES[:3])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda image: image[:2],
            "images/000.tif: has 3 bands in all, but the model was trained on 4 (image:1, image:2, ",
        ),
        (
            lambda image: np.concatenate([image] * 2),
            "images/000.tif: has 7 bands in all, but the model was trained on 4 ",
        ),
        (
            lambda image: image.astype("uint16"),
            "pixels are uint16, but the model was trained on uint8; convert them to 0 ",
        ),
        (lambda image: image.astype("float32"), "pixels are float32, but the model was trained on uint8"),
    ],
)
def test_other_bands_and_types(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys, place: str, change: Change, words: str
) -> None:
    split = changed(binary, tmp_path / "val", change)
    line = refused(run, capsys, binary.folder, data(split, place), tmp_path / "out")
    assert words in line
    assert str(split / "images" / "000.tif") in line


def test_a_channel_that_is_named_does_not_fill_up_the_image(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    split = changed(binary, tmp_path / "val", lambda image: image[:2])
    line = refused(run, capsys, binary.folder, data(split, "files"), tmp_path / "out")
    named = split / "nir" / "000.tif"
    assert line.endswith(f"{named}: is an extra channel, and the other files have 2 bands, but the model needs 3")


@pytest.mark.parametrize("place", PLACES)
def test_a_channel_of_another_type(binary: Trained, tmp_path: Path, run: Run, capsys: Capsys, place: str) -> None:
    split = changed(binary, tmp_path / "val", lambda image: image.astype("uint16"), "nir")
    line = refused(run, capsys, binary.folder, data(split, place), tmp_path / "out")
    assert "pixels are uint16, but the model was trained on uint8" in line


@pytest.mark.parametrize("place", ["split", "folder", "scene"])
def test_a_missing_channel(binary: Trained, tmp_path: Path, run: Run, capsys: Capsys, place: str) -> None:
    split = Path(shutil.copytree(binary.val, tmp_path / "val"))
    shutil.rmtree(split / "nir")
    line = refused(run, capsys, binary.folder, data(split, place), tmp_path / "out")
    assert "nir" in line
    assert str(split) in line
    assert "--bands" in line


@pytest.mark.parametrize("place", ["split", pytest.param("folder", marks=SLOW), "scene"])
@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (
            0.0,
            9800.0,
            "pixels of image:2 are uint8, so at most 255, but the model was trained on values from 0 to 9800",
        ),
        (0.01, 0.83, "are uint8, so whole numbers, but the model was trained on values from 0.01 to 0.83"),
        pytest.param(0.0, 255.0, "", marks=SLOW),  # of images of 16 bits, or floats, whose values fit
        pytest.param(0.0, 1.0, "", marks=SLOW),  # can be whole numbers
    ],
)
def test_types_that_cannot_hold_the_values_of_the_training(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys, place: str, low: float, high: float, words: str
) -> None:
    folder = Path(shutil.copytree(binary.folder / "best", tmp_path / "model"))
    content = yaml.safe_load((folder / "run.yaml").read_text(encoding="utf-8"))
    content["data"]["uint8"] = False
    content["bands"][1] |= {"low": low, "high": high}
    (folder / "run.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    given = data(Path(shutil.copytree(binary.val, tmp_path / "val")), place)
    if words:
        line = refused(run, capsys, folder, given, tmp_path / "out")
        assert words in line
        assert str(tmp_path / "val" / "images" / "000.tif") in line
    else:
        assert run("-cd", folder, "-d", *given, "-o", tmp_path / "out", "--no-plots") == 0


def test_masks_without_any_of_the_classes(binary: Trained, tmp_path: Path, run: Run, capsys: Capsys) -> None:
    split = changed(binary, tmp_path / "val", lambda mask: mask // 255, "gt")
    line = refused(run, capsys, binary.folder, [split], tmp_path / "out")
    assert line.endswith(f"{split / 'gt'}: none of the model's classes occurs in the masks ([255]); they hold 0, 1")


@pytest.mark.slow
def test_labels_unknown_to_a_model_without_background(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    plain_model(tmp_path / "model", 2, bands=4)
    given = ["--com", "--classes", "0,255", "--channels", "nir", *flags(4)]
    assert run("-c", tmp_path / "model", "-d", binary.val, "-o", tmp_path / "a", *given) == 0
    assert "does not know" not in capsys.readouterr().out
    split = changed(binary, tmp_path / "val", lambda mask: np.where(mask == 0, 9, mask), "gt")
    assert run("-c", tmp_path / "model", "-d", split, "-o", tmp_path / "b", *given) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"warning: {split / 'gt'}: 9 (" in said
    assert "it predicts no background, so it is always wrong there" in said
