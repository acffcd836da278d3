"""What people see of a search: its display and its page while it runs, and its results when it ended."""

from __future__ import annotations

from rich.console import Console

from segtune.cli.reporting import PageWhileRunning, write_at_end
from segtune.errors import SegtuneError
from segtune.files.folders import SearchFolder
from segtune.report.answer import has_winner
from segtune.report.confirmation import confirmation_results, unconfirmed
from segtune.report.console import SearchConsole
from segtune.report.tables import search_results
from segtune.report.text import next_commands
from segtune.space.space import Space
from segtune.trials import Trial
from segtune.tuning.search import Outcome


class SearchDisplay(SearchConsole):
    """The display of a search in the terminal; its page is written now and then, too."""

    def __init__(self, console: Console, space: Space, folder: SearchFolder) -> None:
        super().__init__(console, space.trials(), space.search.preference)
        self._page = PageWhileRunning(folder)

    def ended(self, trial: Trial) -> None:
        """Print a line about a trial that ended or pauses, and bring the page up to date if that is old."""
        super().ended(trial)
        if trial.ended or trial.status == "paused":  # else the search is ending, and shall do so at once
            self._page.trial_ended()


def write_last_page(console: Console, outcome: Outcome) -> None:
    """Write the page of a search that ended; without pictures of tiles where it may go on."""
    write_at_end(console, outcome.folder, with_examples=not (outcome.signal or outcome.halted))


def show_outcome(console: Console, outcome: Outcome, space: Space, again: str) -> int:
    """Print the results and what to type next, write the page, and return the exit status.

    again: the command that goes on with the search. Raises SegtuneError where a fault ended the search.
    """
    folder = outcome.folder
    console.print()
    complete = all(trial.ended for trial in outcome.trials)
    ended = complete and not (outcome.signal or outcome.halted)
    confirmed = confirmation_results(outcome.confirmation, outcome.trials)
    confirmed += unconfirmed(outcome.confirmation, outcome.trials, folder)
    for part in [*search_results(outcome.trials, space, ended), *confirmed]:
        console.print(part)
    if outcome.early and not (outcome.signal or outcome.halted):
        console.print(f"ended early: {outcome.early.reason}")
    console.print()
    write_last_page(console, outcome)
    if outcome.signal:
        console.print(f"interrupted; to go on: {again}")
        return 128 + outcome.signal
    if outcome.early and outcome.halted:
        raise SegtuneError(f"{outcome.early.reason}; fix that, then go on: {again}")
    console.print(f"everything is in {folder.path}; next:")
    for command in next_commands(folder, space.baseline, str(folder.path.parent)).values():
        console.print(f"  {command}")
    return 0 if has_winner(outcome.trials) else 1
