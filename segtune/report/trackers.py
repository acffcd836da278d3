"""Experiment trackers: which there are, whether they are installed, and bringing one up to date with a folder."""

from __future__ import annotations

import importlib.util
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from segtune.errors import InputError
from segtune.files.atomic import write_text
from segtune.files.checks import read_own_json
from segtune.files.folders import tracker_of
from segtune.report.tracked import Tracked

TRACKERS = ("mlflow", "wandb")
NONE = "none"  # the name of no tracker
EXPERIMENT = "segtune"  # the experiment of MLflow, or the project of W&B, if the user names none
_ID = "id"


class Tracker(Protocol):
    """A store of runs, which may lie on another machine. Its methods raise whatever its library raises."""

    where: str  # its address, and the experiment or project there

    def digest(self, name: str) -> str | None:
        """Return the digest of the run of this name that the tracker has; None where it has none."""

    def send(self, run: Tracked) -> None:
        """Create a run, or add what is missing; a search comes before its trials."""


def check_installed(name: str) -> None:
    """Raise InputError where the library of a tracker is not installed; ``none`` needs none."""
    if name != NONE and importlib.util.find_spec(name) is None:
        raise InputError(f"log_to: {name} is not installed; pip install 'segtune[{name}]' brings it")


class Ledger:
    """What is known in a search's own folder of its runs in a tracker: an id that no other search has, and digests.

    It is a file beside the search, so that a search that goes on, on whatever machine, finds its runs again.
    """

    def __init__(self, folder: Path) -> None:
        self._path = tracker_of(folder)
        self._content: dict[str, Any] = read_own_json(self._path, _ID, "log_to") or {}
        if not self._content:
            self._content = {_ID: secrets.token_hex(4)}
            self._write()

    @property
    def id(self) -> str:
        """Eight letters and digits."""
        return str(self._content[_ID])

    def sent(self, place: str) -> Mapping[str, Sequence[Any]]:
        """Return what was sent to a place: by the name of a run, its digest and its number of epochs."""
        found: Mapping[str, Sequence[Any]] = self._content.get(place, {})
        return found

    def note(self, place: str, run: Tracked) -> None:
        """Note that a run was sent to a place as it is now."""
        last = run.rows[-1][0] if run.rows else 0
        self._content.setdefault(place, {})[run.name] = [run.digest, last]
        self._write()

    def _write(self) -> None:
        write_text(self._path, json.dumps(self._content, indent=1) + "\n")


def missing(tracker: Tracker | None, runs: Sequence[Tracked]) -> list[str]:
    """Return the names of the runs that a tracker does not have as they are now; None has none."""
    return [run.name for run in runs if tracker is None or tracker.digest(run.name) != run.digest]


def send_missing(tracker: Tracker, runs: Sequence[Tracked]) -> Iterator[str]:
    """Send the runs that a tracker does not have as they are now; yield the name of each one that was sent."""
    for run in runs:
        if tracker.digest(run.name) != run.digest:
            tracker.send(run)
            yield run.name
