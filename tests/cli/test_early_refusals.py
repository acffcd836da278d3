"""What is refused at once, before torch and Ray are imported."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp

from segtune.cli.tasks import SPACES
from segtune.config import RunConfig
from segtune.data.bands import Band
from segtune.data.labels import Labels
from segtune.vocabulary import ENCODERS
from tests.cli.runs import (
    Typed,
)
from tests.manifests import untrained
from tests.scripts import ROOT

# The data set, and what is refused before anything takes time.


@pytest.mark.parametrize(
    ("name", "words", "line"),
    [
        ("run_single", "", "dataset: is missing; -d FOLDER says where the data lies"),
        ("run_single", "-e 3", "dataset: is missing"),
        ("run_single", "--preview-augmentation 2", "dataset: is missing"),
        ("run_single", "--config run.yaml", "dataset: is missing"),
        ("run_single", "--exp-name typo -e 3", "--exp-name: there is no run logs/typo to go on with"),
        ("run_single", "--exp-name frist -e 3", "did you mean 'first'?"),
        ("run_search", "--space encoders", "dataset: is missing"),
        ("run_search", "--space space.yaml", "dataset: is missing"),
        ("run_search", "--space overnight --dry-run", "dataset: is missing"),
    ],
)
def test_without_a_data_set_nothing_starts_and_no_demo_is_made(typed: Typed, name: str, words: str, line: str) -> None:
    Path("run.yaml").write_text("epochs: 3\n")
    Path("space.yaml").write_text("space: {lr: [0.1, 0.2]}\n")
    Path("logs/first").mkdir(parents=True)
    Path("logs/first/run.yaml").write_text("epochs: 3\n")
    status, lines = typed(name, *words.split())
    assert (status, len(lines)) == (2, 1)
    assert line in lines[0]
    assert not Path("data").exists()


def test_a_search_is_resumed_on_the_data_that_it_started_with(typed: Typed) -> None:
    Path("ray_results/encoders").mkdir(parents=True)
    Path("ray_results/encoders/search.yaml").write_text("dataset: moved\nspace: {lr: [0.1, 0.2]}\n")
    line = "error: moved: no such data set folder (dataset, -d)"
    assert typed("run_search", "--space", "encoders", "--resume") == (2, [line])


def test_only_the_quickstart_space_names_the_demo() -> None:
    spaces = {path.stem: path.read_text(encoding="utf-8") for path in SPACES.glob("*.yaml")}
    assert [name for name, text in spaces.items() if re.search("^dataset:", text, re.M)] == ["quickstart"]


AT_ONCE = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(*sorted({"torch", "ray", "optuna", "timm", "cv2", "rasterio"} & sys.modules.keys()))
"""


@pytest.mark.parametrize("words", [("run_search", "--status"), ("run_single", "-d", "x", "--from-search")])
def test_an_unknown_search_is_refused_with_the_most_similar_name(typed: Typed, words: tuple[str, ...]) -> None:
    Path("ray_results/encoders").mkdir(parents=True)
    Path("ray_results/encoders/search.yaml").touch()
    where = "" if words[0] == "run_search" else "ray_results/"
    _, (line,) = typed(*words, f"{where}encodres")
    assert line == "error: ray_results/encodres: no search (it has no search.yaml); did you mean 'encoders'?"


@pytest.mark.parametrize(
    ("name", "words", "line"),
    [
        ("run_search", "--space quickstart -d nowhere", "nowhere: no such data set folder"),
        ("run_search", "--space quickstart -d half", "half/val: no such folder"),
        ("run_search", "--space wrong.yaml -d half", "wrong.yaml:1: space.encodr: unknown"),
        ("run_search", "--space quickstart --name there", "ray_results/there: this search exists"),
        ("run_search", "--status nowhere", "ray_results/nowhere: no search"),
        ("run_single", "-d half", "half/val: no such folder"),
        ("run_single", "-d half/train", "/half?\n"),
        ("run_single", "-d half -lr 0", "lr: "),
        ("validate", "-cd nowhere -d half/train", "nowhere: no such folder"),
        ("validate", "-cd model -d nowhere", "nowhere: no such folder; the folder of a split is needed"),
    ],
)
def test_common_mistakes_are_refused_without_importing_torch_and_ray(
    tmp_path: Path, name: str, words: str, line: str
) -> None:
    (tmp_path / "half" / "train" / "images").mkdir(parents=True)
    (tmp_path / "half" / "train" / "gt").mkdir()
    (tmp_path / "half" / "train" / "nir").mkdir()
    (tmp_path / "ray_results" / "there").mkdir(parents=True)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").touch()
    band = Band("image:1", mean=0.0, std=1.0, low=0.0, high=1.0)
    manifest = untrained(RunConfig(dataset="half", image_size=64), Labels((255,), (), True, 0), [band])
    manifest.write(tmp_path / "model" / "run.yaml")
    (tmp_path / "wrong.yaml").write_text("space: {encodr: [resnet18, resnet34]}\n")
    command = [sys.executable, "-c", AT_ONCE, str(ROOT / f"{name}.py"), *words.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2, done.stderr
    assert line in done.stderr
    assert done.stdout == "\n"


def test_the_listed_encoders_are_those_of_smp() -> None:
    assert sorted(ENCODERS) == sorted(smp.encoders.get_encoder_names())


def test_a_misspelt_encoder_is_reported_with_other_mistakes(typed: Typed) -> None:
    Path("space.yaml").write_text("space: {encoder: [resnet19, tu-resnet18], lr: [fast]}\n")
    status, lines = typed("run_search", "--space", "space.yaml")
    assert (status, len(lines)) == (2, 2)
    assert "did you mean 'resnet18'?" in lines[0]
    Path("space.yaml").write_text("dataset: data/demo\nspace: {encoder: [resnet18, tu-resnt18]}\n")
    assert "did you mean 'tu-resnet18'?" in typed("run_search", "--space", "space.yaml")[1][0]
    assert not Path("data").exists()
