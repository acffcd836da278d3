"""Searches on a Ray cluster of two nodes, both on this machine: each with a core, a GPU and a cache of its own.

The GPUs are in Ray's books only: a trial that is given one finds none there, and trains on the CPU.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import timm
import yaml
from ray._raylet import AuthenticationTokenLoader
from ray.cluster_utils import Cluster
from safetensors.torch import save_file

from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.errors import InputError
from segtune.files.folders import RunFolder, SearchFolder
from segtune.space.reader import load_space
from segtune.space.space import Space
from segtune.training.resolve import resolve
from segtune.training.result import EpochResult
from segtune.training.runlog import read_rows
from segtune.tuning import worker as trial_module
from segtune.tuning.cluster import alive_nodes, ray_runtime, wait_for_nodes
from segtune.tuning.failures import Failure, Fault
from segtune.tuning.proposals import TrialStart
from segtune.tuning.ray_session import authentication_put_back
from segtune.tuning.search import run_search as search
from segtune.tuning.worker import run_trial
from tests.conftest import WriteDataSet
from tests.scripts import call

ENCODER = "tu-mobilenetv3_small_050"
RUN = (
    "run: {{model: unet, encoder: {encoder}, image_size: 32, epochs: {epochs}, "
    "encoder_weights: {weights}, augmentation: safe, "
    "workers: 0}}\n"
)


@dataclass
class Nodes:
    """A cluster of nodes with a core and a GPU: the head, with this process's cache, and one with its own cache."""

    cluster: Cluster
    caches: tuple[Path, Path]

    @property
    def address(self) -> str:
        return str(self.cluster.address)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> Iterator[Nodes]:
    caches = Path(os.environ["SEGTUNE_CACHE_DIR"]), tmp_path_factory.mktemp("other")
    # As for a user who has a token, from a search without a cluster, while this cluster asks for none.
    token = tmp_path_factory.mktemp("token") / "auth_token"
    token.write_text("0123456789abcdef" * 4)
    with pytest.MonkeyPatch.context() as patch, authentication_put_back():
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        AuthenticationTokenLoader.instance().reset_cache()
        share = {"num_cpus": 1, "num_gpus": 1}
        started = Cluster(initialize_head=True, head_node_args={**share, "include_dashboard": False})
        started.add_node(**share, env_vars={"SEGTUNE_CACHE_DIR": str(caches[1])})
        yield Nodes(started, caches)
        started.shutdown()
    AuthenticationTokenLoader.instance().reset_cache()


@pytest.fixture
def third(nodes: Nodes) -> Iterator[Any]:
    """Add a node without a GPU for one test."""
    node = nodes.cluster.add_node(num_cpus=1)
    yield node
    if node in nodes.cluster.worker_nodes:
        nodes.cluster.remove_node(node, allow_graceful=False)
    nodes.cluster.wait_for_nodes()


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory, data_set: WriteDataSet) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "tiles", train=8, val=4)


@dataclass
class Watch:
    """Notes on which node each trial's epochs were trained, and what else is said.

    Trials on nodes that are up early are held back, each epoch a little, until one reports from every node: they would
    all be over otherwise before a slow machine has started the last node's process.
    """

    folder: SearchFolder
    nodes: int = 1
    plan: Any = None
    epochs: dict[int, list[str]] = field(default_factory=dict)
    on_epoch: Any = None
    lines: list[str] = field(default_factory=list)

    def started(self, plan: Any, trials: list[Any]) -> None:
        self.plan = plan

    def epoch(self, number: int, result: EpochResult) -> None:
        self.epochs.setdefault(number, []).append(machine_of(self.folder, number)["node"])
        if len({node for trained in self.epochs.values() for node in trained}) < self.nodes:
            time.sleep(1)
        if self.on_epoch:
            self.on_epoch(number, result)

    def ended(self, trial: Any) -> None:
        pass

    def say(self, line: str) -> None:
        self.lines.append(line)


def machine_of(folder: SearchFolder, number: int) -> dict[str, str]:
    """Return the machine that a trial runs on, from its run.yaml."""
    machine: dict[str, str] = yaml.safe_load(folder.trial(number).run_yaml.read_text())["machine"]
    return machine


@pytest.fixture
def weights_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet weights for this process: $SEGTUNE_WEIGHTS is typed where the search starts, and no node has it."""
    (tmp_path / "weights").mkdir()
    tensors = timm.create_model(ENCODER.removeprefix("tu-")).state_dict()
    save_file(tensors, tmp_path / "weights" / f"{ENCODER}.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGTUNE_WEIGHTS", "weights")


def space_of(folder: Path, tiles: Path | str, epochs: int, search: str, gpus: int = 0, weights: str = "none") -> Space:
    path = folder / "space.yaml"
    path.write_text(
        f"dataset: {tiles}\n{RUN.format(encoder=ENCODER, epochs=epochs, weights=weights)}"
        f"space: {{lr: [1e-3, 2e-3, 3e-3, 4e-3]}}\n"
        f"search: {{sampler: grid, scheduler: none, gpus_per_trial: {gpus}, {search}}}\n"
    )
    return load_space(path)


def entries(cache: Path) -> list[str]:
    return sorted(str(data.parent.relative_to(cache)) for data in cache.rglob("data.bin"))


@pytest.mark.slow
@pytest.mark.usefixtures("weights_here")
def test_trials_run_on_both_nodes_each_with_a_gpu_and_a_cache_of_its_own(
    nodes: Nodes, tiles: Path, tmp_path: Path
) -> None:
    space = space_of(tmp_path, tiles, 60, "trials: 2", gpus=1, weights="auto")
    folder = SearchFolder(tmp_path / "found")
    watch = Watch(folder, nodes=2)
    before = set(entries(nodes.caches[0]))
    outcome = search(space, scan(space.baseline), folder, watch, address=nodes.address)
    assert {trial.status for trial in outcome.trials} == {"finished"}
    plan = watch.plan
    assert (plan.concurrent, plan.cpus_per_trial, plan.gpus_per_trial, plan.gpus, plan.nodes) == (2, 1, 1, 2, 2)
    places = {number: set(trained) for number, trained in watch.epochs.items()}
    assert all(len(place) == 1 for place in places.values())
    assert len(set.union(*places.values())) == 2
    for number, place in places.items():
        machine = machine_of(folder, number)
        assert machine["host"] == socket.gethostname()
        assert place <= {node.node_id for node in nodes.cluster.list_all_nodes()}
        assert machine["cuda_visible_devices"] == "0"  # the one that each node has
        settings = yaml.safe_load(folder.trial(number).run_yaml.read_text())
        assert settings["encoder_weights"] == "imagenet"  # of the folder that the search was started with
    with folder.trials_csv.open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["finished"] * 2
    assert (folder.best / "model.safetensors").is_file()
    # Train and val, decoded once on each node.
    assert set(entries(nodes.caches[0])) - before == set(entries(nodes.caches[1]))
    assert len(entries(nodes.caches[1])) == 2


@pytest.mark.slow
@pytest.mark.parametrize("hidden", ["results", "tiles"])
def test_what_a_node_does_not_see_is_named_before_anything_starts(
    hidden: str,
    nodes: Nodes,
    tiles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The same path, and a folder of its own for each process: as on machines that share no disk.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiles").symlink_to(tiles)
    here = Path("/proc/self/cwd")
    space_of(tmp_path, here / "tiles" if hidden == "tiles" else tiles, 1, "trials: 2")
    results = here / "results" / "deep" if hidden == "results" else tmp_path / "results"
    ended = call("run_search", "--space", "space.yaml", "--results-dir", results, "--address", nodes.address)
    named = str(results) if hidden == "results" else f"{here}/tiles/train"
    assert all(f"node {socket.gethostname()} (" in mistake for mistake in ended.mistakes)
    assert sum(named in mistake for mistake in ended.mistakes) == 2  # nodes
    assert not (tmp_path / "results").exists()
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:{free}", "no Ray cluster answers"),
        ("127.0.0.1:{other}", "something else listens"),
        ("here", "no Ray cluster answers"),
        ("ray://127.0.0.1:10001", "on a node of the cluster, with HOST:PORT or auto"),
    ],
)
def test_where_no_cluster_answers_one_line_says_so(address: str, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free, socket.create_server(("127.0.0.1", 0)) as other:
        ports = {"free": free.getsockname()[1], "other": other.getsockname()[1]}
        free.close()
        if "{other}" in address:
            threading.Thread(target=lambda: other.accept()[0].sendall(b"220 not Ray"), daemon=True).start()
        given = address.format(**ports)
        with pytest.raises(InputError, match=f"^--address {given}: .*{reason}") as caught, ray_runtime(given):
            pass
    assert len(caught.value.mistakes) == 1


@pytest.mark.slow
def test_waiting_for_nodes_ends_when_they_are_there_or_says_how_many_are(nodes: Nodes) -> None:
    wait_for_nodes(nodes.address, 2, seconds=0)
    with pytest.raises(Exception, match=f"^{nodes.address}: 2 of 3 nodes"):
        wait_for_nodes(nodes.address, 3, seconds=0)


@dataclass
class Lone:
    """A trial of a search, run as Ray would but in this process, without Ray."""

    folder: SearchFolder
    settings: dict[str, Any]
    info: Any

    def run(self) -> list[dict[str, Any]]:
        """Run the trial; return its reports."""
        reports: list[dict[str, Any]] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trial_module.tune, "report", reports.append)
            patch.setattr(trial_module.ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "here"))
            start = TrialStart(0, RunConfig.from_settings(self.settings), self.folder.trial(0).path)
            run_trial({"start": start}, self.info, threads=1, cores=1, hang_time=600.0)
        return reports


@pytest.fixture
def lone(tiles: Path, tmp_path: Path) -> Lone:
    config = space_of(tmp_path, tiles, 1, "trials: 2").baseline
    folder = SearchFolder(tmp_path / "search")
    folder.path.mkdir()
    folder.search_yaml.touch()
    info = scan(config)
    return Lone(folder, resolve(config, info).settings(), info)


def test_a_trial_leaves_another_nodes_cache_alone(lone: Lone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in lone.info.entries.values():
        assert path.is_dir()
    monkeypatch.setenv("SEGTUNE_CACHE_DIR", str(tmp_path / "here"))
    lone.info = lone.info.light(with_holders=False)
    assert lone.run()[-1]["result"].epoch == 1
    assert len(entries(tmp_path / "here")) == 2


def test_a_finished_trial_reports_its_last_epoch_again(lone: Lone) -> None:
    report, again = (lone.run()[0]["result"] for _ in range(2))
    assert all(getattr(again, name) == getattr(report, name) for name in ("epoch", "epochs", "best_miou", "best_epoch"))
    assert again.spent.keys() == report.spent.keys()
    assert 0 < again.spent["training"] <= report.spent["training"]


def test_a_trial_that_does_not_see_the_search_trains_nothing(lone: Lone) -> None:
    lone.folder.search_yaml.unlink()
    (report,) = lone.run()
    assert str(lone.folder.search_yaml) in report["failure"].reason
    assert f"node {socket.gethostname()}" in report["failure"].reason
    assert not any(lone.folder.path.iterdir())


@pytest.mark.parametrize("cache", [None, "none"])
def test_a_trial_that_does_not_see_the_data_set_names_node_and_path(
    cache: str | None, lone: Lone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lone.settings["cache_dir"] = cache
    monkeypatch.setenv("SEGTUNE_CACHE_DIR", str(tmp_path / "here"))
    if cache:
        lone.info = scan(RunConfig.from_settings(lone.settings))
    lone.settings["dataset"] = str(tmp_path / "gone")
    (report,) = lone.run()
    assert re.fullmatch(rf"{tmp_path}/gone: no such .* \(node {socket.gethostname()}\)", report["failure"].reason)
    assert report["failure"].fault is Fault.PLACE


@pytest.mark.parametrize("part", ["images", "gt"])
def test_an_emptied_folder_of_tiles_is_no_fault_of_the_trial(
    part: str, lone: Lone, tmp_path: Path, data_set: WriteDataSet
) -> None:
    data = data_set(tmp_path / "own", train=2, val=1)
    lone.settings |= {"dataset": str(data), "cache_dir": "none"}
    lone.info = scan(RunConfig.from_settings(lone.settings))
    shutil.rmtree(data / "val" / part)
    (data / "val" / part).mkdir()
    (report,) = lone.run()
    reason = f"{data}/val/{part}/000.png: no such folder or file (node {socket.gethostname()})"
    assert report == {"failure": Failure(reason, Fault.PLACE)}


@pytest.mark.slow
def test_a_lost_node_costs_its_trials_one_repeat(nodes: Nodes, third: Any, tiles: Path, tmp_path: Path) -> None:
    space, folder = space_of(tmp_path, tiles, 40, "trials: 4, cpus_per_trial: 1"), SearchFolder(tmp_path / "found")
    lost: dict[int, list[dict[str, str]]] = {}

    def lose(number: int, result: EpochResult) -> None:
        if not lost and machine_of(folder, number)["node"] == third.node_id and result.epoch >= 3:
            nodes.cluster.remove_node(third, allow_graceful=False)
            lost[number] = read_rows(RunFolder(folder.trial(number).path))

    watch = Watch(folder, nodes=3, on_epoch=lose)
    outcome = search(space, scan(space.baseline), folder, watch, address=nodes.address)
    ((number, half),) = lost.items()
    assert [line.split(":")[0] for line in watch.lines] == [f"#{number} is repeated"]
    assert {trial.status for trial in outcome.trials} == {"finished"}
    whole = read_rows(folder.trial(number))
    assert [int(row["epoch"]) for row in whole] == list(range(1, 41))
    assert whole[: len(half) - 1] == half[:-1]  # it went on, and did not start again


@pytest.mark.slow
def test_nodes_that_left_are_not_planned_with(nodes: Nodes, third: Any) -> None:
    with ray_runtime(nodes.address) as found:
        assert sorted(node["CPU"] for node in found) == [1, 1, 1]
        nodes.cluster.remove_node(third, allow_graceful=False)
        end = time.monotonic() + 60
        while len(alive_nodes()) > 2 and time.monotonic() < end:
            time.sleep(0.1)
        assert sorted(node["Resources"]["CPU"] for node in alive_nodes()) == [1, 1]
