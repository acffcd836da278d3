"""benchmarks/real_searches.py: searches that are kept in a file, and their table."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from curves import append_row
from real_searches import METHODS, Key, Timed, searches, table


def test_searches_of_the_file_are_read_and_averaged_over_seeds(tmp_path: Path) -> None:
    path = tmp_path / "real.csv"
    keys = [Key("landcover", method, seed) for seed in range(2) for method in METHODS]
    for key in keys:
        best = f"0.25 {0.5 + 0.1 * key.seed}"
        row = {"set": key.set, "method": key.method, "seed": key.seed, "trials": 4, "finished": 2, "spent": "3 50"}
        append_row(path, {**row, "best": best})
    found = list(searches(keys, {"landcover": tmp_path / "none"}, 60.0, path, 1))
    assert [result.key for result in found] == keys
    assert [found[-1].at(seconds) for seconds in (2, 3, 50)] == [0.0, 0.25, 0.6]
    lines = list(table(found, 60.0))
    assert len(lines) == 3 + len(METHODS)
    assert "0.000" not in lines[2]
    assert "0.250 (0.250 0.250)" in lines[2]
    assert "0.550 (0.500 0.600)      4.0       2.0" in lines[2]


def test_a_search_is_interrupted_when_its_time_is_used_up() -> None:
    result: Any = SimpleNamespace(best_miou=0.5)
    timed = Timed(60.0)
    timed.epoch(0, result)
    assert timed.best == [0.5]
    timed = Timed(0.0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs without one
    try:
        with pytest.raises(KeyboardInterrupt):
            timed.epoch(0, result)
    finally:
        signal.signal(signal.SIGINT, before)
    assert timed.best == []
