"""The display of a run or a search in the terminal while it is running."""

from __future__ import annotations

import math
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from torch import Tensor

from segtune.clock import running_seconds
from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.errors import counted, duration
from segtune.files.folders import RunFolder
from segtune.machine import available_cpus
from segtune.report.terminal import Bar, step_bar
from segtune.report.text import paused_line, settings_text, waiting_text
from segtune.space.prefer import Preference
from segtune.training.result import EpochResult
from segtune.training.runlog import epochs_done
from segtune.trials import UNKNOWN, Trial

_SHOWN_EVERY_S = 0.5  # seconds between steps of a run on the bar


class RunConsole:
    """The display of a single run: a line per epoch, and below them a bar that counts the steps of the present one."""

    def __init__(self, console: Console, config: RunConfig, info: DataInfo, folder: RunFolder) -> None:
        self._console, self._epochs = console, config.epochs
        self._epoch = epochs_done(folder) + 1
        self._bar = step_bar(console)
        self._shown = -math.inf  # when a step was shown, by time.monotonic()
        self._waited = False  # whether a line told how training waits for tiles
        size = config.image_size or info.image_size()
        console.print(f"{config.dataset}: {info.counted()} at {size} px -> {folder.path}")
        if config.workers != "auto" and config.workers > available_cpus():
            cores = counted(available_cpus(), "core")
            console.print(f"workers: {config.workers} loader processes are more than {cores} can serve")

    def __enter__(self) -> RunConsole:
        self._bar.__enter__()
        self._bar.update(0, None, "building the model")
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)

    def batch(self, done: int, total: int, loss: Tensor) -> None:
        """Show a training step on the bar, now and then: to look at the loss is to wait for the GPU."""
        if done < total and time.monotonic() < self._shown + _SHOWN_EVERY_S:
            return
        self._shown = time.monotonic()
        what = "evaluating" if done == total else f"loss {loss.item():.4f}"
        self._bar.update(done, total, f"epoch {self._epoch}/{self._epochs}  {what}")

    def epoch(self, result: EpochResult) -> None:
        """Print a line about an epoch."""
        self._console.print(epoch_line(result))
        if result.waiting and not self._waited:
            self._waited = True
            self._console.print(waiting_text(result.waiting, "-w "))
        self._epoch = result.epoch + 1


def epoch_line(result: EpochResult) -> str:
    """Return one line about an epoch of a single run."""
    best = "  best so far" if result.learnt and result.best_so_far else ""
    miou = f"{result.scores.miou:.4f}" if result.scores else "  -   "
    own = "" if result.own is None or result.own.score is None else f"score {result.own.score:.4f}  "
    added = "".join(f"  {name} {miou:.4f}" for name, miou in result.added.items() if miou is not None)
    return (
        f"epoch {result.epoch}/{result.epochs}  loss {result.loss:.4f}  miou {miou}  "
        f"{own}lr {_rates(result)}  {duration(result.train_seconds + result.eval_seconds)}{best}{added}"
    )


def _rates(result: EpochResult) -> str:
    """Return the learning rate of the epoch's first step and, where it differs, of its last step."""
    rates = dict.fromkeys(f"{rate:.2e}" for rate in (result.first_lr, result.lr) if rate is not None)
    return " to ".join(rates)


class SearchConsole:
    """The display of a search: a line per trial that ended, and below them a bar that counts trials."""

    def __init__(self, console: Console, total: int, limits: Preference | None = None) -> None:
        self._console, self._total, self._limits = console, total, limits
        self._bar = Bar(
            console, BarColumn(bar_width=30), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
        )
        self._running: dict[int, float] = {}  # share of its epochs that each running trial has done, by number
        self._ended = 0
        self._paused: dict[int, int] = {}  # epochs of the trials that wait at a rung, by number
        self._waited = False  # whether a line told how a trial waits for tiles
        # Of the trials that learnt something, whatever their status: whether it is over the limits of costs, and its
        # score with a minus. The best one has the smallest place, as in `segtune.trials.by_score`.
        self._places: dict[int, tuple[bool, float]] = {}
        self._start, self._done_at_start = running_seconds(), 0.0

    def __enter__(self) -> SearchConsole:
        self._bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)

    def started(self, plan: object, trials: list[Trial]) -> None:
        """Print the plan, and show the trials of earlier starts on the bar."""
        self._console.print(str(plan))
        self._ended = sum(trial.ended for trial in trials)
        self._paused = {trial.number: trial.epochs_done for trial in trials if trial.status == "paused"}
        self._done_at_start = float(self._ended + len(self._paused))
        self._places = {trial.number: _place(trial) for trial in trials if trial.learnt}
        for trial in trials:
            if trial.status == "pending":
                self._console.print(f"#{trial.number} goes on at epoch {trial.epochs_done + 1} ({trial.origin})")
        if self._paused:
            self._console.print(paused_line(trials))
        self._status()

    def epoch(self, number: int, result: EpochResult) -> None:
        """Show an epoch of a trial on the bar."""
        self._running[number] = result.epoch / result.epochs
        self._paused.pop(number, None)
        if result.learnt:
            costs = {**result.costs, "seconds": result.seconds}
            fits = self._limits is None or self._limits.kept_by(costs)
            self._places[number] = (not fits, -(result.best_score or 0.0))
        if result.waiting and not self._waited:
            self._waited = True
            self._console.print(f"#{number}: {waiting_text(result.waiting, '--set workers=')}")
        self._status()

    def ended(self, trial: Trial) -> None:
        """Print a line about a trial that ended, or pauses at a rung."""
        self._running.pop(trial.number, None)
        if not (trial.ended or trial.status == "paused"):
            return  # it was interrupted, and comes back
        if trial.learnt:
            self._places[trial.number] = _place(trial)
        known = self._paused.pop(trial.number, None) == trial.epochs_done  # a line has its settings
        if trial.ended:
            self._ended += 1
        else:
            self._paused[trial.number] = trial.epochs_done
        self._console.print(trial_line(trial, self._total, self._best() == trial.number, known))
        self._status()

    def say(self, line: str) -> None:
        """Print another line."""
        self._console.print(line)

    def _best(self) -> int | None:
        """Return the number of the best trial so far, running or not; of equal ones, the earlier."""
        return min(self._places, key=lambda number: (self._places[number], number), default=None)

    def _status(self) -> None:
        done = min(self._total, self._ended + len(self._paused) + sum(self._running.values()))
        number = self._best()
        best = "no result yet" if number is None else f"best {-self._places[number][1]:.4f} (#{number})"
        running = f"{len(self._running)} running, " if self._running else ""
        paused = f"{len(self._paused)} paused, " if self._paused else ""
        text = f"{self._ended}/{self._total} trials, {running}{paused}{best}{self._left(done)}"
        self._bar.update(done, self._total, text)

    def _left(self, done: float) -> str:
        gained = done - self._done_at_start
        if gained < 1 or done >= self._total:
            return ""
        return f", about {duration((running_seconds() - self._start) / gained * (self._total - done))} left"


def _place(trial: Trial) -> tuple[bool, float]:
    return not trial.fits, -(trial.score or 0.0)


def trial_line(trial: Trial, total: int, is_best: bool = False, known: bool = False) -> str:
    """Return one line about a trial that ended or pauses: number, score, how it ended, and the searched settings.

    The line of a `known` trial, which had a line when it paused, leaves out the settings.
    """
    score = f"{trial.score:.4f}" if trial.score is not None else "  -   "
    head = f"#{trial.number:<{len(str(total))}}  {score}{'*' if is_best else ' '} "
    budget = trial.epochs
    how = {
        "finished": f"finished {counted(budget, 'epoch')}",
        "stopped": f"stopped at epoch {trial.epochs_done} of {budget}",
        "paused": f"paused at epoch {trial.epochs_done} of {budget}",
        "failed": f"failed after {trial.epochs_done} of {counted(budget, 'epoch')}: {trial.error or UNKNOWN}",
    }[trial.status]
    note = f" ({trial.note})" if trial.note and trial.status == "stopped" else ""
    if known and trial.status == "stopped":
        return f"{head} {how}{note}"
    took = f" in {duration(trial.seconds)}" if trial.seconds is not None else ""
    name = "" if trial.origin in ("sampler", "grid") else f"{trial.origin}: "
    return f"{head} {how}{took}{note}  {name}{settings_text(trial.searched)}"
