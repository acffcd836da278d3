"""What a validation found, for the console."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table

from segtune.data.labels import Labels
from segtune.errors import counted
from segtune.evaluation.areas import AreaSweep
from segtune.evaluation.class_scores import ClassScores
from segtune.evaluation.intervals import Interval, Intervals
from segtune.evaluation.measures import mean_over
from segtune.evaluation.validate import Validation, measure_of
from segtune.models.manifest import Manifest
from segtune.report.tables import add_figures, plain_table


def class_scores_table(labels: Labels, classes: ClassScores, boundary: Mapping[str, float | None]) -> Table:
    """Return a table of the scores of each class, and of the background if there is one."""
    table = plain_table()
    table.padding = (0, 1, 0, 0)  # narrow: it has many columns
    table.add_column("class", overflow="fold")
    for name in ("iou", "precision", "recall", "f1", "boundary", "pixels"):
        add_figures(table, name)
    total = sum(score.support for score in classes.by_label.values())
    for label, score in classes.by_label.items():
        values = (score.iou, score.precision, score.recall, score.f1, boundary.get(label))
        figures = ["-" if value is None else f"{value:.4f}" for value in values]
        table.add_row(labels.text(label), *figures, f"{score.support / max(1, total):.2%}")
    return table


def validation_lines(
    result: Validation,
    intervals: Intervals | None,
    drawn: str | None = None,
    groups: Sequence[Hashable] | None = None,
) -> list[RenderableType]:
    """Return a table and lines that say how good a model is on a split, and over which labels its mIoU is the mean.

    `drawn` is a line about what was drawn for the intervals, and `groups` the group of each tile.
    """
    measured, scores = result.measured, result.scores
    listed = ", ".join(mean_over(measured.labels, scores))
    model = str(result.model_folder)
    if result.ensemble:
        model = f"the mean of {1 + len(result.ensemble)} models, {model} and others,"
    lines: list[RenderableType] = [
        f"{model} on {counted(result.tiles, 'tile')} of {result.split}",
        class_scores_table(measured.labels, measured.classes, measured.boundary.iou),
        f"miou {scores.miou:.4f}{_interval(intervals.miou if intervals else None)}, the mean over {listed}",
    ]
    if not (measure := measure_of(result)).objective.is_miou:
        value, own = result.objective["value"], measure.interval(measured.tiles, groups) if intervals else None
        text = "not known, since the masks lack a class that it needs" if value is None else f"{value:.4f}"
        lines.append(f"{measure.objective.name} {text}{_interval(own)}, the objective of the model")
        if intervals and (why := measure.unsure(measured.tiles, groups)):
            lines.append(why)
    if scores.miou_with_background is not None:
        lines.append(f"with background {scores.miou_with_background:.4f}")
    lines.append(f"expected calibration error {measured.calibration.ece:.4f}")
    if result.absent():
        lines.append(f"warning: no mask contains {', '.join(result.absent())}; left out of the mean")
    if drawn:
        lines.append(drawn)
    if intervals:
        lines += intervals.remarks()
    return [*lines, *_sweep_lines(result)]


def _interval(found: Interval | None) -> str:
    return f" (95% interval {found.low:.4f} to {found.high:.4f})" if found else ""


def _sweep_lines(result: Validation) -> list[str]:
    """Return lines with the best thresholds and the best smallest area, if they were swept."""
    measured, manifest = result.measured, result.manifest
    lines = []
    if sweep := measured.thresholds:
        for label, curve in sweep.curves.items():
            best = sweep.best(label)
            top = curve.iou[sweep.thresholds.index(best)]
            others = "" if manifest.labels.binary else ", against all others"
            lines.append(
                f"class {measured.labels.text(label)}{others}: the largest IoU is {top:.4f}, at threshold {best:g}"
            )
        if not manifest.labels.binary:
            lines.append("no threshold is stored: of several classes, the model takes the most likely one")
    if measured.areas:
        lines.append(_choice_line(measured.areas, manifest))
    return lines


def _choice_line(areas: AreaSweep, manifest: Manifest) -> str:
    """Return a line that compares the best threshold and smallest area with the model's own."""
    choice, best, own = areas.best(), "", ""
    if choice.threshold is not None:
        best, own = f"threshold {choice.threshold:g} and ", f"threshold {manifest.threshold:g} and "
    best, own = f"{best}min-area {choice.min_area}", f"{own}min-area {manifest.min_area}"
    if choice.gain <= 0:
        return f"best choice: the model's own {own}, with miou {choice.miou:.4f}"
    return f"best choice: {best}, with miou {choice.miou:.4f}; the model's own {own}: {areas.own_miou:.4f}"


def several_table(found: Sequence[tuple[Validation, Intervals | None]]) -> Table:
    """Return a table with a row per model and data set."""
    table = plain_table("mIoU by model and data")
    for name in ("model", "data"):
        table.add_column(name, overflow="fold")
    for name in ("tiles", "miou", "95% interval", "ece"):
        add_figures(table, name)
    for result, intervals in found:
        interval = f"{intervals.miou.low:.4f} to {intervals.miou.high:.4f}" if intervals else ""
        figures = (str(result.tiles), f"{result.scores.miou:.4f}", interval, f"{result.measured.calibration.ece:.4f}")
        table.add_row(str(result.model_folder), str(result.split), *figures)
    return table
