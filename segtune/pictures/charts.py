"""Draw what a validation measured as charts: confusion matrix, calibration and thresholds.

A chart is a picture, (H, W, 3), uint8, that `segtune.pictures.png.write_png` writes. Colour-blind people can read it:
its lines have the colours of Okabe and Ito, and its cells one hue that gets darker. No state of pyplot is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from segtune.data.labels import Labels
from segtune.errors import printable
from segtune.evaluation.calibration import Calibration
from segtune.evaluation.thresholds import ThresholdSweep
from segtune.pictures.render import Picture, class_titles

Values = npt.NDArray[np.float64]
_DPI = 150
_LONGEST = 24  # characters of a class's name
_ABSENT = "0.88"  # grey of a row without pixels
_DARK = 0.55  # share of the colour scale from which text on it is white
_STYLES = {  # colour, line style and width of each score
    "IoU": ("#0072B2", "-", 2.4),
    "precision": ("#E69F00", "--", 1.6),
    "recall": ("#009E73", "-.", 1.6),
    "F1": ("#CC79A7", ":", 2.0),
}
_MARK = "#D55E00"
_FEW = 8  # up to this many rows, a matrix also shows its zeros
_DECADES = 4  # powers of ten over which numbers of pixels get darker
_READABLE = 30  # up to this many rows, the cells of a matrix have numbers
_MOST_NAMES = 90  # beside a matrix
_MOST_CURVES = 20  # small charts of thresholds
_LETTER, _BOLD_LETTER = 0.085, 0.13  # width in inches of a letter of a name, and of the heading


def confusion_chart(counts: npt.NDArray[np.int64], labels: Labels, heading: str) -> Picture:
    """Draw a confusion matrix twice, side by side: as numbers of pixels, and as shares of each true class.

    `counts` is (K + 1, K + 1), by true index (rows) and predicted index (columns), background first. Background is left
    out where no pixel is true or predicted background.
    """
    names = [_short(title) for title in class_titles(labels)]
    if not counts[0].any() and not counts[:, 0].any():
        counts, names = counts[1:, 1:], names[1:]
    total = counts.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, counts / np.maximum(total, 1), np.nan)
    # Logarithmic, because background often has a thousand times the pixels of a class.
    parts = np.log10(np.maximum(counts, 1) / max(int(counts.max()), 1))
    shades = np.where(counts > 0, np.clip(1 + parts / _DECADES, 0.04, 1), 0)
    number, longest = len(names), _LETTER * max(map(len, names))  # sizes are in inches
    side = number * min(max(6.5 / number, 0.46), 1.1) if number <= _READABLE else 14.0
    low, start, gap, high = 0.7 + (0.75 * longest if _slanted(names) else 0), 0.6 + longest, 0.25, 0.8
    width, height = start + 2 * side + gap + 0.3, low + side + high
    with _chart(width, height, heading, layout=None) as figure:
        lefts = (start, start + side + gap)
        places = [(left / width, low / height, side / width, side / height) for left in lefts]
        one, other = map(figure.add_axes, places)
        _matrix(one, names, shades, [[short_count(value) for value in row] for row in counts])
        _matrix(other, names, shares, [[percent(value) for value in row] for row in shares])
        one.set_title("pixels")
        other.set_title("% of the true class")
        one.set_ylabel("true")
        other.tick_params(labelleft=False)
        return _drawn(figure)


def reliability_chart(calibration: Calibration, heading: str) -> Picture:
    """Draw a reliability diagram: how often a model is right at each confidence, and how many pixels have it."""
    bins = [part for part in calibration.bins if part.share]
    points = [(part.confidence, part.accuracy) for part in bins if part.confidence is not None]
    confidence, accuracy = np.array(points, dtype=np.float64).T
    shares = [part.share for part in bins]
    # The most likely of K outputs has at least a probability of 1/K: what lies below is left away.
    least = np.floor(10 * min(bins[0].low, accuracy.min())) / 10
    with _chart(6.4, 6.8, heading) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot((0, 1), (0, 1), color="0.6", linestyle="--", linewidth=1.2)
        upper.vlines(confidence, confidence, accuracy, color=_MARK, linewidth=2.5)
        upper.plot(confidence, accuracy, "o-", color=_STYLES["IoU"][0], linewidth=2, markersize=6)
        upper.text(0.04, 0.93, "too cautious", color="0.4", transform=upper.transAxes)
        upper.text(0.96, 0.05, "too sure", color="0.4", ha="right", transform=upper.transAxes)
        upper.set(xlim=(least, 1), ylim=(least, 1.01), ylabel="share of pixels predicted right")
        title = (
            f"expected calibration error (ECE) {calibration.ece:.3f}:\nthe mean of the orange gaps, weighted by pixels"
        )
        upper.set_title(title, fontsize=10)
        upper.grid(color="0.9")
        widths = [part.high - part.low for part in bins]
        bars = lower.bar([part.low for part in bins], shares, widths, align="edge", color="#56B4E9", edgecolor="white")
        lower.bar_label(bars, [percent(share) for share in shares], fontsize=8, padding=1)
        lower.set(ylim=(0, 1.25 * max(shares)), ylabel="% of pixels")
        lower.set_xlabel("confidence: the probability of what is predicted")
        lower.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=""))
        return _drawn(figure)


def threshold_chart(sweep: ThresholdSweep, labels: Labels, own: float | None, heading: str) -> Picture:
    """Draw IoU, precision, recall and F1 over the threshold, in a small chart for each class that occurs.

    The best threshold of each class is marked, and `own`, the model's, which is one of the sweep's; None where the
    model takes the most likely class. Of very many classes, the first 20 are drawn.
    """
    shown = list(sweep.curves)[:_MOST_CURVES]
    if len(shown) < len(sweep.curves):
        heading += f" (the first {len(shown)} of {len(sweep.curves)} classes)"
    titles = dict(zip(map(str, labels.classes), class_titles(labels)[1:], strict=True))
    number = len(shown)
    across = {1: 1, 2: 2, 4: 2}.get(number, 3 if number <= 6 else 4)
    down = math.ceil(number / across)
    size = (6.8, 5.0) if number == 1 else (3.4 * across, 2.9 * down + 0.9)
    with _chart(*size, heading) as figure:
        grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[number:]:
            axes.set_axis_off()
        for axes, label in zip(grid.flat, shown, strict=False):
            _scores(axes, sweep, label, _short(titles[label]), own)
        for axes in grid[:, 0]:
            axes.set_ylabel("score")
        for axes in grid.flat[max(0, number - across) : number]:
            axes.set_xlabel("threshold")
            axes.tick_params(labelbottom=True)
        handles, names = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
        return _drawn(figure)


def short_count(number: float) -> str:
    """Return a number with three digits and a unit: ``950``, ``12.3k``, ``1.23M``."""
    for unit in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}T"


def percent(share: float) -> str:
    """Return a share in percent, without making a small one 0 or a large one 100; a dash for NaN."""
    if math.isnan(share):
        return "-"
    number = 100 * share
    if 0 < number < 0.5:
        return "<1"
    return ">99" if 99.5 <= number < 100 else f"{number:.0f}"


def _scores(axes: Any, sweep: ThresholdSweep, label: str, title: str, own: float | None) -> None:
    curve, best = sweep.curves[label], sweep.best(label)
    values = (curve.iou, curve.precision, curve.recall, curve.f1)
    for (name, (colour, line, width)), scores in zip(_STYLES.items(), values, strict=True):
        axes.plot(sweep.thresholds, scores, color=colour, linestyle=line, linewidth=width, label=name)
    top = curve.iou[sweep.thresholds.index(best)]
    axes.axvline(best, color=_MARK, linewidth=1.2)
    axes.plot(best, top, "o", color=_MARK, markersize=8, label="best")
    said = f"best at {best:.2f}: IoU {top:.3f}"
    if own is not None:
        axes.axvline(own, color="0.5", linestyle="--", linewidth=1.2, label="the model's")
        said += f" (at {own:.2f}: {curve.iou[sweep.thresholds.index(own)]:.3f})"
    axes.set_title(f"{title}\n{said}", fontsize=10, parse_math=False)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(color="0.9")


def _slanted(names: Sequence[str]) -> bool:
    return len(names) > 6 or max(map(len, names)) > 10


def _matrix(axes: Any, names: Sequence[str], shades: Values, texts: Sequence[Sequence[str]]) -> None:
    """Draw a square of cells: each shaded by its value from 0 to 1, grey where that is NaN, with its text."""
    number = len(names)
    size = 6.5 if number > 12 else 8 if number > _FEW else 10
    colours = matplotlib.colormaps["Blues"].with_extremes(bad=_ABSENT)
    axes.imshow(np.ma.masked_invalid(shades), cmap=colours, vmin=0, vmax=1)
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            if number <= _FEW or (text != "0" and number <= _READABLE):
                colour = "white" if shades[row, column] > _DARK else "0.15"
                axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
        axes.add_patch(Rectangle((row - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="0.25", linewidth=1.2, zorder=3))
    if number <= _READABLE:
        edges = np.arange(number + 1) - 0.5
        axes.set_xticks(edges, minor=True)
        axes.set_yticks(edges, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0, labelsize=10 if number <= _READABLE else 7)
    ticks = range(0, number, -(-number // _MOST_NAMES))
    shown = [names[tick] for tick in ticks]
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if _slanted(names) else {}
    axes.set_xticks(ticks, shown, parse_math=False, **slant)
    axes.set_yticks(ticks, shown, parse_math=False)
    axes.set_xlabel("predicted")


@contextmanager
def _chart(
    width: float, height: float, heading: str, layout: Literal["constrained"] | None = "constrained"
) -> Iterator[Figure]:
    """Yield a new figure of this size in inches, which a matplotlibrc of the user does not change."""
    with style.context("default"):
        figure = Figure(figsize=(width, height), dpi=_DPI, layout=layout, facecolor="white")
        title = _short(heading, int(width / _BOLD_LETTER))
        figure.suptitle(title, parse_math=False, fontsize=13, fontweight="bold")
        yield figure


def _drawn(figure: Figure) -> Picture:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _short(text: str, most: int = _LONGEST) -> str:
    """Return a text of at most this many characters: where it is longer, without its middle."""
    text = printable(text)
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"
