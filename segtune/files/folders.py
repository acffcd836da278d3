"""Every path inside a run's or a search's folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from segtune.errors import InputError, nearest
from segtune.files.atomic import WEIGHTS, recover_folder
from segtune.files.checks import check_length
from segtune.files.leftovers import clear_held
from segtune.files.locks import held_folder, holder, lock_of


@dataclass(frozen=True)
class RunFolder:
    """A run's folder: of `run_single.py`, or of one trial of a search."""

    path: Path

    @classmethod
    def named(cls, parent: Path, name: str) -> RunFolder:
        """The folder of this name, new or of a run that goes on; InputError where it is something else."""
        if Path(name).name != name or name in ("", ".."):
            raise InputError(f"--exp-name: {name!r} is not the name of a folder; --log-dir says where it lies")
        check_length(name, "--exp-name")
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

    def fault(self) -> str | None:
        """Return why the process of a trial killed itself; None where it did not."""
        return self.fault_txt.read_text(encoding="utf-8").strip() if self.fault_txt.is_file() else None

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
        with held_folder(self.path, "trains in this folder"):
            clear_held(self.path, self._written)
            try:
                yield
            finally:
                if not self.begun and not self.foreign:  # nothing came of it
                    lock_of(self.path).unlink()
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
        check_length(name, flag)
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
        with held_folder(self.path, "runs this search"):
            clear_held(self.path, (self.search_yaml, self.trials_csv, self.best))
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
