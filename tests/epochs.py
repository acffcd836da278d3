"""Epochs that no run trained: their records, and metrics.csv of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any

from segtune.evaluation.metrics import Scores
from segtune.files.folders import RunFolder
from segtune.training.result import EpochResult
from segtune.training.stopwatch import PHASES


def epoch_result(epoch: int = 1, miou: float = 0.5, **others: Any) -> EpochResult:
    """Return the record of an epoch that is the best so far, unless `others` say something else."""
    record: dict[str, Any] = {
        "epoch": epoch,
        "epochs": 3,
        "loss": 1.0,
        "scores": Scores(miou, {"255": miou}, None),
        "added": {},
        "best_miou": miou,
        "best_epoch": epoch,
        "lr": 1e-3,
        "micro_batch": 4,
        "collapsed_epochs": 0,
        "train_seconds": 0.75,
        "eval_seconds": 0.25,
        "data_seconds": 0.0,
        "checkpoint_seconds": 0.0,
        "report_seconds": 0.0,
        "seconds": float(epoch),
        "spent": dict.fromkeys(PHASES, 0.5),
        "first_lr": 1e-3,
    }
    return EpochResult(**record | others)


def write_results(folder: RunFolder, results: Sequence[EpochResult]) -> None:
    """Write metrics.csv as a run would have."""
    with folder.metrics_csv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(results[0].row()) if results else ["epoch"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(result.row() for result in results)
