"""Run a script and turn errors and signals into messages and exit statuses."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from segtune.cli.output import drop_what_cannot_be_written
from segtune.errors import InputError, SegtuneError, printable
from segtune.files.library_folders import place_caches, shorten_sockets
from segtune.machine import ending_signals

_LONGEST_PATH = 300  # characters that an error repeats


class Terminated(BaseException):
    """Raised by SIGTERM, and by SIGHUP when the terminal is closed, as KeyboardInterrupt is by SIGINT."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.number = number


def run_script(main: Callable[[], int]) -> None:
    """Run the main function of a script, print its errors, and exit.

    Exit statuses: 0 done, 2 wrong input, 1 another failure, 130 Ctrl-C, 143 SIGTERM, 129 the terminal was closed.
    """
    drop_what_cannot_be_written()
    for number in ending_signals():
        signal.signal(number, _terminate)
    try:
        shorten_sockets()
        place_caches()
        _leave_notebook()
        status = main()
        sys.stdout.flush()
    except InputError as error:
        for mistake in error.mistakes:
            print(f"error: {printable(mistake)}", file=sys.stderr)
        status = 2
    except SegtuneError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt as error:
        _say("interrupted", error)
        status = 128 + signal.SIGINT
    except Terminated as error:
        _say("terminated", error)
        status = 128 + error.number
    except OSError as error:  # such as a full disk or missing permissions
        _say(f"error: {_shortened(error.filename or 'writing')}: {error.strerror or error}", error)
        status = 2 if error.errno == errno.ENAMETOOLONG else 1  # too long a name comes from the user
    sys.exit(status)


def _leave_notebook() -> None:
    """Forget how the notebook that started this script draws: matplotlib ends if that is not installed here, too."""
    if os.environ.get("MPLBACKEND", "").endswith("inline"):
        del os.environ["MPLBACKEND"]


@contextmanager
def hinted(hint: str | None) -> Iterator[None]:
    """Print the hint as the last line if the block is interrupted, is terminated or cannot write a file."""
    try:
        yield
    except (KeyboardInterrupt, Terminated, OSError) as error:
        if hint:
            error.add_note(hint)
        raise


def _shortened(path: object) -> str:
    text = str(path)
    return text if len(text) <= _LONGEST_PATH else f"{text[:_LONGEST_PATH]}..."


def _say(line: str, error: BaseException) -> None:
    notes = getattr(error, "__notes__", [])
    for said in [line, *notes[:1]]:  # the first hint is the innermost, and the most precise
        print(printable(said), file=sys.stderr)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)
