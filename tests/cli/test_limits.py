"""From the command line to a measured model: data of every kind, and every flag that shapes a run.

Runs are trained with run_single.py and measured with validate.py. Unless a run was scored on other tiles than the
split that is measured, the two give the very same number.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import json
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file
from sklearn.metrics import jaccard_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from segtune.cli.exits import run_script
from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.errors import InputError
from segtune.files.folders import RunFolder
from segtune.models.checkpoint import load_model
from segtune.models.manifest import Manifest
from segtune.pictures.sheet import Preview, preview_sheet
from segtune.training.state import load_state
from segtune.training.train import train

DataSet = Callable[..., Path]
WriteImage = Callable[..., Path]
Masks = dict[str, NDArray[Any]]  # by tile
ROOT = Path(__file__).parent.parent.parent
# Flags of a run that takes a second.
FAST = (
    *("-m", "unet", "--encoder", "tu-mobilenetv3_small_050", "--image-size", "32", "-b", "3", "-e", "2"),
    *("-w", "0", "--cpu", "-lr", "1e-2", "-a", "safe"),
)


@dataclass(frozen=True)
class Ended:
    """How a script ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def mistakes(self) -> list[str]:
        """What is wrong with the input: every line on stderr tells of it."""
        lines = self.err.splitlines()
        assert self.status == 2, self
        assert lines
        assert all(line.startswith("error: ") for line in lines), lines
        return [line.removeprefix("error: ") for line in lines]


@functools.cache
def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"limits_{Path(name).stem}", ROOT / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(name: str, *arguments: object) -> Ended:
    """A script with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_script(script(name).main)
    signal.signal(signal.SIGTERM, handler)
    assert isinstance(ended.value.code, int)
    return Ended(ended.value.code, out.getvalue(), err.getvalue())


def run(dataset: Path, logs: Path, *flags: object, name: str = "run") -> Ended:
    """run_single.py on a data set."""
    return call("run_single.py", "-d", dataset, *FAST, "-log", logs, "--exp-name", name, *flags)


def trained(dataset: Path, logs: Path, *flags: object, name: str = "run") -> RunFolder:
    ended = run(dataset, logs, *flags, name=name)
    assert (ended.status, ended.err) == (0, ""), ended
    return RunFolder(logs / name)


def best_miou(folder: RunFolder) -> float:
    """The score that a run ended with. It is above zero: equal scores shall mean something."""
    value = float(folder.metrics()[-1]["best_miou"])
    assert 0 < value <= 1
    return value


def measured(folder: Path, split: Path, out: Path) -> tuple[float, Masks]:
    """What validate.py gives: the score, and the masks that it writes, by their names."""
    ended = call("validate.py", "-cd", folder, "-d", split, "-o", out, "--binary", "--device", "cpu")
    assert (ended.status, ended.err) == (0, ""), ended
    found = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    masks = read_masks(out / "masks")
    assert found["tiles"] == len(masks)
    return found["miou"], masks


def measures_the_same(folder: RunFolder, split: Path, out: Path) -> Masks:
    """Check that validate.py gives a run's own score; the masks that it writes."""
    miou, masks = measured(folder.path, split, out)
    assert miou == best_miou(folder)
    return masks


def pixels(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as file:
        array: NDArray[Any] = file.read()
    return array


def read_masks(folder: Path) -> Masks:
    return {path.stem: pixels(path)[0] for path in sorted(folder.iterdir())}


def score(truth: Masks, predicted: Masks, classes: Sequence[int], counted: Masks | None = None) -> float:
    """mIoU over all pixels at once, as scikit-learn has it."""
    assert truth.keys() == predicted.keys()
    assert all(truth[name].shape == predicted[name].shape for name in truth)
    there = [counted[name] if counted else np.ones(mask.shape, bool) for name, mask in truth.items()]
    wanted = np.concatenate([mask[valid] for mask, valid in zip(truth.values(), there, strict=True)])
    given = np.concatenate([predicted[name][valid] for name, valid in zip(truth, there, strict=True)])
    return float(jaccard_score(wanted, given, labels=list(classes), average=None).mean())


def steps(folder: RunFolder) -> int:
    """Steps of training that a run has done."""
    return int(load_state(folder.state)["schedule"]["last_epoch"])


def copy_tiles(split: Path, names: Sequence[str], target: Path) -> Path:
    """A split of some of another one's tiles."""
    for folder in split.iterdir():
        (target / folder.name).mkdir(parents=True)
        for path in folder.iterdir():
            if path.stem in names:
                shutil.copy(path, target / folder.name)
    return target


@dataclass(frozen=True)
class Plain:
    """A run like any other, and its data: 6 and 4 tiles with labels 0 and 255, 3 bands, 8-bit PNG."""

    dataset: Path
    folder: RunFolder
    out: str


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Plain:
    parent = tmp_path_factory.mktemp("plain")
    dataset = data_set(parent / "set", channels=())
    ended = run(dataset, parent / "logs", name="plain")
    assert (ended.status, ended.err) == (0, "")
    return Plain(dataset, RunFolder(parent / "logs" / "plain"), ended.out)


def next_command(out: str) -> list[str]:
    """The arguments of the validation that a run tells to do next."""
    (line,) = [line for line in out.splitlines() if line.startswith("  python validate.py ")]
    return shlex.split(line)[2:]


# Names.


def test_every_name_may_be_cyrillic(tmp_path: Path, data_set: DataSet) -> None:
    dataset = data_set(tmp_path / "Снимки Ёлки", channels=("ближний_ик",))
    for path in sorted(dataset.rglob("*.png")):
        path.rename(path.with_name(f"тайл й{path.name}"))
    logs = tmp_path / "журналы"
    ended = run(dataset, logs, "--add-dirs", "ближний_ик", name="первый прогон")
    assert (ended.status, ended.err) == (0, "")
    folder = RunFolder(logs / "первый прогон")
    assert Manifest.read(folder.run_yaml).bands[-1].name == "ближний_ик"
    assert folder.worst.is_file()
    assert EventAccumulator(str(folder.path)).Reload().Scalars("miou")[-1].step == 2
    masks = measures_the_same(folder, dataset / "val", tmp_path / "итог")
    assert list(masks) == [f"тайл й{number:03d}" for number in range(4)]
    # What the run tells to type next can be typed.
    assert call("validate.py", *next_command(ended.out)).status == 0
    found = json.loads((folder.path / "validation" / "val" / "metrics.json").read_text(encoding="utf-8"))
    assert found["miou"] == best_miou(folder)


# Batch sizes.


@pytest.mark.parametrize(
    ("model", "batch_size"),
    [
        ("deeplabv3plus", 1),
        ("deeplabv3plus", 2),  # the last batch of either split is a single tile
        ("deeplabv3plus", 4),  # and of training alone
        ("unet", 50),
    ],
)
def test_any_number_of_tiles_goes_with_any_batch_size(
    tmp_path: Path, data_set: DataSet, model: str, batch_size: int
) -> None:
    dataset = data_set(tmp_path / "set", train=5, val=3, channels=())
    folder = trained(dataset, tmp_path, "-m", model, "-b", batch_size)
    assert steps(folder) == 2 * -(-5 // batch_size)
    masks = measures_the_same(folder, dataset / "val", tmp_path / "out")
    assert score(read_masks(dataset / "val" / "gt"), masks, [255]) == pytest.approx(best_miou(folder), abs=1e-12)


# Labels.


@pytest.mark.parametrize(
    ("labels", "flags", "classes"),
    [
        ((0, -3, 70_000), ["--class-list", "-3,70000"], [-3, 70_000]),
        ((0, 1), ["--class-list", "1"], [1]),
        ((0, 1, 2, 3), ["--max-mask-val", "3", "--loss", "dice+ce"], [1, 2, 3]),
        ((1, 2), ["--max-mask-val", "2"], [1, 2]),  # without any background
        ((0, 300, 65535), ["--class-list", "65535 300"], [65535, 300]),
    ],
)
def test_masks_hold_any_labels(
    tmp_path: Path, data_set: DataSet, labels: tuple[int, ...], flags: list[str], classes: list[int]
) -> None:
    suffix = ".png" if min(labels) >= 0 and max(labels) <= 65535 else ".tif"
    dataset = data_set(tmp_path / "set", labels=labels, channels=(), suffix=suffix)
    folder = trained(dataset, tmp_path, *flags)
    columns = [name for name in folder.metrics()[0] if name.startswith("iou/")]
    background = ["iou/background"] if set(labels) - set(classes) else []
    assert columns == [*(f"iou/{label}" for label in classes), *background]
    masks = measures_the_same(folder, dataset / "val", tmp_path / "out")
    assert {label for mask in masks.values() for label in np.unique(mask).tolist()} <= set(labels)
    assert score(read_masks(dataset / "val" / "gt"), masks, classes) == pytest.approx(best_miou(folder), abs=1e-12)


# How the files lie.


def other_folders(dataset: Path) -> list[str]:
    for split in ("train", "val"):
        (dataset / split / "images").rename(dataset / split / "sat")
        (dataset / split / "gt").rename(dataset / split / "labels")
    return ["--images-dir", "sat", "--masks-dir", "labels"]


def one_folder(dataset: Path) -> list[str]:
    for split in ("train", "val"):
        for folder, ending in (("images", "_sat"), ("gt", "_mask")):
            for path in (dataset / split / folder).iterdir():
                path.rename(dataset / split / f"{path.stem}{ending}{path.suffix}")
            (dataset / split / folder).rmdir()
    return ["--images-dir", ".", "--masks-dir", ".", "--image-suffix", "_sat", "--mask-suffix", "_mask"]


def lists(dataset: Path) -> list[str]:
    """All tiles in one place, and a list for each split."""
    for split in ("train", "val"):
        names = sorted(path.stem for path in (dataset / split / "images").iterdir())
        listed = "".join(f"{split}{name}.jpg\n" for name in names)
        (dataset / f"{split}.txt").write_text(listed, encoding="utf-8")
        for folder in ("images", "gt"):
            (dataset / folder).mkdir(exist_ok=True)
            for path in (dataset / split / folder).iterdir():
                path.rename(dataset / folder / f"{split}{path.name}")
        shutil.rmtree(dataset / split)
    return []


@pytest.mark.parametrize("arrange", [other_folders, one_folder, lists])
def test_jpeg_images_and_png_masks_lie_in_any_order(
    tmp_path: Path, data_set: DataSet, arrange: Callable[[Path], list[str]]
) -> None:
    dataset = data_set(tmp_path / "set", channels=(), suffix=".jpg")
    truth = read_masks(dataset / "val" / "gt")
    flags = arrange(dataset)
    ended = run(dataset, tmp_path, *flags)
    assert (ended.status, ended.err) == (0, "")
    folder = RunFolder(tmp_path / "run")
    split = dataset / ("val.txt" if arrange is lists else "val")
    masks = measures_the_same(folder, split, tmp_path / "out")
    masks = {name.removeprefix("val"): mask for name, mask in masks.items()}
    assert score(truth, masks, [255]) == pytest.approx(best_miou(folder), abs=1e-12)
    assert call("validate.py", *next_command(ended.out)).status == 0


# What the pixels are.


def without_data(path: Path, nodata: float | None) -> None:
    """Take away a strip of an image: by a value that its file declares, and, of floats, by NaN too."""
    with rasterio.open(path, "r+") as file:
        array = file.read()
        if nodata is not None:
            file.nodata = nodata
            array[:, :9] = nodata
        if array.dtype.kind == "f":
            array[0, :, 25:] = np.nan
        file.write(array)


@pytest.mark.parametrize(
    ("dtype", "bands", "nodata", "flags"),
    [
        ("uint16", 1, 0, []),
        ("int16", 3, -9999, ["--rgb", "3 2 1", "-a", "hard"]),
        ("float32", 6, -9999.0, ["--rgb", "[5, 3, 1]", "-a", "medium"]),
        ("float32", 1, None, ["--rgb", "1", "--fit", "pad", "--image-size", "64"]),
    ],
)
def test_pixels_of_any_type_and_bands_with_holes_in_them(
    tmp_path: Path, data_set: DataSet, dtype: str, bands: int, nodata: float | None, flags: list[str]
) -> None:
    dataset = data_set(tmp_path / "set", channels=(), dtype=dtype, bands=bands, suffix=".tif")
    for split, holes in (("train", 2), ("val", 3)):
        for path in sorted((dataset / split / "images").iterdir())[:holes]:
            without_data(path, nodata)
    folder = trained(dataset, tmp_path, *flags)
    manifest = Manifest.read(folder.run_yaml)
    assert [band.name for band in manifest.bands] == [f"image:{number + 1}" for number in range(bands)]
    assert folder.worst.is_file()
    masks = measures_the_same(folder, dataset / "val", tmp_path / "out")
    images = {path.stem: pixels(path) for path in (dataset / "val" / "images").iterdir()}
    there = {name: (np.isfinite(array) & (array != nodata)).all(axis=0) for name, array in images.items()}
    assert sum(not valid.all() for valid in there.values()) == 3
    found = score(read_masks(dataset / "val" / "gt"), masks, [255], there)
    assert found == pytest.approx(best_miou(folder), abs=1e-12)


def test_masks_with_holes_in_them_are_learnt_and_measured_without_those(
    tmp_path: Path, data_set: DataSet, write_image: WriteImage
) -> None:
    dataset = data_set(tmp_path / "set", labels=(1, 2), channels=(), suffix=".tif")
    for path in sorted(dataset.rglob("gt/*.tif")):
        mask = pixels(path)[0].astype(np.int16)
        mask[:, :9] = -9999
        write_image(path, mask, nodata=-9999)
    folder = trained(dataset, tmp_path, "--classes", "1,2")
    assert not Manifest.read(folder.run_yaml).labels.background
    masks = measures_the_same(folder, dataset / "val", tmp_path / "out")
    truth = read_masks(dataset / "val" / "gt")
    there = {name: mask >= 0 for name, mask in truth.items()}
    assert score(truth, masks, [1, 2], there) == pytest.approx(best_miou(folder), abs=1e-12)


# How tiles become squares.


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Path:
    """Tiles smaller and larger than 32, square and not."""
    parent = tmp_path_factory.mktemp("mixed")
    for size in ((20, 20), (32, 32), (24, 40), (32, 56), (70, 50)):
        part = data_set(parent / "part", train=2, val=1, size=size, channels=())
        for path in sorted(part.rglob("*.png")):
            target = parent / "set" / path.relative_to(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target.with_name(f"{size[0]}x{size[1]}_{path.name}"))
    return parent / "set"


@pytest.mark.parametrize("fit", ["resize", "crop", "pad"])
def test_tiles_of_any_size_fit(mixed: Path, tmp_path: Path, fit: str) -> None:
    folder = trained(mixed, tmp_path, "--fit", fit)
    masks = measures_the_same(folder, mixed / "val", tmp_path / "out")
    truth = read_masks(mixed / "val" / "gt")
    assert {name: mask.shape for name, mask in masks.items()} == {name: mask.shape for name, mask in truth.items()}
    assert score(truth, masks, [255]) == pytest.approx(best_miou(folder), abs=1e-12)
    if fit != "resize":
        name, expected = {"crop": through_two_windows, "pad": in_a_corner}[fit](folder, mixed / "val")
        assert np.mean(masks[name] == np.where(expected.numpy() > 0, 255, 0)) > 0.999


def logits_of(folder: RunFolder, image: NDArray[np.uint8]) -> Tensor:
    """What a run's model makes of an image, (bands, H, W): logits, (H, W)."""
    model, manifest = load_model(folder.best, torch.device("cpu"))
    mean, std = (torch.tensor([getattr(band, name) for band in manifest.bands]) for name in ("mean", "std"))
    with torch.no_grad():
        logits: Tensor = model((torch.from_numpy(image).float() - mean[:, None, None])[None] / std[:, None, None])
    return logits[0, 0]


def through_two_windows(folder: RunFolder, split: Path) -> tuple[str, Tensor]:
    """A tile as high as a window and 24 pixels wider is seen twice, and 8 columns in the middle count by their mean."""
    image = pixels(split / "images" / "32x56_000.png")
    left, right = logits_of(folder, image[..., :32]), logits_of(folder, image[..., 24:])
    return "32x56_000", torch.cat([left[:, :24], (left[:, 24:] + right[:, :8]) / 2, right[:, 8:]], dim=1)


def in_a_corner(folder: RunFolder, split: Path) -> tuple[str, Tensor]:
    """A small tile lies in a corner of the square, the rest of which has its mean colour."""
    image = pixels(split / "images" / "20x20_000.png")
    square = np.empty((3, 32, 32), np.uint8)
    square[...] = image.mean(axis=(1, 2)).round()[:, None, None]
    square[:, :20, :20] = image
    return "20x20_000", logits_of(folder, square)[:20, :20]


def test_a_tile_as_large_as_the_window_is_seen_as_without_windows(plain: Plain, tmp_path: Path) -> None:
    masks = measures_the_same(plain.folder, plain.dataset / "val", tmp_path / "whole")
    cropped = Path(shutil.copytree(plain.folder.best, tmp_path / "best"))
    content = yaml.safe_load((cropped / "run.yaml").read_text(encoding="utf-8"))
    (cropped / "run.yaml").write_text(yaml.safe_dump(content | {"fit": "crop"}), encoding="utf-8")
    _, windowed = measured(cropped, plain.dataset / "val", tmp_path / "windows")
    assert windowed.keys() == masks.keys()
    assert all(np.array_equal(mask, masks[name]) for name, mask in windowed.items())


# How many tiles.


@pytest.mark.parametrize(("samples", "in_an_epoch"), [(5, 3), (9, 5)])
def test_an_epoch_is_as_long_as_asked_for_and_validation_is_on_the_same_tiles_whatever_the_seed(
    plain: Plain, tmp_path: Path, samples: int, in_an_epoch: int
) -> None:
    flags = ["-b", 2, "--samples-per-epoch", samples, "--val-samples", 2, "--seed", samples]
    ended = run(plain.dataset, tmp_path, *flags)
    assert (ended.status, ended.err) == (0, "")
    assert "6 train, 2 val tiles" in ended.out
    assert "(on 2 of 4 validation tiles)" in ended.out
    folder = RunFolder(tmp_path / "run")
    assert len(folder.metrics()) == 2
    assert steps(folder) == 2 * in_an_epoch
    # The tiles that every run with this number validates on, as a split of their own.
    chosen = scan(RunConfig(dataset=str(plain.dataset), val_samples=2)).tiles["val"].names
    split = copy_tiles(plain.dataset / "val", chosen, tmp_path / "chosen")
    assert len(measures_the_same(folder, split, tmp_path / "out")) == 2
    _, masks = measured(folder.path, plain.dataset / "val", tmp_path / "all")
    assert len(masks) == 4


def test_limit_tiles_takes_some_of_each_split(plain: Plain, tmp_path: Path) -> None:
    ended = run(plain.dataset, tmp_path, "--limit-tiles", 2, "-b", 1)
    assert (ended.status, ended.err) == (0, "")
    assert "2 train, 2 val tiles" in ended.out
    assert "(on 2 of 4 validation tiles)" in ended.out
    folder = RunFolder(tmp_path / "run")
    assert steps(folder) == 2 * 2
    chosen = scan(RunConfig(dataset=str(plain.dataset), limit_tiles=2)).tiles["val"].names
    measures_the_same(folder, copy_tiles(plain.dataset / "val", chosen, tmp_path / "chosen"), tmp_path / "out")


def test_no_more_tiles_are_called_measured_than_there_are(plain: Plain, tmp_path: Path) -> None:
    ended = run(plain.dataset, tmp_path, "--val-samples", 4, "--limit-tiles", 5, "-e", 1)
    assert "6 train" not in ended.out
    assert "best: miou" in ended.out
    assert "validation tiles)" not in ended.out


# Validation sets.


@dataclass(frozen=True)
class Sets:
    """Training tiles without a val beside them, and validation sets elsewhere; a file names three of these."""

    dataset: Path
    val: Path
    east: Path
    west: Path
    file: Path


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Sets:
    parent = tmp_path_factory.mktemp("sets")
    places = {}
    for name, tiles, size, labels in (("val", 3, 32, (0, 255)), ("восток", 2, 48, (0, 255)), ("west", 5, 32, (0, 255))):
        part = data_set(parent / f"of {name}", val=tiles, size=size, labels=labels, channels=())
        places[name] = parent / "elsewhere" / name
        shutil.copytree(part / "val", places[name])
    shutil.copytree(data_set(parent / "of none", labels=(0, 9), channels=()) / "val", parent / "elsewhere" / "none")
    dataset = data_set(parent / "set", channels=())
    shutil.rmtree(dataset / "val")
    file = parent / "elsewhere" / "sets.txt"
    file.write_text("восток\nwest\n\nnone\n", encoding="utf-8")
    return Sets(dataset, places["val"], places["восток"], places["west"], file)


def test_added_sets_are_measured_in_their_turn_and_count_for_nothing(sets: Sets, tmp_path: Path) -> None:
    flags = ["-val", sets.val, "--add-val-dirs", sets.file, "--adv-freq", 2, "-e", 3]
    ended = run(sets.dataset, tmp_path, *flags)
    assert (ended.status, ended.err) == (0, "")
    folder = RunFolder(tmp_path / "run")
    rows = folder.metrics()
    for name in ("восток", "west"):
        assert [bool(row[f"add_val/{name}/miou"]) for row in rows] == [False, True, True]
    assert [row["add_val/none/miou"] for row in rows] == ["", "", ""]  # none of the classes is there
    assert all(row["miou"] for row in rows)
    assert max(float(row["miou"]) for row in rows) == best_miou(folder)
    measures_the_same(folder, sets.val, tmp_path / "out")
    curves = EventAccumulator(str(folder.path)).Reload()
    assert [point.step for point in curves.Scalars("add_val/west/miou")] == [2, 3]
    assert Path(next_command(ended.out)[-1]) == sets.val


def test_where_only_added_sets_count_their_pixels_count_together(sets: Sets, tmp_path: Path) -> None:
    places = f"[{sets.east}, {sets.west}]"
    ended = run(sets.dataset, tmp_path, "--add-val-dirs", places, "--use-only-add-val", "--adv-freq", 2, "-e", 3)
    assert (ended.status, ended.err) == (0, "")
    assert "validation tiles)" not in ended.out
    assert "6 train, 2 add_val/восток, 5 add_val/west tiles" in ended.out
    folder = RunFolder(tmp_path / "run")
    rows = folder.metrics()
    assert [bool(row["miou"]) for row in rows] == [False, True, True]
    assert [bool(row["best_miou"]) for row in rows] == [False, True, True]
    best = rows[int(rows[-1]["best_epoch"]) - 1]
    truth: Masks = {}
    predicted: Masks = {}
    for place in (sets.east, sets.west):
        miou, masks = measured(folder.path, place, tmp_path / place.name)
        assert miou == float(best[f"add_val/{place.name}/miou"])
        predicted |= {f"{place.name}/{name}": mask for name, mask in masks.items()}
        truth |= {f"{place.name}/{name}": mask for name, mask in read_masks(place / "gt").items()}
    assert score(truth, predicted, [255]) == pytest.approx(best_miou(folder), abs=1e-12)
    mean = np.mean([float(best[f"add_val/{place.name}/miou"]) for place in (sets.east, sets.west)])
    assert abs(mean - best_miou(folder)) > 1e-9
    assert call("validate.py", *next_command(ended.out)).status == 0


def test_where_only_added_sets_count_it_is_told_on_how_many_of_their_tiles(sets: Sets, tmp_path: Path) -> None:
    places = f"[{sets.east}, {sets.west}]"
    ended = run(sets.dataset, tmp_path, "--add-val-dirs", places, "--use-only-add-val", "--val-samples", 2)
    assert "(on 4 of 7 validation tiles)" in ended.out


# Pictures.


def shown(folder: RunFolder) -> list[str]:
    """Names of the images in a run's TensorBoard events."""
    found: list[str] = EventAccumulator(str(folder.path)).Reload().Tags()["images"]
    return found


def test_the_worst_tiles_are_shown_as_many_as_asked_for(plain: Plain, tmp_path: Path) -> None:
    one, none = (trained(plain.dataset, tmp_path, "--worst", count, name=f"worst{count}") for count in (1, 0))
    assert shown(plain.folder) == shown(one) == ["worst/val"]
    heights = [cv2.imread(str(folder.worst)).shape[0] for folder in (plain.folder, one)]
    assert heights[0] > 3 * heights[1] - 400  # four rows, less three times what is above them
    assert heights[0] > heights[1]
    assert shown(none) == []
    assert not none.worst.exists()
    assert [row["miou"] for row in none.metrics()] == [row["miou"] for row in one.metrics()]


def preview(plain: Plain, logs: Path, *flags: object) -> NDArray[np.uint8]:
    """The sheet that --preview-augmentation writes; it writes nothing else."""
    ended = run(plain.dataset, logs, *flags)
    assert (ended.status, ended.err) == (0, "")
    (path,) = logs.rglob("*")
    assert ended.out.splitlines()[-1].endswith(str(path))
    assert "epoch" not in ended.out
    picture: NDArray[np.uint8] = cv2.imread(str(path))[..., ::-1]
    return picture


def test_a_preview_shows_as_many_tiles_as_asked_for_and_trains_nothing(plain: Plain, tmp_path: Path) -> None:
    two = preview(plain, tmp_path / "two", "--preview-augmentation", 2, "-a", "hard")
    four = preview(plain, tmp_path / "four", "--preview-augmentation", 4, "-a", "hard")
    assert (tmp_path / "two" / "preview_hard.png").is_file()
    assert four.shape[0] > two.shape[0]
    many = preview(plain, tmp_path / "many", "--preview-augmentation", 64)  # more than there are
    assert many.shape[0] > four.shape[0]


def test_tiles_of_a_preview_are_spread_over_the_set(
    plain: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def sheet(rows: Sequence[Preview], *others: Any) -> NDArray[np.uint8]:
        names.extend(row.name for row in rows)
        return preview_sheet(rows, *others)

    monkeypatch.setattr("segtune.pictures.gallery.preview_sheet", sheet)
    preview(plain, tmp_path / "four", "--preview-augmentation", 4)
    assert names == ["000", "001", "003", "004"]  # of six


def test_a_preview_needs_no_weights(plain: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*others: Any) -> None:
        raise InputError("out of reach")

    monkeypatch.setattr("segtune.models.build.fetch_weights", refused)
    preview(plain, tmp_path / "sheet", "--preview-augmentation", 1, "--encoder-weights", "imagenet")


def test_a_number_of_tiles_that_fits_on_no_sheet_is_refused_before_the_tiles_are_read(tmp_path: Path) -> None:
    (line,) = run(tmp_path / "none", tmp_path, "--preview-augmentation", 65).mistakes
    assert line == "--preview-augmentation: must be between 1 and 64 tiles, but got 65"


def test_rgb_says_in_which_colours_tiles_are_shown(plain: Plain, tmp_path: Path) -> None:
    usual = preview(plain, tmp_path / "usual", "--preview-augmentation", 1, "-a", "none")
    other = preview(plain, tmp_path / "other", "--preview-augmentation", 1, "-a", "none", "--rgb", "3,2,1")
    usual, other = (sheet[:, : sheet.shape[1] // 4] for sheet in (usual, other))  # the tile without its mask
    differs = (usual != other).any(axis=2)
    assert differs.mean() > 0.3
    assert np.array_equal(usual[differs][:, ::-1], other[differs])


# From a search.


@pytest.fixture(scope="module")
def search(plain: Plain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search's folder, as far as a run needs it: its winner is the plain run, and trial 3 has another lr and loss."""
    folder = tmp_path_factory.mktemp("search") / "поиск"
    shutil.copytree(plain.folder.best, folder / "best")
    (folder / "search.yaml").write_text("space: {}\n", encoding="utf-8")
    content = yaml.safe_load(plain.folder.run_yaml.read_text(encoding="utf-8"))
    (folder / "trial_0003").mkdir()
    (folder / "trial_0003" / "run.yaml").write_text(
        yaml.safe_dump(content | {"lr": 0.003, "loss": "dice+bce"}, sort_keys=False), encoding="utf-8"
    )
    return folder


def settings(folder: RunFolder) -> Mapping[str, Any]:
    return Manifest.read(folder.run_yaml).config.settings()


def test_a_searchs_winner_runs_again_with_flags_on_top(search: Path, plain: Plain, tmp_path: Path) -> None:
    ended = call("run_single.py", "--from-search", search, "-log", tmp_path, "--exp-name", "run", "-e", 3)
    assert (ended.status, ended.err) == (0, "")
    folder = RunFolder(tmp_path / "run")
    assert settings(folder) == {**settings(plain.folder), "epochs": 3}
    assert len(folder.metrics()) == 3
    measures_the_same(folder, plain.dataset / "val", tmp_path / "out")


def test_a_trial_of_a_search_runs_again_on_other_data(
    search: Path, plain: Plain, tmp_path: Path, data_set: DataSet
) -> None:
    other = data_set(tmp_path / "other", bands=4, labels=(0, 1, 2), channels=(), suffix=".tif")
    line = ["--from-search", search, "--trial", 3, "-d", other, "--class-list", "1", "--set", "batch_size=4"]
    ended = call("run_single.py", *line, "-log", tmp_path, "--exp-name", "run")
    assert (ended.status, ended.err) == (0, "")
    folder = RunFolder(tmp_path / "run")
    changed = {"dataset": str(other), "classes": [1], "batch_size": 4, "lr": 0.003, "loss": "dice+bce"}
    assert settings(folder) == {**settings(plain.folder), **changed}
    measures_the_same(folder, other / "val", tmp_path / "out")


# Encoders.


def encoder_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An encoder's weights and running statistics; how many batches BatchNorm has seen matters to nothing."""
    return {
        name: value
        for name, value in state.items()
        if name.startswith("encoder.") and not name.endswith("num_batches_tracked")
    }


def test_an_encoder_from_a_file_stays_as_it_is_while_it_is_frozen_and_then_trains(plain: Plain, tmp_path: Path) -> None:
    start = plain.folder.best / "model.safetensors"
    changes = {"encoder_weights": str(start), "freeze_encoder_epochs": 1, "loss": "dice+bce"}
    config = RunConfig.from_settings({**settings(plain.folder), **changes})
    folder, info = RunFolder(tmp_path / "run"), scan(config)
    with closing(train(config, info, folder)) as epochs:
        list(islice(epochs, 1))
    before, after = encoder_of(load_file(start)), encoder_of(load_state(folder.state)["model"])
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    # The rest of the network was trained meanwhile.
    whole, state = load_file(start), load_state(folder.state)["model"]
    assert not any(torch.equal(whole[name], state[name]) for name in whole if name.endswith("conv1.0.weight"))

    ended = call("run_single.py", "--exp-name", "run", "-log", tmp_path)
    assert (ended.status, ended.err) == (0, "")
    after = encoder_of(load_state(folder.state)["model"])
    assert not any(torch.equal(before[name], after[name]) for name in before if name.endswith("running_mean"))
    assert not any(torch.equal(before[name], after[name]) for name in before if name.endswith("conv_pw.weight"))
    measures_the_same(folder, plain.dataset / "val", tmp_path / "out")


def test_the_encoder_learns_as_much_slower_as_asked_for(plain: Plain, tmp_path: Path) -> None:
    start = plain.folder.best / "model.safetensors"
    moved = {}
    for factor in (1, 0.001):
        flags = ["--encoder-weights", start, "--encoder-lr-factor", factor, "-e", 1]
        folder = trained(plain.dataset, tmp_path, *flags, name=f"factor{factor}")
        before, after = encoder_of(load_file(start)), load_state(folder.state)["model"]
        weights = [name for name in before if name.endswith("conv_pw.weight")]
        moved[factor] = max(float((after[name] - before[name]).abs().max()) for name in weights)
    assert moved[1] > 1e-3
    assert 0 < moved[0.001] < moved[1] / 100


def test_the_input_that_an_encoder_knows_is_stored_and_validated_with(tmp_path: Path, data_set: DataSet) -> None:
    dataset = data_set(tmp_path / "set")
    flags = ["--add-dirs", "nir"]
    own = trained(dataset, tmp_path, *flags, name="own")
    folder = trained(dataset, tmp_path, *flags, "--normalization", "encoder", "--rgb", "3,2,1", name="encoder")
    usual, bands = Manifest.read(own.run_yaml).bands, Manifest.read(folder.best / "run.yaml").bands
    # ImageNet's blue, green and red.
    assert [band.mean for band in bands[:3]] == pytest.approx([0.406 * 255, 0.456 * 255, 0.485 * 255])
    assert [band.std for band in bands[:3]] == pytest.approx([0.225 * 255, 0.224 * 255, 0.229 * 255])
    assert bands[3] == usual[3]
    assert all(abs(band.mean - other.mean) > 1 for band, other in zip(bands[:3], usual[:3], strict=True))
    measures_the_same(folder, dataset / "val", tmp_path / "out")


# Mistakes.


def refused(dataset: Path, logs: Path, *flags: object) -> list[str]:
    """What a wrong call says; it writes nothing."""
    lines = run(dataset, logs, *flags).mistakes
    assert not logs.exists()
    return lines


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--cpu", "--device", "cuda"], ["device", "--cpu", "cuda"]),
        (["--max-mask-val", "3", "--class-list", "255"], ["classes", "--max-mask-val", "--class-list"]),
        (["--max-mask-val", "-1"], ["--max-mask-val", "-1"]),
        (["--rgb", "1,2,7"], ["rgb", "band 7", "3"]),
        (["--rgb", "1,2"], ["rgb", "three"]),
        (["--rgb", "0,1,2"], ["rgb", "0"]),
        (["--fit", "stretch"], ["fit", "'stretch'", "resize"]),
        (["--samples-per-epoch", "0"], ["samples_per_epoch", "0"]),
        (["--val-samples", "0"], ["val_samples", "0"]),
        (["--limit-tiles", "0"], ["limit_tiles", "0"]),
        (["--worst", "-1"], ["worst", "-1"]),
        (["--worst", "65"], ["worst", "65"]),
        (["--preview-augmentation", "0"], ["--preview-augmentation", "0"]),
        (["--preview-augmentation", "1000"], ["--preview-augmentation", "1000"]),
        (["--preview-augmentation", "few"], ["--preview-augmentation", "few"]),
        (["--val-dir", "missing/val"], ["missing/val"]),
        (["--add-val-dirs", "missing.txt"], ["missing.txt"]),
        (["--adv-freq", "0"], ["adv_freq", "0"]),
        (["--use-only-add-val"], ["use_only_add_val", "add_val_dirs"]),
        (["--images-dir", "a/b"], ["images_dir"]),
        (["--images-dir", "gt"], ["images_dir", "masks_dir"]),
        (["--freeze-encoder-epochs", "2"], ["freeze_encoder_epochs", "epochs"]),
        (["--encoder-lr-factor", "0"], ["encoder_lr_factor", "0"]),
        (["--encoder-weights", "missing.pth"], ["encoder_weights", "missing.pth"]),
        (["--normalization", "imagenet"], ["normalization", "'imagenet'"]),
        (["--normalization", "encoder", "--rgb", "2"], ["normalization", "rgb"]),
        (["--trial", "3"], ["--trial", "--from-search"]),
        (["--from-search", "nowhere"], ["nowhere", "no search"]),
        (["--from-search", "nowhere", "--config", "run.yaml"], ["--config", "--from-search"]),
        (["--exp-name", "a/b"], ["--exp-name", "a/b"]),
        *(
            ([flag, text], ["ile name too long"])
            for flag in ("--config", "--from-search", "--val-dir", "--add-val-dirs", "--encoder-weights", "--cache-dir")
            for text in ("x/" * 2100, "x" * 256)
        ),
        (["--exp-name", "x" * 256], ["--exp-name", "too long", "255 bytes"]),
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_a_wrong_flag_is_told_of_in_one_line(
    plain: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (line,) = refused(plain.dataset, tmp_path / "logs", *flags)
    for word in words:
        assert word in line
    assert list(tmp_path.iterdir()) == []


def test_a_search_without_a_winner_or_that_trial_is_told_of(search: Path, plain: Plain, tmp_path: Path) -> None:
    (line,) = refused(plain.dataset, tmp_path / "logs", "--from-search", search, "--trial", 4)
    assert str(search) in line
    assert "no trial 4" in line
    (tmp_path / "young").mkdir()
    shutil.copy(search / "search.yaml", tmp_path / "young")
    (line,) = refused(plain.dataset, tmp_path / "logs", "--from-search", tmp_path / "young")
    assert str(tmp_path / "young") in line
    assert "no winner yet" in line


def test_the_input_that_an_encoder_knows_is_8_bit(tmp_path: Path, data_set: DataSet) -> None:
    dataset = data_set(tmp_path / "set", channels=(), dtype="uint16", suffix=".tif")
    (line,) = refused(dataset, tmp_path / "logs", "--normalization", "encoder")
    assert line.startswith("normalization: ")
    assert "8-bit" in line


def a_listed_tile_is_missing(dataset: Path, write: WriteImage) -> tuple[Path, list[object]]:
    lists(dataset)
    with (dataset / "val.txt").open("a", encoding="utf-8") as file:
        file.write("нет такого\n")
    return dataset / "val.txt", []


def a_listed_class_is_missing(dataset: Path, write: WriteImage) -> tuple[Path, list[object]]:
    lists(dataset)
    return dataset / "train.txt", ["--class-list", "7"]


def no_listed_tile_can_score(dataset: Path, write: WriteImage) -> tuple[Path, list[object]]:
    lists(dataset)
    for path in (dataset / "gt").glob("val*"):
        write(path, np.zeros((32, 32), np.uint8))
    return dataset / "val.txt", []


def no_tile_of_a_sample_can_score(dataset: Path, write: WriteImage) -> tuple[str, list[object]]:
    (name,) = scan(RunConfig(dataset=str(dataset), val_samples=1)).tiles["val"].names
    write(dataset / "val" / "gt" / f"{name}.png", np.zeros((32, 32), np.uint8))
    return "val_samples is 1", ["--val-samples", 1]


def an_added_set_is_missing(dataset: Path, write: WriteImage) -> tuple[Path, list[object]]:
    (dataset / "sets.txt").write_text("val\nmissing set\n", encoding="utf-8")
    return dataset / "missing set", ["--add-val-dirs", dataset / "sets.txt"]


def an_added_tile_is_broken(dataset: Path, write: WriteImage) -> tuple[Path, list[object]]:
    shutil.copytree(dataset / "val", dataset / "more")
    path = dataset / "more" / "images" / "001.jpg"
    path.write_bytes(path.read_bytes()[:60])
    return path, ["--add-val-dirs", dataset / "more"]


def an_added_tile_has_other_bands(dataset: Path, write: WriteImage) -> tuple[Path, list[object]]:
    shutil.copytree(dataset / "val", dataset / "more")
    path = write(dataset / "more" / "images" / "001.jpg", np.full((32, 32), 9, np.uint8))
    return path, ["--add-val-dirs", dataset / "more"]


def only_added_sets_count_and_hold_no_class(dataset: Path, write: WriteImage) -> tuple[str, list[object]]:
    for path in (dataset / "val" / "gt").iterdir():
        write(path, np.zeros((32, 32), np.uint8))
    return "added validation sets", ["--add-val-dirs", dataset / "val", "--use-only-add-val"]


@pytest.mark.parametrize(
    "spoil",
    [
        a_listed_tile_is_missing,
        a_listed_class_is_missing,
        no_listed_tile_can_score,
        no_tile_of_a_sample_can_score,
        an_added_set_is_missing,
        an_added_tile_is_broken,
        an_added_tile_has_other_bands,
        only_added_sets_count_and_hold_no_class,
    ],
)
def test_unsound_lists_and_added_sets_are_told_of_by_file(
    tmp_path: Path,
    data_set: DataSet,
    write_image: WriteImage,
    spoil: Callable[[Path, WriteImage], tuple[Path | str, list[object]]],
) -> None:
    dataset = data_set(tmp_path / "set", channels=(), suffix=".jpg")
    guilty, flags = spoil(dataset, write_image)
    lines = refused(dataset, tmp_path / "logs", *flags)
    assert all(str(guilty) in line for line in lines), lines
