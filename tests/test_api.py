"""The public API: five names, each by its own call, and equal to what the scripts do."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.io import MemoryFile
from safetensors.torch import load_file, save_file

import segtune
from segtune.files.folders import RunFolder
from segtune.models.manifest import Manifest
from segtune.training.runlog import read_rows
from tests.conftest import WriteDataSet, WriteImage
from tests.evaluation.plain import MEAN, STD, plain_model
from tests.evaluation.scenes import picture
from tests.scripts import call

pytestmark = pytest.mark.usefixtures("blank_charts")

SETTINGS: dict[str, Any] = {
    "model": "unet",
    "encoder": "tu-mobilenetv3_small_050",
    "decoder_channels": 64,
    "image_size": 32,
    "batch_size": 3,
    "epochs": 2,
    "lr": 1e-2,
    "workers": 0,
    "augmentation": "safe",
    "device": "cpu",
}


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory, data_set: WriteDataSet) -> tuple[Path, Path]:
    """A run on labels 0 and 255 with near infrared in a folder of its own, and its data set."""
    parent = tmp_path_factory.mktemp("binary")
    dataset = data_set(parent / "set", size=40, suffix=".tif")
    result = segtune.train(dataset, parent / "run", verbose=False, channels=["nir"], **SETTINGS)
    return result.folder, dataset


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, data_set: WriteDataSet) -> tuple[Path, Path]:
    """A run on float tiles of two bands with two classes and a background."""
    parent = tmp_path_factory.mktemp("several")
    dataset = data_set(
        parent / "set", size=40, labels=(0, 1, 300), channels=(), bands=2, dtype="float32", suffix=".tif"
    )
    classes = {300: "forest", 1: "water"}
    result = segtune.train(dataset, parent / "run", verbose=False, classes=classes, loss="dice+ce", **SETTINGS)
    return result.folder, dataset


def array_of(dataset: Path, name: str, *folders: str) -> npt.NDArray[Any]:
    """A tile as an array, (H, W, bands)."""
    parts = []
    for folder in ("images", *folders):
        with rasterio.open(dataset / "val" / folder / f"{name}.tif") as file:
            parts.append(file.read().transpose(1, 2, 0))
    return np.concatenate(parts, axis=2)


def mistake(wrong: Callable[[], object]) -> str:
    """The one line of the ValueError that a call raises."""
    with pytest.raises(ValueError) as caught:
        wrong()
    (line,) = str(caught.value).splitlines()
    return line


def test_the_package_has_five_names_and_imports_nothing_heavy() -> None:
    assert segtune.__all__ == ["Model", "evaluate", "load", "search", "train"]
    code = "import segtune, sys; print(*{'torch', 'ray', 'numpy', 'rasterio', 'pydantic'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        segtune.laod  # noqa: B018


def test_train_gives_what_the_run_wrote_and_goes_on_with_it(
    binary: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, dataset = binary
    last = read_rows(RunFolder(folder))[-1]
    for _ in range(2):
        result = segtune.train(dataset, folder, channels=["nir"], **SETTINGS)
        assert (result.folder, result.miou) == (folder, float(last["best_miou"]))
        assert result.best_epoch == int(last["best_epoch"])
    assert "epoch 1/2" not in capsys.readouterr().out  # it was finished
    longer = SETTINGS | {"lr": 1e-3}
    line = mistake(lambda: segtune.train(dataset, folder, verbose=False, channels=["nir"], **longer))
    assert "cannot go on with other settings: lr (0.01 -> 0.001)" in line


def test_train_prints_a_line_per_epoch_unless_it_is_told_not_to(
    tmp_path: Path, binary: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    short = SETTINGS | {"epochs": 1}
    segtune.train(binary[1], tmp_path / "loud", **short)
    assert len([line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch 1/1")]) == 1
    segtune.train(binary[1], tmp_path / "silent", verbose=False, **short)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("what", ["binary", pytest.param("several", marks=pytest.mark.slow)])
def test_labels_are_those_that_validate_writes(what: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder, dataset = request.getfixturevalue(what)
    ended = call("validate", "-cd", folder, "-d", dataset / "val", "-o", tmp_path, "--binary", "--raw", "--cpu")
    assert (ended.status, ended.err) == (0, "")
    model = segtune.load(folder, device="cpu")
    for path in sorted((dataset / "val" / "images").iterdir()):
        found = model.predict(path)
        with rasterio.open(tmp_path / "binary" / path.name) as mask, rasterio.open(tmp_path / "raw" / path.name) as raw:
            assert np.array_equal(found.labels, mask.read(1))
            assert found.labels.dtype == mask.dtypes[0]
            assert np.abs(found.probabilities - raw.read()).max() < 1e-5
        assert found.probabilities.dtype == np.float32
        assert found.valid.all()


def test_arrays_paths_and_open_data_sets_give_the_same(binary: tuple[Path, Path]) -> None:
    folder, dataset = binary
    path, model = dataset / "val" / "images" / "001.tif", segtune.load(folder, device="cpu")
    whole = array_of(dataset, "001", "nir")
    images: list[Any] = [whole, whole[::-1][::-1], np.asfortranarray(whole), str(path)]
    expected = model.predict(path)
    with rasterio.open(path) as source, MemoryFile() as memory:
        layers = whole.transpose(2, 0, 1)
        with memory.open(driver="GTiff", count=4, height=40, width=40, dtype="uint8", photometric="minisblack") as made:
            made.write(layers)
        with memory.open() as in_memory:
            for image in (*images, source, in_memory):
                found = model.predict(image)
                assert np.array_equal(found.labels, expected.labels)
                assert np.array_equal(found.probabilities, expected.probabilities)
    assert "is closed" in mistake(lambda: model.predict(source))


def test_an_array_larger_than_the_tiles_is_predicted_in_windows(binary: tuple[Path, Path]) -> None:
    folder, dataset = binary
    model, tile = segtune.load(folder, device="cpu"), array_of(dataset, "000", "nir")
    with pytest.warns(UserWarning, match="it is predicted in windows of 40 pixels") as caught:
        found = model.predict(np.tile(tile, (3, 2, 1))[:100, :70])
    assert caught[0].filename == __file__  # of the call
    assert (found.labels.shape, found.probabilities.shape) == ((100, 70), (1, 100, 70))
    assert set(np.unique(found.labels)) == {0, 255}
    assert np.array_equal(found.labels == 255, found.probabilities[0] > model.threshold)


def test_pixels_of_a_file_without_data_are_told_apart(
    several: tuple[Path, Path], tmp_path: Path, write_image: WriteImage
) -> None:
    folder, dataset = several
    image = array_of(dataset, "000")
    image[:7, :9] = np.nan
    found = segtune.load(folder, device="cpu").predict(write_image(tmp_path / "holes.tif", image))
    assert (~found.valid).sum() == 63
    assert np.isnan(found.probabilities[:, ~found.valid]).all()
    assert np.isfinite(found.probabilities[:, found.valid]).all()
    assert not set(np.unique(found.labels[~found.valid])) & {0, 1, 300}
    assert set(np.unique(found.labels[found.valid])) <= {0, 1, 300}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda image: image / 255, "is float64, but the model was trained on uint8, 0 to 255: (image * 255).round()"),
        (lambda image: image.astype("int64"), "is int64, but the model was trained on uint8, 0 to 255"),
        (lambda image: image[..., :3], "has the shape (40, 40, 3), but the model takes (H, W, 4): image:1, image:2, "),
        (lambda image: image.transpose(2, 0, 1), "its bands come first: image.transpose(1, 2, 0) puts them last"),
        (lambda image: image[..., 0], "has the shape (40, 40), but the model takes (H, W, 4)"),
        (lambda image: image[:0], "has the shape (0, 40, 4), which holds no pixel"),
        (lambda image: image.tolist(), "must be a numpy array (H, W, bands), the path of an image or an open data set"),
    ],
)
def test_a_wrong_array_is_one_line_that_says_what_would_be_right(
    binary: tuple[Path, Path], change: Callable[[Any], Any], line: str
) -> None:
    folder, dataset = binary
    image = change(array_of(dataset, "000", "nir"))
    found = mistake(lambda: segtune.load(folder, device="cpu").predict(image))
    assert found.startswith("image: ")
    assert line in found


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda image: (image * 255).astype("uint8"),
            "are uint8, so whole numbers, but the model was trained on",
        ),
        (lambda image: np.where(image == image.max(), np.nan, image), "1 value of 3200 are NaN or infinite; fill them"),
        (lambda image: image.astype("complex64"), "is complex64; uint8, uint16, int16 and float are supported"),
    ],
)
def test_a_wrong_array_for_a_model_of_floats(
    several: tuple[Path, Path], change: Callable[[Any], Any], line: str
) -> None:
    folder, dataset = several
    model, image = segtune.load(folder, device="cpu"), array_of(dataset, "000")
    assert line in mistake(lambda: model.predict(change(image)))
    same = model.predict(image.astype("float64")), model.predict(image.astype(">f4"))
    assert all(np.array_equal(found.labels, model.predict(image).labels) for found in same)


def test_a_loaded_model_tells_what_it_takes_and_gives(several: tuple[Path, Path], binary: tuple[Path, Path]) -> None:
    model = segtune.load(several[0] / "best" / "model.safetensors", device="cpu")
    assert isinstance(model, segtune.Model)
    assert model.classes == {300: "forest", 1: "water"}
    assert model.outputs == ("background", "300 forest", "1 water")
    assert (model.bands, model.image_size, model.device) == (("image:1", "image:2"), 32, "cpu")
    assert repr(model) == "<Model unet, tu-mobilenetv3_small_050, classes 300, 1, 2 bands, on cpu>"
    assert segtune.load(binary[0]).classes == {255: "255"}
    assert segtune.load(binary[0], threshold=0.25).threshold == 0.25


def test_models_are_averaged_as_validate_averages_them(binary: tuple[Path, Path], tmp_path: Path) -> None:
    run, dataset = binary
    for name in ("one", "two"):
        shutil.copytree(run / "best", tmp_path / "models" / name)
    weights = tmp_path / "models" / "two" / "model.safetensors"
    save_file({name: value * 2 for name, value in load_file(weights).items()}, weights)
    one, two = (segtune.load(tmp_path / "models" / name, device="cpu") for name in ("one", "two"))
    mean = segtune.load(tmp_path / "models", ensemble=True, device="cpu")
    assert mean.models == (one.folder, two.folder)
    assert repr(mean).startswith("<Model mean of 2, unet, ")
    tile = min((dataset / "val" / "images").iterdir())
    # The mean is taken where the networks end: at their size, and so exactly in the corners of a tile of another size.
    first, second, found = (model.predict(tile).probabilities[:, ::39, ::39] for model in (one, two, mean))
    assert np.abs(first - second).max() > 0.001
    np.testing.assert_allclose(found, (first + second) / 2, atol=1e-6)
    flags = ("--ensemble", "-d", dataset / "val", "-o", tmp_path / "out", "--com", "--cpu")
    call("validate", "-cd", tmp_path / "models", *flags)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert segtune.evaluate(mean, dataset / "val").miou == metrics["miou"]


def test_what_cannot_be_averaged_is_one_line(binary: tuple[Path, Path], tmp_path: Path) -> None:
    line = mistake(lambda: segtune.load(binary[0], ensemble=True))
    assert line.startswith(f"ensemble: {binary[0]} holds 1 model, and at least 2 are averaged; ")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "search.yaml").touch()
    line = mistake(lambda: segtune.load(tmp_path / "s", ensemble=True))
    assert line.startswith(f"ensemble: the winner of {tmp_path / 's'} has one model; run_search.py --confirm s trains")
    line = mistake(lambda: segtune.load(tmp_path / "no", ensemble=True))
    assert line == f"{tmp_path / 'no'}: no such folder; ensemble takes a search, or a folder of runs or models"


def test_what_cannot_be_loaded_is_named(several: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "model.pth").touch()
    assert mistake(lambda: segtune.load(tmp_path)).startswith(f"{tmp_path}: holds no model")
    assert mistake(lambda: segtune.load(tmp_path / "no")).startswith(f"model: {tmp_path / 'no'}: no such folder")
    assert "is a pickle" in mistake(lambda: segtune.load(tmp_path / "model.pth"))
    assert mistake(lambda: segtune.load(several[0], threshold=0.3)).startswith("threshold: is for models of one class")
    assert mistake(lambda: segtune.load(several[0], threshold=3)).startswith("threshold: must be between 0 and 1")
    assert mistake(lambda: segtune.load(several[0], device="tpu")).startswith("device: 'tpu' is not one of auto, cpu")


def test_a_model_of_smp_alone_is_loaded_by_what_is_said_of_it(tmp_path: Path) -> None:
    plain_model(tmp_path / "plain")
    with pytest.raises(ValueError, match="missing: classes, mean and std; an example") as caught:
        segtune.load(tmp_path / "plain")
    assert "--" not in str(caught.value)
    said: dict[str, Any] = {"classes": {1: "wood", 2: "water", 7: "road"}, "mean": MEAN[:3], "std": STD[:3]}
    model = segtune.load(tmp_path / "plain", device="cpu", **said)
    assert model.classes == said["classes"]
    image = picture(96, 80, 3)
    found = model.predict(image)
    assert (found.labels.shape, found.probabilities.shape) == ((96, 80), (3, 96, 80))
    assert set(np.unique(found.labels)) <= {1, 2, 7}
    line = mistake(lambda: segtune.load(tmp_path / "plain", **said | {"std": [0, 1, 1]}))
    assert line == "std: must be above 0, but got 0"


def test_what_run_yaml_says_is_not_said_again(binary: tuple[Path, Path]) -> None:
    line = mistake(lambda: segtune.load(binary[0], classes=[255], mean=[1]))
    assert line.startswith("classes, mean: ")
    assert line.endswith("has a run.yaml, which says what it was trained on; leave it out")


def test_evaluate_gives_the_numbers_of_validate(several: tuple[Path, Path], tmp_path: Path) -> None:
    folder, dataset = several
    call("validate", "-cd", folder, "-d", dataset / "val", "-o", tmp_path, "--com", "--cpu")
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    for model in (folder, segtune.load(folder, device="cpu")):
        found = segtune.evaluate(model, dataset / "val", device="cpu")
        assert (found.miou, found.iou, found.tiles) == (metrics["miou"], metrics["iou"], 4)
        assert found.interval
        assert vars(found.interval) == metrics["intervals"]["miou"]
        assert found.confusion.tolist() == metrics["confusion"]["pixels"]
    assert mistake(lambda: segtune.evaluate(folder, dataset)).endswith(f"did you mean {dataset / 'val'}?")


def test_a_run_stores_the_interval_that_evaluate_finds(several: tuple[Path, Path]) -> None:
    folder, dataset = several
    found = segtune.evaluate(folder, dataset / "val", device="cpu").interval
    assert found
    stored = Manifest.read(folder / "best" / "run.yaml").metrics
    assert (stored["miou_low"], stored["miou_high"]) == (found.low, found.high)
    card = (folder / "best" / "README.md").read_text(encoding="utf-8")
    assert f"(95% interval {found.low:.4f} to {found.high:.4f}, by bootstrap over tiles)" in card
    assert "- `300 forest`: IoU" in card
    assert "the best epoch of its run" in card


def test_what_is_odd_about_a_split_is_a_warning(
    binary: tuple[Path, Path], tmp_path: Path, data_set: WriteDataSet
) -> None:
    odd = data_set(tmp_path / "odd", labels=(0, 255, 9), suffix=".tif")
    with pytest.warns(UserWarning, match="9"):
        segtune.evaluate(binary[0], odd / "val", device="cpu")


@pytest.mark.slow
def test_a_search_gives_its_table_and_winner(
    binary: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tmp_path / "tiny.yaml"
    space.write_text("space: {lr: [1e-9, 5e-3]}\nsearch: {trials: 2}\n")
    fixed = {name: value for name, value in SETTINGS.items() if name != "lr"} | {"epochs": 1, "threads": 1}
    dataset, where = binary[1], {"results_dir": tmp_path / "found", "in_process": True}

    def searched(**others: Any) -> Any:
        return segtune.search(space, dataset, **where, **fixed, **others)

    found = searched(verbose=False)
    assert capsys.readouterr() == ("", "")
    assert found.folder == tmp_path / "found" / "tiny"
    assert "data:image/webp" in (found.folder / "report.html").read_text(encoding="utf-8")
    with (found.folder / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == [str(row["trial"]) for row in found.trials] == ["0", "1"]
    best = max(rows, key=lambda row: float(row["miou"]))
    assert (found.trial, found.miou) == (int(best["trial"]), float(best["miou"]))
    assert segtune.evaluate(found.folder, dataset / "val", device="cpu").miou == found.miou
    card = (found.folder / "best" / "README.md").read_text(encoding="utf-8")
    assert "the best epoch of the best of 2 trials" in card
    assert f"mIoU {found.miou:.4f} on the validation tiles (95% interval" in card
    assert "this search exists; resume=True goes on with it" in mistake(searched)
    assert searched(resume=True).trials == found.trials
    assert mistake(lambda: segtune.search("encodres", dataset)).endswith("did you mean 'encoders'?")
