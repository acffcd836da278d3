"""Prediction of a scene: the same as that of its tiles, without seams, and in the scene's own grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import torch

from segtune.data.labels import Labels
from segtune.errors import InputError
from segtune.evaluation.blending import Grid
from segtune.evaluation.predict import probabilities
from segtune.evaluation.predictor import Predictor
from segtune.evaluation.scene import SceneResult, predict_scene
from segtune.evaluation.scene_output import SceneOutputs
from segtune.evaluation.scene_source import find_scene, opened_scene
from segtune.evaluation.validate import PredictedTile, validate
from segtune.models.checkpoint import save_model
from segtune.models.manifest import Manifest
from tests.evaluation.runs import pixels
from tests.evaluation.scenes import (
    BINARY,
    CPU,
    PLACE,
    SEVERAL,
    Neighbourhood,
    Pointwise,
    manifest,
    network,
    picture,
    predictor,
    write_scene,
)


def predicted(by: Predictor, scene: Path | list[Path], outputs: SceneOutputs, **others: Any) -> SceneResult:
    files = find_scene([scene] if isinstance(scene, Path) else scene, by.manifest)
    with opened_scene(files, by.manifest) as source:
        return predict_scene(by, source, outputs, **others)


def validated(folder: Path, image: np.ndarray[Any, Any], found: Manifest) -> np.ndarray[Any, Any]:
    """Return what validate.py predicts for a tile."""
    write_scene(folder / "val" / "images" / "tile.tif", image)
    mask = np.full((*image.shape[:2], 1), found.labels.classes[0], np.uint16)
    write_scene(folder / "val" / "gt" / "tile.tif", mask)
    save_model(folder / "model", network(found), found)
    seen = []

    def keep(tile: PredictedTile) -> None:
        seen.append(tile.manifest.labels.to_labels(tile.prediction.indices))

    validate(folder / "model", folder / "val", "cpu", on_tile=keep)
    return seen[0]


@pytest.mark.parametrize("labels", [BINARY, SEVERAL], ids=["binary", "several"])
@pytest.mark.parametrize(
    ("fit", "tile_size", "size"),
    [
        *(("resize", 96, (60, 96)), ("crop", 120, (100, 170)), ("pad", 100, (70, 120))),
        *(pytest.param("resize", *sizes, marks=pytest.mark.slow) for sizes in ((96, (96, 96)), (40, (40, 40)))),
        pytest.param("resize", 96, (140, 130), marks=pytest.mark.slow),
        *(pytest.param("crop", *sizes, marks=pytest.mark.slow) for sizes in ((64, (64, 64)), (500, (50, 40)))),
        *(pytest.param("pad", *sizes, marks=pytest.mark.slow) for sizes in ((64, (50, 50)), (100, (100, 100)))),
    ],
)
def test_a_tile_as_a_scene_is_predicted_as_in_validation(
    tmp_path: Path, labels: Labels, fit: str, tile_size: int, size: tuple[int, int]
) -> None:
    found, image = manifest(labels, fit=fit, tile_size=tile_size, min_area=4), picture(*size)
    expected = validated(tmp_path, image, found)
    predicted(predictor(found), tmp_path / "val" / "images" / "tile.tif", SceneOutputs(tmp_path / "labels.tif"))
    labels_there = pixels(tmp_path / "labels.tif")
    assert len(np.unique(labels_there)) == len(labels.classes) + 1
    assert labels_there.dtype == expected.dtype
    assert np.array_equal(labels_there, expected)


def test_windows_agree_with_the_whole_picture_where_no_window_ends(tmp_path: Path) -> None:
    found, image = manifest(evaluation_batch_size=3), picture(256, 320)
    by = Predictor(Neighbourhood(1), found, CPU)
    scene = write_scene(tmp_path / "scene.tif", image)
    predicted(by, scene, SceneOutputs(raw=tmp_path / "raw.tif"))
    with rasterio.open(tmp_path / "raw.tif") as file:
        blended = file.read(1)
    whole = probabilities(by.logits(torch.from_numpy(image[None])), found.labels)[0, 0].numpy()
    differences = np.abs(blended - whole)
    grid = Grid.over(256, 320, 64, 0.25)
    far = np.ix_(*(_far_from_edges(starts, length) for starts, length in ((grid.tops, 256), (grid.lefts, 320))))
    assert differences[far].size > 20_000
    assert differences[far].max() < 1e-5
    assert differences.max() < 0.03  # weights are small where a window ends


def _far_from_edges(starts: tuple[int, ...], length: int) -> np.ndarray[Any, Any]:
    """Return the pixels that no window sees so near to its edge that its padding matters."""
    far = np.ones(length, bool)
    for start in starts:
        if start:
            far[start : start + Neighbourhood.REACH] = False
        if start + 64 < length:
            far[start + 64 - Neighbourhood.REACH : start + 64] = False
    return np.flatnonzero(far)


@pytest.mark.parametrize("fit", ["crop", "resize", "pad"])
@pytest.mark.parametrize(("height", "width"), [(300, 90), (64, 64), (30, 200), (20, 20)])
def test_a_network_that_sees_single_pixels_gives_the_scene_back(
    tmp_path: Path, fit: str, height: int, width: int
) -> None:
    found = manifest(fit=fit)
    scene = write_scene(tmp_path / "scene.tif", picture(height, width))
    windows = []
    result = predicted(
        Predictor(Pointwise(1), found, CPU),
        scene,
        SceneOutputs(tmp_path / "labels.tif", tmp_path / "raw.tif"),
        on_window=lambda done, of: windows.append((done, of)),
    )
    expected = 1 / (1 + np.exp(-(picture(height, width)[..., 0].astype(np.float32) - 120) / 30))
    with rasterio.open(tmp_path / "raw.tif") as file:
        np.testing.assert_allclose(file.read(1), expected, atol=1e-5)
    labels = pixels(tmp_path / "labels.tif")
    assert np.array_equal(labels, np.where(expected > 0.5, 255, 0))
    assert windows[-1] == (result.windows, result.windows)
    assert result.pixels == {0: (labels == 0).sum(), 255: (labels == 255).sum()}
    assert (result.height, result.width, result.without_data) == (height, width, 0)


def test_a_resize_model_sees_windows_at_the_scale_of_its_training(tmp_path: Path) -> None:
    found = manifest(fit="resize", tile_size=128)
    by = predictor(found)
    image = picture(128, 300)
    scene = write_scene(tmp_path / "scene.tif", image)
    assert predicted(by, scene, SceneOutputs(raw=tmp_path / "raw.tif"), overlap=0).window == 128
    small = cv2.resize(image[:, :128], (64, 64), interpolation=cv2.INTER_AREA)
    logits = torch.nn.functional.interpolate(by.logits(torch.from_numpy(small[None])), (128, 128), mode="bilinear")
    with rasterio.open(tmp_path / "raw.tif") as file:
        np.testing.assert_allclose(file.read(1)[:, :80], logits.sigmoid()[0, 0, :, :80].numpy(), atol=1e-4)


def test_resolution_resamples_for_the_model_and_keeps_the_grid(tmp_path: Path) -> None:
    found = manifest(resolution=2.0)
    by = predictor(found)
    scene = write_scene(tmp_path / "scene.tif", picture(300, 300))  # 0.5 m
    said: list[str] = []
    plain = predicted(by, scene, SceneOutputs(tmp_path / "plain.tif"), say=said.append)
    assert len(said) == 1
    assert "0.5 m per pixel" in said[0]
    assert "2 m" in said[0]
    assert "--resolution auto" in said[0]
    assert plain.window == 64
    resampled = predicted(by, scene, SceneOutputs(tmp_path / "auto.tif"), resolution="auto", say=said.append)
    assert resampled.window == 256
    assert predicted(by, scene, SceneOutputs(tmp_path / "1.tif"), resolution="1").window == 128
    assert pixels(tmp_path / "auto.tif").shape == (300, 300)
    assert len(said) == 1
    near = replace(by.manifest, resolution=0.55)
    predicted(Predictor(network(near), near, CPU), scene, SceneOutputs(tmp_path / "near.tif"), say=said.append)
    assert len(said) == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resolution": "auto"}, ["--resolution", "run.yaml"]),
        ({"resolution": "fine"}, ["--resolution", "auto", "'fine'"]),
        ({"resolution": "-1"}, ["--resolution", "'-1'"]),
        ({"resolution": "1e6"}, ["--resolution", "window"]),
        ({"overlap": 1.0}, ["--overlap", "0.9"]),
        ({"overlap": float("nan")}, ["--overlap", "nan"]),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, settings: dict[str, Any], words: list[str]) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(64, 64))
    with pytest.raises(InputError) as caught:
        predicted(Predictor(Pointwise(1), manifest(), CPU), scene, SceneOutputs(tmp_path / "labels.tif"), **settings)
    (line,) = caught.value.mistakes
    assert all(word in line for word in words), line
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_pixels_without_data_are_nodata_and_do_not_change_the_others(tmp_path: Path) -> None:
    image = picture(200, 200)
    image[:, 120:] = 0
    scene = write_scene(tmp_path / "scene.tif", image, nodata=0)
    result = predicted(
        Predictor(Pointwise(2 + 1), manifest(SEVERAL), CPU),
        scene,
        SceneOutputs(tmp_path / "labels.tif", tmp_path / "raw.tif"),
    )
    with rasterio.open(tmp_path / "labels.tif") as file:
        assert file.nodata == 255
        assert file.dtypes == ("uint16",)
        labels = file.read(1)
    assert (labels[:, 120:] == 255).all()
    assert set(np.unique(labels[:, :120]).tolist()) == {0, 1, 300}
    assert result.without_data == 200 * 80
    with rasterio.open(tmp_path / "raw.tif") as file:
        raw = file.read()
        assert file.descriptions == ("background", "300 forest", "1 water")
    assert np.isnan(raw[:, :, 120:]).all()
    np.testing.assert_allclose(raw[:, :, :120].sum(axis=0), 1, atol=1e-5)


def test_bands_come_from_one_file_or_several_and_channels_from_beside(tmp_path: Path) -> None:
    found = manifest(bands=2, channels=("nir",))
    by = Predictor(Pointwise(1), found, CPU)
    by = predictor(found)
    image = picture(90, 90)
    whole = write_scene(tmp_path / "images" / "scene.tif", image[..., :2])
    write_scene(tmp_path / "nir" / "scene.tif", image[..., 2:])
    single = [write_scene(tmp_path / f"B{band}.tif", image[..., band : band + 1]) for band in range(3)]
    for number, files in enumerate(([whole], [whole, single[2]], single)):
        predicted(by, files, SceneOutputs(raw=tmp_path / f"{number}.tif"))
    first, *others = (rasterio.open(tmp_path / f"{number}.tif").read() for number in range(3))
    assert first.std() > 0.1
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["scene.tif"], ["scene.tif", "nir"]),
        (["B1.tif", "small.tif", "B1.tif"], ["small.tif", "size", "20x20"]),
        (["B1.tif", "moved.tif", "B1.tif"], ["moved.tif", "B1.tif"]),
        (["B1.tif", "B1.tif", "B1.tif", "B1.tif"], ["B1.tif", "4 bands", "3"]),
        (["float.tif", "B1.tif", "B1.tif"], ["float32", "uint8"]),
        (["none.tif"], ["none.tif"]),
        (["text.tif"], ["text.tif", "text"]),
    ],
)
def test_files_that_do_not_fit_the_model_or_each_other_are_named(
    tmp_path: Path, files: list[str], words: list[str]
) -> None:
    write_scene(tmp_path / "scene.tif", picture(90, 90, 2))
    write_scene(tmp_path / "B1.tif", picture(90, 90, 1))
    write_scene(tmp_path / "small.tif", picture(20, 20, 1))
    write_scene(tmp_path / "moved.tif", picture(90, 90, 1), transform=PLACE["transform"].translation(9, 9))
    write_scene(tmp_path / "float.tif", picture(90, 90, 1).astype(np.float32))
    (tmp_path / "text.tif").write_text("no image")
    by = Predictor(Pointwise(1), manifest(bands=2, channels=("nir",)), CPU)
    with pytest.raises(InputError) as caught:
        predicted(by, [tmp_path / name for name in files], SceneOutputs(tmp_path / "labels.tif"))
    (line,) = caught.value.mistakes
    assert all(word in line for word in words), line
    assert not (tmp_path / "labels.tif").exists()


def test_a_damaged_scene_leaves_no_output(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(400, 400), compress="deflate")
    scene.write_bytes(scene.read_bytes()[:-20_000])
    with pytest.raises(InputError, match=r"scene\.tif"):
        predicted(Predictor(Pointwise(1), manifest(), CPU), scene, SceneOutputs(tmp_path / "labels.tif"))
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]
