"""The terminal: a console that prints text as it is given, and bars of progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.style import Style
from rich.text import Text

from segtune.errors import printable
from segtune.remarks import Say

_PLAIN_WIDTH = 160  # columns of tables when the output goes to a file


class _PrintsAsGiven(Console):
    """A console that prints text as it is, without markup.

    Characters that are not `printable`, or that the encoding of the terminal lacks, are escaped, in lines and in cells
    of tables. So a text never spans several lines.
    """

    def render_str(self, text: str, *, style: str | Style = "", **layout: Any) -> Text:
        """Return the text of a line or a cell; called by rich for each of them."""
        given = {name: layout[name] for name in ("justify", "overflow") if name in layout}
        shown = printable(text).encode(self.encoding, "backslashreplace").decode(self.encoding)
        return Text(shown, style, **given)


def make_console() -> Console:
    """Return the console for stdout; where that is not a terminal, it prints plain text of a fixed width."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    # Long lines are left to the terminal to wrap, because a path or a command with a line break cannot be copied.
    return _PrintsAsGiven(force_terminal=terminal, width=None if terminal else _PLAIN_WIDTH, soft_wrap=True)


class Bar:
    """A progress bar, shown on terminals only."""

    def __init__(self, console: Console, *columns: ProgressColumn) -> None:
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("", total=None)

    def update(self, done: float, total: float | None, text: str) -> None:
        self._progress.update(self._task, completed=done, total=total, description=printable(text))

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def step_bar(console: Console) -> Bar:
    """Return a bar that counts tiles or batches."""
    return Bar(
        console, TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )


@contextmanager
def reading_bar(console: Console) -> Iterator[tuple[Callable[[int, int], None], Say]]:
    """Show a bar while tiles are read; yield a function that moves it, and one that prints a line above it."""
    with step_bar(console) as bar:
        yield (
            lambda done, total: bar.update(done, total, "reading the tiles"),
            lambda line: console.print(line),
        )
