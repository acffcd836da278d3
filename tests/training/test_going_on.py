"""A run that cannot be lost: stopped, killed, out of disk or started twice, it goes on as if nothing had been.

Processes that are to die come from a fork server, which imports torch once and never computes: forking this process,
where torch may have threads, is not safe everywhere.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import io
import json
import math
import multiprocessing
import os
import random
import re
import resource
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import rasterio
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segtune.cli.given import kept_threads, settings_in
from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.errors import InputError
from segtune.evaluation.metrics import ConfusionMatrix, Scores
from segtune.fields import CHANGEABLE_IN_RUN
from segtune.files.folders import RunFolder
from segtune.files.run_yaml import settings_of
from segtune.models.checkpoint import load_model
from segtune.models.manifest import Manifest
from segtune.training.result import EpochResult
from segtune.training.resume import check_same_settings
from segtune.training.runlog import RunLog, read_rows
from segtune.training.state import load_state
from segtune.training.train import train

DataSet = Callable[..., Path]
SCRIPT = Path(__file__).parent.parent.parent / "run_single.py"
CPU = torch.device("cpu")
TRAIN_STEPS, VAL_STEPS, EPOCHS = 3, 2, 3  # of `settings`: 5 of 7 tiles in batches of 2, and 3 tiles to validate
BATCHES = TRAIN_STEPS + VAL_STEPS  # of an epoch

SLOW = pytest.mark.slow
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


def settings(dataset: Path, **others: Any) -> RunConfig:
    """A run of a second with all that has a state: dropout, augmentation, a schedule, part of the tiles at a time."""
    fast = {
        "dataset": str(dataset),
        "model": "pspnet",
        "encoder": "tu-mobilenetv3_small_050",
        "image_size": 32,
        "batch_size": 2,
        "samples_per_epoch": 5,
        "epochs": EPOCHS,
        "lr": 1e-2,
        "loss": "dice+bce",
        "warmup_epochs": 1,
        "augmentation": "hard",
        "worst": 0,
        "workers": 0,
        "device": "cpu",
    }
    return RunConfig.from_settings(fast | others)


def run(config: RunConfig, folder: Path, epochs: int | None = None, **others: Any) -> list[EpochResult]:
    """Train, at most so many epochs, and close."""
    with closing(train(config, scan(config), RunFolder(folder), **others)) as generator:
        return list(islice(generator, epochs))


def steps_of(config: RunConfig, folder: Path) -> int:
    """Go on to the end; the training steps that this took."""
    steps: list[int] = []
    run(config, folder, go_on=True, on_batch=lambda done, total, loss: steps.append(done))
    return len(steps)


# What is compared.


def left(folder: Path) -> dict[str, Any]:
    """All that a run's numbers and weights are, of its files; not how long it took."""
    state = load_state(folder / "state.pt")
    state["progress"].pop("seconds")
    state.pop("spent")
    state["row"] = timeless(state["row"])
    best = yaml.safe_load((folder / "best" / "run.yaml").read_text(encoding="utf-8"))
    return {
        "rows": rows(folder),
        "state": plain(state),
        "best": plain(load_file(folder / "best" / "model.safetensors")) | {"metrics": best["metrics"]},
    }


def rows(folder: Path) -> list[dict[str, str]]:
    return [timeless(row) for row in read_rows(RunFolder(folder))]


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if "seconds" not in name}


def plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        data = value.contiguous().view(-1).view(torch.uint8) if value.numel() else torch.empty(0)
        return str(value.dtype), tuple(value.shape), hashlib.sha256(data.numpy().tobytes()).hexdigest()
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def nothing_else(folder: Path) -> bool:
    """Whether the folder holds what a run leaves, and nothing of a process that died."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events.out.tfevents")}
    return names == {".lock", "best", "metrics.csv", "run.yaml", "state.pt"} and {
        path.name for path in (folder / "best").iterdir()
    } == {"README.md", "config.json", "model.safetensors", "run.yaml"}


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """The fork server is ready when it is needed, and what the imports made is not looked through after every run."""
    forkserver.ensure_running()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "set", train=7, val=3)


@dataclass(frozen=True)
class Whole:
    """A run that was never stopped."""

    config: RunConfig
    folder: Path
    left: dict[str, Any]


@pytest.fixture(scope="module")
def whole(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """One that replaces its best model once, and does not end with it: with others, the tests would prove less."""
    for seed in range(42, 62):
        config, folder = settings(tiles, seed=seed), tmp_path_factory.mktemp("whole") / "run"
        if [result.best_epoch for result in run(config, folder)] == [1, 2, 2]:
            assert nothing_else(folder)
            return Whole(config, folder, left(folder))
    raise AssertionError("no such run in twenty")


@pytest.fixture
def config(whole: Whole) -> RunConfig:
    """The config of the run that was never stopped."""
    return whole.config


def other(config: RunConfig, **changes: Any) -> RunConfig:
    return RunConfig.from_settings(config.settings() | changes)


# Processes that die.


@dataclass(frozen=True)
class Blow:
    """A signal that a process gets at one moment of its work."""

    when: str  # before or after (a file takes its place), half (of it is written), step (of training), batch (of any)
    name: str = ""  # of the file
    count: int = 1  # the how manieth time
    number: signal.Signals = signal.SIGKILL

    def __str__(self) -> str:
        return "-".join(filter(None, (self.when, self.name.replace("/", "-"), str(self.count))))

    def falls(self) -> None:
        os.kill(os.getpid(), self.number)

    def arrange(self) -> None:
        """In the process that is to be hit."""
        calls = 0

        def hit(path: Any) -> bool:
            nonlocal calls
            parts = [re.sub(r"^\.(.*)\.tmp-\d+-[0-9a-f]{8}$", r"\1", part) for part in Path(path).parts]
            if "/".join(parts).endswith(f"/{self.name}"):
                calls += 1
                return calls == self.count
            return False

        replace, save, write_text = os.replace, torch.save, Path.write_text

        def replacing(source: Any, place: Any) -> None:
            strikes = hit(place)
            if strikes and self.when == "before":
                self.falls()
            replace(source, place)
            if strikes and self.when == "after":
                self.falls()

        def saving(state: Any, path: Any) -> None:
            if hit(path):
                data = io.BytesIO()
                save(state, data)
                Path(path).write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
                self.falls()
            save(state, path)

        def writing(path: Path, text: str, **others: Any) -> int:
            if hit(path):
                write_text(path, text[: len(text) // 2], **others)
                self.falls()
            return write_text(path, text, **others)

        if self.when in ("before", "after"):
            mock.patch("os.replace", replacing).start()
        elif self.when == "half":
            mock.patch("torch.save", saving).start()
            mock.patch("pathlib.Path.write_text", writing).start()

    def hooks(self) -> dict[str, Any]:
        """What train() calls, for a blow that falls after a batch."""
        calls = 0

        def count(*_: Any) -> bool:
            nonlocal calls
            calls += 1
            if calls == self.count:
                self.falls()
            return False

        return {"step": {"on_batch": count}, "batch": {"stop": count}}.get(self.when, {})


PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["pytest", "rasterio", "segtune.training.train", "segtune.data.scan", "segtune.report.console"]
)


def begin(job: Callable[..., None], *arguments: Any, said: Path) -> ForkServerProcess:
    """Start a job in a process of its own; what it says goes to files, `said`.out and `said`.err."""
    process = PROCESSES.Process(target=_begun, args=(job, arguments, said))
    process.start()
    return process


def _begun(job: Callable[..., None], arguments: tuple[Any, ...], said: Path) -> None:
    for number, suffix in ((1, ".out"), (2, ".err")):
        file = os.open(said.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of its loader processes, as in a process that was typed
    gc.freeze()
    job(*arguments)


def ended(process: ForkServerProcess) -> int | None:
    """The exit status; negative for a signal."""
    process.join(120)
    if process.exitcode is None:
        process.kill()
    return process.exitcode


def training(config: RunConfig, folder: Path, blow: Blow, save_every: float = 600.0) -> None:
    """A job: train, and be hit."""
    blow.arrange()
    with mock.patch("segtune.training.run._SAVE_EVERY_S", save_every):
        run(config, folder, go_on=True, **blow.hooks())


def killed(config: RunConfig, folder: Path, blow: Blow, save_every: float = 600.0) -> None:
    """Train until the blow falls."""
    process = begin(training, config, folder, blow, save_every, said=folder.with_name("said"))
    assert ended(process) == -signal.SIGKILL, folder.with_name("said.err").read_text(encoding="utf-8")


def scripting(arguments: Sequence[object], where: Path, limit: int | None = None, blow: Blow | None = None) -> None:
    """A job: run_single.py with these arguments, in this folder; no file may grow beyond the limit."""
    os.chdir(where)
    sys.argv = [str(SCRIPT), *map(str, arguments)]
    if blow:
        blow.arrange()
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    runpy.run_path(str(SCRIPT), run_name="__main__")


@dataclass(frozen=True)
class Said:
    """How a script ended."""

    status: int | None
    out: list[str]
    err: list[str]


def script(*arguments: object, where: Path, limit: int | None = None, blow: Blow | None = None) -> Said:
    """run_single.py in a process of its own."""
    said = where / "said"
    status = ended(begin(scripting, arguments, where, limit, blow, said=said))
    out, err = (said.with_suffix(suffix).read_text(encoding="utf-8").splitlines() for suffix in (".out", ".err"))
    return Said(status, out, err)


def line(config: RunConfig, where: Path) -> list[str]:
    """What is typed for this run, named run."""
    path = where / "settings.yaml"
    path.write_text(yaml.safe_dump(config.settings()), encoding="utf-8")
    return ["--config", str(path), "--log-dir", str(where), "--exp-name", "run"]


# Stopped in order.


@pytest.mark.parametrize("batches", [2, 3, 4, 5, 15, *(pytest.param(count, marks=SLOW) for count in (1, 7, 9, 14))])
def test_a_run_stopped_after_any_batch_goes_on_from_there(
    config: RunConfig, tmp_path: Path, whole: Whole, batches: int
) -> None:
    asked = iter(range(1, 1000))
    done = run(config, tmp_path, stop=lambda: next(asked) == batches)
    epochs, rest = divmod(batches, BATCHES) if batches % BATCHES else (batches // BATCHES - 1, BATCHES)
    assert [result.epoch for result in done] == list(range(1, epochs + 1))
    assert rows(tmp_path) == whole.left["rows"][:epochs]
    torch.rand(100)  # what others draw in between
    steps_done = epochs * TRAIN_STEPS + min(rest, TRAIN_STEPS)
    assert steps_of(config, tmp_path) == EPOCHS * TRAIN_STEPS - steps_done
    assert left(tmp_path) == whole.left
    assert nothing_else(tmp_path)


def test_a_run_stopped_between_two_epochs_goes_on(config: RunConfig, tmp_path: Path, whole: Whole) -> None:
    seen: list[EpochResult] = []
    for result in train(config, scan(config), RunFolder(tmp_path), stop=lambda: bool(seen)):
        seen.append(result)
    assert len(rows(tmp_path)) == 1
    assert steps_of(config, tmp_path) == 5  # one was done before it noticed
    assert left(tmp_path) == whole.left


def test_a_run_stopped_after_every_step_ends_as_one_that_was_not(
    config: RunConfig, tmp_path: Path, whole: Whole
) -> None:
    for step in range(EPOCHS * TRAIN_STEPS):
        steps: list[int] = []

        def note(done: int, total: int, loss: float, steps: list[int] = steps) -> None:
            steps.append(done)

        run(config, tmp_path, go_on=True, on_batch=note, stop=lambda steps=steps: bool(steps))
        assert steps == [step % TRAIN_STEPS + 1]
    run(config, tmp_path, go_on=True)
    assert left(tmp_path) == whole.left
    assert nothing_else(tmp_path)


@pytest.mark.parametrize("batches", [2, 4])
def test_a_run_with_a_loader_process_is_stopped_too(
    config: RunConfig, tmp_path: Path, whole: Whole, batches: int
) -> None:
    config, asked = other(config, workers=1), iter(range(1, 1000))
    assert run(config, tmp_path, stop=lambda: next(asked) == batches) == []
    assert multiprocessing.active_children() == []
    assert steps_of(config, tmp_path) == EPOCHS * TRAIN_STEPS - min(batches, TRAIN_STEPS)
    assert left(tmp_path) == whole.left


# Killed.


@pytest.mark.parametrize(
    "blow",
    [
        Blow("step", count=2),
        Blow("after", "metrics.csv"),
        Blow("half", "state.pt"),  # a model without a state
        Blow("step", count=5),
        Blow("batch", count=BATCHES + 4),  # in an evaluation
        Blow("after", "best.next", 2),  # before state.pt
        Blow("half", "state.pt", 2),
        Blow("after", "state.pt", 2),  # the state knows a model that is not yet in best/, and an epoch without a row
        Blow("before", "best", 2),  # between the two renames
        Blow("half", "metrics.csv", 2),
        Blow("after", "state.pt", 3),  # all epochs are done, and the last one has no row
        pytest.param(Blow("before", "run.yaml"), marks=SLOW),  # there is nothing but the lock
        pytest.param(Blow("before", "best"), marks=SLOW),
        pytest.param(Blow("after", "state.pt"), marks=SLOW),
        pytest.param(Blow("half", "metrics.csv"), marks=SLOW),
        pytest.param(Blow("half", "best.next/run.yaml", 2), marks=SLOW),
        pytest.param(Blow("before", "state.pt", 2), marks=SLOW),
        pytest.param(Blow("after", "best", 2), marks=SLOW),  # before metrics.csv
        pytest.param(Blow("after", "metrics.csv", 2), marks=SLOW),
        pytest.param(Blow("after", "metrics.csv", 3), marks=SLOW),  # all rows are there
    ],
    ids=str,
)
def test_a_run_killed_at_any_moment_goes_on_and_ends_as_one_that_was_not(
    config: RunConfig, tmp_path: Path, whole: Whole, blow: Blow
) -> None:
    folder = tmp_path / "run"
    killed(config, folder, blow)
    run(config, folder, go_on=True)
    assert left(folder) == whole.left
    assert nothing_else(folder)


def best_epoch(folder: Path) -> int:
    """The epoch whose model is in best/."""
    return load_model(folder / "best", CPU)[1].metrics["epoch"]


def test_a_best_model_that_stepped_aside_gives_way_to_that_of_the_state_when_the_run_goes_on(
    config: RunConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    killed(config, folder, Blow("before", "best", 2))
    assert not (folder / "best").exists()
    run(config, folder, go_on=True, stop=lambda: True)
    assert best_epoch(folder) == 2
    assert [row["best_epoch"] for row in rows(folder)] == ["1", "2"]


# On a GPU an epoch that is repeated has not the same bits: it may be worse than it was before the kill.


def worse(matrix: ConfusionMatrix) -> Scores:
    return Scores(1e-3, {"255": 1e-3}, None)


@pytest.mark.parametrize(
    ("blow", "best"),
    [
        (Blow("before", "state.pt", 2), 1),  # better than the first, and then repeated
        (Blow("after", "state.pt", 2), 2),  # it is done: the third is the next one
        pytest.param(Blow("after", "best.next", 2), 1, marks=SLOW),
        pytest.param(Blow("before", "best", 2), 2, marks=SLOW),
        pytest.param(Blow("after", "best", 2), 2, marks=SLOW),
    ],
    ids=str,
)
def test_best_and_metrics_csv_agree_also_where_a_repeated_epoch_is_another(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blow: Blow, best: int
) -> None:
    folder = tmp_path / "run"
    killed(config, folder, blow)
    monkeypatch.setattr(ConfusionMatrix, "scores", worse)
    run(config, folder, go_on=True)
    assert best_epoch(folder) == best
    assert [int(row["best_epoch"]) for row in rows(folder)] == [1, best, best]
    metrics = load_model(folder / "best", CPU)[1].metrics
    assert float(rows(folder)[-1]["best_miou"]) == metrics["miou"] == float(rows(folder)[best - 1]["miou"])
    assert nothing_else(folder)


def test_where_the_best_model_is_not_that_of_the_state_the_next_epoch_is_the_best(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config, tmp_path, epochs=1)
    shutil.copy(tmp_path / "state.pt", tmp_path / "kept")
    run(config, tmp_path, epochs=1, go_on=True)
    (tmp_path / "kept").replace(tmp_path / "state.pt")  # of the first epoch, of which there is no model any more
    monkeypatch.setattr(ConfusionMatrix, "scores", worse)
    run(config, tmp_path, go_on=True)
    assert [(int(row["best_epoch"]), float(row["best_miou"])) for row in rows(tmp_path)[1:]] == [(2, 1e-3)] * 2
    assert best_epoch(tmp_path) == 2


@pytest.mark.parametrize("name", ["state.pt", "metrics.csv"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_an_epoch_that_was_not_recorded_is_shown_once(config: RunConfig, tmp_path: Path, epoch: int, name: str) -> None:
    folder = tmp_path / "run"
    killed(config, folder, Blow("before", name, epoch))
    started = int(time.time())
    while int(time.time()) == started:  # TensorBoard reads files in the order of their names, which hold the second
        time.sleep(0.05)
    run(config, folder, go_on=True)
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [event.step for event in events.Scalars("miou")] == [1, 2, 3]


def test_a_run_killed_while_it_goes_on_leaves_nothing_either(config: RunConfig, tmp_path: Path, whole: Whole) -> None:
    folder = tmp_path / "run"
    for blow in (Blow("half", "state.pt"), Blow("half", "state.pt", 2), Blow("before", "best"), Blow("step", count=2)):
        killed(config, folder, blow)
        # No more than the process that was killed last leaves; it was not this one's turn to clean up.
        assert sum(".tmp-" in path.name for path in folder.iterdir()) <= 1
    run(config, folder, go_on=True)
    assert left(folder) == whole.left
    assert nothing_else(folder)


@pytest.mark.parametrize(
    ("blow", "steps"),
    [
        (Blow("step", count=5), 5),  # the fourth was saved, the fifth was not yet
        (Blow("batch", count=8), 4),
        (Blow("batch", count=9), 3),  # in the second epoch's evaluation
        (Blow("half", "state.pt", 8), 5),  # after two times 5 batches, and so on
    ],
    ids=str,
)
def test_within_an_epoch_too_the_state_is_saved_from_time_to_time(
    config: RunConfig, tmp_path: Path, whole: Whole, blow: Blow, steps: int
) -> None:
    folder = tmp_path / "run"
    killed(config, folder, blow, save_every=0.0)
    assert len(rows(folder)) == 1
    assert steps_of(config, folder) == steps
    assert left(folder) == whole.left
    assert nothing_else(folder)


def at_random(start: Callable[[], Any], folder: Path, times: int, seconds: float) -> None:
    """Start a process, and kill it at some moment; so many times."""
    chance = random.Random(times)
    for number in range(times):
        process = start()
        wait_until = time.monotonic() + 120
        while len(rows(folder)) < number % EPOCHS and _lives(process.pid) and time.monotonic() < wait_until:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, seconds))
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        if isinstance(process, subprocess.Popen):
            process.wait()
        else:
            process.join()


def test_the_script_killed_at_random_ends_as_if_it_had_not_been(
    config: RunConfig, tmp_path: Path, whole: Whole
) -> None:
    typed = line(config, tmp_path)
    said = tmp_path / "said"
    at_random(lambda: begin(scripting, typed, tmp_path, said=said), tmp_path / "run", 2, 0.4)
    done = script(*typed, where=tmp_path)
    assert (done.status, done.err) == (0, [])
    assert left(tmp_path / "run") == whole.left
    assert nothing_else(tmp_path / "run")


def test_a_run_killed_before_its_last_state_is_not_called_finished(
    config: RunConfig, tmp_path: Path, whole: Whole
) -> None:
    typed = line(config, tmp_path)
    blow = Blow("before", "state.pt", EPOCHS)
    assert script(*typed, where=tmp_path, blow=blow).status == -signal.SIGKILL
    assert len(rows(tmp_path / "run")) == EPOCHS - 1
    done = script(*typed, where=tmp_path)
    assert (done.status, done.err) == (0, [])
    assert left(tmp_path / "run") == whole.left


@pytest.mark.slow
def test_the_script_as_it_is_typed_killed_at_random_ends_as_if_it_had_not_been(
    config: RunConfig, tmp_path: Path, whole: Whole
) -> None:
    typed = [sys.executable, str(SCRIPT), *line(other(config, workers=1), tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(typed, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)

    at_random(start, tmp_path / "run", 6, 1.5)
    done = subprocess.run(typed, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert left(tmp_path / "run") == whole.left
    assert nothing_else(tmp_path / "run")


# With something changed.


@pytest.fixture
def begun(config: RunConfig, tmp_path: Path) -> Path:
    """The folder of a run of which one epoch is done."""
    folder = tmp_path / "run"
    run(config, folder, epochs=1)
    return folder


def refusal(config: RunConfig, folder: Path) -> str:
    """Why a run cannot go on; nothing is changed by it."""
    before = contents(folder)
    with pytest.raises(InputError) as caught:
        run(config, folder, go_on=True)
    assert contents(folder) == before
    (mistake,) = caught.value.mistakes
    return mistake


def test_settings_that_changed_are_named_all_of_them_and_no_others(config: RunConfig, begun: Path) -> None:
    changed = other(config, lr=3e-3, seed=7, augmentation="safe", image_size=64, workers=2, epochs=9, worst=3)
    mistake = refusal(changed, begun)
    assert mistake.startswith(f"{begun}: ")
    assert set(re.findall(r"(\w+) \(([^()]*) -> ([^()]*)\)", mistake)) == {
        ("lr", "0.01", "0.003"),
        ("seed", str(config.seed), "7"),
        ("augmentation", "hard", "safe"),
        ("image_size", "32", "64"),
    }


OTHERS: dict[str, Any] = {
    "use_only_add_val": True,
    "adv_freq": 2,
    "images_dir": "pictures",
    "masks_dir": "masks",
    "image_suffix": "_a",
    "mask_suffix": "_b",
    "classes": [7],
    "ignore": [9],
    "channels": ["nir"],
    "rgb": [3, 2, 1],
    "nodata": 0.0,
    "alpha": "band",
    "limit_tiles": 3,
    "model": "unet",
    "encoder": "resnet18",
    "encoder_weights": "imagenet",
    "normalization": "encoder",
    "image_size": 64,
    "fit": "crop",
    "batch_size": 3,
    "samples_per_epoch": None,
    "val_samples": 2,
    "optimizer": "sgd",
    "lr": 1e-3,
    "encoder_lr_factor": 0.1,
    "freeze_encoder_epochs": 1,
    "weight_decay": 0.0,
    "momentum": 0.5,
    "lr_schedule": "poly",
    "warmup_epochs": 0,
    "grad_clip": 0.0,
    "loss": "dice",
    "augmentation": "none",
    "precision": "bf16",
    "seed": 1,
}


def test_every_setting_that_a_number_depends_on_must_stay(config: RunConfig, whole: Whole) -> None:
    assert set(OTHERS) | CHANGEABLE_IN_RUN == set(RunConfig.model_fields)
    for name, value in OTHERS.items():
        before = config.settings()[name]
        with pytest.raises(InputError, match=re.escape(f"other settings: {name} ({before} -> {value});")):
            check_same_settings(RunFolder(whole.folder), config.model_copy(update={name: value}))


def test_what_no_number_depends_on_may_change(config: RunConfig, tmp_path: Path, begun: Path, whole: Whole) -> None:
    others = {"workers": 1, "cache_dir": str(tmp_path / "cache"), "cache_gb": 1.0, "worst": 1}
    device = {} if torch.cuda.is_available() else {"device": "auto"}
    assert steps_of(other(config, **others, **device), begun) == 6
    now = left(begun)
    assert [len(tiles) for tiles in now["state"].pop("worst").values()] == [1]
    assert now == whole.left | {"state": {name: part for name, part in whole.left["state"].items() if name != "worst"}}
    assert RunFolder(begun).worst.is_file()


def test_the_number_of_threads_is_a_setting_that_a_run_keeps(config: RunConfig, tmp_path: Path) -> None:
    seen: list[int] = []

    def go_on(config: RunConfig, **others: Any) -> RunConfig:
        def note(*_: object) -> None:
            seen.append(torch.get_num_threads())

        run(config, tmp_path / "run", go_on=True, epochs=1, on_batch=note, **others)
        return settings_in(RunFolder(tmp_path / "run").run_yaml)["threads"]

    assert [go_on(config, threads=2), go_on(other(config, threads=2)), go_on(other(config, threads=3))] == [2, 2, 3]
    assert seen == [2] * 6 + [3] * 3
    assert Manifest.read(RunFolder(tmp_path / "run").run_yaml).threads == 3


def test_a_run_of_an_earlier_release_has_its_threads_in_another_place() -> None:
    old: dict[str, Any] = {"model": "unet", "evaluation": {"threads": 2}}
    assert settings_of(old) == {"model": "unet", "threads": 2}
    assert settings_of({**old, "threads": 4})["threads"] == 4
    assert settings_of({}) == {}


@pytest.mark.parametrize(
    ("typed", "threads", "said"),
    [
        ([], 2, "threads stays 2"),
        ([], 4, ""),
        ([], None, ""),
        (["--threads", "2"], 2, ""),
        (["--set", "threads=2"], 2, ""),
        (["--config", "run.yaml"], 2, ""),
    ],
)
def test_threads_that_stay_are_told_of(
    typed: list[str], threads: int | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import run_single

    monkeypatch.setattr(sys, "argv", ["run_single.py", "--exp-name", "x", *typed])
    line = kept_threads(run_single.parse(), RunConfig(threads=threads), 4) or ""
    assert line.startswith(said)
    assert bool(line) == bool(said)


def test_a_finished_run_trains_nothing_and_with_more_epochs_only_those(config: RunConfig, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(other(config, lr_schedule="constant", epochs=2), folder)
    before = left(folder)
    assert run(other(config, lr_schedule="constant", epochs=2), folder, go_on=True) == []
    assert left(folder) == before
    (third,) = run(other(config, lr_schedule="constant"), folder, go_on=True)
    assert (third.epoch, third.epochs) == (3, 3)
    run(other(config, lr_schedule="constant"), tmp_path / "whole")
    assert left(folder) == left(tmp_path / "whole")


def test_with_more_epochs_the_learning_rate_is_that_of_the_longer_schedule_from_the_first_step(
    config: RunConfig, tmp_path: Path
) -> None:
    short = other(config, samples_per_epoch=2, warmup_epochs=0, epochs=2)  # an epoch is one step
    run(short, tmp_path / "run")
    longer = run(other(short, epochs=4), tmp_path / "run", go_on=True)
    whole = run(other(short, epochs=4), tmp_path / "whole")
    assert [result.lr for result in longer] == [result.lr for result in whole[2:]]
    assert longer[0].lr == pytest.approx(config.lr / 2)


@pytest.fixture
def own(tiles: Path, tmp_path: Path) -> Path:
    """A copy of the data set, to be changed."""
    return Path(shutil.copytree(tiles, tmp_path / "set"))


@pytest.mark.parametrize("split", ["train", "val"])
def test_other_tiles_are_refused(config: RunConfig, own: Path, begun: Path, split: str) -> None:
    with rasterio.open(min((own / split / "gt").iterdir()), "r+") as mask:
        pixels = mask.read()
        pixels[0, 0, 0] ^= 255
        mask.write(pixels)
    mistake = refusal(other(config, dataset=str(own)), begun)
    assert str(begun) in mistake
    assert str(own) in mistake


def test_one_tile_more_is_refused(config: RunConfig, own: Path, begun: Path) -> None:
    for path in sorted(own.glob("train/*/000.png")):
        shutil.copy(path, path.with_name("more.png"))
    assert "other tiles: dataset (" in refusal(other(config, dataset=str(own)), begun)


def test_the_same_tiles_elsewhere_are_the_same(config: RunConfig, own: Path, begun: Path, whole: Whole) -> None:
    moved = own.rename(own.with_name("moved"))
    run(other(config, dataset=str(moved)), begun, go_on=True)
    assert left(begun) == whole.left


def test_an_added_set_that_was_renamed_is_the_same(config: RunConfig, own: Path, tmp_path: Path) -> None:
    north, south = own.parent / "north", own.parent / "south"
    shutil.copytree(own / "val", north)
    before = other(config, add_val_dirs=[str(north)], use_only_add_val=True, epochs=2, worst=1)
    run(before, tmp_path / "run")
    north.rename(south)
    assert run(other(before, add_val_dirs=[str(south)]), tmp_path / "run", go_on=True) == []
    images = EventAccumulator(str(tmp_path / "run")).Reload().Tags()["images"]
    assert images == ["worst/add_val/north", "worst/add_val/south"]


def test_added_sets_that_a_file_names_are_found_from_another_working_folder(
    config: RunConfig, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(own / "val", tmp_path / "one" / "north")
    for name in ("two", "lists"):
        (tmp_path / name).mkdir()
    (tmp_path / "lists" / "sets.txt").write_text("north\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path / "one")
    run(other(config, add_val_dirs=["../lists/sets.txt"], epochs=2), tmp_path / "run", epochs=1)
    monkeypatch.chdir(tmp_path / "two")
    stored = Manifest.read(tmp_path / "run" / "run.yaml").config
    (second,) = run(stored, tmp_path / "run", go_on=True)
    assert list(second.added) == ["add_val/north"]


def cut(state: Path) -> None:
    state.write_bytes(state.read_bytes()[:-1000])


def no_bytes(state: Path) -> None:
    state.write_bytes(b"")


def no_torch(state: Path) -> None:
    state.write_bytes(b"not what it was" * 99)


def nothing_in_it(state: Path) -> None:
    torch.save({}, state)


def a_list(state: Path) -> None:
    torch.save([1, 2], state)


def only_weights(state: Path) -> None:
    torch.save(load_state(state)["model"], state)


def of_another_model(state: Path) -> None:
    content = load_state(state)
    content["model"].popitem()
    torch.save(content, state)


def without_progress(state: Path) -> None:
    content = load_state(state)
    content.pop("progress")
    torch.save(content, state)


@pytest.mark.parametrize(
    "spoil",
    [cut, no_bytes, no_torch, nothing_in_it, a_list, only_weights, of_another_model, without_progress],
)
def test_a_state_that_is_damaged_or_missing_is_named(
    config: RunConfig, begun: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(begun / "state.pt")
    mistake = refusal(config, begun)
    assert str(begun) in mistake
    assert "state.pt" in mistake


def test_a_state_with_values_of_a_wrong_type_is_named(config: RunConfig, begun: Path) -> None:
    wrong: list[tuple[str, object]] = [
        ("progress.epoch", "one"),
        ("progress.best_miou", math.nan),
        ("progress.micro_batch", 0),
        ("progress.total", torch.zeros(3)),
        ("progress.unknown", 1),
        ("row", {"epoch": [1]}),
        ("worst", {"val": [(0.5, 10**6, torch.zeros(2, 2, dtype=torch.uint8))]}),
        ("schedule.last_epoch", "one"),
        ("optimizer.param_groups.0.betas", "ab"),
        ("optimizer.state.0.exp_avg", torch.zeros(3)),
        ("optimizer.state.0.exp_avg", torch.zeros(3, device="meta")),
    ]
    intact = (begun / "state.pt").read_bytes()
    for place, value in wrong:
        content = load_state(begun / "state.pt")
        *way, last = (int(part) if part.isdigit() else part for part in place.split("."))
        part: Any = content
        for step in way:
            part = part[step]
        part[last] = value
        torch.save(content, begun / "state.pt")
        expected = f"{begun / 'state.pt'}: damaged, or not the state of this run ("
        assert refusal(config, begun).startswith(expected), place
        (begun / "state.pt").write_bytes(intact)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("\n1,", "\none,"),
        lambda text: text.replace("epoch", "epic", 1),
        lambda text: text.replace(",2,", ",two,"),
        lambda text: text + "4\n",
        lambda text: text.replace("\n1,", "\n1,1,1,"),
        lambda text: text.replace("\n1,", "\n1\0,"),
    ],
    ids=["epoch", "column", "number", "short", "long", "zero"],
)
def test_a_table_of_epochs_that_was_damaged_is_named(
    config: RunConfig, tmp_path: Path, whole: Whole, damage: Callable[[str], str]
) -> None:
    shutil.copytree(whole.folder, tmp_path / "run")
    table = tmp_path / "run" / "metrics.csv"
    text = table.read_text(encoding="utf-8")
    assert damage(text) != text
    table.write_text(damage(text), encoding="utf-8")
    assert refusal(config, tmp_path / "run").startswith(f"{table}: damaged")


def test_a_state_that_is_missing_is_named(config: RunConfig, tmp_path: Path) -> None:
    run(config, tmp_path, epochs=2)
    (tmp_path / "state.pt").unlink()
    assert refusal(config, tmp_path).startswith(f"{tmp_path}: cannot go on: state.pt")


# Two processes.


def holding(config: RunConfig, folder: Path) -> None:
    """A job: train, stop the loader process, say its number, and go no further."""

    def hold(done: int, total: int, loss: float) -> None:
        loaders = [process.pid for process in multiprocessing.active_children()]
        for pid in loaders:
            os.kill(pid, signal.SIGSTOP)  # or it would end by itself a few seconds after its parent
        (folder / "held.json").write_text(json.dumps(loaders), encoding="utf-8")
        time.sleep(600)

    run(config, folder, go_on=True, on_batch=hold)


@pytest.fixture
def held(config: RunConfig, begun: Path) -> Iterator[tuple[ForkServerProcess, int]]:
    """A process that trains in the folder, and its loader process, which stands still."""
    loader = 0
    process = begin(holding, other(config, workers=1), begun, said=begun.with_name("said"))
    try:
        limit = time.monotonic() + 120
        note = begun / "held.json"
        while not (note.is_file() and note.read_text(encoding="utf-8")) and time.monotonic() < limit:
            time.sleep(0.02)
        (loader,) = json.loads(note.read_text(encoding="utf-8"))
        note.unlink()
        yield process, loader
    finally:
        process.kill()
        process.join()
        if loader:
            with suppress(ProcessLookupError):
                os.kill(loader, signal.SIGKILL)


def test_a_folder_in_which_a_process_trains_is_refused_to_another_until_it_dies(
    config: RunConfig, begun: Path, whole: Whole, held: tuple[ForkServerProcess, int]
) -> None:
    process, loader = held
    for epochs in (EPOCHS, EPOCHS + 1):
        mistake = refusal(other(config, epochs=epochs), begun)
        assert mistake.startswith(f"{begun}: another process trains in this folder")
        assert f"process {process.pid} on" in mistake
    before = contents(begun)
    said = script("--exp-name", "run", "--log-dir", begun.parent, where=begun.parent)
    assert (said.status, said.err) == (2, [f"error: {mistake}"])
    assert contents(begun) == before
    assert process.exitcode is None
    process.kill()
    process.join()
    run(config, begun, go_on=True)
    assert _lives(loader)  # it was there all the time
    assert left(begun) == whole.left


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


# A full disk: no file may grow beyond a limit.


def size(folder: Path, name: str) -> int:
    return (folder / name).stat().st_size


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("state.pt", 0.9),
        pytest.param("state.pt", 0.99, marks=SLOW),
        ("best.next/model.safetensors", 0.9),
        ("run.yaml", 0.5),
    ],
)
def test_on_a_full_disk_a_run_ends_with_what_it_had_and_goes_on_when_there_is_room(
    config: RunConfig, begun: Path, whole: Whole, name: str, share: float
) -> None:
    where, typed = begun.parent, ["--exp-name", "run", "--log-dir", begun.parent]
    said = script(*typed, where=where, limit=int(size(whole.folder, name.replace(".next", "")) * share))
    assert said.status == 1
    mistake, hint = said.err
    assert mistake.startswith(f"error: {begun / Path(name).parts[0]}: ")
    assert hint.startswith("to go on: ")
    assert hint.endswith(f"run_single.py --exp-name run --log-dir {where}")
    assert nothing_else(begun)
    assert load_state(begun / "state.pt")["progress"]["epoch"] == 1
    assert best_epoch(begun) == 1
    done = script(*typed, where=where)
    assert (done.status, done.err) == (0, [])
    assert left(begun) == whole.left
    assert nothing_else(begun)


def failing(config: RunConfig, folder: Path, limit: int) -> None:
    """A job: train where no file may become larger than the limit, and say which file could not be written."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        run(config, folder, go_on=True, stop=lambda: True)
    except OSError as error:
        print(error.filename)


def test_on_a_full_disk_a_stopped_run_keeps_its_last_state(config: RunConfig, begun: Path, whole: Whole) -> None:
    said = begun.with_name("said")
    assert ended(begin(failing, config, begun, size(begun, "state.pt") // 2, said=said)) == 0
    assert said.with_suffix(".out").read_text(encoding="utf-8").split() == [str(begun / "state.pt")]
    assert steps_of(config, begun) == 6
    assert left(begun) == whole.left


def test_on_a_full_disk_the_first_file_that_failed_is_named(
    config: RunConfig, tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: Any, place: Any) -> None:
        if Path(place).name in ("state.pt", "worst.png"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place))
        replace(source, place)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(OSError) as caught:
            run(other(config, worst=2), tmp_path)
    assert caught.value.filename == str(tmp_path / "state.pt")
    run(config, tmp_path, go_on=True)
    assert left(tmp_path) == whole.left


def logging(folder: Path, limit: int) -> None:
    """A job: a run's log where no file may become larger than the limit, until a file cannot be written."""
    log = RunLog(RunFolder(folder), RunConfig())
    log.write(1, {"epoch": 1, "loss": 1.0})
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for epoch in range(2, 999):
        try:
            log.write(epoch, {"epoch": epoch, "loss": 1.0})
        except OSError as error:
            print(epoch, error.filename)
            return


def test_on_a_full_disk_events_are_whole_and_what_failed_is_named_without_a_trace(tmp_path: Path) -> None:
    folder, said = tmp_path / "run", tmp_path / "said"
    folder.mkdir()
    assert ended(begin(logging, folder, 9999, said=said)) == 0
    assert said.with_suffix(".err").read_text(encoding="utf-8") == ""
    epoch, name = said.with_suffix(".out").read_text(encoding="utf-8").split()
    (events,) = folder.glob("events.out.tfevents*")
    assert name == str(events)
    assert len(rows(folder)) == int(epoch) - 1 > 1
    RunLog(RunFolder(folder), RunConfig(), int(epoch), {"epoch": epoch, "loss": 2.0}).close(finished=True)
    losses = EventAccumulator(str(folder)).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in losses][-2:] == [(int(epoch) - 1, 1.0), (int(epoch), 2.0)]
    assert len(losses) == int(epoch)


# Signals.


@pytest.mark.parametrize(
    ("blow", "status"),
    [
        (Blow("after", "metrics.csv", 1, signal.SIGINT), 130),
        (Blow("after", "best", 2, signal.SIGTERM), 143),
    ],
    ids=["SIGINT", "SIGTERM"],
)
def test_the_line_that_an_interrupted_run_ends_with_goes_on(
    config: RunConfig, tmp_path: Path, whole: Whole, blow: Blow, status: int
) -> None:
    where = tmp_path / "a folder"
    where.mkdir()
    said = script(*line(config, where), where=where, blow=blow)
    assert (said.status, said.err) == (status, [])
    python, name, *typed = shlex.split(said.out[-1].partition("to go on: ")[2])
    assert (Path(python).name, Path(name).name) == ("python", "run_single.py")
    assert len(rows(where / "run")) == blow.count
    done = script(*typed, where=where)
    assert (done.status, done.err) == (0, [])
    assert left(where / "run") == whole.left
    assert nothing_else(where / "run")


def test_a_signal_in_the_last_epochs_last_moment_finishes_the_run(
    config: RunConfig, tmp_path: Path, whole: Whole
) -> None:
    blow = Blow("after", "metrics.csv", EPOCHS, signal.SIGTERM)
    said = script(*line(config, tmp_path), where=tmp_path, blow=blow)
    assert (said.status, said.err) == (0, [])
    assert left(tmp_path / "run") == whole.left


# By name.


def test_a_finished_run_says_so_and_a_larger_number_of_epochs_goes_on(
    config: RunConfig, tmp_path: Path, whole: Whole
) -> None:
    shutil.copytree(whole.folder, tmp_path / "run")
    before = contents(tmp_path / "run")
    typed = ["--exp-name", "run", "--log-dir", tmp_path]
    for more in ([], ["-e", EPOCHS], ["-e", EPOCHS - 1]):
        said = script(*typed, *more, where=tmp_path)
        assert (said.status, said.err) == (0, [])
        assert f"{tmp_path / 'run'} is finished: {EPOCHS} epochs" in said.out[0]
        assert contents(tmp_path / "run") == before
    said = script(*typed, "-e", EPOCHS + 1, where=tmp_path)
    assert (said.status, said.err) == (0, [])
    assert [row["epoch"] for row in rows(tmp_path / "run")] == ["1", "2", "3", "4"]
    assert rows(tmp_path / "run")[:EPOCHS] == whole.left["rows"]


@pytest.mark.parametrize("name", ["a/b", "../a", "/tmp/a", "a/", "", ".", ".."])
def test_a_name_that_is_a_path_is_refused(config: RunConfig, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="--exp-name"):
        RunFolder.named(tmp_path / "logs", name)


def test_a_folder_that_is_no_run_is_refused(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"meow")
    (tmp_path / "notes").write_text("mine", encoding="utf-8")
    before = contents(tmp_path)
    for name in ("photos", "notes"):
        with pytest.raises(InputError, match=re.escape(f"{tmp_path / name}: exists, and is not a run")):
            RunFolder.named(tmp_path, name)
    said = script(*line(config, tmp_path)[:-1], "photos", where=tmp_path)
    assert said.status == 2
    assert len(said.err) == 1
    assert {
        name: data for name, data in contents(tmp_path).items() if "sa" not in name[:2] and name in before
    } == before
