"""Validation: the score that training reported, masks that lie over their tiles, and errors that name a file."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine
from sklearn.metrics import jaccard_score

from segtune.cli import script as cli
from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.errors import InputError
from segtune.evaluation.predict import validate
from segtune.files.folders import RunFolder
from segtune.training.result import EpochResult
from segtune.training.train import train

DataSet = Callable[..., Path]
SIZE = 40  # of the tiles; the network sees 32


@dataclass(frozen=True)
class Trained:
    """A finished run and its data."""

    folder: Path
    dataset: Path
    results: list[EpochResult]

    @property
    def val(self) -> Path:
        return self.dataset / "val"


def trained(dataset: Path, folder: Path, **others: object) -> Trained:
    settings = {
        "dataset": str(dataset),
        "channels": ["nir"],
        "model": "unet",
        "encoder": "tu-mobilenetv3_small_050",
        "image_size": 32,
        "batch_size": 3,
        "epochs": 4,
        "lr": 1e-2,
        "workers": 0,
        "augmentation": "safe",
        "device": "cpu",
    }
    config = RunConfig.from_settings(settings | others)
    return Trained(folder, dataset, list(train(config, scan(config), RunFolder(folder), threads=1)))


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Trained:
    """A run on GeoTIFFs with labels 0 and 255."""
    parent = tmp_path_factory.mktemp("binary")
    dataset = data_set(parent / "set", size=SIZE, suffix=".tif")
    for number, path in enumerate(sorted((dataset / "val" / "images").iterdir())):
        with rasterio.open(path, "r+") as file:
            file.crs = CRS.from_epsg(32632)
            file.transform = Affine(0.5, 0.0, 500_000 + 20 * number, 0.0, -0.5, 5_000_000)
    return trained(dataset, parent / "run")


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Trained:
    """A run on PNGs with two classes, a background and an ignored label."""
    parent = tmp_path_factory.mktemp("several")
    dataset = data_set(parent / "set", size=SIZE, labels=(0, 1, 300, 7))
    return trained(dataset, parent / "run", classes=[300, 1], ignore=[7], loss="dice+ce", epochs=2)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parent.parent.parent / "validate.py"
    spec = importlib.util.spec_from_file_location("validate_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Run = Callable[..., int]


@pytest.fixture
def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """validate.py with these arguments; its exit status."""
    handler = signal.getsignal(signal.SIGTERM)

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["validate.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.run(script.main)
        assert isinstance(ended.value.code, int)
        return ended.value.code

    yield call
    signal.signal(signal.SIGTERM, handler)


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on stderr, each of which tells of a mistake."""
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("error: ") for line in lines), lines
    return lines


def pixels(path: Path) -> NDArray[np.integer]:
    with rasterio.open(path) as file:
        assert file.count == 1
        return file.read(1)


# The score.


@pytest.mark.parametrize("which", ["binary", "several"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_validation_gives_exactly_the_score_that_training_reported(
    which: str, threads: int, request: pytest.FixtureRequest
) -> None:
    case: Trained = request.getfixturevalue(which)
    best = case.results[case.results[-1].best_epoch - 1]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seen = set()
        found = validate(case.folder, case.val, on_tile=lambda tile, mask: seen.add(torch.get_num_threads()))
        assert seen == {1}  # as in training
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found.scores.miou == case.results[-1].best_miou == best.scores.miou
    assert found.scores == best.scores
    assert found.tiles == 4


def test_a_run_in_half_precision_is_validated_in_it(tmp_path: Path, binary: Trained) -> None:
    case = trained(binary.dataset, tmp_path / "run", precision="bf16", epochs=2)
    found = validate(case.folder, case.val)
    assert found.manifest.precision == "bf16"
    assert found.scores.miou == case.results[-1].best_miou


def test_the_models_own_folder_gives_the_same(binary: Trained) -> None:
    assert validate(binary.folder / "best", binary.val).scores == validate(binary.folder, binary.val).scores


def test_another_split_can_be_measured(binary: Trained, tmp_path: Path) -> None:
    found = validate(binary.folder, binary.dataset / "train")
    assert found.tiles == 6
    assert found.scores.miou != binary.results[-1].best_miou


def test_tiles_come_in_order_with_masks_of_their_own_size_and_labels(several: Trained) -> None:
    seen = []

    def look(tile: object, mask: NDArray[np.integer]) -> None:
        seen.append(getattr(tile, "name", ""))
        assert mask.shape == (SIZE, SIZE)
        assert mask.dtype == np.uint16
        assert set(np.unique(mask).tolist()) <= {0, 1, 300}

    validate(several.folder, several.val, on_tile=look)
    assert seen == sorted(path.stem for path in (several.val / "images").iterdir())


# The script.


def test_metrics_json_holds_the_scores_and_the_settings(binary: Trained, tmp_path: Path, run: Run) -> None:
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["metrics.json"]
    found = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    best = binary.results[binary.results[-1].best_epoch - 1].scores
    assert found["miou"] == best.miou
    assert found["iou"] == best.iou
    assert list(found["iou"]) == ["255", "background"]
    assert found["miou_with_background"] == best.miou_with_background
    assert found["tiles"] == 4
    assert found["model"] == str(binary.folder / "best")
    settings = {"classes": [255], "ignore": [], "channels": ["nir"], "image_size": 32, "batch_size": 3}
    settings |= {"precision": "fp32", "threshold": 0.5, "device": "cpu", "memory_format": "channels_last"}
    assert {name: found[name] for name in settings} == settings
    assert found["versions"]["torch"] == torch.__version__.split("+")[0]


def test_results_lie_beside_the_model_unless_told_otherwise(binary: Trained, tmp_path: Path, run: Run) -> None:
    shutil.copytree(binary.folder, tmp_path / "run")
    assert run("-cd", tmp_path / "run", "-d", binary.val) == 0
    assert (tmp_path / "run" / "validation" / "val" / "metrics.json").is_file()


def test_written_masks_have_the_labels_the_size_and_the_place_of_their_tiles(
    binary: Trained, tmp_path: Path, run: Run
) -> None:
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path, "--binary") == 0
    masks = sorted((tmp_path / "masks").iterdir())
    assert [path.name for path in masks] == sorted(path.name for path in (binary.val / "images").iterdir())
    predicted, truth = [], []
    for path in masks:
        with rasterio.open(path) as mask, rasterio.open(binary.val / "images" / path.name) as tile:
            assert (mask.width, mask.height) == (SIZE, SIZE)
            assert mask.crs == tile.crs
            assert mask.crs.to_epsg() == 32632
            assert mask.transform == tile.transform
            assert mask.dtypes == ("uint8",)
        predicted.append(pixels(path))
        truth.append(pixels(binary.val / "gt" / path.name))
        assert set(np.unique(predicted[-1]).tolist()) <= {0, 255}
    # The written masks are what was scored.
    score = jaccard_score(np.ravel(truth) == 255, np.ravel(predicted) == 255)
    assert score == pytest.approx(binary.results[-1].best_miou, abs=1e-12)


def test_masks_of_several_classes_hold_large_labels_and_agree_with_the_score(
    several: Trained, tmp_path: Path, run: Run
) -> None:
    assert run("-cd", several.folder, "-d", several.val, "-o", tmp_path, "--binary") == 0
    masks = sorted((tmp_path / "masks").iterdir())
    assert {path.suffix for path in masks} == {".png"}
    predicted = np.stack([pixels(path) for path in masks])
    truth = np.stack([pixels(several.val / "gt" / path.name) for path in masks])
    assert predicted.dtype == np.uint16
    counted = truth != 7
    scores = jaccard_score(truth[counted], predicted[counted], labels=[300, 1], average=None)
    assert scores.mean() == pytest.approx(several.results[-1].best_miou, abs=1e-12)


def test_a_class_that_a_split_lacks_is_null_and_warned_of_once(
    several: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(several.val, tmp_path / "val")
    for path in (tmp_path / "val" / "gt").iterdir():
        with rasterio.open(path) as file:
            mask = file.read()
        mask[mask == 300] = 0
        with rasterio.open(path, "w", driver="PNG", width=SIZE, height=SIZE, count=1, dtype=mask.dtype) as file:
            file.write(mask)
    assert run("-cd", several.folder, "-d", tmp_path / "val", "-o", tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert found["iou"]["300"] is None
    assert found["miou"] == found["iou"]["1"]
    printed = capsys.readouterr()
    (warning,) = [line for line in (printed.out + printed.err).splitlines() if line.startswith("warning")]
    assert "300" in warning


def test_where_every_class_is_there_nothing_is_warned_of(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path) == 0
    printed = capsys.readouterr()
    assert "warning" not in printed.out + printed.err
    assert f"miou {binary.results[-1].best_miou:.4f}" in printed.out


# Mistakes.


def test_a_folder_without_a_model_is_named(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        assert run("-cd", folder, "-d", binary.val, "-o", tmp_path / "out") == 2
        (line,) = errors(capsys)
        assert str(folder) in line
    assert not (tmp_path / "out").exists()


def test_a_damaged_model_is_named(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(binary.folder / "best", tmp_path / "best")
    (tmp_path / "best" / "run.yaml").write_text("epochs: 3\n", encoding="utf-8")
    assert run("-cd", tmp_path / "best", "-d", binary.val) == 2
    (line,) = errors(capsys)
    assert "run.yaml" in line


def test_a_split_that_is_not_there_or_is_a_whole_data_set_is_named(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in (tmp_path / "nothing", binary.dataset):
        assert run("-cd", binary.folder, "-d", split, "-o", tmp_path / "out") == 2
        assert str(split) in errors(capsys)[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", [".", "val/images", "val/gt", "val/images/000.tif", "val/gt/001.tif"])
def test_what_is_near_a_split_leads_to_it(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    split = binary.dataset / given
    assert run("-cd", binary.folder, "-d", split, "-o", tmp_path) == 2
    (line,) = errors(capsys)
    assert line.startswith(f"error: {split}: is ")
    assert line.endswith(f"did you mean {binary.val}?")


def test_what_is_odd_about_the_tiles_is_told_and_measured_all_the_same(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    split = shutil.copytree(binary.val, tmp_path / "val")
    (split / "images" / "more.webp").touch()
    with rasterio.open(split / "gt" / "000.tif", "r+") as file:
        mask = file.read(1)
        mask[:3, :5] = 9
        file.write(mask, 1)
    assert run("-cd", binary.folder, "-d", split, "-o", tmp_path / "out", "--device", "cpu") == 0
    printed = capsys.readouterr().out
    assert f"warning: {split / 'images'}: not read: 1 .webp" in printed
    assert "labels that count as background, being neither in classes nor in ignore: 0 (" in printed
    assert " 9 (0.23%)" in printed


def test_a_split_whose_masks_lie_elsewhere_is_refused_before_anything_is_written(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    split = shutil.copytree(binary.val, tmp_path / "val")
    with rasterio.open(split / "images" / "003.tif") as file:
        crs, transform = file.crs, file.transform
    with rasterio.open(split / "gt" / "003.tif", "r+") as file:
        file.crs, file.transform = crs, Affine(*transform[:2], transform.c + 10, *transform[3:6])
    assert run("-cd", binary.folder, "-d", split, "-o", tmp_path / "out", "--binary") == 2
    (line,) = errors(capsys)
    assert line.startswith(f"error: {split / 'gt' / '003.tif'}: does not lie where {split / 'images' / '003.tif'} does")
    assert "20 pixels to the right" in line
    assert not (tmp_path / "out" / "masks").exists()


def test_a_split_with_other_bands_is_refused_by_number(
    binary: Trained, tmp_path: Path, run: Run, data_set: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    other = data_set(tmp_path / "set", train=1, val=1, bands=1)
    assert run("-cd", binary.folder, "-d", other / "val", "-o", tmp_path / "out", "--binary") == 2
    (line,) = errors(capsys)
    assert str(other / "val") in line
    assert "2 bands" in line
    assert "on 4 (image:1, image:2, image:3, nir)" in line
    assert not (tmp_path / "out").exists()


def test_a_split_of_which_one_tile_has_other_bands_is_refused(
    binary: Trained, tmp_path: Path, run: Run, data_set: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(binary.val, tmp_path / "val")
    odd = data_set(tmp_path / "odd", train=1, val=1, bands=1, suffix=".tif") / "val"
    for path in odd.rglob("*.tif"):
        shutil.copy(path, tmp_path / "val" / path.relative_to(odd).parent / "zz.tif")
    assert run("-cd", binary.folder, "-d", tmp_path / "val", "-o", tmp_path / "out", "--binary") == 2
    (line,) = errors(capsys)
    assert str(tmp_path / "val" / "images" / "zz.tif") in line
    assert not (tmp_path / "out").exists()


def test_a_model_of_a_single_band_refuses_a_split_with_more(
    tmp_path: Path, run: Run, data_set: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = trained(data_set(tmp_path / "grey", bands=1, channels=()), tmp_path / "run", channels=[], epochs=1)
    colour = data_set(tmp_path / "colour", train=1, channels=()) / "val"
    assert run("-cd", grey.folder, "-d", colour) == 2
    (line,) = errors(capsys)
    assert "3 bands" in line
    assert "on 1 (image:1)" in line


def test_a_split_without_a_channel_is_refused_by_its_folder(
    binary: Trained, tmp_path: Path, run: Run, data_set: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    other = data_set(tmp_path / "set", train=1, val=1, channels=())
    assert run("-cd", binary.folder, "-d", other / "val") == 2
    line = errors(capsys)[0]
    assert str(other / "val" / "nir") in line
    assert "the model was trained with this channel" in line


def test_a_split_with_none_of_the_classes_is_refused_and_nothing_is_written(
    binary: Trained, tmp_path: Path, run: Run, data_set: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    other = data_set(tmp_path / "set", train=1, val=2, labels=(0, 9))
    assert run("-cd", binary.folder, "-d", other / "val", "-o", tmp_path / "out", "--binary") == 2
    (line,) = errors(capsys)
    assert str(other / "val" / "gt") in line
    assert "255" in line
    assert not (tmp_path / "out").exists()


def test_a_missing_flag_is_named(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-cd", "x") == 2
    (line,) = errors(capsys)
    assert "--dataset" in line


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_does_not_exist_is_refused(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], device: str
) -> None:
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path / "out", "--device", device) == 2
    assert "device" in errors(capsys)[0]
    assert not (tmp_path / "out").exists()


def test_an_unsound_split_is_an_input_error_in_the_library_too(binary: Trained, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing"):
        validate(binary.folder, tmp_path / "nothing")


def test_predictions_join_what_is_in_the_folder_and_never_the_split(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / "masks").mkdir(parents=True)
    (out / "masks" / "mine.txt").write_text("precious")
    assert run("-cd", binary.folder, "-d", binary.dataset / "val", "-o", out, "--binary") == 0
    assert (out / "masks" / "mine.txt").read_text() == "precious"
    assert len(list((out / "masks").iterdir())) == 1 + len(list((binary.dataset / "val" / "images").iterdir()))
    capsys.readouterr()
    assert run("-cd", binary.folder, "-d", binary.dataset / "val", "-o", binary.dataset / "val", "--binary") == 2
    (line,) = errors(capsys)
    assert line.startswith("error: -o: ")
    assert not (binary.dataset / "val" / "masks").exists()


def test_files_of_others_in_the_place_of_results_are_not_overwritten(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "other" / "masks" / "001.tif"  # another data set's own masks
    labels.parent.mkdir(parents=True)
    labels.write_text("precious")
    table = tmp_path / "table" / "metrics.json"
    table.parent.mkdir()
    table.write_text('{"rows": 3}')
    for place in (labels.parent.parent, table.parent):
        before = {path: path.read_text() for path in place.rglob("*") if path.is_file()}
        assert run("-cd", binary.folder, "-d", binary.dataset / "val", "-o", place, "--binary") == 2
        (line,) = errors(capsys)
        assert line.startswith(f"error: -o: {place}/")
        assert {path: path.read_text() for path in place.rglob("*") if path.is_file()} == before
    for _ in range(2):  # its own it may
        assert run("-cd", binary.folder, "-d", binary.dataset / "val", "-o", tmp_path / "own", "--binary") == 0
