"""The public API: load a model and predict, train, search, evaluate; docs/api.md shows how.

Each function does what one of the scripts does, by the same functions below. `import segtune` imports this module when
one of its names is used.
"""

from __future__ import annotations

import signal
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from shlex import join
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from segtune.cli.dataset import check_data, ensure_demo
from segtune.cli.given import check_effects
from segtune.cli.searching import SearchDisplay, write_last_page
from segtune.cli.tasks import SPACES
from segtune.cli.tracking import to_send_later, tracked
from segtune.config import RunConfig
from segtune.data.pairs import find_tiles
from segtune.data.scan import scan
from segtune.data.splits import check_split
from segtune.errors import InputError, SegtuneError
from segtune.evaluation.grouping import find_groups, grouped_intervals
from segtune.evaluation.intervals import Interval
from segtune.evaluation.validate import validate
from segtune.files.atomic import MANIFEST
from segtune.files.checks import check_writable
from segtune.files.folders import RunFolder, SearchFolder
from segtune.files.library_folders import place_caches, shorten_sockets
from segtune.loaded import Model, Place, load, named_as_here, warn
from segtune.models.manifest import Manifest
from segtune.objectives import MIOU
from segtune.planning.feasibility import check_space, scan_data
from segtune.report.console import RunConsole
from segtune.report.terminal import make_console
from segtune.report.trackers import check_installed
from segtune.space.lookup import find_space
from segtune.space.reader import load_space
from segtune.training.resolve import check_input, check_run
from segtune.training.resume import transforms_of
from segtune.training.runlog import read_results
from segtune.training.train import train as trained_epochs
from segtune.trials import ranked
from segtune.tuning.search import Outcome, run_search
from segtune.tuning.search_yaml import to_resume

__all__ = ["Model", "evaluate", "load", "search", "train"]


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on a split; `docs/results.md` says what mIoU is.

    miou: mean IoU of the classes that occur in the masks, from one confusion matrix over all tiles.
    iou: the IoU of each class by its label, as text, and of `background`; None for a class that no mask contains.
    interval: the 95% interval of `miou`, by bootstrap over the tiles; None for a single tile. Tiles that are
        neighbours on the ground are drawn together, unless all of them are.
    confusion: (K + 1, K + 1), int64: pixels by true (rows) and predicted class (columns), background first.
    tiles: the number of tiles.
    """

    miou: float
    iou: dict[str, float | None]
    interval: Interval | None
    confusion: npt.NDArray[np.int64]
    tiles: int


def evaluate(model: Model | Place, split: Place, *, device: str = "auto") -> Evaluation:
    """Measure a model on the tiles of a split, as validate.py does.

    Parameters
    ----------
    model: a loaded model, or a folder as for `load`.
    split: the folder of a split with masks, such as DATASET/val.
    device: auto, cpu, cuda or cuda:N, for a folder; a loaded model is measured where it is.

    Raises InputError, a ValueError, where there is no sound model or the split is not sound. What is odd about the data
    is a warning.
    """
    remarks: list[str] = []
    with named_as_here():
        loaded = model if isinstance(model, Model) else load(model, device=device)
        check_split(Path(split), loaded._predictor.manifest.layout)
        found = validate(loaded.folder, Path(split), loaded.device, say=remarks.append, changes=loaded._changes)
        grouping = find_groups(find_tiles(Path(split), found.manifest.layout))
        intervals, _ = grouped_intervals(found.measured.tiles, found.manifest.config.classes, grouping)
    warn(remarks)
    return Evaluation(
        found.scores.miou,
        found.scores.iou,
        intervals.miou if intervals else None,
        found.measured.confusion,
        found.tiles,
    )


@dataclass(frozen=True)
class TrainResult:
    """The result of a training run.

    folder: with run.yaml, metrics.csv, the TensorBoard events, and the model of the best epoch in best/.
    miou: of the best epoch on the validation tiles; None where no epoch was scored.
    best_epoch: the first epoch with the best score, from 1; 0 where no epoch was scored.
    score: of the best epoch by the setting `objective`; mIoU unless that says otherwise.
    """

    folder: Path
    miou: float | None
    best_epoch: int
    score: float | None


def train(dataset: Place, folder: Place | None = None, *, verbose: bool = True, **settings: Any) -> TrainResult:
    """Train a model, as run_single.py does.

    Parameters
    ----------
    dataset: the folder with train/ and val/.
    folder: for the files of the run; None: a new one, logs/MODEL_ENCODER_DATE. A run that is there goes on from its
        last state, with the same settings.
    verbose: print a line per epoch, and a progress bar where the output is a terminal.
    settings: every setting of docs/settings.md, such as ``encoder="resnet34", classes=[1, 2], epochs=30``.

    Raises InputError, a ValueError, with every mistake in the settings and the data, and SegtuneError where the
    training fails.
    """
    with named_as_here():
        _prepare_process()
        config = RunConfig.from_settings({"dataset": str(dataset), **settings})
        run = _run_folder(Path(folder)) if folder is not None else None
        if not (run and run.begun):
            check_effects(config, RunConfig.model_fields.keys() & settings.keys())
        check_data(config, config.channels)
        console = _console(verbose)
        begins = not (run and run.state.is_file())
        config = check_run(config, begins, console.print)
        transforms = transforms_of(config, run)
        ensure_demo(config.dataset, console.print)
        info = scan(config, say=console.print)
        check_input(config, info, begins, transforms)
        run = run or RunFolder.dated(Path("logs"), config)
        with (
            RunConsole(console, config, info, run) as watch,
            closing(trained_epochs(config, info, run, go_on=True, on_batch=watch.batch, each_epoch=True)) as epochs,
        ):
            for epoch in epochs:
                watch.epoch(epoch)
        results = read_results(run, config.epochs)
    last = results[-1]
    return TrainResult(run.path, last.best_miou, last.best_epoch, last.best_score)


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    folder: with search.yaml, trials.csv, report.html, the folders of the trials, and the winner's model in best/.
    trial: the number of the winner.
    score: of the model in best/, on the validation tiles, by the objective of the search: of the winner's best epoch.
        Where fresh seeds confirmed the winner, it is that of its median seed. By folds, it is the winner's score in
        trials.csv, or over fresh seeds, and the model of best/ has one of its own.
    miou: the same where the objective is mIoU, as it is by default; otherwise the mIoU of that model.
    trials: the rows of trials.csv, a dict per trial, in the order of their numbers.
    """

    folder: Path
    trial: int
    miou: float
    score: float
    trials: tuple[dict[str, Any], ...]


def search(
    space: Place,
    dataset: Place | None = None,
    *,
    name: str | None = None,
    results_dir: Place = "ray_results",
    trials: int | None = None,
    resume: bool = False,
    in_process: bool = False,
    verbose: bool = True,
    **settings: Any,
) -> SearchResult:
    """Search for the best settings, as run_search.py does.

    Parameters
    ----------
    space: a YAML file, or the name of one in search_spaces/, such as ``encoders``.
    dataset: the data set; None: that of the space.
    name: of the search and of its folder; None: the name of the space file.
    results_dir: the folder that holds the searches.
    trials: number of trials in total, with the baseline; None: that of the space.
    resume: go on with the search in the folder, if there is one.
    in_process: run trials in this process, one at a time and without Ray.
    verbose: print the plan, a line per trial and where its page is; a progress bar where the output is a terminal.
    settings: settings of all runs, which then are not searched; such as ``classes=[1, 2], epochs=20``.

    Call it in the main thread: Ctrl-C ends the search in order, and then interrupts the program. Raises InputError, a
    ValueError, with every mistake in the space and the data, and SegtuneError where the search fails or no trial has a
    score.
    """
    with named_as_here():
        _prepare_process()
        path = find_space(str(space), SPACES)
        folder = SearchFolder.named(Path(results_dir), name or path.stem)
        check_writable(folder.path, "--results-dir")
        exists = folder.path.exists()
        if exists and not resume:
            raise InputError(f"{folder.path}: this search exists; resume=True goes on with it, name starts another")
        given = dict(settings) if dataset is None else {"dataset": str(dataset), **settings}
        wanted = {} if trials is None else {"trials": trials}
        console = _console(verbose)
        found = load_space(path, given, wanted)
        started = load_space(folder.search_yaml) if exists and folder.search_yaml.exists() else None
        check_installed(found.search.log_to)
        check_data(found.baseline, found.channels())
        if started:
            found = to_resume(found, started, wanted, console.print)
        found = check_space(found, started=started, say=console.print)
        ensure_demo(found.baseline.dataset, console.print)
        info = scan_data(found, say=console.print)
        later = join(["python", "run_search.py", *to_send_later(folder)])
        with tracked(found.search.log_to, folder.path, later, console.print) as over:
            with SearchDisplay(console, found, folder) as listener:
                outcome = run_search(found, info, folder, listener, resume=resume, in_process=in_process)
            write_last_page(console, outcome)
            if not (outcome.signal or outcome.halted):
                over()
    if outcome.signal:
        signal.raise_signal(outcome.signal)  # as the caller treats it; Python interrupts for Ctrl-C
    return _search_result(outcome)


def _search_result(outcome: Outcome) -> SearchResult:
    """Return the result of a search; raise SegtuneError where there is none."""
    folder, order = outcome.folder.path, ranked(outcome.trials)
    if outcome.early and outcome.halted:
        raise SegtuneError(f"{folder}: {outcome.early.reason}; resume=True goes on with the search")
    if not order or order[0].score is None:
        raise SegtuneError(f"{folder}: no trial has a score; trials.csv has the reasons")
    score = order[0].confirmed.score if order[0].confirmed else order[0].score
    miou = score
    if order[0].objective != MIOU:
        miou = Manifest.read(outcome.folder.best / MANIFEST).metrics["miou"]
    return SearchResult(folder, order[0].number, miou, score, tuple(trial.row() for trial in outcome.trials))


def _run_folder(path: Path) -> RunFolder:
    """Return the folder of a run, new or not; raise InputError where it holds something else."""
    run = RunFolder(path)
    check_writable(path, "folder")
    if path.exists() and run.foreign:
        raise InputError(f"folder: {path} exists, and is not a run; give another one")
    return run


def _console(verbose: bool) -> Console:
    console = make_console()
    console.quiet = not verbose
    return console


def _prepare_process() -> None:
    """Place what libraries need on this machine, as at the start of a script."""
    shorten_sockets()
    place_caches()
