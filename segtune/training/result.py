"""The record of one epoch: what training hands to the console, to metrics.csv and to a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from segtune.data.splits import ADDED
from segtune.evaluation.metrics import Scores
from segtune.training.loaders import Waiting

_SCORE, _BEST_SCORE = "score", "best_score"  # columns where the objective is another one than mIoU
_MIOU = "/miou"  # behind the name of an added validation set, in the name of a column


@dataclass(frozen=True)
class Own:
    """The score of an epoch by another objective than mIoU."""

    score: float | None  # None in an epoch without scores
    best: float | None  # of the epochs so far; None while none was scored


@dataclass(frozen=True)
class EpochResult:
    """The result of an epoch; everything in it is on disk when `train` yields it."""

    epoch: int  # from 1
    epochs: int  # the budget of the run
    loss: float  # mean over the training tiles
    scores: Scores | None  # None in an epoch in which only added sets count and none was evaluated
    # mIoU of each added validation set that was evaluated, by the set's name; None where none of its classes occurs.
    added: Mapping[str, float | None]
    best_miou: float | None  # of the best epoch so far; None while none was scored
    best_epoch: int  # the first epoch with the best score by the objective; 0 while none was scored
    lr: float  # learning rate of the epoch's last step
    micro_batch: int  # tiles that go through the network at a time; below batch_size where memory was too small
    # Number of epochs in a row, up to this one, in which all predictions that are scored were of one class (or of
    # background). Epochs without a score are skipped.
    collapsed_epochs: int
    train_seconds: float  # seconds of training, including waiting for batches and saving states within the epoch
    eval_seconds: float
    # Seconds since the row before that went to waiting for batches, to writing best/ and state.pt, and to writing
    # metrics.csv and TensorBoard events (of the row before). Waiting for the first batch of a start is not counted.
    data_seconds: float
    checkpoint_seconds: float
    report_seconds: float
    seconds: float  # seconds of training and evaluation in all epochs so far, in all starts of the run
    # Seconds of each of PHASES so far, in all starts of the run; the caller's own time between two epochs is not
    # counted. Empty for an epoch that was read from metrics.csv.
    spent: Mapping[str, float]
    first_lr: float | None = None  # learning rate of the epoch's first step; None for an epoch read from metrics.csv
    waiting: Waiting | None = None  # how training waited for tiles, where it did
    # None in these four: not known, or of an earlier release.
    val_loss: float | None = None  # mean of the run's own loss over the validation tiles, at the network's size
    train_miou: float | None = None  # of what the network predicted in the epoch's training steps, augmented
    images_per_second: float | None = None  # tiles per second of training, from the first batch of a start on
    waiting_share: float | None = None  # part of that time in which training waited for tiles, from 0 to 1
    own: Own | None = None  # by the objective of the run; None where that is mIoU
    costs: Mapping[str, float] = field(default_factory=dict)  # that are known, by name, but for seconds; see COSTS

    @property
    def score(self) -> float | None:
        """The score by the objective of the run; None in an epoch without scores."""
        if self.own:
            return self.own.score
        return self.scores.miou if self.scores else None

    @property
    def best_score(self) -> float | None:
        """The best score by the objective of the run, of the epochs so far; None while none was scored."""
        return self.own.best if self.own else self.best_miou

    @property
    def finished(self) -> bool:
        """Whether this is the last epoch of the budget."""
        return self.epoch >= self.epochs

    @property
    def best_so_far(self) -> bool:
        """Whether no earlier epoch of the run was as good."""
        return self.best_epoch == self.epoch

    @property
    def learnt(self) -> bool:
        """Whether the run has a score that is worth something: above zero, and not of a network that collapsed."""
        return bool(self.best_score) and not self.collapsed_epochs

    def row(self) -> dict[str, float | int | None]:
        """Return the epoch's row of metrics.csv; seconds have three decimals."""
        return {
            name: round(value, 3) if name.endswith("seconds") and value is not None else value
            for name, value in self._columns().items()
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any], epochs: int) -> EpochResult:
        """Read a row of metrics.csv, whose values are numbers or None; raise KeyError where a column is missing.

        `epochs` is the budget of the run, which the row does not hold.
        """
        later: dict[str, Any] = {name: row.get(name) for name in _ADDED_LATER}
        return cls(
            epochs=epochs,
            scores=Scores.from_flat(row),
            added={
                name.removesuffix(_MIOU): value
                for name, value in row.items()
                if name.startswith(ADDED) and name.endswith(_MIOU)
            },
            spent={},
            own=Own(row[_SCORE], row[_BEST_SCORE]) if _BEST_SCORE in row else None,
            **{each.name: row[each.name] for each in fields(cls) if each.name not in _NOT_A_COLUMN},
            **later,
        )

    def _columns(self) -> dict[str, float | int | None]:
        """Return the values that metrics.csv holds, in its order."""
        return {
            "epoch": self.epoch,
            "loss": self.loss,
            **(self.scores.flat() if self.scores else {}),
            **{f"{name}{_MIOU}": miou for name, miou in self.added.items()},
            "best_miou": self.best_miou,
            **({_SCORE: self.own.score, _BEST_SCORE: self.own.best} if self.own else {}),
            "best_epoch": self.best_epoch,
            "val_loss": self.val_loss,
            "train_miou": self.train_miou,
            "lr": self.lr,
            "micro_batch": self.micro_batch,
            "collapsed_epochs": self.collapsed_epochs,
            "images_per_second": self.images_per_second,
            "waiting_share": self.waiting_share,
            "train_seconds": self.train_seconds,
            "eval_seconds": self.eval_seconds,
            "data_seconds": self.data_seconds,
            "checkpoint_seconds": self.checkpoint_seconds,
            "report_seconds": self.report_seconds,
            "seconds": self.seconds,
        }


_ADDED_LATER = ("val_loss", "train_miou", "images_per_second", "waiting_share")  # columns that older tables lack
# Fields without a column of their own, or with one that may be missing.
_NOT_A_COLUMN = ("epochs", "scores", "added", "spent", "first_lr", "waiting", "own", "costs", *_ADDED_LATER)
