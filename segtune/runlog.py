"""A run's curves: TensorBoard events and metrics.csv, in its folder, epoch by epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from segtune.config import RunConfig
from segtune.folders import RunFolder, write_text
from segtune.pictures import Picture, encoded

_CURVES = ("loss", "miou", "best_miou", "lr")  # the metrics that TensorBoard's hparams table lists


class RunLog:
    """Writes a row per epoch; every row is on disk when `write` returns.

    Parameters
    ----------
    folder: where metrics.csv and the events go.
    config: the hparams.
    after_epoch: epochs that the run has behind it; rows beyond them are dropped.
    last_row: of that epoch; written where the run was killed before it was.
    """

    def __init__(
        self, folder: RunFolder, config: RunConfig, after_epoch: int = 0, last_row: Mapping[str, Any] | None = None
    ) -> None:
        self._path = folder.metrics_csv
        self._rows = [row for row in folder.metrics() if int(row["epoch"]) <= after_epoch]
        written = int(self._rows[-1]["epoch"]) if self._rows else 0
        self._writer = SummaryWriter(str(folder.path), purge_step=written + 1)
        # SummaryWriter.add_hparams would put the table into a run of its own, without the curves.
        experiment, start, self._end = hparams(_plain(config), dict.fromkeys(_CURVES, 0.0))
        if not after_epoch:
            self._events.add_summary(experiment)
            self._events.add_summary(start)
        self._writer.flush()
        if last_row and written < after_epoch:
            self.write(after_epoch, last_row)

    @property
    def _events(self) -> Any:
        return self._writer._get_file_writer()

    def write(self, epoch: int, row: Mapping[str, Any]) -> None:
        """Add an epoch's row; None stands for a figure that there is none of."""
        # The file comes last: an epoch that it does not have is shown anew when the run goes on.
        for name, value in row.items():
            if value is not None and name != "epoch":
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()
        self._rows.append({name: "" if value is None else str(value) for name, value in row.items()})
        text = io.StringIO()
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(self._path, text.getvalue())

    def picture(self, name: str, epoch: int, picture: Picture) -> None:
        """Add a picture, (H, W, 3) uint8 RGB, as JPEG: SummaryWriter.add_image makes PNG of it, ten times as large."""
        height, width, channels = picture.shape
        image = Summary.Image(
            height=height, width=width, colorspace=channels, encoded_image_string=encoded(picture, ".jpg")
        )
        self._events.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), epoch)

    def close(self, finished: bool) -> None:
        """Close the files; a finished run is marked so in the hparams table."""
        if finished:
            self._events.add_summary(self._end)
        self._writer.close()


def _plain(config: RunConfig) -> dict[str, bool | int | float | str]:
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in config.settings().items()
    }
