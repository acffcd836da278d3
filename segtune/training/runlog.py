"""The curves of a run, epoch by epoch: metrics.csv and TensorBoard events in its folder."""

from __future__ import annotations

import csv
import io
import os
import platform
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import hparams, scalar

from segtune.config import RunConfig
from segtune.errors import InputError, one_line
from segtune.fields import DATA_SETTINGS, SCORE_NEUTRAL
from segtune.files.atomic import write_text
from segtune.files.folders import RunFolder, SearchFolder
from segtune.files.yamlfile import read_yaml
from segtune.pictures.png import jpeg_within
from segtune.pictures.render import Picture
from segtune.training.board import METRICS, layout, tag_of
from segtune.training.result import EpochResult

_USUAL = ("batch_size", "encoder", "loss", "lr", "model", "optimizer")  # settings that a single run shows first
_EXPLAINING = ("channels", "classes")  # settings of the data that can explain a score
_MOST_BYTES = 64 * 1024  # of a picture in the events of a run


def read_rows(folder: RunFolder) -> list[dict[str, str]]:
    """Read the rows of metrics.csv as text, oldest first; return none where there is no such file.

    Raises InputError where the file is damaged.
    """
    if not folder.metrics_csv.is_file():
        return []
    try:
        with folder.metrics_csv.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            int(row["epoch"])
            for value in row.values():
                float(value or 0)
            if None in row.values():
                raise ValueError("a row is too short")
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        reason = f"damaged, not a row of numbers per epoch ({one_line(error)})"
        raise InputError(f"{folder.metrics_csv}: {reason}") from None
    return rows


def read_results(folder: RunFolder, epochs: int) -> list[EpochResult]:
    """Read the epochs of a run from its metrics.csv, oldest first; return none where there is no such file.

    `epochs` is the budget of the run, which the file does not hold. Raises InputError where the file is damaged or
    lacks a column.
    """
    try:
        rows = read_rows(folder)
        return [EpochResult.from_row({name: _number(text) for name, text in row.items()}, epochs) for row in rows]
    except KeyError as error:
        raise InputError(f"{folder.metrics_csv}: damaged, has no column {error.args[0]}") from None


def epochs_done(folder: RunFolder) -> int:
    """Return the number of epochs whose results are on disk: a row is written last, after the model and the state."""
    rows = read_rows(folder)
    return int(rows[-1]["epoch"]) if rows else 0


def stale_epochs(folder: RunFolder) -> int:
    """Return the number of epochs with a score that a run has done since its best one."""
    rows = read_rows(folder)
    best = int(rows[-1]["best_epoch"]) if rows else 0
    return sum(int(row["epoch"]) > best and bool(row.get("miou")) for row in rows)


def as_texts(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the cells of a row; an empty one stands for None."""
    return {name: "" if value is None else str(value) for name, value in row.items()}


def write_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write a table of rows, whose columns may differ; a cell that a row lacks is empty."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


class RunLog:
    """A writer of metrics.csv and of TensorBoard events; each row is on disk when `write` returns.

    Parameters
    ----------
    folder: the folder of the run.
    config: the settings, which TensorBoard shows as hyperparameters.
    after_epoch: the number of epochs that are done; rows of later epochs are dropped.
    last_row: the row of the last of them; written where the run was killed before it wrote that row.

    Raises OSError, naming the file, where a file cannot be written.
    """

    def __init__(
        self, folder: RunFolder, config: RunConfig, after_epoch: int = 0, last_row: Mapping[str, Any] | None = None
    ) -> None:
        self._path, self._config = folder.metrics_csv, config
        self._rows = [row for row in read_rows(folder) if int(row["epoch"]) <= after_epoch]
        written = int(self._rows[-1]["epoch"]) if self._rows else 0
        self._events = _Events(folder.path, written + 1)
        # SummaryWriter.add_hparams would put the table into a run of its own, without the curves.
        experiment, start, self._end = hparams(_plain(config), dict.fromkeys(METRICS, 0.0))
        _put_first(experiment, _searched(folder) or _USUAL)
        if not after_epoch:
            self._events.add(experiment)
            self._events.add(start)
        self._events.add(layout(), written)
        self._events.flush()
        if last_row and written < after_epoch:
            self.write(after_epoch, last_row)

    def write(self, epoch: int, row: Mapping[str, Any]) -> None:
        """Add the row of an epoch; None stands for a missing value."""
        # The file comes last: an epoch that is not in it is written again when the run is resumed.
        for name, value in row.items():
            if value is not None and name != "epoch":
                self._events.add(scalar(tag_of(name, self._config), value), epoch)
        self._events.flush()
        self._rows.append(as_texts(row))
        write_rows(self._path, self._rows)

    def picture(self, name: str, epoch: int, picture: Picture) -> None:
        """Add a picture, uint8 RGB of shape (H, W, 3), as a JPEG of at most 64 KiB."""
        data, (height, width) = jpeg_within(_MOST_BYTES, picture)
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
        self._events.add(Summary(value=[Summary.Value(tag=name, image=image)]), epoch)

    def close(self, finished: bool) -> None:
        """Write what is left, and mark a finished run as such in TensorBoard's table of hyperparameters."""
        if finished:
            self._events.add(self._end)
        self._events.flush()


class _Events:
    """A file of TensorBoard events, which replace those that earlier files hold of the same and of later steps.

    It is written without torch's SummaryWriter, whose thread prints a traceback where the disk is full.
    """

    def __init__(self, folder: Path, step: int) -> None:
        seconds, rest = divmod(time.time_ns(), 10**9)  # TensorBoard reads files in the order of their names
        self._path = folder / f"events.out.tfevents.{seconds:010d}.{rest:09d}.{platform.node()}.{os.getpid()}"
        self._waiting, self._size = io.BytesIO(), 0
        self._add(Event(file_version="brain.Event:2"))
        self._add(Event(session_log=SessionLog(status=SessionLog.START), step=step))

    def add(self, summary: Summary, step: int = 0) -> None:
        """Add an event; it is in the file when `flush` returns."""
        self._add(Event(summary=summary, step=step))

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        RecordWriter(self._waiting).write(event.SerializeToString())

    def flush(self) -> None:
        """Write what was added: all of it, or nothing and an OSError that names the file."""
        try:
            with self._path.open("ab") as file:
                file.write(self._waiting.getbuffer())
        except OSError as error:
            with suppress(OSError):
                os.truncate(self._path, self._size)  # half a record would hide all records after it
            error.filename = str(self._path)
            raise
        self._size += self._waiting.tell()
        self._waiting = io.BytesIO()


def _number(text: str) -> float | int | None:
    """Read a cell of metrics.csv; an empty one stands for a missing value."""
    if not text:
        return None
    return int(text) if text.isdecimal() else float(text)


def _plain(config: RunConfig) -> dict[str, bool | int | float | str]:
    """Return the settings that can explain a score: none of the data, of the machine, or of what is drawn."""
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in config.settings().items()
        if name != "adv_freq"  # of sets that no epoch is chosen by
        and (name == "seed" or name not in SCORE_NEUTRAL)
        and (name in _EXPLAINING or name not in DATA_SETTINGS)
    }


def _searched(folder: RunFolder) -> list[str]:
    """Return the settings that the search of a trial varies; none where the run is no trial."""
    path = SearchFolder(folder.path.parent).search_yaml
    content = read_yaml(path) if path.is_file() else {}

    def names(section: Any) -> Iterator[str]:
        for name, inner in section.items() if isinstance(section, dict) else ():
            if name in RunConfig.model_fields:
                yield str(name)
            yield from names(inner)

    return list(names(content.get("space") if isinstance(content, dict) else None))


def _put_first(experiment: Summary, names: Collection[str]) -> None:
    """Let TensorBoard show these settings first: it sorts those that differ between runs before others, by name."""
    data = experiment.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(data.content)
    for info in content.experiment.hparam_infos:
        info.differs = info.name in names
    data.content = content.SerializeToString()
