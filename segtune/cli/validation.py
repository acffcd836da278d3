"""The work of validate.py: measure models on splits, write their predictions, and say how good they are."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from segtune.cli.outputs import panels_of, tile_files
from segtune.cli.own_files import OwnFiles
from segtune.cli.places import Place
from segtune.cli.validate_flags import Wanted, band_order
from segtune.data.pairs import find_tiles
from segtune.data.tiles import Layout
from segtune.errors import counted
from segtune.evaluation.grouping import Grouping, find_groups, grouped_intervals
from segtune.evaluation.intervals import Intervals
from segtune.evaluation.opened import Changes
from segtune.evaluation.validate import PredictedTile, Validation, validate
from segtune.files.atomic import write_text
from segtune.files.checks import check_writable, read_own_json
from segtune.models.foreign import Described, manifest_of
from segtune.pictures.charts import confusion_chart, reliability_chart, threshold_chart
from segtune.pictures.gallery import write_worst
from segtune.pictures.panels import panels
from segtune.pictures.png import write_png
from segtune.pictures.render import Picture
from segtune.report.terminal import step_bar

METRICS = "metrics.json"
_SUMMARY = ("metrics.csv", "confusion.png", "calibration.png", "worst.png")
_SWEEP = "thresholds.png"


@dataclass(frozen=True)
class Found:
    """The result of a validation, its intervals, and the plot of its first tile."""

    result: Validation
    intervals: Intervals | None  # None where there is one tile alone
    grouping: Grouping
    drawn: str | None  # a line about what was drawn for the intervals, where that matters
    plot: Picture | None  # only for --vis


def measure(place: Place, arguments: Namespace, wanted: Wanted, console: Console) -> Found:
    """Measure a model on a split with masks, and write OUT."""
    config = manifest_of(place.model, place.described).config
    grouping = find_groups(find_tiles(place.data[0], Layout.of(config, ())), arguments.group)  # not after hours
    check_writable(place.out, "-o")
    sweep = arguments.sweep_threshold or arguments.store_threshold
    own = OwnFiles(place, named=bool(arguments.output_dir))
    summary = [place.out / name for name in (*_SUMMARY, *([_SWEEP] if sweep else []))] if wanted.metrics else []
    if read_own_json(place.out / METRICS, "miou", "-o") is None:
        for path in summary:
            own.check(path)
    plots = list[Picture]()
    with tile_files(place.out, wanted, own) as files:

        def on_tile(seen: PredictedTile) -> None:
            files.write(seen)
            if arguments.vis and not plots:
                plots.append(panels(panels_of(seen), seen.manifest.labels, seen.manifest.threshold))

        result = validated(place, place.model, arguments, on_tile, console, arguments.worst, sweep, place.ensemble)
    intervals, drawn = grouped_intervals(result.measured.tiles, result.manifest.config.classes, grouping)
    if wanted.metrics:
        own.claim([place.out / METRICS, *summary])
        _write(place, result, intervals, grouping)
    own.finish(wanted.folders)
    return Found(result, intervals, grouping, drawn, plots[0] if plots else None)


def validated(
    place: Place,
    model: Path,
    arguments: Namespace,
    on_tile: Callable[[PredictedTile], None] | None,
    console: Console,
    worst: int = 0,
    sweep: bool = False,
    ensemble: tuple[Path, ...] = (),
) -> Validation:
    """Measure a model as the flags say, averaged with the models of an `ensemble`."""
    with step_bar(console) as bar:
        bar.update(0, None, "reading the masks")
        return validate(
            model,
            place.data[0],
            device_of(arguments),
            on_tile,
            console.print,
            changes_of(arguments, place.described, ensemble),
            arguments.overlap,
            worst,
            sweep,
            lambda done, total: bar.update(done, total, "measuring"),
        )


def device_of(arguments: Namespace) -> str:
    """Return the device that the flags ask for."""
    return "cpu" if arguments.cpu else arguments.device or "auto"


def changes_of(arguments: Namespace, described: Described | None, ensemble: tuple[Path, ...] = ()) -> Changes:
    """Return what the flags ask to do otherwise than the training's evaluation."""
    return Changes(
        arguments.thres,
        arguments.min_area,
        arguments.tile_size,
        arguments.precision,
        arguments.tta,
        band_order(arguments),
        described,
        ensemble,
    )


def _write(place: Place, result: Validation, intervals: Intervals | None, grouping: Grouping) -> None:
    """Write metrics.json, metrics.csv and the pictures of a split."""
    place.out.mkdir(parents=True, exist_ok=True)
    drawn = intervals.plain() | {"grouped_by": grouping.by} if intervals else None
    metrics = result.metrics() | {"intervals": drawn}
    write_text(place.out / METRICS, json.dumps(metrics, indent=2) + "\n")
    write_text(place.out / "metrics.csv", result.measured.table())
    measured, labels = result.measured, result.manifest.labels
    heading = f"{place.data[0].name}: {counted(result.tiles, 'tile')}"
    write_png(place.out / "confusion.png", confusion_chart(measured.confusion, labels, heading))
    write_png(place.out / "calibration.png", reliability_chart(measured.calibration, heading))
    if measured.thresholds:
        own = result.manifest.threshold if labels.binary else None
        write_png(place.out / _SWEEP, threshold_chart(measured.thresholds, labels, own, heading))
    title = f"Worst tiles of {heading}"
    write_worst(place.out / "worst.png", result.store, result.manifest, measured.worst, title)
