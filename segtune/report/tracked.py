"""Read a search, or a run, from its folder as what an experiment tracker stores: runs with settings and curves."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from segtune.config import RunConfig
from segtune.files.folders import RunFolder, SearchFolder
from segtune.files.yamlfile import read_yaml
from segtune.objectives import COSTS, MIOU
from segtune.space.prefer import Preference
from segtune.vocabulary import yaml_text

State = Literal["running", "waiting", "finished", "failed"]
Row = tuple[int, Mapping[str, float]]  # an epoch, and its numbers by column of metrics.csv

_CONFIRM = "confirm"  # origin of a row of trials.csv that repeats a trial
_SEEDS = 2**31  # a seed is smaller
# Columns of trials.csv that are settings, and their names; its column `epochs` is what was done.
_SETTINGS = {"epochs_budget": "epochs"} | {name: name for name in RunConfig.model_fields if name != "epochs"}
_STATUSES = ("finished", "stopped", "failed", "running", "paused", "pending")
_STATES: Mapping[str, State] = {"finished": "finished", "stopped": "finished", "failed": "failed", "running": "running"}


@dataclass(frozen=True)
class Tracked:
    """A run as a tracker stores it: a search, one of its trials, or a run of `run_single.py`.

    A `confirm` run repeats a trial with a fresh seed; a `final` one gives a model to a trial that is scored by folds.
    """

    name: str  # of its folder; within a search, no two have the same
    kind: Literal["search", "trial", "confirm", "final", "run"]
    parent: str | None  # the name of the search that it belongs to
    state: State
    settings: Mapping[str, str]
    facts: Mapping[str, str]  # what came out, and why it ended
    rows: Sequence[Row]  # by epoch; those of a search are by the number of trials that ended
    files: Sequence[Path]  # what is stored with it, once it no longer runs
    began: float  # by time.time(), about

    @property
    def digest(self) -> str:
        """A text that differs when anything differs that is to be stored."""
        content = asdict(self) | {"began": None, "rows": len(self.rows), "files": [_stamp(file) for file in self.files]}
        return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:16]


class TrackedFolder:
    """The folder of a search or of a run; a file that did not change is not read again.

    It needs neither torch nor Optuna, so that a process that only watches the folder stays small.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[Path, tuple[tuple[int, int], list[dict[str, str]]]] = {}

    @property
    def begun(self) -> bool:
        """Whether a search or a run was started here."""
        return SearchFolder(self.path).search_yaml.is_file() or RunFolder(self.path).begun

    def read(self, live: bool, over: bool) -> list[Tracked]:
        """Return what the folder holds, a search before its trials; nothing where nothing was started yet.

        Parameters
        ----------
        live: a process works in the folder; else nothing there is running, and its files can be stored.
        over: the search, or the run, does not go on.
        """
        if SearchFolder(self.path).search_yaml.is_file():
            return list(self._search(SearchFolder(self.path), live, over))
        return [self._run(RunFolder(self.path), live, over)] if RunFolder(self.path).begun else []

    def _search(self, folder: SearchFolder, live: bool, over: bool) -> Iterator[Tracked]:
        rows = self._table(folder.trials_csv)
        counts = Counter(row["status"] for row in rows if row.get("origin") != _CONFIRM)
        ended = counts["finished"] + counts["stopped"] + counts["failed"]
        settings = _flat(folder.search_yaml)
        limits = Preference.of_setting(settings.get("search.prefer"))
        best = _best(rows, limits)
        what = "miou" if best is None or _objective(best) == MIOU else "score"  # other names may hold * and +
        scores = {f"best_{what}": best[_objective(best)]} if best else {}
        if baseline := next((row[_objective(row)] for row in rows if row["trial"] == "0"), None):
            scores[f"baseline_{what}"] = baseline
        model = folder.best
        files = [folder.search_yaml, folder.trials_csv, folder.confirmation, folder.report_html, *_files(model)]
        yield Tracked(
            folder.path.name,
            "search",
            None,
            "running" if live else "finished" if over else "waiting",
            settings,
            # A step is stored once; the scores are facts, too, so that they are those of the end.
            {f"trials_{status}": str(counts[status]) for status in _STATUSES}
            | scores
            | _winner(rows, best, limits, folder),
            [(ended, {name: float(score) for name, score in scores.items()})] if ended and scores else [],
            [] if live else [file for file in files if file.is_file()],
            folder.search_yaml.stat().st_mtime,
        )
        seeds = {row["trial"]: int(row["seed"]) for row in rows if row.get("origin") != _CONFIRM}
        for row in rows:
            number = int(row["trial"])
            repeats = row.get("origin") == _CONFIRM
            seed = (int(row["seed"]) - seeds.get(row["trial"], 0)) % _SEEDS
            run = folder.repeat(number, seed) if repeats else folder.trial(number)
            state = _STATES.get(row["status"], "waiting")
            yield Tracked(
                run.path.name,
                "confirm" if repeats else "trial",
                folder.path.name,
                "waiting" if state == "running" and not live else state,
                {_SETTINGS[name]: value or "null" for name, value in row.items() if name in _SETTINGS},
                {name: value for name, value in row.items() if value and name not in _SETTINGS},
                *self._curves(run),
            )
        for run in folder.finals():
            if run.begun:
                yield self._final(run, folder.path.name, live)

    def _final(self, folder: RunFolder, search: str, live: bool) -> Tracked:
        done = folder.tiles.is_file()
        run = self._run(folder, live and not done, done)
        failed = run.state == "waiting" and _stamp(folder.error)[1] > _stamp(folder.metrics_csv)[1]
        state: State = "failed" if failed else run.state
        return replace(run, kind="final", parent=search, state=state, facts={**run.facts, "status": state}, files=[])

    def _run(self, folder: RunFolder, live: bool, over: bool) -> Tracked:
        content = {name: value for name, value in read_yaml(folder.run_yaml).items() if name in RunConfig.model_fields}
        files = [folder.run_yaml, folder.metrics_csv, folder.worst, *_files(folder.best)]
        rows, _, began = self._curves(folder)
        best = rows[-1][1] if rows else {}
        return Tracked(
            folder.path.name,
            "run",
            None,
            "running" if live else "finished" if over else "waiting",
            {name: yaml_text(value) for name, value in content.items()},
            {name: f"{best[name]:g}" for name in ("best_epoch", "best_miou") if name in best},
            rows,
            [] if live else [file for file in files if file.is_file()],
            began,
        )

    def _curves(self, run: RunFolder) -> tuple[list[Row], list[Path], float]:
        """Return the epochs of a run, no files, and when it began, about."""
        rows = [_numbers(row) for row in self._table(run.metrics_csv)]
        rows = [row for row in rows if row[0]]
        if not rows:
            return [], [], time.time()
        return rows, [], run.metrics_csv.stat().st_mtime - rows[-1][1].get("seconds", 0.0)

    def _table(self, path: Path) -> list[dict[str, str]]:
        """Return the rows of a table; none where there is no such file yet, or none that can be read."""
        try:
            stamp = _stamp(path)[1:]
            if self._known.get(path, (None,))[0] != stamp:
                with path.open(newline="", encoding="utf-8") as file:
                    rows = [row for row in csv.DictReader(file) if None not in row and None not in row.values()]
                self._known[path] = (stamp, rows)
            return self._known[path][1]
        except (OSError, ValueError, csv.Error):
            return []


def _numbers(row: Mapping[str, str]) -> Row:
    numbers = {}
    for name, text in row.items():
        try:
            numbers[name] = float(text)
        except ValueError:  # an empty cell stands for a missing value
            continue
    epoch = numbers.pop("epoch", 0.0)
    return int(epoch) if math.isfinite(epoch) else 0, numbers


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return str(path), 0, 0
    return str(path), found.st_mtime_ns, found.st_size


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_file())


def _flat(path: Path) -> dict[str, str]:
    """Return the sections of a search.yaml as settings: ``search.trials``."""
    flat: dict[str, str] = {}
    content = read_yaml(path)
    for section, value in content.items() if isinstance(content, dict) else ():
        parts = value.items() if isinstance(value, dict) else ()
        flat |= {f"{section}.{name}": yaml_text(part) for name, part in parts}
        if not isinstance(value, dict):
            flat[section] = yaml_text(value)
    return flat


def _fits(row: Mapping[str, str], limits: Preference | None) -> bool:
    """Return whether a row of trials.csv keeps the limits of costs."""
    return limits is None or limits.kept_by({cost: float(row[cost]) if row.get(cost) else None for cost in COSTS})


def _best(rows: Sequence[Mapping[str, str]], limits: Preference | None) -> Mapping[str, str] | None:
    """Return the first row in the order of `segtune.trials.by_score`, which is not imported: it needs torch."""
    scored = [row for row in rows if row[_objective(row)] and row.get("origin") != _CONFIRM]
    order = sorted(scored, key=lambda row: (not _fits(row, limits), -float(row[_objective(row)]), int(row["trial"])))
    return order[0] if order else None


def _objective(row: Mapping[str, str]) -> str:
    """Return the column of trials.csv by which trials are compared; older releases knew mIoU alone."""
    return row.get("objective") or MIOU


def _winner(
    rows: Sequence[Mapping[str, str]], best: Mapping[str, str] | None, limits: Preference | None, folder: SearchFolder
) -> dict[str, str]:
    """Return the winner as every other place names it: the one of the confirmation, where that counts."""
    if best is None:
        return {}
    number = int(best["trial"])
    found = {}
    if folder.confirmation.is_file():
        # They import torch, which takes seconds; most searches have no confirmation for most of their time.
        from segtune.confirmed import Confirmation
        from segtune.report.index import trial_of
        from segtune.trials import ranked

        searched = [row for row in rows if row.get("origin") != _CONFIRM]
        trials = [trial_of(row, limits) for row in searched]
        confirmation = Confirmation.read(folder.confirmation)
        if confirmation and confirmation.result and confirmation.holds(trials):
            number = ranked(confirmation.attached(trials))[0].number
            found = {"confirmation": confirmation.result.sentence}
    return {"winner": folder.trial(number).path.name, **found}
