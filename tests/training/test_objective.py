"""Runs whose best epoch is chosen by another objective than mIoU."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from segtune.data.scan import scan
from segtune.errors import InputError
from segtune.evaluation.intervals import bootstrap
from segtune.evaluation.validate import validate
from segtune.files.folders import RunFolder
from segtune.models.manifest import Manifest
from segtune.report.validation import validation_lines
from segtune.training.resolve import check_input
from segtune.training.state import load_state
from tests.memory import out_of_memory
from tests.training.runs import DataSet, left, other, run, small_unet

EPOCHS = 3


@pytest.mark.parametrize("objective", ["iou/1", "f1", "boundary_iou"])
def test_the_best_epoch_is_that_of_the_objective(data_set: DataSet, tmp_path: Path, objective: str) -> None:
    dataset = data_set(tmp_path / "set", labels=(0, 1, 2))
    config = small_unet(dataset, classes=[1, 2], lr=2e-2, objective=objective, epochs=EPOCHS)
    results = run(config, tmp_path / "run")
    scores = [result.score for result in results]
    best = scores.index(max(scores))
    assert [result.best_score for result in results] == [max(scores[: n + 1]) for n in range(EPOCHS)]
    assert results[-1].best_epoch == best + 1
    assert results[-1].best_miou == results[best].scores.miou
    manifest = Manifest.read(tmp_path / "run" / "best" / "run.yaml")
    assert manifest.score == scores[best]
    assert manifest.metrics[f"{objective}_low"] <= scores[best] <= manifest.metrics[f"{objective}_high"]
    found = validate(tmp_path / "run", dataset / "val", "cpu").metrics()
    assert found["objective"] == {"name": objective, "value": pytest.approx(scores[best], abs=1e-12)}
    shown = {"iou/1": found["iou"]["1"], "boundary_iou": found["boundary_miou"]}
    assert shown.get(objective, scores[best]) == pytest.approx(scores[best], abs=1e-12)


def test_a_run_goes_on_with_the_same_numbers(data_set: DataSet, tmp_path: Path) -> None:
    config = small_unet(data_set(tmp_path / "set"), objective="boundary_iou", epochs=EPOCHS)
    run(config, tmp_path / "whole", threads=1)
    run(config, tmp_path / "parts", epochs=2, threads=1)
    run(config, tmp_path / "parts", threads=1, go_on=True)
    assert left(tmp_path / "parts") == left(tmp_path / "whole")


def test_a_state_of_a_former_release_goes_on(data_set: DataSet, tmp_path: Path) -> None:
    config = small_unet(data_set(tmp_path / "set"), epochs=EPOCHS)
    run(config, tmp_path / "whole", threads=1)
    run(config, tmp_path / "parts", epochs=2, threads=1)
    path = tmp_path / "parts" / "state.pt"
    state = load_state(path)
    del state["progress"]["best_score"]
    torch.save(state, path)
    run(config, tmp_path / "parts", threads=1, go_on=True)
    assert left(tmp_path / "parts") == left(tmp_path / "whole")


def test_another_objective_is_another_run(data_set: DataSet, tmp_path: Path) -> None:
    config = small_unet(data_set(tmp_path / "set"), epochs=EPOCHS)
    run(config, tmp_path / "run", epochs=1)
    with pytest.raises(InputError, match="objective"):
        run(other(config, objective="f1"), tmp_path / "run", go_on=True)
    assert RunFolder(tmp_path / "run").begun


def test_a_class_that_no_validation_mask_holds_cannot_be_the_objective(data_set: DataSet, tmp_path: Path) -> None:
    dataset = data_set(tmp_path / "set", labels=(0, 1, 5))
    for path in (dataset / "val" / "gt").iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(mask == 5, 0, mask).astype(mask.dtype))
    config = small_unet(dataset, classes=[1, 5], objective="f1+iou/5")
    text = "the objective f1\\+iou/5 cannot be measured: label 5 is not in the masks of the validation tiles"
    with pytest.raises(InputError, match=text):
        check_input(config, scan(config))


def test_a_class_that_one_tile_holds_has_a_score_and_a_reason(data_set: DataSet, tmp_path: Path) -> None:
    dataset = data_set(tmp_path / "set", labels=(0, 1, 2))
    for mask in sorted((dataset / "val" / "gt").iterdir())[1:]:
        values = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(mask), np.where(values == 2, 1, values).astype("u1"))
    run(small_unet(dataset, classes=[1, 2], objective="iou/2", epochs=1), tmp_path / "run")
    metrics = Manifest.read(tmp_path / "run" / "best" / "run.yaml").metrics
    assert {"miou_low", "iou/2"} <= set(metrics)
    assert not {"iou/2_low", "iou/2_high"} & set(metrics)
    found = validate(tmp_path / "run", dataset / "val", "cpu")
    lines = validation_lines(found, bootstrap(found.measured.tiles, (1, 2)))
    score = lines.index(f"iou/2 {metrics['iou/2']:.4f}, the objective of the model")
    assert lines[score + 1] == "only one tile holds class 2, so how sure its IoU is cannot be said"


def test_too_little_memory_for_the_latency_loses_no_epoch(
    data_set: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segtune.training.costs._passes", lambda *_: out_of_memory())
    (first,) = run(small_unet(data_set(tmp_path / "set"), epochs=1), tmp_path / "run")
    assert first.epoch == 1
    assert Manifest.read(tmp_path / "run" / "run.yaml").latency is None
