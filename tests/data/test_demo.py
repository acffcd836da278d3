"""The built-in demo data set: layout, labels, determinism, and the difficulty it promises."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import segmentation_models_pytorch as smp
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from segtune.data import demo
from segtune.data.demo import write_demo
from segtune.data.demo_scene import BUILDING, OTHER, VEGETATION, WATER

LAYERS = {"images": 3, "nir": 1, "gt": 1, "gt_classes": 1}
TRAIN_TILES, VAL_TILES, SIZE = 64, 24, 128


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The demo with its defaults, and the seconds it took to write."""
    folder = tmp_path_factory.mktemp("demo") / "set"
    start = time.perf_counter()
    write_demo(folder)
    return folder, time.perf_counter() - start


@pytest.fixture(scope="module")
def demo_set(written: tuple[Path, float]) -> Path:
    return written[0]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stack(folder: Path, split: str, layer: str) -> NDArray[np.uint8]:
    """One layer of a split, (tiles, bands, rows, columns)."""
    tiles = []
    for path in sorted((folder / split / layer).iterdir()):
        with rasterio.open(path) as source:
            tiles.append(source.read())
    return np.stack(tiles)


def four_bands(folder: Path, split: str) -> NDArray[np.uint8]:
    return np.concatenate([stack(folder, split, "images"), stack(folder, split, "nir")], axis=1)


def iou(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((predicted & truth).sum() / (predicted | truth).sum())


def test_same_arguments_give_same_bytes(tmp_path: Path) -> None:
    write_demo(tmp_path / "a", 3, 2, 64, seed=5)
    write_demo(tmp_path / "b", 3, 2, 64, seed=5)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_seed_split_and_index_change_the_scene(tmp_path: Path) -> None:
    write_demo(tmp_path / "a", 2, 2, 64, seed=0)
    write_demo(tmp_path / "b", 2, 2, 64, seed=1)
    tiles = [
        tile.tobytes()
        for name in "ab"
        for split in ("train", "val")
        for tile in stack(tmp_path / name, split, "images")
    ]
    assert len(set(tiles)) == 8


def test_smaller_set_begins_the_larger(tmp_path: Path) -> None:
    write_demo(tmp_path / "small", 1, 1, 64)
    write_demo(tmp_path / "large", 3, 2, 64)
    small, large = contents(tmp_path / "small"), contents(tmp_path / "large")
    assert len(small) == 2 * len(LAYERS)
    assert small == {name: large[name] for name in small}


def test_layout_and_dtypes(demo_set: Path) -> None:
    assert {path.name for path in demo_set.iterdir()} == {"train", "val"}
    for split, tiles in (("train", TRAIN_TILES), ("val", VAL_TILES)):
        assert {path.name for path in (demo_set / split).iterdir()} == set(LAYERS)
        names = [f"tile_{index:04d}.tif" for index in range(tiles)]
        for layer, bands in LAYERS.items():
            assert sorted(path.name for path in (demo_set / split / layer).iterdir()) == names
            with rasterio.open(demo_set / split / layer / names[-1]) as source:
                assert source.dtypes == ("uint8",) * bands
                assert source.shape == (SIZE, SIZE)
                assert source.profile["compress"] == "deflate"


def test_every_tile_has_its_own_place(demo_set: Path) -> None:
    corners = set()
    for path in sorted(demo_set.rglob("images/*.tif")):
        with rasterio.open(path) as source, rasterio.open(str(path).replace("images", "gt")) as truth:
            assert source.crs is not None
            assert source.crs.is_projected
            assert source.res == (1.0, 1.0)
            assert source.transform == truth.transform
            corners.add((source.bounds.left / SIZE, source.bounds.top / SIZE))
    assert len(corners) == TRAIN_TILES + VAL_TILES
    # Corners on one grid of whole tiles that are all different cannot overlap.
    left, top = min(c[0] for c in corners), min(c[1] for c in corners)
    assert all(((x - left) % 1, (y - top) % 1) == (0, 0) for x, y in corners)


@pytest.mark.parametrize("split", ["train", "val"])
def test_label_values(demo_set: Path, split: str) -> None:
    binary, classes = stack(demo_set, split, "gt"), stack(demo_set, split, "gt_classes")
    assert set(np.unique(binary)) == {0, 255}
    assert set(np.unique(classes)) == {OTHER, BUILDING, VEGETATION, WATER} == {0, 1, 2, 3}
    assert np.array_equal(binary, np.where(classes == 3, 255, 0))


@pytest.mark.parametrize("split", ["train", "val"])
def test_share_of_water(demo_set: Path, split: str) -> None:
    water = stack(demo_set, split, "gt") == 255
    assert 0.15 <= water.mean() <= 0.25
    assert 0.75 <= water.any(axis=(1, 2, 3)).mean() < 1


def test_near_infrared_follows_the_scene(demo_set: Path) -> None:
    nir = stack(demo_set, "train", "nir").astype(float)
    classes = stack(demo_set, "train", "gt_classes")
    water, other, vegetation = (nir[classes == value].mean() for value in (3, 0, 2))
    assert water < 0.6 * vegetation
    assert water < 0.6 * other
    # "Vegetation bright" is meant of what is green: fields also lie ploughed, bare and wet.
    red, green, blue = np.moveaxis(stack(demo_set, "train", "images").astype(float), 1, 0)
    lush = (classes[:, 0] == 2) & (green > 1.15 * np.maximum(red, blue))
    assert nir[:, 0][lush].mean() > nir.mean() > water


def test_size_and_time(written: tuple[Path, float]) -> None:
    folder, seconds = written
    assert sum(len(data) for data in contents(folder).values()) < 8e6
    assert seconds < 20


@pytest.mark.parametrize("as_file", [True, False])
def test_existing_folder_is_refused_untouched(tmp_path: Path, as_file: bool) -> None:
    target = tmp_path / "set"
    if as_file:
        target.write_text("mine")
    else:
        target.mkdir()
    with pytest.raises(FileExistsError, match="set"):
        write_demo(target, 1, 1, 64)
    assert list(tmp_path.rglob("*")) == [target]
    assert target.read_text() == "mine" if as_file else target.is_dir()


def test_nothing_is_left_when_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    write_tile = demo._write_tile

    def stop_at_the_third(split_folder: Path, split: int, index: int, size: int, seed: int) -> None:
        seen.append([path.name for path in tmp_path.iterdir()])
        if len(seen) == 3:
            raise KeyboardInterrupt
        write_tile(split_folder, split, index, size, seed)

    monkeypatch.setattr(demo, "_write_tile", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "set", 5, 1, 64)
    assert [len(names) for names in seen] == [1, 1, 1]
    assert all(name.startswith(f".set.tmp-{os.getpid()}-") for (name,) in seen)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from segtune.data import demo
demo._write_tile = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
demo.write_demo(Path(sys.argv[1]), 1, 1, 64)
"""


def test_the_next_process_deletes_only_what_a_killed_one_left(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "set")]).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    theirs = [tmp_path / name for name in (f"set.tmp-{os.getpid()}", ".set.tmp-1", ".set.tmp-1-0123abcd")]
    for place in theirs:  # somebody's, whatever they are called
        place.mkdir()
        (place / "mine.txt").touch()
    write_demo(tmp_path / "set", 1, 1, 64)
    assert not left.exists()
    assert all((place / "mine.txt").is_file() for place in theirs)
    assert {path.name for path in tmp_path.iterdir()} == {"set", *(place.name for place in theirs)}


@pytest.mark.parametrize("arguments", [{"train_tiles": 0}, {"val_tiles": 0}, {"size": demo.MIN_SIZE - 1}])
def test_useless_arguments_are_refused(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        write_demo(tmp_path / "set", **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [demo.MIN_SIZE, 96, 200])
def test_other_sizes(tmp_path: Path, size: int) -> None:
    write_demo(tmp_path / "set", 6, 1, size)
    assert stack(tmp_path / "set", "train", "images").shape == (6, 3, size, size)
    assert 0.05 < (stack(tmp_path / "set", "train", "gt") == 255).mean() < 0.5


def score_of_pixel_regression(folder: Path) -> float:
    """Validation IoU of water when every pixel is judged by its four values alone."""

    def pixels(split: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        values = np.moveaxis(four_bands(folder, split), 1, -1).reshape(-1, 4).astype(np.float32)
        return values, stack(folder, split, "gt").ravel() == 255

    values, water = pixels("train")
    sample = np.random.default_rng(0).choice(len(water), 60_000, replace=False)
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    model.fit(values[sample], water[sample])
    val_values, val_water = pixels("val")
    chance = model.predict_proba(val_values)[:, 1]
    # The regression's best threshold on the very pixels it is scored on: every doubt goes in its favour.
    return max(iou(chance > threshold, val_water) for threshold in np.arange(0.1, 0.95, 0.05))


def score_of_small_unet(folder: Path, epochs: int = 7, side: int = 64) -> float:
    """Validation IoU of water of a Unet trained from random weights on tiles resized to `side` pixels."""
    torch.manual_seed(0)
    order = np.random.default_rng(0)

    def resized(layer: NDArray[np.uint8]) -> torch.Tensor:
        tiles = [cv2.resize(np.moveaxis(tile, 0, -1), (side, side), interpolation=cv2.INTER_AREA) for tile in layer]
        values = np.stack(tiles).reshape(len(tiles), side, side, -1).astype(np.float32) / 255
        return torch.from_numpy(values).movedim(-1, 1)

    images, truth = resized(four_bands(folder, "train")), resized(stack(folder, "train", "gt"))
    mean, deviation = images.mean((0, 2, 3), keepdim=True), images.std((0, 2, 3), keepdim=True)
    images = (images - mean) / deviation
    net = smp.Unet("mobilenet_v2", encoder_weights=None, in_channels=4, classes=1)
    batches = len(images) // 4
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * batches)
    dice, cross_entropy = smp.losses.DiceLoss("binary"), torch.nn.BCEWithLogitsLoss()
    for _ in range(epochs):
        for batch in order.permutation(len(images))[: batches * 4].reshape(batches, 4):
            axes = [axis for axis in (2, 3) if order.random() < 0.5]
            logits, wanted = net(images[batch].flip(axes)), truth[batch].flip(axes)
            optimizer.zero_grad()
            (dice(logits, wanted) + cross_entropy(logits, wanted)).backward()
            optimizer.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        logits = net((resized(four_bands(folder, "val")) - mean) / deviation)
        full = torch.nn.functional.interpolate(logits, size=(SIZE, SIZE), mode="bilinear")
    full_truth = stack(folder, "val", "gt") == 255
    return iou(full.numpy() > 0, full_truth)


@pytest.mark.slow
def test_context_beats_colour(demo_set: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        unet = score_of_small_unet(demo_set)
    finally:
        torch.set_num_threads(threads)
    regression = score_of_pixel_regression(demo_set)
    print(f"water IoU on val: pixel regression {regression:.3f}, small Unet {unet:.3f}")
    assert 0.3 < regression < 0.65
    assert unet >= regression + 0.15
