"""The report of --dry-run: the space, some of its runs, the data, the resources and an estimate of the time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.data.reading import read_header
from segtune.data.tiles import Split
from segtune.errors import DeviceMemoryError, InputError, NonFiniteLossError, counted, duration
from segtune.planning.cost import Cost, probe
from segtune.planning.estimate import Estimate, estimate
from segtune.planning.first_runs import planned_runs
from segtune.planning.resources import Plan, local_resources, make_plan
from segtune.planning.samples import Samples, draw_samples, measured_runs
from segtune.report.tables import SettingsTable, plain_table
from segtune.report.text import settings_text, value_text
from segtune.space.parameters import Parameter, Range
from segtune.space.space import Space
from segtune.training.resolve import resolve
from segtune.tuning.confirm_looks import check_groups, too_few_tiles, trials_search

_HEADERS = 64  # tiles of a split whose sizes are read


def show_dry_run(console: Console, space: Space, info: DataInfo, address: str | None = None) -> int:
    """Print what a search would do, and return the exit status; nothing is written and no run is trained to its end.

    Raises InputError where the tiles' names refuse what the search would.
    """
    check_groups(space, info)
    console.print(space_tree(space), soft_wrap=False)
    fixed = {name: value for name, value in space.fixed.items() if value != RunConfig.model_fields[name].default}
    console.print()
    console.print(f"fixed settings that are not the default: {settings_text(fixed) or 'nothing'}")
    samples = draw_samples(space, info)
    console.print()
    console.print(sample_table(space, samples))
    console.print(_drawn_text(space, samples))
    if space.search.sampler != "grid":
        console.print(str(planned_runs(space, info)))
    console.print()
    console.print(data_table(info, space.baseline))
    for line in data_lines(info):
        console.print(line)
    if address:
        console.print()
        console.print(f"resources and time: those of the cluster at {address}, known once a search joins it")
        return 0
    plan = make_plan(space.search, [local_resources()], space.baseline.device)
    console.print()
    console.print(str(plan))
    runs = measured_runs(resolve(space.baseline, info), samples.runs)
    console.print(f"measuring a few steps of {counted(len(runs), 'run')} ...")
    for line in estimate_lines(space, info, runs, plan):
        console.print(line)
    return 0


def space_tree(space: Space) -> Tree:
    """Return a tree of the searched settings and their values; settings of a branch stand below its value."""
    size = space.size()
    count = "continuous" if size is None else f"{size:,} combinations"
    tree = Tree(f"{space.path}: {counted(len(space.searched()), 'setting')} searched, {count}")
    _grow(tree, space.parameters)
    if space.forbid:
        forbidden = tree.add("forbid")
        for entry in space.forbid:
            forbidden.add(str(entry))
    if space.prior.beliefs:
        expected = tree.add("prior")
        for name, belief in space.prior.beliefs.items():
            expected.add(f"{name}: {value_text(belief.value)}, confidence {belief.confidence}")
    return tree


def _grow(tree: Tree, parameters: Sequence[Parameter]) -> None:
    for parameter in parameters:
        if isinstance(parameter, Range):
            tree.add(f"{parameter.name}: {_range_text(parameter)}")
        elif not any(parameter.branches):
            tree.add(f"{parameter.name}: {', '.join(map(value_text, parameter.values))}")
        else:
            node = tree.add(parameter.name)
            for value, branch in parameter.items():
                _grow(node.add(value_text(value)), branch)


def _range_text(parameter: Range) -> str:
    if parameter.low == parameter.high:
        return value_text(parameter.low)
    text = f"{value_text(parameter.low)} to {value_text(parameter.high)}"
    if parameter.log:
        text += ", log"
    return text if parameter.step is None else f"{text} in steps of {value_text(parameter.step)}"


def sample_table(space: Space, samples: Samples) -> SettingsTable:
    """Return a table of runs, each once, the baseline first."""
    table = SettingsTable("Some of the runs", ("run",))
    first = space.baseline.settings()
    table.add(("baseline",), space.searched_in(first))
    if (point := space.prior_point()) is not None:
        expected = space.settings_at(point)
        table.add(("prior",), {name: expected[name] for name in space.searched() if name in expected})
    others = [drawn for drawn in samples.searched if any(first[name] != value for name, value in drawn.items())]
    for number, drawn in enumerate(others, start=1):
        table.add((str(number),), {name: drawn[name] for name in space.searched() if name in drawn})
    return table


def _drawn_text(space: Space, samples: Samples) -> str:
    if space.search.sampler == "grid":
        return f"the first {len(samples.runs)} of a grid of {space.size():,}"
    draws = counted(len(samples.runs) + len(samples.refused), "draw")
    text = f"{len(samples.runs)} drawn at random; {len(samples.refused)} of {draws} had to be drawn again"
    return f"{text}, the first because of: {samples.refused[0]}" if samples.refused else text


def data_table(info: DataInfo, config: RunConfig) -> Table:
    """Return a table with a column per split: tiles, their sizes, and the share of pixels of each class."""
    table = plain_table(f"Data: {config.dataset}")
    table.add_column("")
    for split in info.counts:
        table.add_column(split, justify="right", overflow="fold")
    table.add_row("tiles", *(f"{count:,}" for count in info.counts.values()))
    table.add_row("size", *(_sizes(info.tiles[split]) for split in info.counts))
    listed, ignored = info.labels.classes, info.labels.ignore
    for label in listed:
        table.add_row(
            f"class {info.labels.text(label)}", *(_share(info.pixels[split], [label], ignored) for split in info.counts)
        )
    rest = [{label for label in pixels if label not in (*listed, *ignored)} for pixels in info.pixels.values()]
    if any(rest):
        shares = (_share(info.pixels[s], labels, ignored) for s, labels in zip(info.counts, rest, strict=True))
        table.add_row("background", *shares)
    if ignored:
        table.add_row("ignored", *(_share(info.pixels[split], ignored, ()) for split in info.counts))
    return table


def _share(pixels: Mapping[int, int], labels: Sequence[int] | set[int], ignored: Sequence[int]) -> str:
    """Return the share of pixels with these labels among those that are not ignored."""
    total = sum(count for label, count in pixels.items() if label not in ignored)
    part = sum(pixels.get(label, 0) for label in labels)
    return f"{part / total:.2%}" if part and total else "none"


def _sizes(tiles: Split) -> str:
    looked_at = tiles[:: max(1, -(-len(tiles) // _HEADERS))]
    sides = sorted({(header.width, header.height) for header in (read_header(tile.image) for tile in looked_at)})
    text = " to ".join(f"{width} x {height}" for width, height in dict.fromkeys((sides[0], sides[-1])))
    return text if len(looked_at) == len(tiles) or len(sides) == 1 else f"{text} in {counted(len(looked_at), 'tile')}"


def data_lines(info: DataInfo) -> Iterator[str]:
    """Yield lines about the bands of the input and about the data in the cache."""
    kind = "uint8" if info.uint8 else "float32"
    yield f"bands: {', '.join(band.name for band in info.bands)} ({kind} in memory)"
    if not info.entries:
        yield "not cached: every tile is decoded anew in each epoch"
    for kept in dict.fromkeys(kept for _, kept in info.entries):
        folders = [path for (_, other), path in info.entries.items() if other == kept]
        bytes_ = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
        missing = sorted(info.counts.keys() - {split for split, other in info.entries if other == kept})
        without = f", without {', '.join(missing)}" if missing else ""
        yield f"cached: {kept}, {bytes_ / 1e6:,.1f} MB in {_cache_folder(folders)}{without}"


def _cache_folder(folders: Sequence[Path]) -> Path:
    """Return the cache folder; an entry lies at CACHE_DIR/KEY/ENTRY."""
    return folders[0].parent.parent


def estimate_lines(space: Space, info: DataInfo, runs: Mapping[str, RunConfig], plan: Plan) -> Iterator[str]:
    """Measure these runs; yield the time of each, and an estimate of the time of the search."""
    run_seconds: list[float] = []
    part, folds = info.folds[0] if info.folds else info, space.search.folds or 1
    for name, run in runs.items():
        try:
            cost = probe(run, part, plan.cpus_per_trial)
        except (InputError, NonFiniteLossError, DeviceMemoryError) as error:
            yield f"  {name}: cannot run: {str(error).splitlines()[0]}"
            continue
        run_seconds.append(cost.epoch_seconds * run.epochs * folds)
        epochs = counted(run.epochs, "epoch") if folds == 1 else f"{run.epochs} epochs of {folds} folds"
        yield f"  {name}: {_cost_text(cost)}, {epochs} in about {duration(run_seconds[-1])}"
    if not run_seconds:
        return
    found = estimate(space, plan, run_seconds)
    yield f"about {duration(found.seconds)} in all, an estimate from:"
    each = "if they train to the end: the mean of the runs above, each measured alone"
    yield f"  {counted(found.trials, 'trial')} of {duration(found.trial_seconds)}, {each}"
    yield f"  {_share_text(found)}"
    yield f"  {_concurrency_text(plan)}"
    few = too_few_tiles(resolve(space.baseline, info), info)
    if space.search.time_budget and (trials := trials_search(space, info).trials_budget()):
        kept = ", and the rest of it is for the confirmation" if trials < space.search.time_budget else ""
        yield f"  but time_budget ends the trials after {duration(trials)}{kept}"
    if (confirm := space.search.confirms()) and few:
        yield f"  then the winner is not confirmed: {few}"
    elif confirm:
        seconds = (confirm.top + 1) * confirm.seeds * found.trial_seconds / plan.concurrent
        which = (
            f"the {counted(confirm.top, 'best trial')} and the baseline again, {counted(confirm.seeds, 'seed')} each"
        )
        yield f"  then the confirmation trains {which}: about {duration(seconds)}"
    if folds > 1:
        once = duration(found.trial_seconds / folds)
        yield f"  then the winner trains once more on train, to have a model: about {once}"


def _share_text(found: Estimate) -> str:
    if not found.compared:
        return "every trial trains to its end"
    after = ", ".join(map(str, found.compared))
    return f"asha leaves about {found.share:.0%} of all epochs: trials pause after {after} of {found.epochs}"


def _cost_text(cost: Cost) -> str:
    text = f"{cost.step_seconds * 1000:.0f} ms a step, {duration(cost.epoch_seconds)} an epoch"
    return text if cost.peak_bytes is None else f"{text}, {cost.peak_bytes / 2**30:.1f} GB of the GPU"


def _concurrency_text(plan: Plan) -> str:
    if plan.gpus_per_trial and plan.gpus_per_trial < 1 and plan.concurrent > 1:
        together = "trials that share a GPU are assumed to take as long as one after the other"
        return f"{counted(plan.concurrent, 'trial')} at a time; {together}"
    return f"{counted(plan.concurrent, 'trial')} at a time"
