"""validate.py --compare: which models can be compared, and that each is measured once."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import rasterio
import yaml

import segtune.cli.validation
from segtune.data.labels import Labels
from tests.evaluation.runs import DataSet, Run, errors
from tests.evaluation.scenes import saved_model

pytestmark = pytest.mark.usefixtures("blank_charts")

Capsys = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("model") / "best")


@pytest.fixture(scope="module")
def val(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "set", val=3, size=64, suffix=".tif") / "val"


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"labels": Labels((255,), (7,), True, 0)}, "ignore, none and [7]; name a model with the same ignore"),
        ({"nodata": 0}, "nodata, none and 0; name a model with the same nodata"),
        ({"masks_dir": "masks2"}, "masks_dir, gt and masks2; name a model with the same masks_dir"),
    ],
)
def test_models_of_other_pixels_are_not_compared(
    model: Path, val: Path, tmp_path: Path, run: Run, capsys: Capsys, fields: dict[str, Any], line: str
) -> None:
    split = shutil.copytree(val, tmp_path / "val")
    shutil.copytree(val / "gt", split / "masks2")
    other = saved_model(tmp_path / "other", **fields)
    assert run("-c", model, "-d", split, "-o", tmp_path / "out", "--com", "--compare", other) == 2
    assert errors(capsys) == [f"error: --compare: the two models have different {line}"]
    assert not (tmp_path / "out").exists()


def test_a_comparison_of_one_tile_is_refused_before_it_is_measured(
    model: Path, tmp_path: Path, run: Run, capsys: Capsys, data_set: DataSet
) -> None:
    split = data_set(tmp_path / "set", val=1, size=64) / "val"
    assert run("-c", model, "-d", split, "-o", tmp_path / "out", "--com", "--compare", model) == 2
    assert errors(capsys) == [
        f"error: --compare: an interval needs at least 2 tiles, but {split} has 1; name a larger split"
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_pixels_that_one_model_alone_has_no_data_for_are_told_of(
    model: Path, val: Path, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    split = shutil.copytree(val, tmp_path / "val")
    with rasterio.open(split / "nir" / "001.tif", "r+") as file:
        file.nodata = int(file.read(1)[10, 10])
    other = saved_model(tmp_path / "other", channels=("nir",))
    assert run("-c", model, "-d", split, "-o", tmp_path / "out", "--com", "--compare", other) == 2
    (line,) = errors(capsys)
    assert line.startswith("error: --compare: the two models are scored on different pixels, ")
    assert line.endswith(": 001")


def test_the_other_model_is_named_by_its_weights_or_told_of(
    model: Path, val: Path, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    command = ["-c", model, "-d", val, "-o", tmp_path / "out", "--com", "--compare"]
    assert run(*command, tmp_path / "no") == 2
    assert errors(capsys) == [f"error: --compare: {tmp_path / 'no'}: no such folder or file"]
    assert run(*command, tmp_path) == 2
    assert errors(capsys) == [f"error: --compare: {tmp_path}: is empty; a model was expected"]
    assert not (tmp_path / "out").exists()
    assert run(*command, model / "model.safetensors") == 0
    comparison = json.loads((tmp_path / "out" / "metrics.json").read_text())["comparison"]
    assert comparison["miou"] == {"value": 0.0, "low": 0.0, "high": 0.0}


@pytest.mark.slow
def test_the_other_model_is_measured_once_for_all_of_top(
    model: Path, val: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, other = tmp_path / "search", shutil.copytree(model, tmp_path / "other")
    for number in (0, 1):
        best = shutil.copytree(model, search / f"trial_000{number}" / "best")
        content = yaml.safe_load((best / "run.yaml").read_text())
        (best / "run.yaml").write_text(yaml.safe_dump(content | {"metrics": {"miou": 0.5}}))
    (search / "search.yaml").write_text("space: {}\n")
    measured: list[Path] = []
    validate = segtune.cli.validation.validate

    def counting(folder: Path, *others: Any) -> Any:
        measured.append(folder)
        return validate(folder, *others)

    monkeypatch.setattr("segtune.cli.validation.validate", counting)
    assert run("-cd", search, "--top", 2, "-d", val, "-o", tmp_path / "out", "--com", "--compare", other) == 0
    trials = [search / f"trial_000{number}" / "best" for number in (0, 1)]
    assert Counter(measured) == Counter([*trials, other])
    for trial in ("trial_0000", "trial_0001"):
        assert "comparison" in json.loads((tmp_path / "out" / trial / "metrics.json").read_text())
