"""Whole searches on Ray: through run_search.py, on one Ray runtime for most of them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
import segmentation_models_pytorch as smp
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.evaluation.validate import validate
from segtune.files.folders import RunFolder, SearchFolder
from segtune.planning import feasibility
from segtune.training.result import EpochResult
from segtune.training.runlog import read_rows
from segtune.tuning import search as search_module
from segtune.tuning.ray_backend import OnRay
from segtune.tuning.searcher import Searcher
from tests.conftest import WriteDataSet
from tests.scripts import Ended, call
from tests.tuning.searches import RUN, rows

ROOT = Path(__file__).resolve().parent.parent.parent


def study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / 'study.db'}")


@dataclass
class Search:
    folder: Path
    ended: Ended


# In order, one at a time: a baseline that learns nothing, one that learns, one that does not, one that explodes.
MIXED = RUN + (
    "space: {lr: [1e-9, 5e-3, 2e-9, 1e30], batch_size: [2]}\n"
    "baseline: {lr: 1e-9, batch_size: 2}\n"
    "search: {sampler: grid, trials: 4, grace_period: 1, keep: 2, max_concurrent: 1, cpus_per_trial: 1,"
    " gpus_per_trial: 0}\n"
)


@pytest.fixture(scope="module")
def mixed(cluster: None, tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Search:
    """A search with trials that finish, are stopped and fail."""
    root = tmp_path_factory.mktemp("results")
    space = root / "mixed.yaml"
    space.write_text(f"dataset: {tiles}\nchannels: [nir]\n{MIXED}")
    return Search(root / "r é" / "mixed", call("run_search", "--space", space, "--results-dir", root / "r é"))


def test_trials_csv_has_every_trial_with_its_status_and_every_setting(mixed: Search) -> None:
    found = rows(mixed.folder)
    assert mixed.ended.status == 0
    assert [row["trial"] for row in found] == list("0123")
    assert [row["status"] for row in found] == ["finished", "finished", "stopped", "failed"]
    assert set(RunConfig.model_fields) <= set(found[0])
    assert len({row["fingerprint"] for row in found}) == 1
    assert found[0]["fingerprint"]
    assert all("the loss became" in row["error"] for row in found[3:])
    assert all(float(row["seconds"]) > 0 and int(row["epochs"]) == 3 for row in found[:2])


def test_the_study_agrees_with_the_folders(mixed: Search) -> None:
    states = [trial.state.name for trial in study(mixed.folder).trials]
    assert states == ["COMPLETE", "COMPLETE", "PRUNED", "FAIL"]
    for trial in study(mixed.folder).trials[:3]:
        curve = read_rows(SearchFolder(mixed.folder).trial(trial.number))
        assert {int(row["epoch"]): float(row["best_miou"]) for row in curve} == trial.intermediate_values


def test_a_trial_without_a_gpu_sees_none(mixed: Search) -> None:
    content = yaml.safe_load(SearchFolder(mixed.folder).trial(1).run_yaml.read_text())
    assert not content["machine"]["cuda_visible_devices"]


def test_a_failed_trial_leaves_its_trace(mixed: Search) -> None:
    assert "NonFiniteLossError" in SearchFolder(mixed.folder).trial(3).error.read_text()


def test_the_winner_is_a_model_that_scores_what_the_search_reported(mixed: Search, tiles: Path) -> None:
    best = max(float(row["miou"]) for row in rows(mixed.folder) if row["miou"])
    assert validate(mixed.folder, tiles / "val").scores.miou == best
    assert smp.from_pretrained(str(mixed.folder / "best")) is not None
    assert yaml.safe_load((mixed.folder / "best" / "run.yaml").read_text())["classes"] == [255]


def test_only_the_weights_worth_keeping_stay(mixed: Search) -> None:
    folders = [SearchFolder(mixed.folder).trial(number) for number in range(4)]
    assert sum(folder.best.exists() for folder in folders) == 2
    assert not any(folder.state.exists() for folder in folders)
    assert not (mixed.folder / ".ray").exists()


def test_trials_share_a_process(mixed: Search) -> None:
    trials = [SearchFolder(mixed.folder).trial(number) for number in range(4)]
    assert len({yaml.safe_load(trial.run_yaml.read_text())["machine"]["process"] for trial in trials}) == 1


def test_tensorboard_has_curves_and_hparams_of_every_trial(mixed: Search) -> None:
    for number in range(3):
        events = EventAccumulator(str(mixed.folder / f"trial_{number:04d}"))
        events.Reload()
        assert {"loss", "miou", "lr"} <= set(events.Tags()["scalars"])
        assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")


def test_the_console_says_what_happened_and_what_to_type_next(mixed: Search, tiles: Path) -> None:
    out = mixed.ended.out
    assert re.search(r"^#0 +0\.\d{4}\* .*finished 3 epochs.*baseline", out, re.M)
    assert re.search(r"^#2 .*stopped at epoch 1 of 3", out, re.M)
    assert re.search(r"^#3 .*failed after 0 of 3 epochs: the loss became", out, re.M)
    assert "winner: trial #" in out
    assert "baseline" in out
    assert f"python validate.py -cd {shlex.quote(str(mixed.folder))} -d {tiles}/val" in out
    assert f"the page of the search: {mixed.folder / 'report.html'}\n" in out
    assert "data:image/webp" in (mixed.folder / "report.html").read_text(encoding="utf-8")
    assert "tensorboard --logdir" in out
    assert "Ray" not in out
    assert "Warning" not in out


def test_run_yaml_of_a_trial_is_a_config(mixed: Search) -> None:
    content = yaml.safe_load(RunFolder(mixed.folder / "trial_0001").run_yaml.read_text())
    settings = {name: content[name] for name in RunConfig.model_fields}
    assert RunConfig.from_settings(settings).lr == 5e-3


def test_a_search_that_exists_is_refused_and_left_alone(mixed: Search, tiles: Path, tmp_path: Path) -> None:
    before = (mixed.folder / "trials.csv").read_bytes()
    space = tmp_path / "mixed.yaml"
    space.write_text(f"dataset: {tiles}\nchannels: [nir]\n{MIXED}")
    ended = call("run_search", "--space", str(space), "--results-dir", str(mixed.folder.parent))
    assert ended.status == 2
    assert re.fullmatch(r"error: .*mixed: this search exists; .*--resume.*--name.*\n", ended.err)
    ended = call(
        "run_search", "--space", str(space), "--results-dir", str(mixed.folder.parent), "--resume", "--set", "loss=ce"
    )
    assert ended.status == 2
    assert "other settings" in ended.err
    assert (mixed.folder / "trials.csv").read_bytes() == before


def test_a_search_that_is_terminated_before_its_first_trial_ends_in_order(
    cluster: None, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OnRay.run

    def terminated(self: OnRay, searcher: Searcher) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        run(self, searcher)

    monkeypatch.setattr(OnRay, "run", terminated)
    (tmp_path / "s.yaml").write_text(f"dataset: {tiles}\nchannels: [nir]\n{MIXED}")
    begun = time.monotonic()
    ended = call("run_search", "--space", tmp_path / "s.yaml", "--results-dir", tmp_path)
    assert (ended.status, ended.err) == (143, "")
    assert f"{tmp_path / 's' / 'report.html'}\ninterrupted; to go on: python run_search.py" in ended.out
    assert time.monotonic() - begun < 60


class Watch:
    """Counts the trials that run at the same time.

    Until there are as many as are planned, those that run are held back, each epoch a little: short trials would all be
    over before a slow machine has started the last process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table: list[dict[str, str]] = []  # trials.csv, at the first report
        self.plan: Any = None
        self.running: set[int] = set()
        self.most = 0
        self.said: list[str] = []

    def started(self, plan: Any, trials: list[Any]) -> None:
        self.plan = plan

    def epoch(self, number: int, result: EpochResult) -> None:
        self.running.add(number)
        self.most = max(self.most, len(self.running))
        self.table = self.table or rows(self.folder)
        if self.most < self.plan.concurrent:
            time.sleep(1)

    def say(self, line: str) -> None:
        self.said.append(line)

    def ended(self, trial: Any) -> None:
        self.running.discard(trial.number)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["tiles", "cache"])
def test_trials_read_the_cache_of_the_driver_or_make_their_own(
    cluster: None,
    tmp_path: Path,
    data_set: WriteDataSet,
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
) -> None:
    data = data_set(tmp_path / "тайлы", size=(40, 56))
    cache = tmp_path / "cache"
    space = tmp_path / "space.yaml"
    space.write_text(
        f"dataset: {data}\n"
        "run: {model: unet, encoder: tu-mobilenetv3_small_050, epochs: 1, workers: 1, batch_size: 3}\n"
        "space: {fit: [resize, crop, pad], image_size: [32]}\n"
        "search: {sampler: grid, scheduler: none, max_concurrent: 1, cpus_per_trial: 1, gpus_per_trial: 0}\n",
        encoding="utf-8",
    )
    scan_data = feasibility.scan_data

    def then_lose(*given: Any) -> Any:
        info = scan_data(*given)
        shutil.rmtree(data / "train" / "images" if lost == "tiles" else cache)
        return info

    monkeypatch.setattr(feasibility, "scan_data", then_lose)
    ended = call("run_search", "--space", str(space), "--results-dir", str(tmp_path / "r"), "--cache-dir", str(cache))
    assert (ended.status, ended.err) == (0, "")
    assert [row["status"] for row in rows(tmp_path / "r" / "space")] == ["finished"] * 4
    assert len({(row["fit"], row["image_size"]) for row in rows(tmp_path / "r" / "space")}) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(("share", "concurrent"), [(1.0, 2), (0.5, 3)])
def test_trials_share_gpus_and_see_their_own(
    share: float, concurrent: int, cluster: None, tiles: Path, tmp_path: Path
) -> None:
    from segtune.space.reader import load_space

    path = tmp_path / "shared.yaml"
    path.write_text(
        f"dataset: {tiles}\n{RUN.replace('epochs: 3', 'epochs: 15')}space: {{lr: [1e-3, 2e-3, 3e-3]}}\n"
        "search: {sampler: grid, scheduler: none, trials: 4, max_concurrent: 3, cpus_per_trial: 1, "
        f"gpus_per_trial: {share}}}\n"
    )
    space = load_space(path)
    folder = SearchFolder(tmp_path / "shared")
    watch = Watch(folder.path)
    info = scan(space.baseline)
    outcome = search_module.run_search(space, info, folder, watch)
    assert {trial.status for trial in outcome.trials} == {"finished"}
    assert watch.plan.concurrent == watch.most == concurrent
    assert "running" in {row["status"] for row in watch.table}
    asked = [trial.datetime_start for trial in study(folder.path).trials[:concurrent]]
    assert (asked[-1] - asked[0]).total_seconds() < 2  # their processes start at a time, not one after another
    seen = [
        yaml.safe_load(folder.trial(trial.number).run_yaml.read_text())["machine"]["cuda_visible_devices"]
        for trial in outcome.trials
    ]
    assert set(seen) <= {"0", "1"}  # one GPU each
    assert share < 1 or set(seen) == {"0", "1"}


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("", ["--space", "nowhere.yaml"], "nowhere"),
        ("", ["--space", "quickstrat"], "did you mean 'quickstart'"),
        ("{tiles}run: {{encodr: x}}\nspace: {{lr: [1e-3, 1e-2]}}\n", [], r":2: .*did you mean 'encoder'"),
        ("{tiles}space: {{optimizer: [adamm, sgd]}}\n", [], r":2: .*did you mean 'adam'"),
        ("{tiles}space: {{encoder: [resnet18, resnet3]}}\n", [], r":2: .*unknown encoder 'resnet3'"),
        ("{tiles}space: {{lr: {{low: 3e-3, high: 1e-3}}}}\n", [], r":2: .*low <= high"),
        ("{tiles}space: {{}}\n", [], "nothing is searched"),
        ("dataset: nowhere\nspace: {{lr: [1e-3, 1e-2]}}\n", [], "nowhere: no such data set"),
        ("{tiles}run: {{model: unetplusplus}}\nspace: {{encoder: [mit_b0, resnet18]}}\n", [], "mit_b0"),
        ("{tiles}space: {{lr: [1e-3, 1e-2]}}\n", ["--gpus-per-trial", "64"], "gpus_per_trial"),
        ("{tiles}space: {{lr: [1e-3, 1e-2]}}\n", ["--set", "gpus=2"], "gpus: in a search, gpus_per_trial: 2"),
        ("{tiles}space: {{lr: [1e-3, 1e-2]}}\n", ["--cpus-per-trial", "4096"], "cpus_per_trial"),
        ("{tiles}space: {{lr: [1e-3, 1e-2]}}\n", ["--set", "classes=7"], "classes: no mask .* contains 7"),
        ("{tiles}space: {{lr: [1e-3, 1e-2]}}\n", ["--set", "device=cuda:77"], "device: .*cuda:77"),
        ("{tiles}space: {{lr: [1e-3, 1e-2]}}\n", ["--trails", "7"], "--trails"),
        ("{tiles}space: {{lr: [1e-3, 1e-2]}}\n", ["--set", "precision=fp16", "model=unet"], "fp16 needs a GPU"),
        ("{tiles}space: {{lr: [1e-3, 1e-2]}}\n", ["--set", "model=pan"], "below 128, which model pan needs"),
        ("", ["--space", "quickstart", "--set", "model=deeplabv3", "encoder=vgg11"], "deeplabv3 .* vgg11"),
    ],
)
def test_bad_input_is_one_line_per_mistake_and_writes_nothing(
    text: str,
    arguments: list[str],
    message: str,
    tiles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if text:
        (tmp_path / "my.yaml").write_text(text.format(tiles=f"dataset: {tiles}\n"))
        arguments = ["--space", "my.yaml", *arguments]
    before = sorted(tmp_path.rglob("*"))
    ended = call("run_search", *arguments)
    assert ended.status == 2
    assert all(line.startswith("error: ") for line in ended.err.splitlines())
    assert re.search(message, ended.err)
    assert sorted(tmp_path.rglob("*")) == before


def wait_for(path: Path, text: str, seconds: float = 300) -> None:
    limit = time.monotonic() + seconds
    while text not in (path.read_text() if path.exists() else ""):
        assert time.monotonic() < limit, f"{path} never held {text!r}"
        time.sleep(0.05)


def finish_alone(folder: Path) -> None:
    """Train the last trial of a killed search to its end, as its worker might have before it noticed."""
    from contextlib import closing

    from segtune.data.scan import scan
    from segtune.training.train import train

    trial = RunFolder(folder / "trial_0001")
    limit = time.monotonic() + 60
    while trial.held():  # its process notices within seconds that the search was killed
        assert time.monotonic() < limit
        time.sleep(0.1)
    config = RunConfig.from_settings(study(folder).trials[1].user_attrs["settings"])
    with closing(train(config, scan(config), trial, threads=1, go_on=True)) as epochs:
        assert [result.epoch for result in epochs][-1] == config.epochs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(signal.SIGTERM, 143, id="SIGTERM"),
        pytest.param(signal.SIGINT, 130, id="Ctrl-C"),
        pytest.param(signal.SIGKILL, -9, id="kill-9"),
    ],
)
def test_an_interrupted_search_goes_on_where_it_was(
    number: int,
    status: int,
    cluster: None,
    tiles: Path,
    tmp_path: Path,
) -> None:
    epochs = 15
    space = tmp_path / "long.yaml"
    space.write_text(
        f"dataset: {tiles}\n{RUN.replace('epochs: 3', f'epochs: {epochs}')}space: {{lr: [1e-3, 3e-3]}}\n"
        "baseline: {epochs: 1}\n"
        "search: {trials: 2, scheduler: none, sampler: random, max_concurrent: 1, cpus_per_trial: 1,"
        " gpus_per_trial: 0}\n"
    )
    arguments = ["--space", str(space), "--results-dir", str(tmp_path)]
    folder = tmp_path / "long"
    with (tmp_path / "out.txt").open("w") as out:
        command = [sys.executable, str(ROOT / "run_search.py"), *arguments]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path, start_new_session=True)
        try:
            wait_for(folder / "trial_0001" / "metrics.csv", "\n2,")
            if number == signal.SIGKILL:
                process.kill()
            else:  # as a terminal and a batch system do: Ray's own processes too
                os.killpg(process.pid, number)
            assert process.wait(60) == status
        finally:
            process.kill()
    done = rows(folder)[0]
    half = read_rows(RunFolder(folder / "trial_0001"))
    assert 2 <= len(half) < epochs
    if number != signal.SIGKILL:
        assert "--resume" in (tmp_path / "out.txt").read_text().splitlines()[-1]
        assert "not finished at" in (folder / "report.html").read_text(encoding="utf-8")
        assert [trial.state.name for trial in study(folder).trials] == ["COMPLETE", "WAITING"]
        assert [row["status"] for row in rows(folder)] == ["finished", "pending"]

    if number == signal.SIGKILL:  # at the worst moment: all epochs done, and nobody knows
        finish_alone(folder)
    resumed = call("run_search", *arguments, "--resume")
    assert resumed.status == 0, resumed.err
    assert [trial.state.name for trial in study(folder).trials] == ["COMPLETE"] * 2
    assert rows(folder)[0] == done
    whole = read_rows(RunFolder(folder / "trial_0001"))
    assert [int(row["epoch"]) for row in whole] == list(range(1, epochs + 1))
    assert whole[: len(half) - 1] == half[:-1]  # it did not start again
