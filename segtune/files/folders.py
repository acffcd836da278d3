"""The paths inside the folders of runs and searches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from itertools import count
from pathlib import Path

from segtune.config import RunConfig
from segtune.errors import InputError, nearest
from segtune.files.atomic import MANIFEST, WEIGHTS, recover_folder
from segtune.files.checks import check_length
from segtune.files.leftovers import clear_held
from segtune.files.locks import held_folder, holder, lock_of
from segtune.files.model_files import no_model_folder

FOLD = "fold_"  # how the names of the folders of folds begin


def tracker_of(folder: Path) -> Path:
    """Return the file that says under which names a tracker has the search, or the run, in a folder."""
    return folder / ".tracker.json"


def lock_of_tracker(folder: Path) -> Path:
    """Return the lock file of the process that keeps a tracker up to date with a folder."""
    return folder / ".tracker.lock"


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run: one of `run_single.py`, or a trial of a search."""

    path: Path

    @classmethod
    def named(cls, parent: Path, name: str) -> RunFolder:
        """Return the folder of this name, new or with a run; raise InputError where it holds something else."""
        if Path(name).name != name or name in ("", ".."):
            raise InputError(
                f"--exp-name: {name!r} is not the name of a folder; --log-dir sets the folder that it lies in"
            )
        check_length(name, "--exp-name")
        folder = cls(parent / name)
        if folder.path.exists() and folder.foreign:
            raise InputError(f"{folder.path}: exists, and is not a run; choose another name with --exp-name")
        return folder

    @classmethod
    def new(cls, parent: Path, name: str) -> RunFolder:
        """Create a folder of this name, with a number appended where it exists; no two processes get the same."""
        parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = parent / (name if number == 1 else f"{name}_{number}")
            with suppress(FileExistsError):
                path.mkdir()
                break
        return cls(path)

    @classmethod
    def dated(cls, parent: Path, config: RunConfig) -> RunFolder:
        """Create a folder that is named after the network and today, with a number appended where it exists."""
        return cls.new(parent, f"{config.model}_{config.encoder.replace('/', '-')}_{date.today()}")

    @property
    def run_yaml(self) -> Path:
        """The settings, and facts about the data and the machine."""
        return self.path / MANIFEST

    @property
    def metrics_csv(self) -> Path:
        """A table with a row per epoch."""
        return self.path / "metrics.csv"

    @property
    def best(self) -> Path:
        """The model of the best epoch."""
        return self.path / "best"

    @property
    def next_best(self) -> Path:
        """A new best model; it replaces `best` once the training state that knows of it is saved."""
        return self.path / "best.next"

    @property
    def state(self) -> Path:
        """The training state that an unfinished run resumes from."""
        return self.path / "state.pt"

    @property
    def error(self) -> Path:
        """The traceback of a failed run."""
        return self.path / "error.txt"

    @property
    def fault_txt(self) -> Path:
        """The reason why the process of a trial killed itself."""
        return self.path / "fault.txt"

    def fault(self) -> str | None:
        """Return the reason why the process of a trial killed itself; None where it did not."""
        return self.fault_txt.read_text(encoding="utf-8").strip() if self.fault_txt.is_file() else None

    @property
    def worst(self) -> Path:
        """A picture of the worst validation tiles in the best epoch."""
        return self.path / "worst.png"

    @property
    def tiles(self) -> Path:
        """What the model of the best epoch counted on each validation tile, of a run that repeats another one."""
        return self.path / "tiles.npz"

    def fold(self, number: int) -> RunFolder:
        """Return the folder of one of the runs of a trial that is scored by folds; the first has number 1."""
        return RunFolder(self.path / f"{FOLD}{number}")

    def folds(self) -> list[RunFolder]:
        """Return the existing folders of such runs, by number."""
        found = (path for path in self.path.glob(f"{FOLD}[0-9]*") if path.is_dir())
        return [RunFolder(path) for path in sorted(found, key=lambda path: int(path.name.removeprefix(FOLD)))]

    @property
    def spent_json(self) -> Path:
        """The seconds that the run of a fold spent in each phase; written when its model is measured."""
        return self.path / "spent.json"

    @property
    def begun(self) -> bool:
        """Whether a run was started here."""
        return self.run_yaml.is_file()

    def check_begun(self) -> None:
        """Raise InputError, with the most similar name of a run, where no run was started here."""
        if not self.begun:
            meant = nearest(self.path.name, (path.parent.name for path in self.path.parent.glob("*/run.yaml")))
            new = "a new one needs its data, -d DATASET"
            raise InputError(f"--exp-name: there is no run {self.path} to go on with{meant}; {new}")

    @property
    def foreign(self) -> bool:
        """Whether the path is something else than a run or an empty folder."""
        if not self.path.is_dir():
            return True
        return not self.begun and any(not entry.name.startswith(".") for entry in self.path.iterdir())

    @property
    def _written(self) -> tuple[Path, ...]:
        """Files and folders that are written under a temporary name first."""
        files = (self.run_yaml, self.metrics_csv, self.state, self.error, self.fault_txt, self.worst)
        return *files, self.best, self.next_best

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder and lock it until the block ends; raise InputError where another process trains in it.

        Temporary files that killed processes left here are deleted.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with held_folder(self.path, "trains in this folder"):
            clear_held(self.path, self._written)
            try:
                yield
            finally:
                if not self.begun and not self.foreign:  # the run never started
                    lock_of(self.path).unlink()
                    with suppress(OSError):
                        self.path.rmdir()

    def held(self) -> bool:
        """Return whether a process trains in this folder; one whose search was killed may, for a moment."""
        return holder(self.path) is not None


INDEX = "index.html"  # the table of the searches of a folder


@dataclass(frozen=True)
class SearchFolder:
    """The folder of a search, `ray_results/<name>`."""

    path: Path

    @classmethod
    def named(cls, parent: Path, name: str, flag: str = "--name") -> SearchFolder:
        """Return the folder of this name; raise InputError for a name that a folder or a study cannot have."""
        if Path(name).name != name or name in ("", "..") or "?" in name:
            raise InputError(f"{flag}: {name!r} is not a name for a search; --results-dir sets where it lies")
        check_length(name, flag)
        return cls(parent / name)

    @property
    def search_yaml(self) -> Path:
        """The resolved space and settings; they are enough to repeat the search."""
        return self.path / "search.yaml"

    @property
    def study_db(self) -> Path:
        """The Optuna study."""
        return self.path / "study.db"

    @property
    def trials_csv(self) -> Path:
        """A table with a row per trial."""
        return self.path / "trials.csv"

    @property
    def best(self) -> Path:
        """The model of the winner."""
        return self.path / "best"

    @property
    def confirmation(self) -> Path:
        """What training the best trials again with fresh seeds showed."""
        return self.path / "confirmation.json"

    def repeat(self, trial: int, seed: int) -> RunFolder:
        """Return the folder in which a trial trains again with the first, second, ... of its fresh seeds."""
        return RunFolder(self.path / f"confirm_{trial:04d}_s{seed}")

    def repeats(self) -> list[RunFolder]:
        """Return the existing folders of trials that train again."""
        return [RunFolder(path) for path in sorted(self.path.glob("confirm_[0-9]*_s[0-9]*")) if path.is_dir()]

    def final(self, trial: int) -> RunFolder:
        """Return the folder in which a trial that is scored by folds trains on train once more, to have a model."""
        return RunFolder(self.path / f"final_{trial:04d}")

    def finals(self) -> list[RunFolder]:
        """Return the existing folders of such runs."""
        return [RunFolder(path) for path in sorted(self.path.glob("final_[0-9]*")) if path.is_dir()]

    @property
    def report_html(self) -> Path:
        """The page of the search."""
        return self.path / "report.html"

    @property
    def figures(self) -> Path:
        """The charts of the page as files, for papers."""
        return self.path / "figures"

    def check_begun(self) -> None:
        """Raise InputError, with the most similar name of a search, where there is no search here."""
        if not self.search_yaml.is_file():
            others = [path.parent.name for path in self.path.parent.glob(f"*/{self.search_yaml.name}")]
            meant = nearest(self.path.name, others)
            raise InputError(f"{self.path}: no search (it has no {self.search_yaml.name}){meant}")

    def settings_yaml(self, trial: int | None) -> Path:
        """Return the run.yaml of a trial, or of the winner for None; raise InputError where there is none."""
        self.check_begun()
        path = self.best / MANIFEST if trial is None else self.trial(trial).run_yaml
        if self.holder() is None:  # else the search may be replacing its winner right now
            recover_folder(self.best)
        if not path.is_file():
            what = "no winner yet" if trial is None else f"no trial {trial} that was started"
            raise InputError(f"{self.path}: the search has {what} ({path} is missing)")
        return path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder, which exists, until the block ends; raise InputError where another process runs the search.

        Temporary files that killed processes left here are deleted. Raises InputError also where the study is a link,
        since segtune would write to the file that it leads to.
        """
        if self.study_db.is_symlink():
            raise InputError(f"{self.study_db}: is a link, which is not followed; put the file itself in its place")
        with held_folder(self.path, "runs this search"):
            clear_held(self.path, (self.search_yaml, self.trials_csv, self.report_html, self.best))
            yield

    def holder(self) -> str | None:
        """Return the process that runs this search, as ``process 4711 on NODE``; None where none does."""
        return holder(self.path)

    def trials(self) -> list[RunFolder]:
        """Return the existing folders of trials, by number."""
        return [RunFolder(path) for path in sorted(self.path.glob("trial_[0-9][0-9][0-9][0-9]*")) if path.is_dir()]

    @property
    def ray_log(self) -> Path:
        """The messages of Ray's processes, written when one of them failed."""
        return self.path / "ray.log"

    @property
    def ray(self) -> Path:
        """Ray's own experiment state; it may be deleted."""
        return self.path / ".ray"

    def trial(self, number: int) -> RunFolder:
        """Return the folder of a trial."""
        return RunFolder(self.path / f"trial_{number:04d}")

    @staticmethod
    def number(trial: RunFolder) -> int:
        """Return the number of a trial, from the name of its folder."""
        return int(trial.path.name.removeprefix("trial_"))


def find_model(folder: Path) -> Path:
    """Return the model folder of a search, a run or a model; raise InputError where there is no model."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder (-cd takes a search, a run or a model)")
    run = RunFolder(folder)
    if not run.held():  # else its process may be replacing the model right now
        recover_folder(run.best)
    for candidate in (run.best, folder):
        if (candidate / WEIGHTS).is_file():
            return candidate
    search = SearchFolder(folder.absolute().parent)
    if search.search_yaml.is_file() and run.folds():
        raise InputError(f"{folder}: the models of folds are not kept; {search.best} has the one of the winner")
    if search.search_yaml.is_file() and any(trial.path == folder.absolute() for trial in search.trials()):
        raise InputError(
            f"{folder}: the weights of this trial were deleted: a search keeps those of its best trials (keep: N); "
            f"run_single.py --from-search {search.path} --trial {search.number(run)} trains it again"
        )
    raise InputError(f"{folder}: {no_model_folder(folder)}")
