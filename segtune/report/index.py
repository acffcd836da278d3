"""Write the table of all searches of a folder: index.html."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from segtune.config import RunConfig
from segtune.confirmed import Confirmation
from segtune.errors import InputError, one_line
from segtune.files.atomic import write_text
from segtune.files.folders import SearchFolder
from segtune.objectives import MIOU
from segtune.report.page import rendered
from segtune.trials import ENDED, Trial

INDEX = "index.html"
NOT_OWN = "exists, and is not one that segtune wrote; it stays as it is"
_GENERATOR = '<meta name="generator" content="segtune">'  # in the head of every page
_HEAD_BYTES = 1000
_CONFIRM = "confirm"  # origin of a row that repeats another trial with another seed


@dataclass(frozen=True)
class Listed:
    """A search in the table of all searches, read from its trials.csv."""

    name: str
    changed: float  # by time.time()
    page: str | None = None  # the address of its report.html, beside the table
    running: bool = False
    dataset: str = ""
    trials: int = 0
    ended: int = 0
    best: float | None = None
    baseline: float | None = None
    objective: str = MIOU
    encoder: str = ""  # of the best trial
    seconds: float = 0.0  # of training, in all trials
    damage: str = ""  # why its table cannot be read

    @property
    def gain(self) -> float | None:
        """The gain of the best trial over the baseline; None where one of them has no score."""
        return None if self.best is None or self.baseline is None else self.best - self.baseline


def write_index(folder: Path) -> None:
    """Write index.html with all searches of a folder, the newest first; leave a file that is not segtune's alone."""
    if not is_own(path := folder / INDEX):
        return
    found = sorted((_listed(SearchFolder(path.parent)) for path in folder.glob("*/search.yaml")), key=_newest)
    write_text(path, rendered("index.html", folder=str(folder), searches=found, written=time.time()))


def is_own(path: Path) -> bool:
    """Return whether segtune may replace the page: it wrote it, or there is no file."""
    if not os.path.lexists(path):
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _GENERATOR.encode() in file.read(_HEAD_BYTES)


def _newest(search: Listed) -> tuple[float, str]:
    return -search.changed, search.name


def _listed(folder: SearchFolder) -> Listed:
    table = folder.trials_csv
    search = Listed(
        folder.path.name,
        (table if table.is_file() else folder.search_yaml).stat().st_mtime,
        f"{quote(folder.path.name)}/{folder.report_html.name}" if folder.report_html.is_file() else None,
        folder.holder() is not None,
    )
    if not table.is_file():
        return replace(search, damage="no trial has ended an epoch yet")
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("origin") != _CONFIRM]
            return _confirmed(_read(search, rows), rows, folder)
    except (OSError, ValueError, KeyError, csv.Error) as error:
        return replace(search, damage=f"{table.name} cannot be read ({one_line(error)})")


def _confirmed(search: Listed, rows: list[dict[str, str]], folder: SearchFolder) -> Listed:
    """Return the search with its winner over fresh seeds, where these still count."""
    try:
        found = Confirmation.read(folder.confirmation)
    except InputError:
        return search
    if found is None or found.result is None or not found.holds([trial_of(row) for row in rows]):
        return search
    winner, baseline = found.result.winner, found.result.baseline
    encoder = next((row.get("encoder", "") for row in rows if row["trial"] == str(winner.trial)), "")
    return replace(search, best=winner.mean, baseline=baseline.mean if baseline else None, encoder=encoder)


def trial_of(row: Mapping[str, str]) -> Trial:
    """Return a row of trials.csv as a trial, with settings as text."""
    settings = {name: row.get(name) for name in RunConfig.model_fields if name != "epochs"}
    miou, own = (float(row[name]) if row.get(name) else None for name in ("miou", row.get("objective") or MIOU))
    collapsed = row.get("collapsed") == str(True)  # older releases did not write it
    status: Any = row["status"]
    return Trial(int(row["trial"]), status, settings, miou=miou, own=own, collapsed=collapsed)


def _read(search: Listed, rows: list[dict[str, str]]) -> Listed:
    objective = next((row["objective"] for row in rows if row.get("objective")), MIOU)
    scores = {row["trial"]: float(row[objective]) for row in rows if row[objective]}
    best = max(rows, key=lambda row: scores.get(row["trial"], -1.0), default=None)
    return replace(
        search,
        dataset=best.get("dataset", "") if best else "",
        trials=len(rows),
        ended=sum(row["status"] in ENDED for row in rows),
        best=max(scores.values(), default=None),
        baseline=scores.get("0"),
        objective=objective,
        encoder=best.get("encoder", "") if best and scores else "",
        seconds=sum(float(row["seconds"] or 0) for row in rows),
    )
