"""The flags of validate.py that choose the model, the device and how tiles are predicted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import yaml

from tests.conftest import WriteImage
from tests.evaluation.runs import Run, Trained, errors

pytestmark = pytest.mark.usefixtures("blank_charts")

Capsys = pytest.CaptureFixture[str]
Raw = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory, binary: Trained) -> Path:
    """A search with the weights of trials 0 and 2, of which 2 is better, and trial 1 without weights."""
    folder = tmp_path_factory.mktemp("searches") / "ponds"
    for number, miou in ((0, 0.4), (2, 0.6)):
        shutil.copytree(binary.folder / "best", folder / f"trial_{number:04d}" / "best")
        edit(folder / f"trial_{number:04d}" / "best", "metrics", miou=miou)
    (folder / "trial_0001").mkdir()
    shutil.copytree(binary.folder / "best", folder / "best")
    (folder / "search.yaml").write_text("space: {}\n", encoding="utf-8")
    return folder


def edit(model: Path, section: str | None, **values: object) -> None:
    """Change values in the run.yaml of a model."""
    path = model / "run.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    (content[section] if section else content).update(values)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def metrics(out: Path) -> dict[str, Any]:
    return json.loads((out / "metrics.json").read_text(encoding="utf-8"))


def settings(out: Path) -> dict[str, Any]:
    """Return what a prediction of images was made with."""
    return json.loads((out / "prediction.json").read_text(encoding="utf-8"))


def raw(run: Run, model: Path, data: Path, out: Path, *flags: object) -> Raw:
    """Return the probabilities of all tiles, or images, that validate.py writes."""
    assert run("-c", model, "-d", data, "-o", out, "--raw", *flags) == 0
    return np.stack([rasterio.open(path).read(1) for path in sorted((out / "raw").iterdir())])


@pytest.mark.parametrize(
    ("flags", "model"),
    [
        (["-c", "trial_0002/best"], "trial_0002/best"),
        (["--check-path", "trial_0000/best/model.safetensors"], "trial_0000/best"),
        (["-cd", "trial_0000"], "trial_0000/best"),
        (["-cd", "trial_0000/best"], "trial_0000/best"),
        (["--check-dir", "."], "best"),
        (["-cd", ".", "--trial", "2"], "trial_0002/best"),
        (["-cd", ".", "--top", "1"], "trial_0002/best"),
    ],
)
def test_the_model_is_that_of_the_file_the_run_the_search_or_the_trial(
    search: Path, binary: Trained, tmp_path: Path, run: Run, flags: list[str], model: str
) -> None:
    words = [flags[0], search / flags[1], *flags[2:]]
    image = binary.val / "images" / "000.tif"
    assert run(*words, "--dataset-dir", image, "--output-dir", tmp_path, "--calc-only-metrics") == 0
    assert Path(settings(tmp_path)["model"]) == search / model


def test_the_best_trials_are_measured_one_after_another(
    search: Path, binary: Trained, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    assert run("-cd", search, "--top", 2, "-d", binary.val, "-o", tmp_path, "--com") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"trial_0000", "trial_0002"}
    printed = capsys.readouterr().out
    first, second = (printed.index(f"{search / trial / 'best'} on 4 tiles") for trial in ("trial_0002", "trial_0000"))
    assert first < second < printed.index("mIoU by model and data")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--trial 1", "the weights of this trial were deleted"),
        ("--trial 7", "--trial: SEARCH has no trial 7"),
        ("--top 3", "--top: 3 were asked for, but SEARCH keeps the weights of 2 trials"),
        ("--top 0", "--top: must be at least 1, but got 0"),
        ("--top 1 --trial 0", "--trial and --top both choose trials; leave one out"),
        ("--top 2 --push-to-hub user/x", "--push-to-hub: uploads one model, but --top names 2"),
    ],
)
def test_trials_that_cannot_be_chosen_are_named(
    search: Path, binary: Trained, tmp_path: Path, run: Run, capsys: Capsys, flags: str, line: str
) -> None:
    assert run("-cd", search, "-d", binary.val, "-o", tmp_path / "out", *flags.split()) == 2
    (found,) = errors(capsys)
    assert line.replace("SEARCH", str(search)) in found
    assert not (tmp_path / "out").exists()


def test_views_that_are_turned_alike_are_predicted_alike(
    binary: Trained, tmp_path: Path, run: Run, write_image: WriteImage
) -> None:
    changes = {"a": lambda band: band, "mirrored": np.fliplr, "turned": np.rot90}
    for folder in ("images", "nir"):
        with rasterio.open(binary.val / folder / "000.tif") as file:
            bands = file.read()
        for name, change in changes.items():
            write_image(tmp_path / folder / f"{name}.tif", np.dstack([change(band) for band in bands]))

    def differences(tta: str) -> list[float]:
        """How much the mirrored and the turned image are predicted otherwise."""
        found = raw(run, binary.folder / "best", tmp_path / "images", tmp_path / tta, "--tta", tta)
        back = np.fliplr(found[1]), np.rot90(found[2], -1)
        return [float(np.abs(other - found[0]).max()) for other in back]

    assert min(differences("none")) > 0.01
    by_mirror, by_turn = differences("flips")
    assert by_mirror < 1e-4
    assert by_turn > 0.01
    assert max(differences("d4")) < 1e-4
    assert settings(tmp_path / "d4")["tta"] == "d4"


def test_overlap_adds_windows_to_the_mean_of_a_crop_model(binary: Trained, tmp_path: Path, run: Run) -> None:
    model = Path(shutil.copytree(binary.folder / "best", tmp_path / "model"))
    edit(model, None, fit="crop")
    usual = raw(run, model, binary.val, tmp_path / "a")
    more = raw(run, model, binary.val, tmp_path / "c", "--overlap", "0.9")
    assert 1e-4 < np.abs(more - usual).mean() < 0.1
    assert [metrics(tmp_path / name)["overlap"] for name in "ac"] == [0.25, 0.9]


def test_size_precision_and_device_change_what_is_computed(binary: Trained, tmp_path: Path, run: Run) -> None:
    model, images = binary.folder / "best", binary.val / "images"
    usual = raw(run, model, images, tmp_path / "a", "--cpu")
    assert np.array_equal(usual, raw(run, model, images, tmp_path / "b", "--device", "cpu", "--precision", "fp32"))
    half = raw(run, model, images, tmp_path / "c", "--precision", "bf16")
    assert 1e-5 < np.abs(half - usual).max() < 0.1
    large = raw(run, model, images, tmp_path / "d", "--tile-size", "64")
    assert np.abs(large - usual).max() > 0.01
    noted = [[settings(tmp_path / name)[key] for key in ("device", "precision", "image_size")] for name in "abcd"]
    assert noted == [["cpu", "fp32", 32], ["cpu", "fp32", 32], ["cpu", "bf16", 32], ["cpu", "fp32", 64]]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("flags", ["--device cuda", "--precision fp16"])
def test_what_the_machine_lacks_is_named(binary: Trained, tmp_path: Path, run: Run, capsys: Capsys, flags: str) -> None:
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path / "out", *flags.split()) == 2
    assert flags.split()[0].removeprefix("--") in errors(capsys)[0]
