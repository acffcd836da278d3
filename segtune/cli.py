"""What the three scripts share: flags from RunConfig, and how errors become exit statuses."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from segtune.config import RunConfig, choices
from segtune.data.demo import write_demo
from segtune.errors import InputError, SegtuneError
from segtune.space import parse_assignments, parse_value

DEMO = Path("data/demo")
SPACES = Path(__file__).resolve().parent.parent / "search_spaces"
# Flags that people know from their present scripts, beside --name-of-the-setting.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "dataset": ("-d",),
    "classes": ("--class-list",),
    "channels": ("--add-dirs",),
    "model": ("-m",),
    "batch_size": ("-b", "--batch"),
    "epochs": ("-e",),
    "lr": ("-lr",),
    "augmentation": ("-a",),
    "workers": ("-w",),
}


class Terminated(BaseException):
    """SIGTERM, on its way up like KeyboardInterrupt."""


class Parser(argparse.ArgumentParser):
    """Wrong flags end like every other mistake of the user: one `error:` line, status 2."""

    def error(self, message: str) -> Any:
        """Report a wrong flag."""
        raise InputError(f"{message} (see --help)")


def make_parser(manual: str) -> Parser:
    """A parser whose help opens with the script's manual."""
    return Parser(description=manual, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """A flag for every setting of RunConfig."""
    group = parser.add_argument_group("settings (also KEY=VALUE with --set, or in a YAML file)")
    for name, field in RunConfig.model_fields.items():
        known = f" ({', '.join(choices(name))})" if choices(name) else ""
        default = "" if field.default is None else f" [{_default(field.default)}]"
        group.add_argument(
            *ALIASES.get(name, ()),
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar="VALUE",
            help=f"{field.description}{known}{default}".replace("%", "%%"),
        )


def add_assignments(parser: argparse.ArgumentParser) -> None:
    """The --set flag."""
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="assignments",
        help="set anything that a run can set; wins over files",
    )


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings given as flags and with --set (which wins), typed; InputError with all mistakes."""
    settings: dict[str, Any] = {}
    mistakes: list[str] = []
    for name in RunConfig.model_fields:
        text = getattr(arguments, name, None)
        if text is not None:
            try:
                settings[name] = parse_value(name, text)
            except InputError as error:
                mistakes += error.mistakes
    try:
        settings |= parse_assignments(arguments.assignments)
    except InputError as error:
        mistakes += error.mistakes
    if mistakes:
        raise InputError(mistakes)
    return settings


def ensure_demo(dataset: str, say: Callable[[str], None]) -> None:
    """Write the demo data set where it is asked for by its own name and is not there yet."""
    if Path(dataset) == DEMO and not DEMO.exists():
        say(f"writing the demo data set to {DEMO}")
        write_demo(DEMO)


def run(main: Callable[[], int]) -> None:
    """Run a script's main and exit: 0 done, 2 the input is wrong, 1 another failure, 130 Ctrl-C, 143 SIGTERM."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = main()
        sys.stdout.flush()
    except InputError as error:
        for mistake in error.mistakes:
            print(f"error: {mistake}", file=sys.stderr)
        status = 2
    except SegtuneError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 128 + signal.SIGINT
    except Terminated:
        print("terminated", file=sys.stderr)
        status = 128 + signal.SIGTERM
    except BrokenPipeError:
        # `... | head` closed our output; nothing more can be said there, nor flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"error: {error.filename or 'writing'}: {error.strerror or error}", file=sys.stderr)
        status = 1
    sys.exit(status)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _default(value: Any) -> str:
    return ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
