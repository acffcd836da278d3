"""The work of run_single.py --folds: train one configuration on parts of the tiles, and score it on all of them."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segtune.cli.repeating import begun_runs
from segtune.cli.training import reading, train_and_watch
from segtune.config import RunConfig
from segtune.errors import InputError, counted
from segtune.files.atomic import write_text
from segtune.files.checks import read_own_json
from segtune.files.folders import FOLD, RunFolder
from segtune.report.commands import same_command
from segtune.vocabulary import FEWEST_FOLDS, MOST_FOLDS

if TYPE_CHECKING:
    from rich.console import Console

    from segtune.data.dataset import DataInfo
    from segtune.data.folds import Folded
    from segtune.evaluation.grouping import Grouping

_RESULT = "folds.json"


def run_folds(arguments: Namespace) -> int:
    """Train a configuration once for each fold, on the tiles of the others; return the exit status.

    Runs that are done stay as they are, and one that was interrupted goes on.
    """
    count, logs = arguments.folds, Path(arguments.log_dir)
    if not FEWEST_FOLDS <= count <= MOST_FOLDS:
        raise InputError(f"--folds: must be between {FEWEST_FOLDS} and {MOST_FOLDS}, but got {count}")
    place, config = begun_runs(arguments, (FOLD, _RESULT), "--folds")
    # torch takes seconds to import; common mistakes do not wait for it.
    from segtune.evaluation.cross_validation import deal_folds
    from segtune.report.terminal import make_console
    from segtune.training.resolve import check_input

    console = make_console()
    with reading(console, config, None, begins=True) as now:
        config = now.config
        folded, grouping = deal_folds(config, count, arguments.group, progress=now.progress, say=now.say)
    for info in folded.infos:
        check_input(config, info, True, now.transforms)
    place = place or RunFolder.dated(logs, config).path
    runs = [RunFolder(place).fold(number) for number in range(1, count + 1)]
    plan = _planned(place, config, folded, grouping)
    where = ["--log-dir", str(logs)] if logs != Path("logs") else []
    group = ["--group", arguments.group] if arguments.group else []
    hint = f"to go on: {same_command(['--folds', str(count), *group, '--exp-name', place.name, *where])}"
    for info, folder in zip(folded.infos, runs, strict=True):
        if status := _train(console, config, info, folder, hint):
            return status
    for line in _result(place, config, folded, grouping, plan, runs):
        console.print(line)
    return 0


def _planned(place: Path, config: RunConfig, folded: Folded, grouping: Grouping) -> dict[str, Any]:
    """Write which tile is in which fold into folds.json; InputError where an earlier start had other folds."""
    tiles = {name: fold + 1 for name, fold in zip(folded.names, folded.folds, strict=True)}
    plan = {"folds": len(folded.infos), "epochs": config.epochs, "grouped_by": grouping.by, "tiles": tiles}
    before = read_own_json(place / _RESULT, "folds", "--exp-name")
    if before is None:
        place.mkdir(parents=True, exist_ok=True)
        write_text(place / _RESULT, json.dumps(plan, indent=2, ensure_ascii=False) + "\n")
        return plan
    for name, value in plan.items():
        if before.get(name) != value:
            values = "other tiles in its folds" if name == "tiles" else f"{name} {before.get(name)}, not {value}"
            raise InputError(f"{place}: cannot go on: it has {values}; choose another name with --exp-name")
    return plan


def _train(console: Console, config: RunConfig, info: DataInfo, folder: RunFolder, hint: str) -> int:
    """Train the run of a fold, or what is left of it, and measure it; return the exit status."""
    from segtune.report.text import how_it_ended
    from segtune.training.repeat import measure_fold
    from segtune.training.resolve import resolve
    from segtune.training.resume import check_same_settings

    if folder.begun:
        check_same_settings(folder, config)
    if not (folder.tiles.is_file() or (folder.begun and how_it_ended(folder, config))) and (
        status := train_and_watch(console, config, info, folder, hint)
    ):
        return status
    measure_fold(folder, resolve(config, info), info, lambda phase: None)
    return 0


def _result(
    place: Path, config: RunConfig, folded: Folded, grouping: Grouping, plan: dict[str, Any], runs: list[RunFolder]
) -> list[str]:
    """Write folds.json, and return lines with the mean, the deviation and the interval."""
    from segtune.evaluation.cross_validation import cross_validated
    from segtune.evaluation.measure import Measure
    from segtune.evaluation.tile_counts import read_tiles

    counts = [read_tiles(run.tiles)[1] for run in runs]
    found = cross_validated(folded.folds, counts, Measure.named(config.objective, config.classes), grouping)
    write_text(place / _RESULT, json.dumps(plan | found.plain(), indent=2, ensure_ascii=False) + "\n")
    each, together, name = ", ".join(f"{score:.4f}" for score in found.scores), found.together, found.objective
    return [
        f"mean {name} {found.mean:.4f} over {counted(len(runs), 'fold')} ({each}), deviation {found.deviation:.4f}",
        f"all {counted(len(folded.folds), 'tile')} together: {name} {together.value:.4f} "
        f"(95% interval {together.low:.4f} to {together.high:.4f})",
        *([found.drawn] if found.drawn else []),
        *found.intervals.remarks(),
        f"{place / _RESULT} has all numbers; the models are deleted, and the same command without --folds trains one",
    ]
