"""The scores in metrics.json are those of the written masks, computed again with scikit-learn, on real data too."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score, precision_recall_fscore_support

from segtune.data.demo import write_demo
from tests.evaluation.runs import Run, Trained, pixels, trained

pytestmark = pytest.mark.usefixtures("blank_charts")

REAL_DATA = os.environ.get("SEGTUNE_DATA")
needs_real_data = pytest.mark.skipif(
    not REAL_DATA, reason="SEGTUNE_DATA names no folder with s2india/, nuclei/ and landcover/"
)
TILES = 5  # of the validation


CLASSES = {
    "demo": [255],
    "s2india": [1, 2, 3],
    "nuclei": [255],
    "landcover": [10, 30, 50, 70, 100],
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """Train a little on each data set, once: predictions must hold right and wrong pixels."""

    @cache
    def model(name: str) -> Trained:
        folder = tmp_path_factory.mktemp(name)
        if name == "demo":
            write_demo(folder / "demo", 4, 3, size=48)
        dataset = folder / "demo" if name == "demo" else Path(str(REAL_DATA)) / name
        channels = ["nir"] if name in ("demo", "s2india") else []
        settings = {"classes": CLASSES[name], "channels": channels, "image_size": 32 if name == "demo" else 64}
        settings |= {"loss": "dice+ce", "epochs": 3} if len(CLASSES[name]) > 1 else {"loss": "dice+bce", "epochs": 12}
        return trained(dataset, folder / "run", limit_tiles=16, batch_size=4, **settings)

    return model


def first_tiles(split: Path, place: Path) -> Path:
    """Copy the first tiles of a split and those in the middle, which are of another size where sizes differ."""
    for folder in sorted(path for path in split.iterdir() if path.is_dir()):
        (place / folder.name).mkdir(parents=True)
        files = sorted(folder.iterdir())
        for file in [*files[: TILES - 2], *files[len(files) // 2 :][:2]]:
            shutil.copy(file, place / folder.name / file.name)
    return place


def check(classes: list[int], split: Path, out: Path) -> None:
    """Compare metrics.json with the scores of the masks in OUT/binary."""
    found = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    masks = {path.stem: path for path in (split / "gt").iterdir()}
    written = {path.stem: path for path in (out / "binary").iterdir() if path.suffix in (".tif", ".png")}
    assert written.keys() == masks.keys()
    assert len(masks) == found["tiles"]
    truth = np.concatenate([pixels(masks[name]).ravel() for name in sorted(masks)])
    predicted = np.concatenate([pixels(written[name]).ravel() for name in sorted(masks)])
    assert set(np.unique(predicted).tolist()) <= {0, *classes}
    assert len(np.unique(predicted)) > 1

    def one_of(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Every other label counts as background."""
        return np.where(np.isin(labels, classes), labels, 0).astype(np.int64)

    truth, predicted = one_of(truth), one_of(predicted)
    listed = [0, *classes]
    counts = confusion_matrix(truth, predicted, labels=listed)
    assert found["confusion"] == {"labels": ["background", *map(str, classes)], "pixels": counts.tolist()}
    args: dict[str, Any] = {"labels": listed, "average": None, "zero_division": 0}
    iou = jaccard_score(truth, predicted, **args)
    columns = zip(iou, *precision_recall_fscore_support(truth, predicted, **args), strict=True)
    occurring = []
    for label, values in zip(listed, columns, strict=True):
        name = str(label) if label in classes else "background"
        if values[-1] == 0:
            assert found["iou"].get(name) is None
            continue
        own = [found["per_class"][name][key] for key in ("iou", "precision", "recall", "f1", "support")]
        assert own == pytest.approx(values, abs=1e-6)
        assert found["iou"][name] == pytest.approx(values[0], abs=1e-6)
        occurring += [values[0]] if label in classes else []
    assert found["miou"] == pytest.approx(np.mean(occurring), abs=1e-6)


def measured(model: Trained, split: Path, place: Path, run: Run, fit: str, side: int) -> Path:
    """Measure a copy of a model that fits tiles in another way; return OUT."""
    copy = Path(shutil.copytree(model.folder / "best", place / "model"))
    manifest = copy / "run.yaml"
    manifest.write_text(re.sub("(?m)^fit: .*$", f"fit: {fit}", manifest.read_text(encoding="utf-8")), encoding="utf-8")
    assert run("-c", copy, "-d", split, "-o", place / "out", "--binary", "--tile-size", side) == 0
    found = json.loads((place / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert (found["fit"], found["image_size"]) == (fit, side)
    return place / "out"


@pytest.mark.slow
def test_scores_of_the_demo_are_those_of_its_masks(models: Callable[[str], Trained], tmp_path: Path, run: Run) -> None:
    model = models("demo")
    check(CLASSES["demo"], model.val, measured(model, model.val, tmp_path, run, "resize", 32))


@pytest.mark.slow
@needs_real_data
@pytest.mark.parametrize(
    ("name", "fit", "side"),
    [
        ("s2india", "resize", 64),
        ("s2india", "resize", 256),  # the tiles' own size
        ("s2india", "crop", 96),
        ("nuclei", "crop", 128),  # tiles of 256x256, 320x256 and 360x360
        ("nuclei", "pad", 384),
        ("nuclei", "resize", 256),
        ("landcover", "resize", 64),
        ("landcover", "resize", 512),
        ("landcover", "crop", 256),
    ],
)
def test_scores_are_those_of_the_written_masks(
    models: Callable[[str], Trained], tmp_path: Path, run: Run, name: str, fit: str, side: int
) -> None:
    model = models(name)
    split = first_tiles(model.val, tmp_path / "val")
    check(CLASSES[name], split, measured(model, split, tmp_path, run, fit, side))
