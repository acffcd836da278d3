"""Train one run in the terminal: a line per epoch, and how it ended."""

from __future__ import annotations

from argparse import Namespace
from contextlib import closing
from typing import TYPE_CHECKING

from segtune.cli.exits import hinted
from segtune.config import RunConfig
from segtune.errors import InputError, counted
from segtune.files.folders import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

    from segtune.data.dataset import DataInfo


def check_tasks(arguments: Namespace) -> None:
    """Raise InputError where flags ask for several things at once, or for nothing that a flag could act on."""
    given = {
        "--seeds": arguments.seeds,
        "--folds": arguments.folds,
        "--preview-augmentation": arguments.preview_augmentation,
    }
    if len(tasks := [flag for flag, value in given.items() if value is not None]) > 1:
        raise InputError(f"{' and '.join(tasks)} are different tasks; leave one out")
    if arguments.group is not None and arguments.folds is None:
        raise InputError("--group: says what stays in one fold; it needs --folds N")


def train_and_watch(console: Console, config: RunConfig, info: DataInfo, folder: RunFolder, hint: str) -> int:
    """Train, or go on, and print a line per epoch; return 0 when the run is done, or the status of its interruption.

    `hint` says how to go on.
    """
    from segtune.machine import signals_noted
    from segtune.report.console import RunConsole
    from segtune.report.text import stopped_early
    from segtune.training.runlog import epochs_done
    from segtune.training.train import train

    with hinted(hint), signals_noted() as caught, RunConsole(console, config, info, folder) as watch:
        run = train(config, info, folder, go_on=True, on_batch=watch.batch, stop=lambda: bool(caught), each_epoch=True)
        with closing(run):
            for result in run:
                watch.epoch(result)
    if early := stopped_early(folder, config):
        console.print(early)
    elif caught and epochs_done(folder) < config.epochs:
        console.print(f"stopped after {epochs_done(folder)} of {counted(config.epochs, 'epoch')}; {hint}")
        return 128 + caught[0]
    return 0
