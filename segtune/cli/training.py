"""Train one run in the terminal: a line per epoch, and how it ended."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segtune.cli.dataset import ensure_demo
from segtune.cli.exits import hinted
from segtune.config import RunConfig
from segtune.errors import InputError, counted
from segtune.files.folders import RunFolder
from segtune.remarks import Say
from segtune.report.commands import same_command
from segtune.report.trackers import NONE, check_installed

if TYPE_CHECKING:
    from rich.console import Console

    from segtune.data.dataset import DataInfo
    from segtune.files.transforms_file import TransformsFile


@dataclass(frozen=True)
class Reading:
    """What is known while the data of a run is read."""

    config: RunConfig  # as it is used
    transforms: TransformsFile | None  # that `augmentation` names
    progress: Callable[[int, int], None]  # moves the bar: tiles that are read, and all
    say: Say  # prints a line above the bar


@contextmanager
def reading(console: Console, config: RunConfig, folder: RunFolder | None, begins: bool) -> Iterator[Reading]:
    """Check the settings of a run, and show a bar while the block reads its data.

    `folder` is that of the run, None where it has none yet; `begins` is false for a run that goes on. Raises InputError
    for settings that cannot be.
    """
    from segtune.report.terminal import reading_bar
    from segtune.training.resolve import check_run
    from segtune.training.resume import transforms_of

    config = check_run(config, begins, console.print)
    transforms = transforms_of(config, folder)
    with hinted(f"to go on: {same_command(sys.argv[1:])}"), reading_bar(console) as (progress, say):
        ensure_demo(config.dataset, console.print)
        yield Reading(config, transforms, progress, say)


def looked_at(
    console: Console, config: RunConfig, folder: RunFolder | None, begins: bool, shared: bool = True
) -> tuple[RunConfig, DataInfo, TransformsFile | None]:
    """Check the settings of a run, scan its data, and check that the two go together: see `reading`.

    `shared` says whether tiles that splits share are told.

    Return the settings as they are used, the scan, and the file that `augmentation` names.
    """
    from segtune.data.scan import scan
    from segtune.training.resolve import check_input

    with reading(console, config, folder, begins) as now:
        info = scan(now.config, progress=now.progress, say=now.say, shared=shared)
    check_input(now.config, info, begins, now.transforms)
    return now.config, info, now.transforms


def check_tasks(arguments: Namespace) -> None:
    """Raise InputError where flags ask for several things at once, or for nothing that a flag could act on."""
    given = {
        "--seeds": arguments.seeds,
        "--folds": arguments.folds,
        "--preview-augmentation": arguments.preview_augmentation,
    }
    if len(tasks := [flag for flag, value in given.items() if value is not None]) > 1:
        raise InputError(f"{' and '.join(tasks)} are different tasks; leave one out")
    if arguments.group is not None and arguments.folds is None and arguments.seeds is None:
        raise InputError("--group: says which tiles belong together; it needs --folds N or --seeds N")
    check_installed(arguments.log_to)
    if arguments.log_to != NONE and tasks:
        raise InputError(f"--log-to: logs single runs; with {tasks[0]}, leave it out")


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
