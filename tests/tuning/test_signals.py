"""SIGTERM at any moment to all processes of a search, as `timeout`, systemd and batch systems send it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import WriteDataSet
from tests.tuning.searches import RUN

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 2.0, 5.0])
def test_a_search_that_is_terminated_while_it_starts_says_how_to_go_on(
    delay: float, tmp_path: Path, data_set: WriteDataSet
) -> None:
    space = tmp_path / "s.yaml"
    space.write_text(
        f"dataset: {data_set(tmp_path / 'tiles', train=4, val=2)}\n{RUN}space: {{lr: [1e-3, 3e-3]}}\n"
        "search: {trials: 2, scheduler: none, sampler: random, gpus_per_trial: 0, max_concurrent: 1}\n"
    )
    command = [sys.executable, "-u", str(ROOT / "run_search.py"), "--space", str(space), "--results-dir", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path, start_new_session=True
    ) as process:
        try:
            assert process.stdout
            said = [next(line for line in process.stdout if "searching" in line)]
            time.sleep(delay)
            os.killpg(process.pid, signal.SIGTERM)
            said += process.stdout.readlines()
            status = process.wait(60)
        finally:
            process.kill()
    assert status == 143, "".join(said)
    assert re.search(r"to go on: python \S*run_search\.py ", said[-1])
    assert said[-1].endswith("--resume\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
def test_when_a_process_of_ray_dies_the_search_ends_at_once(name: str, tmp_path: Path, data_set: WriteDataSet) -> None:
    import ray  # noqa: F401  # brings psutil, and knows where it is
    import psutil  # type: ignore[import-untyped]  # isort: skip

    space = tmp_path / "s.yaml"
    space.write_text(
        f"dataset: {data_set(tmp_path / 'tiles', train=4, val=2)}\n{RUN.replace('epochs: 3', 'epochs: 500')}"
        "space: {lr: [1e-3, 3e-3]}\n"
        "search: {trials: 2, scheduler: none, sampler: random, gpus_per_trial: 0, max_concurrent: 1}\n"
    )
    command = [sys.executable, str(ROOT / "run_search.py"), "--space", str(space), "--results-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            limit = time.monotonic() + 120
            while not (tmp_path / "s" / "trial_0000" / "state.pt").exists() and time.monotonic() < limit:
                time.sleep(0.1)
            (child,) = (child for child in psutil.Process(process.pid).children() if child.name() == name)
            child.kill()
            out, err = process.communicate(timeout=50)  # Ray would wait for the GCS for a minute
        finally:
            process.kill()
    log = tmp_path / "s" / "ray.log"
    assert process.returncode == 1
    assert err.startswith(f"error: Ray's {name} died (killed by the system, or out of memory); ")
    assert err.endswith(f"Ray's messages are in {log}; --resume goes on with the search\n")
    assert err.count("\n") == 1
    assert "raylet" not in out
    assert log.stat().st_size


STUCK = """
import signal, sys, time
from pathlib import Path
from types import SimpleNamespace

import ray

from segtune.tuning import ray_session
from segtune.tuning.ray_backend import OnRay
from segtune.tuning.ray_messages import RayMessages

logs = Path(sys.argv[1])
ray_session._RAISED_WITHIN_S = 0.5
ray._private.worker._global_node = SimpleNamespace(
    dead_processes=lambda: [("gcs_server", None)] if lost else [], get_logs_dir_path=lambda: str(logs)
)
lost = False
messages = RayMessages()
messages.into(logs / "ray.log")
backend = OnRay(None, None, 1, 1.0, None, messages)
with ray_session.ray_lost_is_raised(backend._end):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # nothing is raised, as inside Ray's C++ parts
    lost = True
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_search_that_waits_for_a_lost_process_of_ray_is_ended(tmp_path: Path) -> None:
    (tmp_path / "gcs_server.err").write_text("out of memory\n")
    command = [sys.executable, "-c", STUCK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert done.stderr == (
        "error: Ray's gcs_server died (killed by the system, or out of memory); "
        f"Ray's messages are in {tmp_path / 'ray.log'}; --resume goes on with the search\n"
    )
    assert "out of memory" in (tmp_path / "ray.log").read_text()


CAUGHT = """
import re
from pathlib import Path

from segtune.tuning.cluster import ray_runtime

with ray_runtime(None):
    print(re.search(r"SigCgt:\\s*(\\w+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
def test_rays_own_handler_of_signals_is_not_installed() -> None:
    # While Ray starts, another thread than the main one may take SIGTERM; Ray's handler would end the process there.
    done = subprocess.run([sys.executable, "-c", CAUGHT], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    caught = int(done.stdout.split()[-1], 16)
    assert not caught & 1 << signal.SIGTRAP - 1, "as Ray's handler would"
