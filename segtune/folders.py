"""Every path inside a run's or a search's folder, and the only ways in which files get there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """A run's folder: of `run_single.py`, or of one trial of a search."""

    path: Path

    @property
    def run_yaml(self) -> Path:
        """The settings, and what was found out about data and machine."""
        return self.path / "run.yaml"

    @property
    def metrics_csv(self) -> Path:
        """A row per epoch."""
        return self.path / "metrics.csv"

    @property
    def best(self) -> Path:
        """The model of the best epoch."""
        return self.path / "best"

    @property
    def state(self) -> Path:
        """What an unfinished run continues from."""
        return self.path / "state.pt"

    @property
    def error(self) -> Path:
        """The trace of a failed run."""
        return self.path / "error.txt"


@dataclass(frozen=True)
class SearchFolder:
    """A search's folder, `ray_results/<name>`."""

    path: Path

    @property
    def search_yaml(self) -> Path:
        """The resolved space and settings, enough to repeat the search."""
        return self.path / "search.yaml"

    @property
    def study_db(self) -> Path:
        """The Optuna study."""
        return self.path / "study.db"

    @property
    def trials_csv(self) -> Path:
        """A row per trial."""
        return self.path / "trials.csv"

    @property
    def best(self) -> Path:
        """The winner."""
        return self.path / "best"

    @property
    def ray(self) -> Path:
        """Ray's own experiment state; disposable."""
        return self.path / ".ray"

    def trial(self, number: int) -> RunFolder:
        """The folder of one trial."""
        return RunFolder(self.path / f"trial_{number:04d}")


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error.

    A reader sees the old file or the new one, never half of it.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replaced_folder(final: Path) -> Iterator[Path]:
    """A temporary folder beside `final` that takes its place when the block ends without an error.

    A folder cannot be replaced in one step while it holds files: the old one steps aside as ``.old`` first, and
    `recover_folder` brings it back should the process die between the two steps.
    """
    temporary = final.with_name(f".{final.name}.tmp-{os.getpid()}")
    old = _aside(final)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        recover_folder(final)
        if final.exists():
            os.replace(final, old)
        os.replace(temporary, final)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def recover_folder(final: Path) -> None:
    """Finish what a `replaced_folder` that was killed left behind."""
    old = _aside(final)
    if old.exists():
        if final.exists():
            shutil.rmtree(old)
        else:
            os.replace(old, final)


def _aside(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")
