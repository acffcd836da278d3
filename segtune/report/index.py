"""Write the table of all searches of a folder: index.html."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from segtune.config import RunConfig
from segtune.confirmed import Confirmation
from segtune.errors import InputError, one_line
from segtune.files.atomic import write_text
from segtune.files.folders import INDEX, SearchFolder
from segtune.files.yamlfile import read_yaml
from segtune.objectives import COSTS, MIOU
from segtune.report.answer import Verdict, answer
from segtune.report.page import rendered
from segtune.space.prefer import Preference
from segtune.training.runlog import read_results
from segtune.trials import ENDED, Trial, ranked
from segtune.tuning.results import wobble_of

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
    best: float | None = None  # of the winner: over fresh seeds, where these still count
    baseline: float | None = None
    baseline_wins: bool = False
    objective: str = MIOU
    encoder: str = ""  # of the winner
    prefer: str | None = None  # the limits of costs
    over: bool = False  # whether the winner, like all other trials, is over these
    seconds: float = 0.0  # of training, in all trials
    seeds: bool = False  # whether scores are means over fresh seeds
    doubt: str = ""  # why the gain is not sure, as the page of the search has it
    damage: str = ""  # why its table cannot be read

    @property
    def gain(self) -> float | None:
        """The gain of the winner over the baseline; None where one has no score, and for the baseline itself."""
        if self.best is None or self.baseline is None or self.baseline_wins:
            return None
        return self.best - self.baseline


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
        content = read_yaml(folder.search_yaml)
        section = content.get("search") if isinstance(content, Mapping) else None
        section = section if isinstance(section, Mapping) else {}
        limits, folds = _limits(folder, section), int(section.get("folds") or 1)
        with table.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("origin") != _CONFIRM]
        return _read(search, rows, [trial_of(row, limits, folds) for row in rows], limits, folder)
    except InputError as error:
        return replace(search, damage=one_line(error))
    except (OSError, ValueError, KeyError, csv.Error) as error:
        return replace(search, damage=f"{table.name} cannot be read ({one_line(error)})")


def _limits(folder: SearchFolder, section: Mapping[str, Any]) -> Preference | None:
    """Return the limits of costs that a search has; None where it has none."""
    try:
        return Preference.of_setting(section.get("prefer"))
    except ValueError as error:
        raise InputError(f"{folder.search_yaml}: search.prefer: {error}") from None


def trial_of(row: Mapping[str, str], limits: Preference | None, folds: int = 1) -> Trial:
    """Return a row of trials.csv as a trial, with settings as text; say whether it keeps the limits of costs."""
    settings: dict[str, Any] = {name: row.get(name) for name in RunConfig.model_fields if name != "epochs"}
    settings |= {"epochs": row["epochs_budget"]} if row.get("epochs_budget") else {}
    done = int(row.get("epochs") or 0)
    miou, own = (float(row[name]) if row.get(name) else None for name in ("miou", row.get("objective") or MIOU))
    collapsed = row.get("collapsed") == str(True)  # older releases did not write it
    status: Any = row["status"]
    costs: dict[str, Any] = {name: float(row[name]) if row.get(name) else None for name in COSTS}
    fits = limits is None or limits.kept_by(costs)
    kept: dict[str, Any] = {"miou": miou, "own": own, "collapsed": collapsed, "fits": fits, "folds": folds}
    return Trial(int(row["trial"]), status, settings, done, **kept, **costs)


def _read(
    search: Listed,
    rows: Sequence[Mapping[str, str]],
    trials: Sequence[Trial],
    limits: Preference | None,
    folder: SearchFolder,
) -> Listed:
    """Return the search with what its table says; its winner is the one that `ranked` names."""
    counted = _confirmed(trials, folder)
    order = ranked(counted)
    winner = order[0] if order else None
    baseline = next((trial for trial in order if trial.baseline), None)
    both = winner is not None and winner.confirmed is not None
    row = next((row for row in rows if winner and row["trial"] == str(winner.number)), rows[0] if rows else {})
    return replace(
        search,
        dataset=row.get("dataset", ""),
        trials=len(rows),
        ended=sum(row["status"] in ENDED for row in rows),
        best=_reached(winner, both),
        baseline=_reached(baseline, both),
        baseline_wins=winner is not None and winner.baseline,
        objective=trials[0].objective if trials else MIOU,
        encoder=row.get("encoder", "") if winner else "",
        seconds=sum(float(row["seconds"] or 0) for row in rows),
        prefer=limits.text if limits else None,
        over=winner is not None and not winner.fits,
        seeds=both,
        doubt="" if search.running else _doubt(counted, both, folder),
    )


def _doubt(trials: Sequence[Trial], both: bool, folder: SearchFolder) -> str:
    """Return why the gain of a search that ended is not sure, from the decision that its page is made of."""
    if not all(trial.ended and "epochs" in trial.settings for trial in trials):
        return ""
    if both:
        return "not distinguishable" if answer(trials, True).verdict is Verdict.BY_CHANCE else ""
    known = [replace(trial, wobble=_wobble(folder, trial)) for trial in trials]
    return "may be chance" if answer(known, True).verdict is Verdict.BY_CHANCE else ""


def _wobble(folder: SearchFolder, trial: Trial) -> float | None:
    """Return how the score of a trial varies from epoch to epoch; None where its epochs cannot be read."""
    try:
        return wobble_of(read_results(folder.trial(trial.number), trial.epochs), trial.folds)
    except InputError:
        return None


def _confirmed(trials: Sequence[Trial], folder: SearchFolder) -> Sequence[Trial]:
    """Return the trials with what fresh seeds showed of them, where that still counts."""
    try:
        found = Confirmation.read(folder.confirmation)
    except InputError:
        return trials
    return found.attached(trials) if found else trials


def _reached(trial: Trial | None, over_seeds: bool) -> float | None:
    """Return the score of a trial, or its mean over fresh seeds; None where there is none."""
    if trial is None or not over_seeds:
        return trial.score if trial else None
    return trial.confirmed.mean if trial.confirmed else None
