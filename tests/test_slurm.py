"""The SLURM batch script, without SLURM: srun and scontrol are replaced, and in the fast tests Ray, too."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tuning.searches import RUN, rows

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "slurm" / "search.sbatch"

NOTE = """#!{python}
import json, os, socket, subprocess, sys, signal, time
name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
log = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
note = lambda what: os.write(log, (json.dumps([name, *what]) + "\\n").encode())
note(arguments)
"""
SRUN = """
flags = 0
while arguments[flags].startswith("--"):
    flags += 1
os.execvp(arguments[flags], arguments[flags:])
"""
SCONTROL = """
if arguments[:2] == ["show", "hostnames"]:
    print(*arguments[2].split(","), sep="\\n")
"""
# Python, as far as the script uses it: Ray on a node, waiting for the nodes, and the search.
PYTHON = """
def ended(*_):
    note(["ended", *arguments[:2]])
    sys.exit(int(os.environ.get("ON_TERM", 143)))
flag = lambda name: next(item.split("=", 1)[1] for item in arguments if item.startswith(name + "="))
if "start" in arguments:
    signal.signal(signal.SIGTERM, ended)
    os.makedirs(flag("--temp-dir"), exist_ok=True)
    if "--head" in arguments:
        if os.environ.get("HEAD") == "fails":
            sys.exit("this port is taken")
        server = socket.create_server((flag("--node-ip-address"), int(flag("--port"))))
    note(["up"])
    while True:
        time.sleep(60)
elif arguments[0] == "-c":
    if "NODES" in os.environ:
        sys.exit(os.environ["NODES"])
    while open({log!r}).read().count('["python", "up"]') < int(arguments[-1]):
        time.sleep(0.05)
    sys.exit()
search = os.environ["SEARCH"]
if search.isdigit():
    sys.exit(int(search))
signal.signal(signal.SIGTERM, ended)
note(["searching"])
time.sleep(60)
"""


@dataclass
class Slurm:
    """An allocation: its environment, and the calls made in it."""

    folder: Path
    job: int
    nodes: tuple[str, ...] = ("node1",)

    @property
    def temporary(self) -> Path:
        """Return the folder of Ray's files of this job."""
        return Path(f"/tmp/ray-{self.job}")

    def write(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text((NOTE + text).format(python=sys.executable, log=str(self.folder / "calls")))
        path.chmod(0o755)

    def calls(self, name: str) -> list[list[str]]:
        """Return the arguments of each call of a program."""
        log = self.folder / "calls"
        notes = map(json.loads, log.read_text().splitlines()) if log.is_file() else ()
        return [arguments for called, *arguments in notes if called == name]

    def requeued(self) -> bool:
        return ["requeue", str(self.job)] in self.calls("scontrol")

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start the batch shell as SLURM does: from a copy of the script, elsewhere."""
        spooled = self.folder / "spool" / "slurm_script"
        spooled.parent.mkdir(exist_ok=True)
        shutil.copy(SCRIPT, spooled)
        # What the tests of a search set for Ray and for themselves is not a job's.
        given = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "RAY_"))}
        given |= {
            "PATH": f"{self.folder / 'bin'}:{given['PATH']}",
            "SEGTUNE_PYTHON": str(self.folder / "bin" / "python"),
            "SLURM_JOB_ID": str(self.job),
            "SLURM_JOB_NODELIST": ",".join(self.nodes),
            "SLURM_SUBMIT_DIR": str(ROOT),
            "SLURM_CPUS_PER_TASK": "2",
            "SLURM_GPUS_ON_NODE": "0",
        }
        return subprocess.Popen(
            ["bash", str(spooled), *arguments],
            cwd=self.folder,
            env=given | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait(self, what: str, process: subprocess.Popen[str], seconds: float = 10) -> None:
        """Wait until Python was called with this argument."""
        end = time.monotonic() + seconds
        while not any(what in arguments for arguments in self.calls("python")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, self.calls("python")
            time.sleep(0.05)

    def processes(self) -> list[int]:
        """Return the processes that name this job's files, as all of Ray's do."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and str(self.temporary).encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:  # it ended
                continue
        return found

    def nothing_left(self) -> bool:
        return not self.processes() and not self.temporary.exists()


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    made = Slurm(tmp_path, 10_000_000 + os.getpid())
    made.write("srun", SRUN)
    made.write("scontrol", SCONTROL)
    made.write("python", PYTHON)
    # The script looks again and again, with pauses of up to a second; here with short ones.
    sleep = made.folder / "bin" / "sleep"
    sleep.write_text(f"#!/bin/sh\nexec {shutil.which('sleep')} 0.05\n")
    sleep.chmod(0o755)
    yield made
    for process in made.processes():  # of a test that failed
        os.kill(process, signal.SIGKILL)
    shutil.rmtree(made.temporary, ignore_errors=True)


def ended(process: subprocess.Popen[str], seconds: float = 20) -> tuple[int, str, str]:
    """Return exit status, standard output and standard error."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err


def test_shellcheck_finds_nothing() -> None:
    scripts = [*(ROOT / "slurm").glob("*.sbatch"), ROOT / ".ci" / "run"]
    assert len(scripts) >= 2
    checker = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert checker, "pip install -e '.[test]' brings shellcheck"
    done = subprocess.run([checker, *map(str, scripts)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_ray_starts_on_every_node_and_ends_with_the_search(slurm: Slurm) -> None:
    slurm.nodes = ("node1", "node2", "node3")
    given = ["--space", "quick start.yaml", "--set", "epochs=3"]
    status, _, err = ended(slurm.start(*given, SEARCH="0", SLURM_GPUS_ON_NODE="4"))
    assert (status, err) == (0, "")
    *starts, last = slurm.calls("srun")
    starts[1:] = sorted(starts[1:])  # they are called at the same time
    assert [call[:3] for call in starts] == [
        ["--nodes=1", "--ntasks=1", f"--nodelist={node}"] for node in ("node1", "node2", "node3")
    ]
    assert all({"--cpus-per-task=2", "--num-cpus=2", "--num-gpus=4", "--block"} < set(call) for call in starts)
    assert ["--head" in call for call in starts] == [True, False, False]
    (waited,) = (call for call in slurm.calls("python") if call[0] == "-c")
    (search,) = (call for call in slurm.calls("python") if "run_search.py" in call)
    (port,) = (item for item in starts[0] if item.startswith("--port="))
    (ip,) = (item for item in starts[0] if item.startswith("--node-ip-address="))
    address = f"{ip.split('=')[1]}:{port.split('=')[1]}"
    assert not address.startswith("127.")
    assert all(f"--address={address}" in call for call in starts[1:])
    assert waited[-2:] == [address, "3"]
    assert search == ["-u", "run_search.py", *given, "--resume", "--address", address]
    assert len([call for call in slurm.calls("python") if call[0] == "ended"]) == 3
    assert last == ["--nodes=3", "--ntasks=3", "--ntasks-per-node=1", "rm", "-rf", str(slurm.temporary)]
    assert slurm.nothing_left()
    assert not slurm.requeued()


def test_before_the_time_limit_the_search_ends_and_the_job_is_requeued(slurm: Slurm) -> None:
    process = slurm.start("--space", "s.yaml", SEARCH="waits")
    slurm.wait("searching", process)
    assert stat.S_IMODE(slurm.temporary.stat().st_mode) == 0o700
    process.send_signal(signal.SIGUSR1)
    status, out, _ = ended(process)
    assert status == 143
    calls = slurm.calls("python")
    search, ray = calls.index(["ended", "-u", "run_search.py"]), calls.index(["ended", "-m", "ray.scripts.scripts"])
    assert search < ray
    assert slurm.requeued()
    assert "requeued" in out
    assert slurm.nothing_left()


def test_a_search_that_is_done_when_the_signal_comes_is_not_requeued(slurm: Slurm) -> None:
    process = slurm.start("--space", "s.yaml", SEARCH="waits", ON_TERM="0")
    slurm.wait("searching", process)
    process.send_signal(signal.SIGUSR1)
    assert (ended(process)[0], slurm.requeued()) == (0, False)


def test_a_cancelled_job_ends_in_order_and_is_not_requeued(slurm: Slurm) -> None:
    process = slurm.start("--space", "s.yaml", SEARCH="waits")
    slurm.wait("searching", process)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143
    assert ["ended", "-u", "run_search.py"] in slurm.calls("python")
    assert not slurm.requeued()
    assert slurm.nothing_left()


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_search_that_ended_by_itself_is_not_requeued(code: int, slurm: Slurm) -> None:
    assert ended(slurm.start("--space", "s.yaml", SEARCH=str(code)))[0] == code
    assert not slurm.requeued()
    assert slurm.nothing_left()


def test_a_time_limit_before_the_search_began_does_not_requeue_for_ever(slurm: Slurm) -> None:
    slurm.write("getent", "time.sleep(1)")
    process = slurm.start("--space", "s.yaml", SEARCH="0")
    end = time.monotonic() + 10
    while not slurm.calls("getent"):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    status, _, err = ended(process)
    assert (status, slurm.requeued()) == (1, False)
    assert "--time must be longer" in err
    assert slurm.nothing_left()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [({"HEAD": "fails"}, "this port is taken"), ({"NODES": "1 of 2 nodes joined"}, "1 of 2 nodes joined")],
)
def test_where_ray_does_not_start_its_words_are_shown(environment: dict[str, str], reason: str, slurm: Slurm) -> None:
    slurm.nodes = ("node1", "node2")
    status, _, err = ended(slurm.start("--space", "s.yaml", SEARCH="0", **environment))
    assert status == 1
    assert reason in err
    assert err.splitlines()[-1].startswith("error: ")
    assert not any("run_search.py" in call for call in slurm.calls("python"))
    assert slurm.nothing_left()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"SEGTUNE_PYTHON": "/nowhere/python"}, "/nowhere/python: no such program; "),
        ({"SLURM_SUBMIT_DIR": "/"}, "/: no run_search.py here; submit from segtune's folder"),
        ({"SLURM_JOB_ID": ""}, "not inside a SLURM job; "),
    ],
)
def test_what_is_missing_is_one_line(environment: dict[str, str], reason: str, slurm: Slurm) -> None:
    status, out, err = ended(slurm.start("--space", "s.yaml", SEARCH="0", **environment))
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"error: {reason}")
    assert not slurm.calls("srun")


@pytest.mark.slow
def test_a_real_search_goes_on_after_the_requeue_by_the_same_line(slurm: Slurm, tiles: Path, tmp_path: Path) -> None:
    # The real Python and the real Ray, on one node.
    real = f'#!/usr/bin/env bash\nexec {shlex.quote(sys.executable)} "$@"\n'
    (tmp_path / "bin" / "python").write_text(real)
    epochs, trials = 40, 3
    space = tmp_path / "short.yaml"
    space.write_text(
        f"dataset: {tiles}\n{RUN.replace('epochs: 3', f'epochs: {epochs}')}"
        f"space: {{lr: [1e-3, 2e-3, 3e-3]}}\nsearch: {{sampler: grid, scheduler: none, trials: {trials}}}\n"
    )
    line = ["--space", str(space), "--results-dir", str(tmp_path / "results"), "--name", "found"]
    folder = tmp_path / "results" / "found"

    process = slurm.start(*line)
    end = time.monotonic() + 120
    while not any(len(path.read_text().splitlines()) > 3 for path in folder.glob("trial_*/metrics.csv")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    status, out, err = ended(process, 90)
    assert (status, slurm.requeued()) == (143, True), out + err
    assert slurm.nothing_left()
    waiting = {int(row["trial"]): int(row["epochs"]) for row in rows(folder) if row["status"] == "pending"}
    assert any(0 < done < epochs for done in waiting.values()), rows(folder)

    (tmp_path / "calls").unlink()
    status, out, err = ended(slurm.start(*line, SLURM_RESTART_COUNT="1"), 180)
    assert status == 0, out + err
    assert [(row["status"], row["epochs"]) for row in rows(folder)] == [("finished", str(epochs))] * trials
    for path in folder.glob("trial_*/metrics.csv"):
        assert len(path.read_text().splitlines()) == epochs + 1  # none was trained again
    assert not slurm.requeued()
    assert slurm.nothing_left()

    wrong = ended(slurm.start(*line[:4], "--name", "other", "--set", "epoch=1"), 90)
    assert wrong[0] == 2
    assert "error: " in wrong[2]
    assert not slurm.requeued()
    assert slurm.nothing_left()
