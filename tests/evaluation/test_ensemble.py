"""validate.py --ensemble: which models are averaged, on tiles and on scenes, and which are not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import torch
from safetensors.torch import load_file, save_file

from segtune.config import RunConfig
from segtune.confirmed import Confirmation, Confirmed, Repeated
from segtune.data.labels import Labels
from segtune.errors import InputError
from segtune.files.folders import SearchFolder
from segtune.models.ensemble import ensemble_of
from segtune.models.manifest import Manifest
from segtune.report.text import next_commands
from tests.evaluation.runs import DataSet, Run, errors
from tests.evaluation.scenes import BINARY, SEVERAL, picture, saved_model, write_scene

Capsys = pytest.CaptureFixture[str]
Models = Callable[[Labels], Path]
SEEDS = ("seed_42", "seed_43", "seed_44")

pytestmark = pytest.mark.usefixtures("blank_charts")


def moved(folder: Path, by: float) -> Path:
    """Let a model answer otherwise: its outputs move by so much, the first ones most."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    bias = tensors["segmentation_head.0.bias"]
    tensors["segmentation_head.0.bias"] = bias + by * torch.arange(len(bias), 0, -1)
    save_file(tensors, path)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """The folder of three runs that differ in their weights, by their labels."""
    made: dict[Labels, Path] = {}

    def folder(labels: Labels) -> Path:
        if labels not in made:
            made[labels] = tmp_path_factory.mktemp("runs") / "repeated"
            for number, seed in enumerate(SEEDS):
                (made[labels] / seed).mkdir(parents=True)
                moved(saved_model(made[labels] / seed / "best", labels), number - 1.2)
        return made[labels]

    return folder


def raw(run: Run, out: Path, *arguments: object) -> dict[str, npt.NDArray[Any]]:
    """Predict probabilities, and return them by file."""
    assert run(*arguments, "-o", out, "--raw", "--binary") == 0
    found = {}
    for path in sorted((out / "raw").iterdir()):
        with rasterio.open(path) as file:
            found[path.name] = file.read()
    return found


def check_mean(run: Run, folder: Path, data: Path, out: Path) -> Path:
    """Check that the models of a folder predict the mean of what each predicts; return where that is."""
    each = [raw(run, out / seed, "-cd", folder / seed, "-d", data) for seed in SEEDS]
    mean = raw(run, out / "mean", "-cd", folder, "--ensemble", "-d", data)
    assert mean
    for name, found in mean.items():
        parts = np.stack([one[name] for one in each])
        assert np.abs(parts - parts[0]).max() > 0.1
        np.testing.assert_allclose(found, parts.mean(axis=0), atol=1e-5)
    return out / "mean"


@pytest.mark.parametrize("labels", [BINARY, SEVERAL], ids=["one class", "several"])
def test_tiles_have_the_mean_of_the_probabilities(
    labels: Labels, models: Models, tmp_path: Path, run: Run, data_set: DataSet
) -> None:
    values = (0, 255) if labels is BINARY else (0, 300, 1, 7)
    val = data_set(tmp_path / "set", val=3, size=64, suffix=".tif", labels=values) / "val"
    out = check_mean(run, models(labels), val, tmp_path / "out")
    name = next((out / "raw").iterdir()).name
    with rasterio.open(out / "raw" / name) as likely, rasterio.open(out / "binary" / name) as mask:
        most = likely.read(1) > 0.5 if labels is BINARY else np.array([0, 300, 1])[likely.read().argmax(axis=0)]
        np.testing.assert_array_equal(mask.read(1) > 0 if labels is BINARY else mask.read(1), most)


def test_metrics_say_how_many_models_there_were(
    models: Models, tmp_path: Path, run: Run, data_set: DataSet, capsys: Capsys
) -> None:
    val = data_set(tmp_path / "set", val=3, size=64, suffix=".tif") / "val"
    folder = Path(shutil.copytree(models(BINARY), tmp_path / "repeated"))
    assert run("-cd", folder, "--ensemble", "-d", val, "--com", "--compare", folder / "seed_42") == 0
    found = json.loads((folder / "validation" / "val_ensemble" / "metrics.json").read_text())
    assert found["models"] == 3
    assert found["ensemble"] == [str(folder / seed / "best") for seed in SEEDS]
    out = capsys.readouterr().out
    assert f"the mean of 3 models, {folder / 'seed_42' / 'best'} and others, on 3 tiles" in out
    assert found["comparison"]["miou"]["value"] != 0  # the other one is a single model, though it is one of the three
    assert run("-cd", folder / "seed_43", "-d", val, "--com") == 0
    alone = json.loads((folder / "seed_43" / "validation" / "val" / "metrics.json").read_text())
    assert (alone["models"], "ensemble" in alone) == (1, False)
    assert alone["calibration"] != found["calibration"]


def test_scenes_have_the_mean_too(models: Models, tmp_path: Path, run: Run) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(60, 64))
    out = check_mean(run, models(BINARY), scene, tmp_path / "out")
    assert json.loads((out / "prediction.json").read_text())["models"] == 3


@pytest.mark.parametrize(
    ("labels", "fields", "said"),
    [
        (SEVERAL, {}, "classes"),
        (BINARY, {"fit": "resize"}, "fit"),
        (BINARY, {"nodata": 0}, "nodata"),
        (BINARY, {"bands": 4}, "channels"),
        (BINARY, {"uint8": False}, "the type of their images"),
    ],
)
def test_models_of_another_kind_are_refused(
    models: Models, tmp_path: Path, run: Run, capsys: Capsys, labels: Labels, fields: dict[str, Any], said: str
) -> None:
    folder = tmp_path / "models"
    shutil.copytree(models(BINARY) / SEEDS[0] / "best", folder / "one")
    saved_model(folder / "two", labels, **fields)
    assert run("-cd", folder, "--ensemble", "-d", folder) == 2
    (line,) = errors(capsys)
    assert line.startswith(f"error: --ensemble: {folder / 'one'} and {folder / 'two'} differ in {said}; models are")


def test_normalizations_that_differ_are_refused(models: Models, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models(BINARY), tmp_path / "models"))
    path = folder / SEEDS[1] / "best" / "run.yaml"
    found = Manifest.read(path)
    replace(found, bands=(replace(found.bands[0], mean=119.0), *found.bands[1:])).write(path)
    with pytest.raises(InputError, match="differ in mean and deviation of the bands"):
        ensemble_of(folder)


@pytest.mark.parametrize(
    "flags", [["--top", "2"], ["--trial", "1"], ["--store-threshold"], ["--export", "onnx"], ["--push-to-hub", "a/b"]]
)
def test_what_is_for_one_model_is_refused(models: Models, run: Run, capsys: Capsys, flags: list[str]) -> None:
    folder = models(BINARY)
    assert run("-cd", folder, "--ensemble", "-d", folder, *flags) == 2
    (line,) = errors(capsys)
    assert line == (
        f"error: --ensemble: averages the models that -cd names, and {flags[0]} is for one model; leave one out"
    )


def test_one_model_is_no_ensemble(models: Models, tmp_path: Path) -> None:
    shutil.copytree(models(BINARY) / SEEDS[0], tmp_path / "models" / "one")
    with pytest.raises(InputError, match="holds 1 model, and at least 2 are averaged"):
        ensemble_of(tmp_path / "models")
    with pytest.raises(InputError, match="no such folder"):
        ensemble_of(tmp_path / "none")


@pytest.fixture
def search(models: Models, tmp_path: Path) -> SearchFolder:
    """A confirmed search, whose winner's median seed is the second one."""
    folder = SearchFolder(tmp_path / "ponds")
    folder.path.mkdir()
    folder.search_yaml.write_text("space: {}\n")
    for number, seed in enumerate(SEEDS, start=1):
        run = folder.repeat(7, number)
        shutil.copytree(models(BINARY) / seed, run.path)
        manifest = Manifest.read(run.best / "run.yaml").with_metrics({"epoch": 3, "miou": number / 10})
        manifest.write(run.best / "run.yaml")
    shutil.copytree(folder.repeat(7, 2).best, folder.best)
    scores = (0.1, 0.2, 0.3)
    winner = Repeated(7, {}, 0.3, (1, 2, 3), scores, 0.2, 0.1, 1.0, "confirm_0007_s2")
    other = replace(winner, trial=0, run="confirm_0000_s2")
    Confirmation(1, 3, (0, 7), 3, result=Confirmed((winner, other), 9, None)).write(folder.confirmation)
    return folder


def test_a_confirmed_search_has_the_models_of_its_winners_seeds(search: SearchFolder) -> None:
    assert ensemble_of(search.path) == [search.best, search.repeat(7, 1).best, search.repeat(7, 3).best]


def test_what_to_type_next_offers_them_only_where_all_are_there(search: SearchFolder) -> None:
    config = RunConfig(dataset=str(search.path.parent))

    def offered() -> list[str]:
        return [line for line in next_commands(search, config, "r").values() if "--ensemble" in line]

    (command,) = offered()
    assert command.endswith(f"-cd {search.path} -d {search.path.parent / 'val'} --ensemble")
    assert "measure the mean of the models of the winner's 3 seeds" in next_commands(search, config, "r")
    shutil.rmtree(search.repeat(7, 3).best)
    assert offered() == []


def test_a_search_without_them_says_what_makes_them(search: SearchFolder) -> None:
    again = f"run_search.py --confirm {search.path.name}"
    shutil.rmtree(search.repeat(7, 3).best)
    with pytest.raises(InputError) as raised:
        ensemble_of(search.path)
    gone = search.repeat(7, 3).path
    assert raised.value.mistakes == [f"--ensemble: {gone} no longer has its model; delete that folder, then {again}"]
    shutil.copytree(search.best, search.repeat(7, 3).best)
    Manifest.read(search.best / "run.yaml").with_metrics({"epoch": 1, "miou": 0.9}).write(search.best / "run.yaml")
    with pytest.raises(InputError, match=f"has another winner since it was confirmed; {again}"):
        ensemble_of(search.path)
    search.confirmation.write_text("{}")
    with pytest.raises(InputError, match=r"confirmation\.json: damaged, not a confirmation"):
        ensemble_of(search.path)
    search.confirmation.unlink()
    with pytest.raises(InputError, match=f"has one model; {again}"):
        ensemble_of(search.path)
