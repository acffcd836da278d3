"""Learning curves of drawn configurations: trained once with segtune's trainer, kept in a CSV, a row for each.

The columns: number (of the configuration, which is drawn from it), seed (of weights, order and augmentation), status
(finished or failed), the searched settings (empty where the run has none), and by epoch, separated by spaces, miou (of
the epoch, not the best so far) and seconds (CPU time of the process since the run began, with one torch thread and no
loader processes: on a shared machine wall time tells of the others). Every seventh configuration is trained with two
more seeds: how far these curves differ is what of a score is chance.
"""

from __future__ import annotations

import csv
import gc
import io
import itertools
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.data.scan import scan
from segtune.errors import InputError, NonFiniteLossError
from segtune.fields import base_type
from segtune.files.atomic import write_text
from segtune.files.folders import RunFolder
from segtune.space.parameters import Choice, Range
from segtune.space.space import Space
from segtune.training.train import train

_COLUMNS = ("number", "seed", "status", "miou", "seconds")  # besides the searched settings
_REPEATED = 7  # of so many configurations, one is trained with more seeds
_SEEDS = 3  # of such a configuration
_DIGITS = 4  # significant ones of a drawn number, so that the file holds it exactly


@dataclass(frozen=True)
class Curve:
    """What training a configuration showed, epoch by epoch; a failed one has the epochs before it failed."""

    number: int
    seed: int  # of the run
    settings: dict[str, Any]  # the searched ones that the run has
    miou: tuple[float, ...]
    seconds: tuple[float, ...]  # CPU time since the run began
    failed: bool

    def best(self) -> tuple[float, ...]:
        """The best mIoU so far, by epoch."""
        return tuple(np.maximum.accumulate(self.miou).tolist()) if self.miou else ()


class RandomDraw:
    """Draws a space's parameters at random (`segtune.space.parameters.Suggest`)."""

    def __init__(self, seed: int, number: int) -> None:
        self._random = np.random.default_rng((seed, number))

    def choice(self, parameter: Choice) -> int:
        """The index of the value drawn."""
        return int(self._random.integers(len(parameter.values)))

    def number(self, parameter: Range) -> float | int:
        """The number drawn, uniform or log-uniform."""
        if steps := parameter.steps():
            return steps[int(self._random.integers(len(steps)))]
        if parameter.integer:
            return int(self._random.integers(int(parameter.low), int(parameter.high) + 1))
        low, high = (math.log(n) if parameter.log else n for n in (parameter.low, parameter.high))
        drawn = self._random.uniform(low, high)
        rounded = float(f"{math.exp(drawn) if parameter.log else drawn:.{_DIGITS}g}")
        return min(max(rounded, parameter.low), parameter.high)


def drawn(space: Space, seed: int, number: int) -> dict[str, Any]:
    """The searched settings of a configuration, those that its branches bring included."""
    settings = space.draw(RandomDraw(seed, number))
    return {name: settings[name] for name in space.searched() if name in settings}


def record(space: Space, path: Path, seed: int, part: tuple[int, int], until: float, most: int) -> Iterator[Curve]:
    """Train the configurations of a part that the file does not have yet, and append each when it is done.

    Parameters
    ----------
    part: (k, n): the configurations whose number is k - 1 modulo n; each part writes a file of its own.
    until: `time.monotonic()` after which none is begun.
    most: configurations that the file then holds.
    """
    known = {(curve.number, curve.seed) for curve in _same(space, path, seed)}
    info = scan(space.baseline)
    gc.freeze()  # train() collects garbage when it ends; what the imports made need not be looked through each time
    cv2.setNumThreads(0)
    for run in _runs(space, part):
        if time.monotonic() >= until or len(known) >= most:
            return
        if run not in known:
            curve = _train(*run, drawn(space, seed, run[0]), space, info)
            _append(path, space.searched(), curve)
            known.add(run)
            yield curve


def _runs(space: Space, part: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Configurations of a part, each with the seed of a run, without end."""
    for number in itertools.count(part[0] - 1, part[1]):
        yield number, space.baseline.seed
        if number % _REPEATED == 0:
            yield from ((number, space.baseline.seed + more) for more in range(1, _SEEDS))


def _train(number: int, seed: int, settings: dict[str, Any], space: Space, info: DataInfo) -> Curve:
    config = RunConfig.from_settings(space.fixed | settings | {"seed": seed})
    miou: list[float] = []
    seconds: list[float] = []
    failed = False
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder, closing(train(config, info, RunFolder(Path(folder)), 1)) as epochs:
        try:
            for result in epochs:
                if result.scores is None:
                    raise ValueError("an epoch without a score: the space must not set use_only_add_val")
                miou.append(round(result.scores.miou, 5))
                seconds.append(round(time.process_time() - began, 2))
        except NonFiniteLossError:
            failed = True
    return Curve(number, seed, settings, tuple(miou), tuple(seconds), failed)


# The file.


def read_curves(paths: Iterable[Path]) -> list[Curve]:
    """The curves of one or several files, by number and seed; InputError where one cannot be read or is there twice."""
    curves = [curve for path in paths for curve in _read(path)]
    if not curves:
        raise InputError("no curves: the files are empty")
    runs = Counter((curve.number, curve.seed) for curve in curves)
    (number, seed), count = runs.most_common(1)[0]
    if count > 1:
        raise InputError(
            f"configuration {number} with seed {seed} is there twice; --curves takes the parts of one recording"
        )
    return sorted(curves, key=lambda curve: (curve.number, curve.seed))


def _read(path: Path) -> Iterator[Curve]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a file of recorded curves") from None
    # A recorder that was killed may leave half a line behind.
    rows = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    for row in rows:
        try:
            yield Curve(
                int(row["number"]),
                int(row["seed"]),
                {name: _value(name, row[name]) for name in row if name not in _COLUMNS and row[name]},
                tuple(map(float, row["miou"].split())),
                tuple(map(float, row["seconds"].split())),
                {"finished": False, "failed": True}[row["status"]],
            )
        except (KeyError, ValueError, AttributeError, TypeError) as error:
            raise InputError(f"{path}:{rows.line_num}: not a recorded curve ({error!r})") from None


def _value(name: str, text: str) -> Any:
    kind = base_type(name)
    return kind(text) if kind in (int, float) else text


def _same(space: Space, path: Path, seed: int) -> list[Curve]:
    """What the file holds already; InputError where it was drawn from another space or seed."""
    if not path.is_file():
        return []
    curves = list(_read(path))
    for curve in curves:
        if curve.settings != drawn(space, seed, curve.number):
            raise InputError(f"{path}: configuration {curve.number} was drawn from another space, or another --seed")
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        write_text(path, text[: text.rfind("\n") + 1])
    return curves


def _append(path: Path, searched: Sequence[str], curve: Curve) -> None:
    append_row(path, _row(searched, curve))


def write_curves(path: Path, searched: Sequence[str], curves: Iterable[Curve]) -> None:
    """Write curves as one file, by number and seed."""
    rows = [_row(searched, curve) for curve in sorted(curves, key=lambda curve: (curve.number, curve.seed))]
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, text.getvalue())


def _row(searched: Sequence[str], curve: Curve) -> dict[str, object]:
    return {
        "number": curve.number,
        "seed": curve.seed,
        "status": "failed" if curve.failed else "finished",
        **{name: curve.settings.get(name, "") for name in searched},
        "miou": " ".join(map(str, curve.miou)),
        "seconds": " ".join(map(str, curve.seconds)),
    }


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Append a row to a CSV, which begins with the columns' names; a kill leaves at most half of the last line."""
    line = io.StringIO()
    table = csv.DictWriter(line, list(row), lineterminator="\n")
    if not path.is_file() or not path.stat().st_size:
        path.parent.mkdir(parents=True, exist_ok=True)
        table.writeheader()
    table.writerow(row)
    with path.open("a", encoding="utf-8") as file:  # one write: the whole line, or half of the last one
        file.write(line.getvalue())
        file.flush()
        os.fsync(file.fileno())
