"""What to type next: commands that work in the shell that this process was started from."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import join


def script_command(name: str, arguments: Sequence[str]) -> str:
    """The command line of one of the scripts, which lie beside the one that was started."""
    return join([_program("python"), str(Path(sys.argv[0]).with_name(name)), *arguments])


def same_command(arguments: Sequence[str]) -> str:
    """The command line of the script that was started, with other arguments."""
    return script_command(Path(sys.argv[0]).name, arguments)


def tensorboard_command(folder: str) -> str:
    """The command line that shows the curves of all runs in a folder."""
    return join([_program("tensorboard"), "--logdir", folder])


def _program(name: str) -> str:
    """A program of this Python's environment: its name where the shell finds that one, else its path."""
    own = Path(sys.executable).with_name(name)
    if not own.exists():  # installed elsewhere, or an interpreter of another name
        return sys.executable if name == "python" else name
    found = shutil.which(name)
    if found and Path(found).absolute() == own.absolute():
        return name
    path = os.path.relpath(own)
    return str(own) if path.startswith("..") else path
