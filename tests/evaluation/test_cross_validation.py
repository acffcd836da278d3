"""Folds give a score each, and together the score of all tiles."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.evaluation.cross_validation import cross_validated, deal_folds
from segtune.evaluation.grouping import Grouping
from segtune.evaluation.intervals import bootstrap
from segtune.evaluation.measure import Measure
from segtune.evaluation.metrics import mean_iou
from segtune.evaluation.overlap import TileCounts
from tests.conftest import WriteDataSet
from tests.evaluation.test_intervals import split, whole_iou
from tests.tools.sets import moved, sound

MIOU = Measure.named("miou", (1, 2))
FOLDS = [0, 1, 2, 2, 1, 0, 0, 1, 2, 1, 2, 0]


def test_the_score_of_all_tiles_is_that_of_the_whole_set() -> None:
    matrices = split(12, spread=0.2)
    own = [matrices[np.array(FOLDS) == fold] for fold in range(3)]
    grouping = Grouping(tuple("aabbccddeeff"), "names")
    found = cross_validated(FOLDS, [TileCounts.of(part) for part in own], MIOU, grouping)
    scores = [mean_iou(TileCounts.of(part).total()) for part in own]
    assert list(found.scores) == scores == [whole_iou(part) for part in own]
    assert found.mean == pytest.approx(np.mean(found.scores))
    assert found.deviation == pytest.approx(statistics.stdev(found.scores))
    assert found.together.value == whole_iou(matrices)
    assert found.intervals == bootstrap(TileCounts.of(matrices), (1, 2), grouping.groups)
    assert found.together == found.intervals.miou
    assert found.plain()["together"]["value"] == found.together.value
    assert found.plain()["intervals"]["groups"] == 6


def test_a_fold_without_any_class_has_no_score() -> None:
    matrices = split(12)
    matrices[np.array(FOLDS) == 1, 1:] = 0
    own = [TileCounts.of(matrices[np.array(FOLDS) == fold]) for fold in range(3)]
    with pytest.raises(InputError, match="fold 2 of 3 has no miou: its masks lack a class; take fewer folds"):
        cross_validated(FOLDS, own, MIOU, Grouping())


def told(root: Path, count: int, pattern: str | None = None, **settings: object) -> list[str]:
    """What dealing to folds says."""
    lines: list[str] = []
    deal_folds(RunConfig.from_settings({"dataset": str(root)} | settings), count, pattern, say=lines.append)
    return lines


def test_what_train_and_val_share_is_no_leak_where_folds_go_by_place(tmp_path: Path) -> None:
    root = sound(tmp_path)
    for folder in ("images", "gt"):
        shutil.copy(root / "train" / folder / "t03.tif", root / "val" / folder / "t07.tif")
    moved(root, "val/images/t05.tif", 6.7, 0)  # overlaps a tile of train
    lines = told(root, 3, classes=[1])
    assert "tiles of 20 places (neighbours on the ground) stay together" in lines
    assert not [line for line in lines if "warning" in line]
    # Names that divide a place let the copies of a tile meet in two folds.
    (copies, overlap) = [line for line in told(root, 11, "^(.*)$", classes=[1]) if "warning" in line]
    assert copies == (
        "warning: 2 of the 22 tiles hold the same pixels as a tile of another fold (train/t03 and val/t07), so scores "
        "are too good; --group keeps tiles together"
    )
    assert overlap.startswith("warning: 2 of the 22 tiles overlap on the ground with a tile of another fold (")
    assert "train/t02 and val/t05" in overlap


def test_copies_in_different_folds_are_told_once_for_all_folds(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path, train=6, val=4)
    for number in (1, 2):
        shutil.copy(tmp_path / f"train/images/00{number}.png", tmp_path / f"val/images/00{number}.png")
    (line,) = [line for line in told(tmp_path, 10) if "warning" in line and "another fold" in line]
    assert "4 of the 10 tiles hold the same pixels as a tile of another fold (train/001 and val/001, " in line
    assert not [line for line in told(tmp_path, 3, "(.*)") if "another fold" in line]
