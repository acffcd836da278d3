"""Every path inside a run's or a search's folder, and the only ways in which files get there."""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import os
import platform
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from segtune.errors import InputError, nearest, one_line

WEIGHTS = "model.safetensors"  # in a model's folder
_LOCK_POLL_S = 0.3
_HELD_BY = "process "  # what a lock's text begins with
_GLANCES, _GLANCE_S = 3, 0.02  # tries that whoever only asks for the holder may spoil
# What a folder with a model holds. Whatever else lies there was put there by somebody, and is never deleted.
MODEL_FILES = ("config.json", "model.safetensors", "run.yaml", "README.md")
# What is written beside its final place (tmp), what stepped aside for it (old), and what is about to be deleted (gone).
# Earlier releases had no random part.
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<kind>tmp|old|gone)-(?P<process>[0-9]+)(?P<random>-[0-9a-f]{8})?")
_LONGEST_NAME = 255  # bytes
_LONGEST_PART = 200  # bytes of a name that a temporary name repeats; file systems take 255 in all
_WORK = "segtune.json"  # marks a temporary folder as ours, and says which process's it is
_STALE_S = 86400.0  # age from which a temporary folder of another machine is taken for left
_SWAP_S = 0.2  # seconds in which a folder is replaced by far


@dataclass(frozen=True)
class RunFolder:
    """A run's folder: of `run_single.py`, or of one trial of a search."""

    path: Path

    @classmethod
    def named(cls, parent: Path, name: str) -> RunFolder:
        """The folder of this name, new or of a run that goes on; InputError where it is something else."""
        if Path(name).name != name or name in ("", ".."):
            raise InputError(f"--exp-name: {name!r} is not the name of a folder; --log-dir says where it lies")
        _check_length(name, "--exp-name")
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

    def check_begun(self) -> None:
        """InputError, with the nearest name that there is, where no run was started here."""
        if not self.begun:
            meant = nearest(self.path.name, (path.parent.name for path in self.path.parent.glob("*/run.yaml")))
            new = "a new one needs its data, -d DATASET"
            raise InputError(f"--exp-name: there is no run {self.path} to go on with{meant}; {new}")

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

    @property
    def _written(self) -> tuple[Path, ...]:
        """What is written beside its final place first."""
        files = (self.run_yaml, self.metrics_csv, self.state, self.error, self.fault_txt, self.worst)
        return *files, self.best, self.next_best

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep it to this process; InputError while another one trains in it.

        Nobody else writes here then: what processes that were killed were about to write is deleted.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with _held(self.path, "trains in this folder"):
            _clear_held(self.path, self._written)
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
        _check_length(name, flag)
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

    def check_begun(self) -> None:
        """InputError, with the nearest name that there is, where no search lies here."""
        if not self.search_yaml.is_file():
            others = [path.parent.name for path in self.path.parent.glob(f"*/{self.search_yaml.name}")]
            meant = nearest(self.path.name, others)
            raise InputError(f"{self.path}: no search (it has no {self.search_yaml.name}){meant}")

    def settings_yaml(self, trial: int | None) -> Path:
        """The file with the settings of a trial, or of the winner; InputError where there is none."""
        self.check_begun()
        path = self.best / "run.yaml" if trial is None else self.trial(trial).run_yaml
        if self.holder() is None:  # else the search may just be replacing its winner
            recover_folder(self.best)
        if not path.is_file():
            what = "no winner yet" if trial is None else f"no trial {trial} that was started"
            raise InputError(f"{self.path}: the search has {what} ({path} is missing)")
        return path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the folder, which exists, to this process; InputError while another one searches in it.

        Nobody else writes here then: what processes that were killed were about to write is deleted. InputError also
        where the study is a link: it would be written to wherever that leads.
        """
        if self.study_db.is_symlink():
            raise InputError(f"{self.study_db}: is a link, which is not followed; put the file itself in its place")
        with _held(self.path, "runs this search"):
            _clear_held(self.path, (self.search_yaml, self.trials_csv, self.best))
            yield

    def holder(self) -> str | None:
        """Which process runs this search now, None where none does."""
        return holder(self.path)

    def trials(self) -> list[RunFolder]:
        """The folders of trials that there are, by number."""
        return [RunFolder(path) for path in sorted(self.path.glob("trial_[0-9][0-9][0-9][0-9]*")) if path.is_dir()]

    @property
    def ray_log(self) -> Path:
        """What Ray had to say, when something went wrong with its processes."""
        return self.path / "ray.log"

    @property
    def ray(self) -> Path:
        """Ray's own experiment state; disposable."""
        return self.path / ".ray"

    def trial(self, number: int) -> RunFolder:
        """The folder of one trial."""
        return RunFolder(self.path / f"trial_{number:04d}")

    @staticmethod
    def number(trial: RunFolder) -> int:
        """The number of a trial, of its folder's name."""
        return int(trial.path.name.removeprefix("trial_"))


def find_model(folder: Path) -> Path:
    """The model's folder in a search's, a run's or its own folder; InputError where there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder (-cd takes a search, a run or a model)")
    run = RunFolder(folder)
    if not run.held():  # else its process may just be replacing the model
        recover_folder(run.best)
    for candidate in (run.best, folder):
        if (candidate / WEIGHTS).is_file():
            return candidate
    search = SearchFolder(folder.absolute().parent)
    if search.search_yaml.is_file() and any(trial.path == folder.absolute() for trial in search.trials()):
        raise InputError(
            f"{folder}: the weights of this trial are not there: a search keeps those of its best trials (keep: N); "
            f"run_single.py --from-search {search.path} --trial {search.number(run)} trains it again"
        )
    raise InputError(f"{folder}: holds no model, neither best/{WEIGHTS} nor {WEIGHTS}")


def _check_length(name: str, flag: str) -> None:
    if len(os.fsencode(name)) > _LONGEST_NAME:
        raise InputError(f"{flag}: the name is too long for a folder; it may have {_LONGEST_NAME} bytes")


def _lock_of(folder: Path) -> Path:
    return folder / ".lock"


@contextmanager
def _held(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a folder; InputError, saying that another process does `what`, while one holds it."""
    place = _lock_of(folder)

    def refuse() -> None:
        raise InputError(f"{folder}: another process {what} ({_text_of(place) or 'unknown'})")

    with locked_file(place, refuse) as file:
        if not (file.read(len(_HELD_BY)) or _HELD_BY).startswith(_HELD_BY):
            raise InputError(f"{place}: is not a lock file of segtune; move it away")
        file.seek(0)
        file.truncate(0)
        file.write(f"{_HELD_BY}{os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def holder(folder: Path) -> str | None:
    """Who holds the lock of a folder, as ``process 4711 on NODE``; None where nobody does.

    Not to be asked by the holder itself: a POSIX lock ends when its process closes the file, whoever opened it.
    """
    try:
        # A lock that is shared, for reading: whoever may look at the folder may ask.
        with open_own(_lock_of(folder), os.O_RDONLY) as file:
            try:
                _try_lock(file, fcntl.LOCK_SH)
            except (BlockingIOError, PermissionError):
                return file.read().strip() or "unknown"
    except FileNotFoundError:
        pass
    return None


def _text_of(path: Path) -> str:
    with open_own(path, os.O_RDONLY) as file:
        return file.read().strip()


def open_own(path: Path, flags: int) -> TextIO:
    """Open a file of ours, with the flags of os.open; InputError where something else lies there.

    A folder that came from elsewhere may hold a link in its place, which would lead to any file of the user's, or a
    pipe, which would be waited for.
    """
    try:
        number = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{path}: is a link, which is not followed; delete it") from None
        raise
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise InputError(f"{path}: is no regular file; delete it")
    return os.fdopen(number, "r+" if flags & os.O_RDWR else "r", encoding="utf-8", errors="replace")


def check_writable(folder: Path, setting: str) -> None:
    """InputError, naming the setting, where a folder is not there and cannot be made, or cannot be written to.

    Found by trying, which leaves nothing behind: what a file system allows, no permissions tell.
    """
    try:
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
        if there.is_symlink() and not there.exists():
            raise InputError(f"{setting}: {folder}: {there} is a link to nothing")
        if not there.is_dir():
            raise InputError(f"{setting}: {folder}: {there} is a file, not a folder")
        folder.absolute().exists()  # for a name that is too long
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise InputError(f"{setting}: {folder}: cannot be written to ({one_line(error.strerror)})") from None


@contextmanager
def locked_file(path: Path, busy: Callable[[], None]) -> Iterator[TextIO]:
    """Hold a lock until the block ends; while another process holds it, call `busy` again and again.

    A lock that is held for a moment only, by someone who asks whether it is held, is none. A POSIX lock ends with its
    process, however that ends, and is not inherited: loader processes that a killed run leaves behind for a moment do
    not hold it. Where a file system knows no locks, there are none.
    """
    with open_own(path, os.O_RDWR | os.O_CREAT) as file:
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
    """A temporary file beside `path` that takes its place when the block ends without an error.

    A reader sees the old file or the new one, never half of it. An OSError that names no file, such as that of a full
    disk, gets the name of `path`.
    """
    temporary = _beside(path, "tmp")
    try:
        # Made here, and new: whatever opens it by its name writes to no other file.
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _beside(path: Path, kind: str) -> Path:
    """A name beside a path that nothing has, by which the next process knows it for ours."""
    return path.with_name(f".{_part(path)}.{kind}-{os.getpid()}-{secrets.token_hex(4)}")


def _part(path: Path) -> str:
    return os.fsdecode(os.fsencode(path.name)[:_LONGEST_PART])


@contextmanager
def replaced_folder(final: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of a model's folder when the block ends without an error.

    What the folder held besides a model is set aside.
    """
    temporary = _beside(final, "tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        # Some libraries give a file to its user alone, whatever the umask, which the folder itself follows.
        mode = temporary.stat().st_mode & 0o666
        for file in temporary.rglob("*"):
            if file.is_file():
                with suppress(PermissionError):  # of a file system without modes
                    file.chmod(mode)
                _flush(file)
        replace_folder(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, final: Path) -> None:
    """Give a model's folder the place of another beside it; what that one held besides a model is set aside.

    That cannot be done in one step while the other holds files: it steps aside first, and `recover_folder` brings it
    back should the process die between the two steps.
    """
    old = _beside(final, "old")
    recover_folder(final)
    if os.path.lexists(final):
        os.replace(final, old)
    os.replace(new, final)
    if os.path.lexists(old):
        _delete_model(old, final)


def discard_folder(path: Path) -> None:
    """Delete a model's folder where it is there, whole at once; what it held besides a model is set aside."""
    if os.path.lexists(path):
        gone = _beside(path, "gone")
        os.replace(path, gone)
        _delete_model(gone, path)


def recover_folder(final: Path) -> None:
    """Bring back a model's folder that stepped aside in a `replace_folder` which was killed."""
    if os.path.lexists(final) or not (left := _stepped_aside(final)):
        return
    time.sleep(_SWAP_S)  # it may be alive, and between its two steps
    if not os.path.lexists(final):
        with suppress(FileNotFoundError):
            os.replace(left, final)


def _stepped_aside(final: Path) -> Path | None:
    aside = re.compile(re.escape(f".{final.name}.old") + "(?:-[0-9]+-[0-9a-f]{8})?")
    try:
        found = [path for path in final.parent.iterdir() if aside.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return None
    return max((path for path in found if (path / MODEL_FILES[1]).is_file()), key=os.path.getmtime, default=None)


def _delete_model(folder: Path, final: Path) -> None:
    """Delete a model's files and their folder, which was `final`; what else it holds is set aside beside that."""
    if folder.is_symlink():
        folder.unlink()
        return
    if folder.is_dir():
        for name in MODEL_FILES:
            with suppress(OSError):
                (folder / name).unlink()
        others = {name for name in os.listdir(folder) if not name.startswith(".nfs")}  # deleted, and still open
        if others.issubset(MODEL_FILES):
            with suppress(OSError):
                folder.rmdir()
            return
    set_aside(folder, f"{final.name}_set_aside")


def set_aside(path: Path, name: str) -> Path:
    """Give a file or folder a name that nothing has yet: this one, and a number."""
    for number in count(1):
        aside = path.with_name(f"{name}_{number}")
        if not os.path.lexists(aside):
            os.replace(path, aside)
            return aside
    raise AssertionError


def _clear_held(folder: Path, written: Collection[Path]) -> None:
    """Delete what processes that were killed left in a folder that this one holds the lock of.

    Their names end in a number of ours; those of earlier releases are known by what was `written`.
    """
    known = {path.name for path in written}
    for left in list(folder.iterdir()):
        found = _TEMPORARY.fullmatch(left.name)
        if not found or left.is_symlink() or not (found["random"] or found["name"] in known):
            continue
        final = folder / found["name"]
        if left.is_file():
            left.unlink()
        elif found["kind"] == "tmp" and (found["random"] or _partial_model(left)):
            shutil.rmtree(left)
        elif found["kind"] == "gone" or final.exists():  # else it is what `recover_folder` brings back
            _delete_model(left, final)


def _partial_model(folder: Path) -> bool:
    """Whether a folder holds nothing but what saving a model leaves when it is killed."""
    return all(name in MODEL_FILES or name.startswith(".tmp") for name in os.listdir(folder))


@contextmanager
def workplace(final: Path) -> Iterator[Path]:
    """A new folder of our own beside `final`, to prepare that in; gone when the block ends.

    Those that killed processes left of it before go, too. Folders above it that are made for it go when it leaves them
    empty.
    """
    made = [parent for parent in final.parents if not parent.exists()]
    work = _beside(final, "tmp")
    work.mkdir(parents=True)
    try:
        (work / _WORK).write_text(json.dumps({"process": os.getpid(), "host": platform.node()}), encoding="utf-8")
        for left in list(final.parent.iterdir()):
            found = _TEMPORARY.fullmatch(left.name)
            if found and found["name"] == _part(final) and _abandoned(left):
                shutil.rmtree(left, ignore_errors=True)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        for parent in made:  # the innermost first
            if not any(parent.iterdir()):
                parent.rmdir()


@contextmanager
def joined_folder(final: Path) -> Iterator[Path]:
    """A temporary folder whose files go to `final`, beside what is there, when the block ends without an error."""
    with workplace(final) as work:
        files = work / "files"
        files.mkdir()
        yield files
        final.mkdir(exist_ok=True)
        for file in files.iterdir():
            os.replace(file, final / file.name)


def read_own_json(file: Path, key: str, setting: str) -> dict[str, Any]:
    """A JSON object that is about to be replaced; empty where there is none yet.

    InputError, naming the setting, where something else lies there: an object of ours has this key.
    """
    if not os.path.lexists(file):
        return {}
    try:
        with open_own(file, os.O_RDONLY) as opened:
            content = json.load(opened)
    except (InputError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or key not in content:
        raise InputError(f"{setting}: {file} exists, and is not a file that this command writes; give another path")
    return content


def _abandoned(work: Path) -> bool:
    """Whether a folder is a workplace whose process is gone."""
    try:
        with open_own(work / _WORK, os.O_RDONLY) as file:
            of = json.load(file)
            process, host = int(of["process"]), of["host"]
            age = time.time() - os.fstat(file.fileno()).st_mtime
    except (InputError, OSError, ValueError, KeyError, TypeError):
        return False  # another's, or one that begins at this moment
    return age > _STALE_S if host != platform.node() else not _alive(process)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def folder_bytes(folder: Path) -> int:
    """What the files in a folder take; those that vanish meanwhile count as nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def _flush(path: Path) -> None:
    """Have a file on the disk, before its name stands for it: a network file system may find out only now that the
    disk is full, and after a power cut the name must not stand for less."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
