"""benchmarks/throughput.py and its loops run, and print what they measured."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "throughput.py"
SMALL = ["--set", "encoder=tu-mobilenetv3_small_050", "image_size=32", "batch_size=2"]


@pytest.mark.slow
def test_two_trials_at_a_time_are_compared_with_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGTUNE_DATA", raising=False)
    command = [sys.executable, str(SCRIPT), "--quick", "--cases", "safe-2", *SMALL]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.splitlines()
    assert "cores; python" in lines[0]
    rate, ratio = r"\d+\.\d", r"\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)"
    assert re.match(rf"safe-2 +{rate} +{rate} +{rate} +{ratio} +{ratio} +\d+% +{rate} +\d+\.\d\d s$", lines[-1])
