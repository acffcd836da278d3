"""validate.py on folders of images without masks, and on several files: which of them are scenes of their own."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from segtune.models.checkpoint import save_model
from tests.evaluation.scenes import BINARY, manifest, network, picture, write_scene
from tests.scripts import Ended, call

pytestmark = pytest.mark.usefixtures("blank_charts")


@functools.cache
def weights(bands: int, channels: tuple[str, ...]) -> nn.Module:
    return network(manifest(BINARY, bands, channels))


def model(folder: Path, bands: int = 3, channels: tuple[str, ...] = (), **settings: str) -> Path:
    found = manifest(BINARY, bands, channels)
    save_model(folder, weights(bands, channels), replace(found, config=found.config.model_copy(update=settings)))
    return folder


def predicted(folder: Path, out: Path, *arguments: object) -> Ended:
    return call("validate", "-cd", folder, "-o", out, "--no-plots", "-d", *arguments)


def names(out: Path) -> list[str]:
    return sorted(json.loads((out / "prediction.json").read_text(encoding="utf-8"))["images"])


@pytest.mark.parametrize("other", ["scene.png", "scene.vrt", "scene.tiff"])
def test_images_of_one_name_are_refused_before_any_prediction(tmp_path: Path, other: str) -> None:
    image = write_scene(tmp_path / "images" / "scene.tif", picture(64, 64))
    if other == "scene.vrt":
        source = '<SimpleSource><SourceFilename relativeToVRT="1">scene.tif</SourceFilename></SimpleSource>'
        bands = "".join(f'<VRTRasterBand dataType="Byte" band="{band}">{source}</VRTRasterBand>' for band in (1, 2, 3))
        text = f'<VRTDataset rasterXSize="64" rasterYSize="64">{bands}</VRTDataset>'
        image.with_name(other).write_text(text, encoding="utf-8")
    else:
        driver = "PNG" if other == "scene.png" else "GTiff"
        write_scene(image.with_name(other), picture(64, 64), driver=driver)
    (line,) = predicted(model(tmp_path / "model"), tmp_path / "out", tmp_path / "images").mistakes
    assert line.startswith(str(image.parent))
    assert "scene.tif" in line
    assert other in line
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    images = tmp_path / "images"
    write_scene(images / "scene.tif", picture(64, 64))
    again = images / ".." / "images"
    (line,) = predicted(model(tmp_path / "model"), tmp_path / "out", images, again).mistakes
    assert line == f"-d: {again} is listed twice; name each data set once"


def test_a_channel_beside_its_image_is_no_scene(tmp_path: Path) -> None:
    folder = model(tmp_path / "model", channels=("nir",))
    for name in ("scene", "other"):
        write_scene(tmp_path / "images" / f"{name}.tif", picture(64, 64))
        write_scene(tmp_path / "images" / f"{name}_nir.tif", picture(64, 64, 1))
    assert predicted(folder, tmp_path / "out", tmp_path / "images").status == 0
    assert names(tmp_path / "out") == ["other", "scene"]
    write_scene(tmp_path / "images" / "odd_nir.tif", picture(64, 64, 1))  # the image is missing: said, not left out
    assert "odd_nir.tif" in predicted(folder, tmp_path / "out", tmp_path / "images").mistakes[0]


def test_two_files_of_one_channel_are_refused(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "images" / "scene.tif", picture(64, 64))
    for name in ("scene.tif", "scene.png"):
        driver = "PNG" if name == "scene.png" else "GTiff"
        write_scene(tmp_path / "nir" / name, picture(64, 64, 1), driver=driver)
    (line,) = predicted(model(tmp_path / "model", channels=("nir",)), tmp_path / "out", scene).mistakes
    assert line.startswith(f"{tmp_path / 'nir' / 'scene.tif'} and scene.png could both be the channel nir")


def test_a_folder_of_hidden_files_holds_no_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "._a.tif").write_bytes(b"\0\5\x16\7")
    (tmp_path / "images" / "b.tif").mkdir()
    (line,) = predicted(model(tmp_path / "model"), tmp_path / "out", tmp_path / "images").mistakes
    assert str(tmp_path / "images") in line
    write_scene(tmp_path / "images" / "c.tif", picture(64, 64))
    assert predicted(tmp_path / "model", tmp_path / "out", tmp_path / "images").status == 0
    assert names(tmp_path / "out") == ["c"]


def test_masks_in_the_folder_itself_are_told_from_images(tmp_path: Path) -> None:
    settings = {"images_dir": ".", "masks_dir": ".", "image_suffix": "_sat", "mask_suffix": "_mask"}
    folder = model(tmp_path / "model", **settings)
    write_scene(tmp_path / "val" / "a_sat.tif", picture(64, 64))
    mask = write_scene(tmp_path / "val" / "a_mask.tif", np.full((64, 64, 1), 255, np.uint8))
    assert call("validate", "-cd", folder, "-o", tmp_path / "measured", "-d", tmp_path / "val", "--com").status == 0
    assert (tmp_path / "measured" / "metrics.json").exists()
    mask.unlink()
    assert predicted(folder, tmp_path / "out", tmp_path / "val").status == 0
    assert names(tmp_path / "out") == ["a_sat"]


@pytest.mark.parametrize("flags", [(), ("--bands", "1,2,3")])
def test_many_images_are_not_one_scene(tmp_path: Path, flags: tuple[str, ...]) -> None:
    images = [write_scene(tmp_path / "images" / f"{number}.tif", picture(64, 64)) for number in range(3)]
    (line,) = predicted(model(tmp_path / "model"), tmp_path / "out", *images, *flags).mistakes
    assert "several files are the bands of one scene; give their folder to predict each of them" in line
    assert not (tmp_path / "out").exists()
    assert line.startswith(
        f"--bands: takes no band of {images[1]}" if flags else f"-d: {images[0]} and 2 others have 9"
    )


def test_bands_are_chosen_among_files_of_one_band(tmp_path: Path) -> None:
    bands = [write_scene(tmp_path / f"B{number}.tif", picture(64, 64, 1, number)) for number in range(5)]
    assert predicted(model(tmp_path / "model"), tmp_path / "out", *bands, "--bands", "4,3,1").status == 0


def test_the_refusal_of_a_folder_in_the_data_names_the_same_one(tmp_path: Path) -> None:
    write_scene(tmp_path / "images" / "a.tif", picture(64, 64))
    folder = model(tmp_path / "model")
    (line,) = predicted(folder, tmp_path / "images", tmp_path / "images").mistakes
    assert line.startswith(f"-o: {tmp_path / 'images' / 'plots'} lies inside {tmp_path / 'images'}")
