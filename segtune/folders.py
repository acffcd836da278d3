"""Every path inside a run's or a search's folder, and the only ways in which files get there."""

from __future__ import annotations

import csv
import errno
import fcntl
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TextIO

from segtune.errors import InputError, one_line

_LOCK_POLL_S = 0.3
_GLANCES, _GLANCE_S = 3, 0.02  # tries that whoever only asks for the holder may spoil


@dataclass(frozen=True)
class RunFolder:
    """A run's folder: of `run_single.py`, or of one trial of a search."""

    path: Path

    @classmethod
    def named(cls, parent: Path, name: str) -> RunFolder:
        """The folder of this name, new or of a run that goes on; InputError where it is something else."""
        if Path(name).name != name or name in ("", ".."):
            raise InputError(f"--exp-name: {name!r} is not the name of a folder; --log-dir says where it lies")
        folder = cls(parent / name)
        if folder.path.exists() and folder.foreign:
            raise InputError(f"{folder.path}: exists, and is not a run; --exp-name gives the run another name")
        return folder

    @classmethod
    def new(cls, parent: Path, name: str) -> RunFolder:
        """Make a folder of this name, with a suffix where that is taken: no other process gets the same."""
        parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = parent / (name if number == 1 else f"{name}_{number}")
            with suppress(FileExistsError):
                path.mkdir()
                break
        return cls(path)

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
    def next_best(self) -> Path:
        """A model that takes the place of the best one as soon as the state knows of it."""
        return self.path / "best.next"

    @property
    def state(self) -> Path:
        """What an unfinished run continues from."""
        return self.path / "state.pt"

    @property
    def error(self) -> Path:
        """The trace of a failed run."""
        return self.path / "error.txt"

    @property
    def fault_txt(self) -> Path:
        """Why the process of a trial was killed, written by itself."""
        return self.path / "fault.txt"

    def fault(self) -> str:
        """Why the process of a trial killed itself; empty where it did not."""
        return self.fault_txt.read_text(encoding="utf-8").strip() if self.fault_txt.is_file() else ""

    @property
    def worst(self) -> Path:
        """The worst validation tiles of the best epoch, as a picture."""
        return self.path / "worst.png"

    @property
    def begun(self) -> bool:
        """Whether a run was started here."""
        return self.run_yaml.is_file()

    @property
    def foreign(self) -> bool:
        """Whether something else than a run lies here."""
        if not self.path.is_dir():
            return True
        return not self.begun and any(not entry.name.startswith(".") for entry in self.path.iterdir())

    @property
    def epochs_done(self) -> int:
        """Epochs whose results are on disk: a row is written last, after the model and the state."""
        rows = self.metrics()
        return int(rows[-1]["epoch"]) if rows else 0

    def metrics(self) -> list[dict[str, str]]:
        """The rows of metrics.csv, oldest first; none where there is no such file. InputError where it is damaged."""
        if not self.metrics_csv.is_file():
            return []
        try:
            with self.metrics_csv.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            for row in rows:
                int(row["epoch"])
                for value in row.values():
                    float(value or 0)
                if None in row.values():
                    raise ValueError("a row is too short")
        except (csv.Error, KeyError, TypeError, ValueError) as error:
            reason = f"damaged, not a row of numbers per epoch ({one_line(error)})"
            raise InputError(f"{self.metrics_csv}: {reason}") from None
        return rows

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep it to this process; InputError while another one trains in it.

        Nobody else writes here then: what processes that were killed were about to write is deleted.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with _held(self.path, "trains in this folder"):
            for left in self.path.glob(".*.tmp-*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            try:
                yield
            finally:
                if not self.begun and not self.foreign:  # nothing came of it
                    _lock_of(self.path).unlink()
                    with suppress(OSError):
                        self.path.rmdir()

    def held(self) -> bool:
        """Whether a process trains in this folder, as one may for a moment whose search was killed."""
        return holder(self.path) is not None


@dataclass(frozen=True)
class SearchFolder:
    """A search's folder, `ray_results/<name>`."""

    path: Path

    @classmethod
    def named(cls, parent: Path, name: str, flag: str = "--name") -> SearchFolder:
        """The folder of this name; InputError where it is not the name of a folder, or one that a study cannot have."""
        if Path(name).name != name or name in ("", "..") or "?" in name:
            raise InputError(f"{flag}: {name!r} is not a name for a search; --results-dir says where its folder lies")
        return cls(parent / name)

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

    def settings_yaml(self, trial: int | None) -> Path:
        """The file with the settings of a trial, or of the winner; InputError where there is none."""
        path = self.best / "run.yaml" if trial is None else self.trial(trial).run_yaml
        if not self.search_yaml.is_file():
            raise InputError(f"{self.path}: no search (it has no {self.search_yaml.name})")
        if not path.is_file():
            what = "no winner yet" if trial is None else f"no trial {trial} that was started"
            raise InputError(f"{self.path}: the search has {what} ({path} is missing)")
        return path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the folder, which exists, to this process; InputError while another one searches in it."""
        with _held(self.path, "runs this search"):
            yield

    def holder(self) -> str | None:
        """Which process runs this search now, None where none does."""
        return holder(self.path)

    def trials(self) -> list[RunFolder]:
        """The folders of trials that there are, by number."""
        return [RunFolder(path) for path in sorted(self.path.glob("trial_[0-9][0-9][0-9][0-9]*")) if path.is_dir()]

    @property
    def ray(self) -> Path:
        """Ray's own experiment state; disposable."""
        return self.path / ".ray"

    def trial(self, number: int) -> RunFolder:
        """The folder of one trial."""
        return RunFolder(self.path / f"trial_{number:04d}")


def _lock_of(folder: Path) -> Path:
    return folder / ".lock"


@contextmanager
def _held(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a folder; InputError, saying that another process does `what`, while one holds it."""
    place = _lock_of(folder)

    def refuse() -> None:
        name = place.read_text(encoding="utf-8").strip()
        raise InputError(f"{folder}: another process {what} ({name or 'unknown'})")

    with locked_file(place, refuse) as file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def holder(folder: Path) -> str | None:
    """Who holds the lock of a folder, as ``process 4711 on NODE``; None where nobody does.

    Not to be asked by the holder itself: a POSIX lock ends when its process closes the file, whoever opened it.
    """
    try:
        # A lock that is shared, for reading: whoever may look at the folder may ask.
        with _lock_of(folder).open(encoding="utf-8") as file:
            try:
                _try_lock(file, fcntl.LOCK_SH)
            except (BlockingIOError, PermissionError):
                return file.read().strip() or "unknown"
    except FileNotFoundError:
        pass
    return None


def check_writable(folder: Path, setting: str) -> None:
    """InputError, naming the setting, where a folder is not there and cannot be made, or cannot be written to."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"{setting}: {folder}: {there} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{setting}: {folder}: {there} cannot be written to")


@contextmanager
def locked_file(path: Path, busy: Callable[[], None]) -> Iterator[TextIO]:
    """Hold a lock until the block ends; while another process holds it, call `busy` again and again.

    A lock that is held for a moment only, by someone who asks whether it is held, is none. A POSIX lock ends with its
    process, however that ends, and is not inherited: loader processes that a killed run leaves behind for a moment do
    not hold it. Where a file system knows no locks, there are none.
    """
    with path.open("a", encoding="utf-8") as file:
        for attempt in count():
            try:
                _try_lock(file, fcntl.LOCK_EX)
                break
            except (BlockingIOError, PermissionError):
                if attempt >= _GLANCES:
                    busy()
                time.sleep(_GLANCE_S if attempt < _GLANCES else _LOCK_POLL_S)
        yield file


def _try_lock(file: TextIO, kind: int) -> None:
    try:
        fcntl.lockf(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error.

    A reader sees the old file or the new one, never half of it. An OSError that names no file, such as that of a full
    disk, gets the name of `path`.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replaced_folder(final: Path) -> Iterator[Path]:
    """A temporary folder beside `final` that takes its place when the block ends without an error."""
    with _folder_beside(final) as temporary:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush(file)
        replace_folder(temporary, final)


def replace_folder(new: Path, final: Path) -> None:
    """Give a folder the place of another beside it.

    That cannot be done in one step while the other holds files: it steps aside as ``.old`` first, and
    `recover_folder` brings it back should the process die between the two steps.
    """
    old = _aside(final)
    recover_folder(final)
    if final.exists():
        os.replace(final, old)
    os.replace(new, final)
    shutil.rmtree(old, ignore_errors=True)


def discard_folder(path: Path) -> None:
    """Delete a folder where it is there: whole at once, though what a process that dies leaves takes disk space."""
    if path.exists():
        temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
        os.replace(path, temporary)
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def joined_folder(final: Path) -> Iterator[Path]:
    """A temporary folder whose files go to `final`, beside what is there, when the block ends without an error."""
    with _folder_beside(final) as temporary:
        yield temporary
        final.mkdir(exist_ok=True)
        for file in temporary.iterdir():
            os.replace(file, final / file.name)


@contextmanager
def _folder_beside(final: Path) -> Iterator[Path]:
    """A folder that is gone when the block ends, with those above it that were made for it and are empty."""
    temporary = final.with_name(f".{final.name}.tmp-{os.getpid()}")
    made = [parent for parent in final.parents if not parent.exists()]
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in made:  # the innermost first
            if not any(parent.iterdir()):
                parent.rmdir()


def folder_bytes(folder: Path) -> int:
    """What the files in a folder take; those that vanish meanwhile count as nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def recover_folder(final: Path) -> None:
    """Finish what a `replace_folder` that was killed left behind."""
    old = _aside(final)
    if old.exists():
        if final.exists():
            shutil.rmtree(old)
        else:
            os.replace(old, final)


def _flush(path: Path) -> None:
    """Have a file on the disk, before its name stands for it: a network file system may find out only now that the
    disk is full, and after a power cut the name must not stand for less."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _aside(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")
