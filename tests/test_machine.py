"""The cores that this process may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segtune import machine


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr("segtune.machine.Path.read_text", no_file)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert machine.available_cpus() == 4
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert machine.available_cpus() == 3


@pytest.mark.parametrize("before", [None, "ACTIVE"])
def test_waiting_threads_leave_their_cores_unless_the_user_says_otherwise(before: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": before} if before else {}
    command = [sys.executable, "-c", "import os, segtune; print(os.environ['OMP_WAIT_POLICY'])"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.strip() == (before or "PASSIVE")


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
def test_a_cpu_limit_of_a_container_counts(
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
    assert machine.available_cpus() == cores
