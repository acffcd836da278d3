"""validate.py: metrics.json, and masks that lie over their tiles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from sklearn.metrics import jaccard_score

from tests.evaluation.runs import SIZE, Run, Trained, pixels


def test_metrics_json_holds_the_scores_and_the_settings(binary: Trained, tmp_path: Path, run: Run) -> None:
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path / "out", "--com") == 0
    pictures = {"calibration.png", "confusion.png", "worst.png"}
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} == {"metrics.json", "metrics.csv", *pictures}
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


def test_written_masks_match_their_tiles_in_labels_size_and_place(binary: Trained, tmp_path: Path, run: Run) -> None:
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path, "--binary") == 0
    masks = sorted((tmp_path / "binary").iterdir())
    assert [path.name for path in masks] == sorted(path.name for path in (binary.val / "images").iterdir())
    predicted, truth = [], []
    for path in masks:
        with rasterio.open(path) as mask, rasterio.open(binary.val / "images" / path.name) as tile:
            assert (mask.width, mask.height) == (SIZE, SIZE)
            assert mask.crs == tile.crs
            assert mask.crs.to_epsg() == 32632
            assert mask.transform == tile.transform
            assert mask.dtypes == ("uint8",)
            assert [mask.colormap(1)[label] for label in (0, 255)] == [(0, 0, 0, 255), (230, 159, 0, 255)]
        predicted.append(pixels(path))
        truth.append(pixels(binary.val / "gt" / path.name))
        assert set(np.unique(predicted[-1]).tolist()) <= {0, 255}
    # The written masks are what was scored.
    score = jaccard_score(np.ravel(truth) == 255, np.ravel(predicted) == 255)
    assert score == pytest.approx(binary.results[-1].best_miou, abs=1e-12)


def test_masks_of_several_classes_agree_with_the_score(several: Trained, tmp_path: Path, run: Run) -> None:
    assert run("-cd", several.folder, "-d", several.val, "-o", tmp_path, "--binary") == 0
    masks = sorted((tmp_path / "binary").iterdir())
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
    (warning,) = [line for line in (printed.out + printed.err).splitlines() if line.startswith("warning: no mask")]
    assert "300" in warning


def test_where_every_class_is_there_nothing_is_warned_of(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path) == 0
    printed = capsys.readouterr()
    assert "warning: no mask" not in printed.out + printed.err
    assert f"miou {binary.results[-1].best_miou:.4f}" in printed.out
