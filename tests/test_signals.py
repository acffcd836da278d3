"""SIGTERM to everything that belongs to a search, as `timeout`, systemd and batch systems send it, at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import WriteDataSet
from searches import RUN

ROOT = Path(__file__).resolve().parent.parent


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
    assert "to go on: python run_search.py" in said[-1]
    assert said[-1].endswith("--resume\n")
