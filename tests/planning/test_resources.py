from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segtune import machine
from segtune.errors import InputError
from segtune.planning.resources import Plan, local_resources, make_plan
from segtune.space.settings import SearchSettings


def plan(cpus: int, gpus: int, device: str = "auto", **settings: Any) -> Plan:
    return make_plan(SearchSettings(**settings), [{"CPU": cpus, "GPU": gpus}], device)


def cluster(*nodes: tuple[int, int], **settings: Any) -> Plan:
    """The plan on nodes of so many cores and GPUs."""
    found = [{"CPU": float(cpus), "GPU": float(gpus)} if gpus else {"CPU": float(cpus)} for cpus, gpus in nodes]
    return make_plan(SearchSettings(**settings), found)


def test_without_a_gpu_trials_share_the_cores_evenly() -> None:
    assert (plan(2, 0).concurrent, plan(2, 0).cpus_per_trial) == (2, 1)
    assert (plan(16, 0).concurrent, plan(16, 0).cpus_per_trial) == (4, 4)
    assert plan(16, 0, max_concurrent=8).cpus_per_trial == 2


def test_with_gpus_each_trial_gets_one_and_its_share_of_the_cores() -> None:
    found = plan(16, 2)
    assert (found.gpus_per_trial, found.concurrent, found.cpus_per_trial) == (1.0, 2, 8)


@pytest.mark.parametrize(("share", "concurrent"), [(0.5, 4), (1 / 3, 6), (0.25, 8), (1.0, 2), (2.0, 1), (0.4, 4)])
def test_fractions_of_a_gpu_pack_trials(share: float, concurrent: int) -> None:
    assert plan(16, 2, gpus_per_trial=share).concurrent == concurrent


def test_the_cores_limit_how_many_trials_share_a_gpu() -> None:
    assert plan(4, 1, gpus_per_trial=0.125, cpus_per_trial=2).concurrent == 2


def test_fewer_trials_than_room_get_more_cores() -> None:
    assert plan(16, 0, trials=2).cpus_per_trial == 8


def test_device_cpu_leaves_the_gpu_alone() -> None:
    assert plan(4, 1, device="cpu").gpus_per_trial == 0


def test_a_trial_fits_on_one_node() -> None:
    assert cluster((2, 0), (4, 0), cpus_per_trial=3).concurrent == 1  # of six cores, but two and four
    assert cluster((4, 1), (4, 1), gpus_per_trial=0.4).concurrent == 4
    assert cluster((8, 3), (8, 3), gpus_per_trial=2.0).concurrent == 2
    assert cluster((16, 0), (4, 1), gpus_per_trial=0.5).nodes == 1


def test_nodes_without_a_gpu_are_all_used() -> None:
    found = cluster((64, 0), (64, 0))
    assert (found.concurrent, found.cpus_per_trial, found.nodes) == (8, 16, 2)
    found = cluster((2, 0), (4, 0))
    assert (found.concurrent, found.cpus_per_trial) == (6, 1)


def test_a_small_node_does_not_make_the_share_of_all_small() -> None:
    found = cluster((2, 0), (64, 0))
    assert (found.concurrent, found.cpus_per_trial, found.nodes) == (4, 16, 1)


def test_every_gpu_of_a_cluster_is_used() -> None:
    found = cluster((8, 4), (64, 8))
    assert (found.gpus_per_trial, found.concurrent, found.cpus_per_trial) == (1.0, 12, 2)
    assert str(found) == "12 trials at a time on 2 nodes, each on 2 cores and 1 GPU"


@pytest.mark.parametrize(
    ("nodes", "settings", "message"),
    [
        (((4, 1), (4, 1)), {"gpus_per_trial": 2.0}, "gpus_per_trial: 2 .* 1 GPU .* any one of 2 nodes"),
        (((2, 0), (4, 0)), {"cpus_per_trial": 6}, "cpus_per_trial: .* 6 cores, but 4 .* any one of 2 nodes"),
        (((16, 0), (4, 1)), {"cpus_per_trial": 8, "gpus_per_trial": 1.0}, "no one of 2 nodes has 8 cores and 1 GPU"),
        ((), {}, "any one of 0 nodes"),
    ],
)
def test_what_no_node_has_is_refused(nodes: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cluster(*nodes, **settings)


@pytest.mark.parametrize(
    ("cpus", "gpus", "device", "settings", "named"),
    [
        (2, 0, "auto", {"gpus_per_trial": 0.5}, "gpus_per_trial"),
        (8, 1, "auto", {"gpus_per_trial": 2.0}, "gpus_per_trial"),
        (2, 0, "auto", {"cpus_per_trial": 3}, "cpus_per_trial"),
        (8, 1, "cuda", {"gpus_per_trial": 0.0}, "device"),
    ],
)
def test_a_demand_that_can_never_be_met_is_refused(
    cpus: int, gpus: int, device: str, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=f"^{named}: "):
        plan(cpus, gpus, device, **settings)


def test_local_cores_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr("segtune.machine.Path.read_text", no_file)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert local_resources()["CPU"] == 4
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert local_resources()["CPU"] == 3


def no_file(*given: object) -> str:
    raise FileNotFoundError


V1 = {"cpu,cpuacct/job/cpu.cfs_quota_us": "250000", "cpu,cpuacct/job/cpu.cfs_period_us": "100000"}
V2 = "10 9 0:26 {root} {mount}/unified rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"


@pytest.mark.parametrize(
    ("group", "mount", "files", "cores"),
    [
        ("0::/", V2, {"unified/cpu.max": "150000 100000"}, 1),  # in a container, which sees its own group as the root
        ("0::/", V2, {"unified/cpu.max": "max 100000"}, 8),
        ("0::/", V2, {"unified/cpu.max": "20000 100000"}, 1),  # a fifth of a core is one, too
        ("0::/job/step", V2, {"unified/job/cpu.max": "300000 100000", "unified/job/step/cpu.max": "max 100000"}, 3),
        ("0::/host/job", V2, {"unified/cpu.max": "400000 100000"}, 4),  # another namespace's path
        ("4:cpu,cpuacct:/job", "{v1}", V1, 2),
        ("4:cpuset:/job\n3:cpu,cpuacct:/job", "{v1}", V1 | {"cpu,cpuacct/job/cpu.cfs_quota_us": "-1"}, 8),
    ],
)
def test_a_containers_share_of_the_cores_is_seen(
    group: str, mount: str, files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    v1 = "30 25 0:28 {root} {mount}/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
    root = "/" if "host" not in group else "/elsewhere"
    (tmp_path / "cgroup").write_text(f"{group}\n")
    line = mount.replace("{v1}", v1).format(root=root, mount=tmp_path)
    (tmp_path / "mountinfo").write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n{line}\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    quotas = machine.cpu_quotas(tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(machine, "cpu_quotas", lambda: quotas)
    assert local_resources()["CPU"] == cores
