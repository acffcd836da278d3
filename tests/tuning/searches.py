"""Running whole searches in tests: run_search.py in this process, and what it leaves."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import run_search
from segtune.cli.exits import run_script

RUN = """
run: {model: unet, encoder: tu-mobilenetv3_small_050, image_size: 32, epochs: 3, augmentation: safe, workers: 0}
"""


@dataclass
class Ended:
    """How a script ended."""

    status: int
    out: str
    err: str


def call(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ended:
    """run_search.py in this process."""
    monkeypatch.setattr(sys, "argv", ["run_search.py", *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run_script(run_search.main)
    out, err = capsys.readouterr()
    return Ended(int(ended.value.code or 0), out, err)


def rows(folder: Path) -> list[dict[str, str]]:
    """trials.csv."""
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))
