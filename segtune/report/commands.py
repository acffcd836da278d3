"""Commands to type next, in the form that works in the shell that started this process."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import join

from segtune.files.folders import SearchFolder


def script_command(name: str, arguments: Sequence[str]) -> str:
    """Return the command line of one of the scripts, which lie in the same folder as the running one."""
    return join([_program("python"), str(Path(sys.argv[0]).with_name(name)), *arguments])


def same_command(arguments: Sequence[str]) -> str:
    """Return the command line of the running script with other arguments."""
    return script_command(Path(sys.argv[0]).name, arguments)


def words_of(flag: str, folder: SearchFolder) -> list[str]:
    """Return the words after run_search.py for a task with a search."""
    return [flag, folder.path.name, *results_dir(folder)]


def results_dir(folder: SearchFolder) -> list[str]:
    """Return the words after run_search.py that say where a search lies; none where it looks by itself."""
    parent = folder.path.parent
    return [] if parent == Path("ray_results") else ["--results-dir", str(parent)]


def tensorboard_command(folder: str) -> str:
    """Return the command line that shows the curves of all runs in a folder."""
    return join([_program("tensorboard"), "--logdir", folder])


def _program(name: str) -> str:
    """Return a program of this Python's environment: its name if the shell finds it by that, else its path."""
    own = Path(sys.executable).with_name(name)
    if not own.exists():  # installed elsewhere, or the interpreter has another name
        return sys.executable if name == "python" else name
    found = shutil.which(name)
    if found and Path(found).absolute() == own.absolute():
        return name
    path = os.path.relpath(own)
    return str(own) if path.startswith("..") else path
