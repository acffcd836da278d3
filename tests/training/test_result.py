"""The record of an epoch, and its way through metrics.csv."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from segtune.errors import InputError
from segtune.evaluation.metrics import Scores
from segtune.files.folders import RunFolder
from segtune.training.result import EpochResult
from segtune.training.runlog import epochs_done, read_results
from tests.epochs import epoch_result, write_results

WHOLE = Scores(0.625, {"1": 0.5, "2": 0.75, "3": None, "background": 0.875}, 0.7083333333333334)
RECORDS = [
    epoch_result(2, scores=WHOLE, train_seconds=1 / 3, seconds=2 / 3),
    epoch_result(4, val_loss=0.5, train_miou=0.75, images_per_second=12.5, waiting_share=0.25),
    epoch_result(3, scores=None, best_miou=None, best_epoch=0),  # nothing was evaluated yet
    epoch_result(1, added={"add_val/north": 0.25, "add_val/south": None}, collapsed_epochs=1, micro_batch=2),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_passes_to_another_process_unchanged(record: EpochResult) -> None:
    assert pickle.loads(pickle.dumps(record)) == record


@pytest.mark.parametrize("record", RECORDS)
def test_a_row_of_metrics_csv_is_read_as_the_record(tmp_path: Path, record: EpochResult) -> None:
    folder = RunFolder(tmp_path)
    write_results(folder, [record])
    (found,) = read_results(folder, record.epochs)
    seconds = {name: round(getattr(record, name), 3) for name in ("train_seconds", "seconds")}
    assert found == replace(record, spent={}, first_lr=None, **seconds)
    assert epochs_done(folder) == record.epoch


def test_a_table_of_an_earlier_release_is_read_without_the_new_columns(tmp_path: Path) -> None:
    folder, record = RunFolder(tmp_path), epoch_result(2)
    write_results(folder, [record])
    header, row = (line.split(",") for line in folder.metrics_csv.read_text(encoding="utf-8").splitlines())
    new = {"val_loss", "train_miou", "images_per_second", "waiting_share"}
    old = [(name, value) for name, value in zip(header, row, strict=True) if name not in new]
    assert len(old) == len(header) - 4
    folder.metrics_csv.write_text("\n".join(map(",".join, zip(*old, strict=True))) + "\n", encoding="utf-8")
    assert read_results(folder, 3) == [replace(record, spent={}, first_lr=None)]


def test_a_run_without_rows_has_no_results(tmp_path: Path) -> None:
    assert read_results(RunFolder(tmp_path), 3) == []
    assert epochs_done(RunFolder(tmp_path)) == 0


def test_metrics_csv_without_a_column_is_refused_by_its_name(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.metrics_csv.write_text("epoch,best_miou\n1,0.5\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"metrics\.csv: damaged, has no column "):
        read_results(folder, 3)


def test_a_run_is_finished_with_the_last_epoch_of_its_budget() -> None:
    assert [epoch_result(epoch, epochs=3).finished for epoch in (1, 2, 3)] == [False, False, True]


@pytest.mark.parametrize(
    ("miou", "collapsed", "learnt"), [(0.0, 0, False), (0.0, 1, False), (0.17, 1, False), (0.17, 0, True)]
)
def test_a_score_counts_above_zero_and_without_a_collapse(miou: float, collapsed: int, learnt: bool) -> None:
    assert epoch_result(miou=miou, collapsed_epochs=collapsed).learnt == learnt
    assert not epoch_result(best_miou=None, best_epoch=0).learnt
