"""The picture of a predicted scene: of any size, and made of what the prediction read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp

from tests.evaluation.plain import flags, plain_model
from tests.evaluation.scenes import write_scene
from tests.scripts import status_of


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "model"
    plain_model(folder, 1)
    return folder


def drawn(model: Path, scene: Path, out: Path) -> npt.NDArray[np.uint8]:
    """Predict a scene and return the picture of it, (H, W, 3)."""
    given = ["--classes", "1", *flags(), "--tile-size", "64", "--overlap", "0"]
    assert status_of("validate", "-c", model, *given, "-d", scene, "-o", out) == 0
    assert len(json.loads((out / "prediction.json").read_text(encoding="utf-8"))["images"]) == 1
    with Image.open(out / "plots" / f"{scene.stem}.png") as file:
        return np.array(file.convert("RGB"))


def largest_rectangle(drawn: npt.NDArray[Any]) -> tuple[int, int]:
    """Return height and width of the rows and columns of the left half that are not white for the most part."""
    inked = (drawn[:, : drawn.shape[1] // 2] < 255).any(axis=2)
    inked[:88] = False  # title, legend and names of columns
    return int(inked.any(axis=1).sum()), int(inked.any(axis=0).sum())


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "size", [pytest.param((80, 160), marks=SLOW), (160, 80), (300, 1), pytest.param((1, 300), marks=SLOW)]
)
def test_a_scene_of_any_shape_is_drawn_without_distortion(model: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    found = drawn(model, write_scene(tmp_path / "scene.tif", np.full((*size, 3), 100, np.uint8)), tmp_path / "out")
    assert largest_rectangle(found) == size


def test_a_large_scene_is_drawn_from_the_pixels_that_were_read(model: Path, tmp_path: Path) -> None:
    image = np.full((300, 2100, 3), 90, np.uint8)
    image[:, 1050:] = 150
    found = drawn(model, write_scene(tmp_path / "scene.tif", image), tmp_path / "out")
    assert largest_rectangle(found) == (146, 1024)
    left, right = found[140, 300], found[140, 900]
    assert (left < right).all()


def test_a_palette_image_is_drawn_in_its_colours(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "palette.tif"
    with rasterio.open(path, "w", driver="GTiff", width=90, height=70, count=1, dtype="uint8") as file:
        file.write(np.repeat([[0] * 45 + [1] * 45], 70, axis=0).astype(np.uint8), 1)
        file.write_colormap(1, {0: (160, 80, 80, 255), 1: (80, 80, 160, 255)})
        file.colorinterp = [ColorInterp.palette]
    found = drawn(model, path, tmp_path / "out")
    assert largest_rectangle(found) == (70, 90)
    column = found.shape[1] // 4  # the middle of the left picture
    red, blue = found[110, column - 20], found[110, column + 20]
    assert red[0] > red[2]
    assert blue[2] > blue[0]


def test_bands_on_pages_of_their_own_are_drawn(model: Path, tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((70, 90), value, np.uint8)) for value in (160, 100, 60)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    found = drawn(model, tmp_path / "pages.tif", tmp_path / "out")
    red, green, blue = (int(value) for value in found[110, found.shape[1] // 4])
    assert red > green > blue
