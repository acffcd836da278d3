"""A run's curves: metrics.csv and TensorBoard events, in its folder, epoch by epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from segtune.config import RunConfig
from segtune.folders import RunFolder, write_text

_CURVES = ("loss", "miou", "best_miou", "lr")  # the metrics that TensorBoard's hparams table lists


class RunLog:
    """Writes a row per epoch; every row is on disk when `write` returns."""

    def __init__(self, folder: RunFolder, config: RunConfig, after_epoch: int = 0) -> None:
        """Open the log; on a run that goes on, rows beyond `after_epoch` are dropped."""
        self._path = folder.metrics_csv
        self._rows = [row for row in read_metrics(folder) if int(row["epoch"]) <= after_epoch]
        self._writer = SummaryWriter(str(folder.path), purge_step=after_epoch + 1 if after_epoch else None)
        # SummaryWriter.add_hparams would put the table into a run of its own, without the curves.
        experiment, start, self._end = hparams(_plain(config), dict.fromkeys(_CURVES, 0.0))
        if not after_epoch:
            self._events.add_summary(experiment)
            self._events.add_summary(start)
        self._writer.flush()

    @property
    def _events(self) -> Any:
        return self._writer._get_file_writer()

    def write(self, epoch: int, row: Mapping[str, Any]) -> None:
        """Add an epoch's row; None stands for a figure that there is none of."""
        self._rows.append({name: "" if value is None else str(value) for name, value in row.items()})
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self._rows[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(self._path, text.getvalue())
        for name, value in row.items():
            if value is not None and name != "epoch":
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self, finished: bool) -> None:
        """Close the files; a finished run is marked so in the hparams table."""
        if finished:
            self._events.add_summary(self._end)
        self._writer.close()


def read_metrics(folder: RunFolder) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv, oldest first; none where there is no such file."""
    if not folder.metrics_csv.is_file():
        return []
    with folder.metrics_csv.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _plain(config: RunConfig) -> dict[str, bool | int | float | str]:
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in config.settings().items()
    }
