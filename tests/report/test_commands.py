"""Commands that are printed to be typed next."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from segtune.report.commands import same_command, script_command, tensorboard_command


@pytest.mark.parametrize("started", ["run_search.py", "../segtune/run_search.py", "/opt/segtune/run_search.py"])
def test_the_next_command_has_the_path_of_the_running_script(monkeypatch: pytest.MonkeyPatch, started: str) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    words = script_command("validate.py", ["-cd", "a b"]).split(" ", 1)
    assert words[1] == f"{started.replace('run_search', 'validate')} -cd 'a b'"
    assert same_command(["--resume"]).endswith(f" {started} --resume")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the programs of a virtual environment in the working folder, whose Python this is."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("python", "tensorboard"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(folder / "python3"))
    monkeypatch.setattr(sys, "argv", ["run_single.py"])
    return folder


def test_an_inactive_environment_is_part_of_the_command(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert same_command([]) == ".venv/bin/python run_single.py"
    assert tensorboard_command("my logs") == ".venv/bin/tensorboard --logdir 'my logs'"
    (environment / "elsewhere").mkdir()
    monkeypatch.chdir(environment / "elsewhere")
    assert same_command([]) == f"{environment}/python run_single.py"


def test_an_active_environment_is_not_part_of_the_command(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{environment}:/usr/bin:/bin")
    assert same_command([]) == "python run_single.py"
    assert tensorboard_command("logs") == "tensorboard --logdir logs"
