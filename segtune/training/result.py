"""What an epoch of training showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from segtune.evaluation.metrics import Scores


@dataclass(frozen=True)
class EpochResult:
    """What an epoch showed; everything of it is on disk when it is yielded."""

    epoch: int  # from 1
    epochs: int
    loss: float  # mean over the training tiles
    scores: Scores | None  # None in an epoch in which only added sets count and none was evaluated
    added: Mapping[str, Scores | None]  # of each added validation set that was evaluated; None: it has no class
    best_miou: float | None  # of the epochs so far
    best_epoch: int
    lr: float  # of the epoch's last step
    micro_batch: int  # tiles that go through the network at a time; below batch_size where memory was not enough
    # Epochs in a row, up to this one, whose predictions on what the run is scored on were all one class (background
    # is one); epochs in which that was not evaluated neither count nor break the row.
    collapsed_epochs: int
    train_seconds: float  # of the training part, waiting for batches and states saved within it included
    eval_seconds: float
    # Seconds since the row before: of waiting for batches in training, of writing best/ and state.pt, and of writing
    # metrics.csv and TensorBoard, which is that of the row before. The first wait of a start is none of them.
    data_seconds: float
    checkpoint_seconds: float
    report_seconds: float
    seconds: float  # of training and evaluation in all epochs so far, over every start of the run
    # Seconds by phase so far, over every start of the run: start (from train() being called to the first batch), data
    # (waiting for the batches after it), training (the rest of it), evaluation, checkpoint (best/ and state.pt) and
    # reporting (metrics.csv, TensorBoard, pictures). The caller's own time between two epochs is in none of them.
    spent: Mapping[str, float]
    first_lr: float | None = None  # of the epoch's first step

    def row(self) -> dict[str, float | int | None]:
        """The epoch's row of metrics.csv."""
        return {
            "epoch": self.epoch,
            "loss": self.loss,
            **(self.scores.flat() if self.scores else {}),
            **{f"{name}/miou": scores.miou if scores else None for name, scores in self.added.items()},
            "best_miou": self.best_miou,
            "best_epoch": self.best_epoch,
            "lr": self.lr,
            "micro_batch": self.micro_batch,
            "collapsed_epochs": self.collapsed_epochs,
            "train_seconds": round(self.train_seconds, 3),
            "eval_seconds": round(self.eval_seconds, 3),
            "data_seconds": round(self.data_seconds, 3),
            "checkpoint_seconds": round(self.checkpoint_seconds, 3),
            "report_seconds": round(self.report_seconds, 3),
            "seconds": round(self.seconds, 3),
        }
