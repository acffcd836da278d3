"""benchmarks/gpu.py: each check counts on its own, and the time for all of them has an end."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from gpu import run_checks, summary
from gpu_bench import CPU, Bench, Outcome


def fine(bench: Bench) -> Outcome:
    return Outcome(True, "as it should be")


def broken(bench: Bench) -> Outcome:
    raise ValueError("no such thing")


def endless(bench: Bench) -> Outcome:
    while True:
        try:
            time.sleep(60)
        except Exception:
            return Outcome(True, "ended")


def waiting(bench: Bench) -> Outcome:
    subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"], check=True)
    return Outcome(True, "ended")


def rows_of(checks: Any, folder: Path, seconds: float) -> list[dict[str, Any]]:
    return list(run_checks(checks, Bench(folder, CPU, small=True), time.perf_counter() + seconds))


def test_a_check_that_fails_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of({"first": broken, "second": fine, "third": lambda bench: Outcome(None, "none")}, tmp_path, 60)
    assert [row["ok"] for row in rows] == [False, True, None]
    assert rows[0]["text"] == "ValueError: no such thing"
    assert summary(rows) == "1 of 3 checks ok; 1 FAILED: first; 1 skipped: third"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["first", "FAILED"]


@pytest.mark.parametrize("long", [endless, waiting])
def test_the_end_comes_in_the_middle_of_a_check(long: Any, tmp_path: Path) -> None:
    started = time.perf_counter()
    rows = rows_of({"first": fine, "second": long, "third": fine}, tmp_path, 0.5)
    assert time.perf_counter() - started < 30
    assert [row["ok"] for row in rows] == [True, None, None]
    assert rows[1]["text"].startswith("ended before it was done")
    assert rows[2]["text"].startswith("no time was left")
    assert summary(rows).endswith("; the time was up; for the rest: python benchmarks/gpu.py --only second third")


def test_a_run_without_a_limit_ends_with_its_checks(tmp_path: Path) -> None:
    rows = rows_of({"first": fine, "second": lambda bench: Outcome(None, "needs a GPU")}, tmp_path, math.inf)
    assert [row["ok"] for row in rows] == [True, None]
    assert summary(rows) == "1 of 2 checks ok; 1 skipped: second"
