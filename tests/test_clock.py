"""The clock of the time in which a process can run."""

from __future__ import annotations

import pytest

from segtune.clock import Clock


def test_a_clock_stops_while_its_process_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("segtune.clock.time.monotonic", lambda: now)
    clock = Clock(tick=1.0)
    start = clock.seconds()
    for passed, counted in [(0.4, 0.4), (3.0, 3.4), (3600.0, 4.4), (1.0, 5.4), (90.0, 6.4)]:
        now += passed
        assert clock.seconds() - start == pytest.approx(counted)
