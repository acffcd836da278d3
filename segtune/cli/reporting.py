"""Write the page of a search: when it is asked for, now and then while the search runs, and when it ends."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from segtune.errors import SegtuneError, named, one_line
from segtune.files.folders import INDEX, SearchFolder
from segtune.report.commands import same_command, words_of

if TYPE_CHECKING:
    from rich.console import Console

    from segtune.report.record import Report

_EVERY_S = 60.0  # at least, between two pages of a search that runs
_SHARE = 0.01  # at most, of the time that writing them may take


def show_report(given: Namespace) -> int:
    """Write the page of the search that --report names and, with --figures, its charts; return the exit status."""
    path = Path(given.report)
    if path.name == given.report:
        folder = SearchFolder.named(Path(given.results_dir), given.report, "--report")
    else:
        folder = SearchFolder(path)
    folder.check_begun()
    # Optuna and torch take seconds to import; common mistakes do not wait for them.
    from segtune.report.figures import write_figures
    from segtune.report.index import NOT_OWN, is_own
    from segtune.report.sentences import headline
    from segtune.report.terminal import make_console

    console = make_console()
    report = _written(console, folder)
    console.print(f"{folder.report_html}: {headline(report)}")
    if report.no_examples:
        console.print(f"no pictures of tiles: {report.no_examples}")
    index = folder.path.parent / INDEX
    console.print(f"{index}: {'all searches of this folder' if is_own(index) else NOT_OWN}")
    if given.figures:
        written = write_figures(report, folder.figures)
        console.print(f"{folder.figures}: {len(written) // 2} figures as PNG and SVG, and {written[-1].name}")
    return 0


def _written(console: Console, folder: SearchFolder) -> Report:
    from segtune.report.terminal import step_bar
    from segtune.report.written import write_report

    with step_bar(console) as bar:
        return write_report(folder, on_done=lambda done, total: bar.update(done, total, "predicting the tiles"))


def write_at_end(console: Console, folder: SearchFolder, with_examples: bool) -> None:
    """Write the page of a search that ended or was interrupted; say where it is, or why there is none.

    Nothing is raised, whatever is wrong: hours of training are done, and `--report` writes the page again.

    with_examples: predict the validation tiles for pictures. That may take long, so the page is written before, too.
    """
    from segtune.report.written import write_report

    try:
        write_report(folder, with_examples=False)
        if with_examples:
            _written(console, folder)
    except Exception as error:
        reason = one_line(error) if isinstance(error, (SegtuneError, OSError)) else named(error)
        again = same_command(words_of("--report", folder))
        console.print(f"{folder.report_html} is missing or incomplete: {reason}; to write it again: {again}")
    else:
        console.print(f"the page of the search: {folder.report_html}")


class PageWhileRunning:
    """Writes the page of a search that runs, without pictures of tiles, and seldom enough to cost no time.

    Nothing is raised, whatever is wrong with the page: the search matters more.
    """

    def __init__(self, folder: SearchFolder, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._next = clock() + _EVERY_S

    def trial_ended(self) -> None:
        """Write the page, if the last one is old enough; a page that cannot be written is tried again later."""
        began = self._clock()
        if began < self._next:
            return
        from segtune.report.written import write_report

        with suppress(Exception):
            write_report(self._folder, with_examples=False)
        now = self._clock()
        self._next = now + max(_EVERY_S, (now - began) / _SHARE)
