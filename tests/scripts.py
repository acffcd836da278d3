"""Run one of the three scripts in this process, with arguments as they are typed."""

from __future__ import annotations

import importlib
import io
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from segtune.cli.exits import run_script

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Ended:
    """How a script ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def mistakes(self) -> list[str]:
        """What is wrong with the input: every line on stderr tells of it."""
        lines = self.err.splitlines()
        assert self.status == 2, self
        assert lines
        assert all(line.startswith("error: ") for line in lines), lines
        return [line.removeprefix("error: ") for line in lines]


def status_of(name: str, *arguments: object) -> int:
    """Run a script, such as `run_single`, and return its exit status; it prints where the test does."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        try:
            with pytest.raises(SystemExit) as ended:
                run_script(importlib.import_module(name).main)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def call(name: str, *arguments: object) -> Ended:
    """Run a script, such as `run_single`, and return how it ended."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = status_of(name, *arguments)
    return Ended(status, out.getvalue(), err.getvalue())
