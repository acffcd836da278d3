"""The work of run_single.py --seeds: train one configuration with several seeds, and say how its score varies."""

from __future__ import annotations

import json
import shlex
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from segtune.cli.dataset import check_data
from segtune.cli.given import given_config
from segtune.cli.training import looked_at, train_and_watch
from segtune.config import RunConfig
from segtune.errors import InputError, counted
from segtune.files.atomic import write_text
from segtune.files.checks import check_length
from segtune.files.folders import RunFolder
from segtune.report.commands import same_command

_FEWEST = 2
_RUN = "seed_"  # how the names of the folders of the runs begin
_RESULT = "seeds.json"
_OWN = (_RUN, _RESULT, "validation")  # the last is what validate.py --ensemble leaves


def repeat_run(arguments: Namespace) -> int:
    """Train a configuration with the seeds S, S + 1, ..., where S is its own; return the exit status.

    Runs that are done stay as they are, and one that was interrupted goes on.
    """
    count, logs = arguments.seeds, Path(arguments.log_dir)
    if count < _FEWEST:
        raise InputError(f"--seeds: must be at least {_FEWEST}, but got {count}")
    place, config = begun_runs(arguments, _OWN, "--seeds")
    # torch takes seconds to import; common mistakes do not wait for it.
    from segtune.report.terminal import make_console
    from segtune.report.text import how_it_ended
    from segtune.training.repeat import count_tiles
    from segtune.training.resolve import resolve
    from segtune.training.resume import check_same_settings

    console = make_console()
    config, info, _ = looked_at(console, config, None, begins=True)
    place = place or RunFolder.dated(logs, config).path
    where = ["--log-dir", str(logs)] if logs != Path("logs") else []
    hint = f"to go on: {same_command(['--seeds', str(count), '--exp-name', place.name, *where])}"
    runs = []
    for seed in range(config.seed, config.seed + count):
        folder, own = RunFolder(place / f"{_RUN}{seed}"), config.model_copy(update={"seed": seed})
        if folder.begun:
            check_same_settings(folder, own)
        if not (folder.begun and how_it_ended(folder, own)) and (
            status := train_and_watch(console, own, info, folder, hint)
        ):
            return status
        if not folder.tiles.is_file():
            count_tiles(folder, resolve(own, info), info, lambda phase: None)
        runs.append(folder)
    for line in _result(place, config, runs, arguments.group):
        console.print(line)
    return 0


def begun_runs(arguments: Namespace, own: tuple[str, ...], flag: str) -> tuple[Path | None, RunConfig]:
    """Return the folder that --exp-name gives to the runs of a flag, None without one, and the settings of the runs.

    `own` is how the names of what the folder may hold begin, those of the runs first. Runs that began give the settings
    that are not given. Raises InputError for settings, data or a folder that cannot be.
    """
    name = arguments.exp_name
    place = _named_place(Path(arguments.log_dir), name, own, flag) if name else None
    config = given_config(arguments, _first_run(place, own[0]) if place else None)
    check_data(config, config.channels)
    return place, config


def _named_place(logs: Path, name: str, own: tuple[str, ...], flag: str) -> Path:
    """Return the folder of this name; raise InputError where it holds something else than the runs of a flag.

    `own` is how the names of what it may hold begin.
    """
    if Path(name).name != name or name in ("", ".."):
        raise InputError(f"--exp-name: {name!r} is not the name of a folder; --log-dir sets the folder that it lies in")
    check_length(name, "--exp-name")
    place = logs / name
    others = [path for path in place.glob("*") if not path.name.startswith((*own, "."))]
    if others or (place.exists() and not place.is_dir()):
        raise InputError(f"{place}: exists, and holds no runs of {flag}; choose another name with --exp-name")
    return place


def _first_run(place: Path, start: str) -> RunFolder | None:
    """Return the run with the smallest number that began; None where there is none. Names begin with `start`."""
    begun = [RunFolder(path) for path in place.glob(f"{start}*") if RunFolder(path).begun]
    return min(begun, key=lambda run: int(run.path.name.removeprefix(start)), default=None)


def _result(place: Path, config: RunConfig, runs: Sequence[RunFolder], pattern: str | None) -> list[str]:
    """Write seeds.json, and return lines with the mean, the deviation and the interval."""
    from segtune.evaluation.confirmation import Repeats, few, mean_of
    from segtune.evaluation.measure import Measure
    from segtune.evaluation.tile_counts import read_tiles
    from segtune.training.repeat import validation_groups

    names, first = read_tiles(runs[0].tiles)
    repeats = Repeats(place.name, (first, *(read_tiles(run.tiles)[1] for run in runs[1:])))
    grouping, measure = validation_groups(names, config, pattern), Measure.named(config.objective, config.classes)
    mean = mean_of(repeats, grouping.groups, measure)
    seeds = [config.seed + number for number in range(len(runs))]
    median = runs[mean.median].path
    content = asdict(mean) | {"seeds": seeds, "median": median.name, "grouped_by": grouping.by}
    write_text(place / _RESULT, json.dumps(content, indent=2) + "\n")
    each = ", ".join(f"{score:.4f}" for score in mean.scores)
    over = f"over {counted(len(runs), 'seed')} ({each}), deviation {mean.deviation:.4f}"
    text = f"mean {config.objective} {mean.mean:.4f} {over}"
    if interval := mean.interval:
        what = f"for other seeds and other tiles; {counted(len(names), 'tile')}"
        text += f", 95%: {interval.low:.4f} to {interval.high:.4f} ({what})"
    single = mean_of(repeats, measure=measure).interval
    drawn = grouping.difference(interval, single) if grouping.groups and interval and single else grouping.remark
    why = measure.unsure(first, grouping.groups)
    groups = None if grouping.groups is None else len(set(grouping.groups))
    warning = few(len(runs), len(names), groups) if interval else None
    return [
        text,
        *(line for line in (drawn, why, warning) if line),
        f"{median} has the median, {mean.scores[mean.median]:.4f}; {place / _RESULT} has all numbers",
        f"validate.py -cd {shlex.quote(str(place))} --ensemble averages the models",
    ]
