"""Charts: what they show, for few classes and for many, and that they leave matplotlib as it was."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from segtune.data.labels import Labels
from segtune.evaluation.calibration import Calibration, CalibrationBin
from segtune.evaluation.thresholds import ThresholdCurve, ThresholdSweep
from segtune.pictures.charts import confusion_chart, percent, reliability_chart, short_count, threshold_chart
from segtune.pictures.render import Picture

BINARY = Labels((255,), (), True, 0)
ORANGE = (213, 94, 0)  # marks


def labels(count: int, names: tuple[str, ...] = ()) -> Labels:
    return Labels(tuple(range(1, count + 1)), (), True, 0, names)


def counts(side: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(0).integers(1, 9999, (side, side))


def sweep(*labels: str, best: float = 0.3) -> ThresholdSweep:
    thresholds = tuple(percent / 100 for percent in range(5, 100, 5))
    iou = tuple(0.8 - (threshold - best) ** 2 for threshold in thresholds)
    return ThresholdSweep(thresholds, {label: ThresholdCurve(iou, thresholds, thresholds, iou) for label in labels})


def calibration(accuracy: float = 0.5, filled: tuple[int, ...] = (7, 14)) -> Calibration:
    bins = [CalibrationBin(n / 15, (n + 1) / 15, 0.0, None, None) for n in range(15)]
    for number in filled:
        share, confidence = 1 / len(filled), (number + 0.5) / 15
        bins[number] = replace(bins[number], share=share, confidence=confidence, accuracy=accuracy)
    return Calibration(0.25, tuple(bins))


def coloured(picture: Picture, colour: tuple[int, int, int]) -> npt.NDArray[Any]:
    """The columns of a picture that have a colour."""
    return np.flatnonzero((picture == colour).all(axis=2).any(axis=0))


@pytest.mark.parametrize("side", [2, 9, pytest.param(21, marks=pytest.mark.slow)])
def test_a_matrix_of_any_number_of_classes_is_a_picture(side: int) -> None:
    picture = confusion_chart(counts(side), labels(side - 1), "val, 12 tiles")
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[1] > 1.4 * picture.shape[0]  # two of them side by side
    assert (picture[[0, -1]] == 255).all()  # nothing is cut off
    assert (picture[:, [0, -1]] == 255).all()


@pytest.mark.slow
def test_a_matrix_of_very_many_classes_stays_a_picture_of_usual_size() -> None:
    assert max(confusion_chart(counts(255), labels(254), "val").shape) < 6000


def test_background_that_does_not_occur_is_left_out() -> None:
    with_it = counts(3)
    without = with_it.copy()
    without[0] = without[:, 0] = 0
    only = confusion_chart(without, labels(2), "val")
    assert only.shape[1] < confusion_chart(with_it, labels(2), "val").shape[1]
    predicted = without.copy()
    predicted[1, 0] = 1
    assert confusion_chart(predicted, labels(2), "val").shape[1] > only.shape[1]


def test_row_shares_do_not_depend_on_how_often_a_class_occurs() -> None:
    found = np.array([[90, 10], [10, 90]])
    many = found * [[1], [1000]]
    one, other = (confusion_chart(matrix, BINARY, "val") for matrix in (found, many))
    half = one.shape[1] - 340  # the left edge of the right matrix, which has cells of 165 pixels
    np.testing.assert_array_equal(one[:, half:], other[:, half:])
    assert not np.array_equal(one[:, :half], other[:, :half])


def test_a_class_without_true_pixels_has_a_grey_row() -> None:
    found = counts(3)
    found[2] = 0
    grey = (round(0.88 * 255),) * 3
    assert len(coloured(confusion_chart(found, labels(2), "val"), grey)) > 100
    assert len(coloured(confusion_chart(counts(3), labels(2), "val"), grey)) < 100  # edges of letters


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (950, "950"), (999, "999"), (1000, "1k"), (12345, "12.3k"), (999_900, "1M"), (1_234_567_890, "1.23G")],
)
def test_numbers_are_short(number: int, text: str) -> None:
    assert short_count(number) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0"), (0.001, "<1"), (0.42, "42"), (0.9951, ">99"), (1, "100"), (float("nan"), "-")]
)
def test_a_small_share_is_not_nothing_and_a_large_one_not_all(share: float, text: str) -> None:
    assert percent(share) == text


def test_a_reliability_diagram_shows_gaps() -> None:
    gaps = reliability_chart(calibration(accuracy=0.5), "val")
    assert len(coloured(gaps, ORANGE)) > 0
    exact = calibration(accuracy=7.5 / 15, filled=(7,))
    assert not len(coloured(reliability_chart(exact, "val"), ORANGE))
    assert not np.array_equal(reliability_chart(replace(calibration(), ece=0.1), "val"), gaps)


def test_the_best_threshold_and_the_models_own_are_marked() -> None:
    charts = [threshold_chart(sweep("255", best=best), BINARY, None, "val") for best in (0.2, 0.8)]
    places = [coloured(chart[:-100], ORANGE) for chart in charts]  # above the legend
    assert places[0].max() < places[1].min()
    one, other = (threshold_chart(sweep("255"), BINARY, own, "val") for own in (None, 0.5))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    "count",
    [
        1,
        2,
        3,
        pytest.param(4, marks=pytest.mark.slow),
        pytest.param(7, marks=pytest.mark.slow),
        pytest.param(20, marks=pytest.mark.slow),
    ],
)
def test_each_class_has_a_chart_of_thresholds(count: int) -> None:
    picture = threshold_chart(sweep(*map(str, range(1, count + 1))), labels(count), None, "val")
    marks = (picture == ORANGE).all(axis=2)
    starts = np.flatnonzero(np.diff(marks.any(axis=0).astype(int)) == 1)
    assert len(starts) == {1: 1, 2: 2, 3: 3, 4: 2, 7: 4, 20: 4}[count] + 1  # columns of charts, and the legend


@pytest.mark.slow
def test_of_very_many_classes_twenty_have_a_chart() -> None:
    names = [str(label) for label in range(1, 255)]
    assert threshold_chart(sweep(*names), labels(254), None, "val").shape[0] < 3000


def test_names_are_plain_text_whatever_they_hold() -> None:
    """A dollar sign would begin a formula, and a line break a second line."""
    odd = labels(2, (r"$\frac{1}", "a\nb\x1b" + "very long " * 20))
    plain = labels(2, ("one", "two"))
    for draw in (
        lambda of: confusion_chart(counts(3), of, r"val $\frac{" + "long " * 50),
        lambda of: threshold_chart(sweep("1", "2"), of, None, "val $x$"),
    ):
        assert not np.array_equal(draw(odd), draw(plain))


def test_charts_neither_use_nor_change_the_state_of_matplotlib(tmp_path: Path) -> None:
    """Draw in a new process, whose matplotlibrc asks for LaTeX and for a way of opening windows that there is not."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nbackend: qtagg\naxes.facecolor: black\n")
    code = (
        "import matplotlib, sys\n"
        "from tests.pictures.test_charts import *\n"
        "before = dict(matplotlib.rcParams)\n"
        "picture = confusion_chart(counts(3), labels(2), 'val')\n"
        "assert (picture[0] == 255).all()\n"
        "reliability_chart(calibration(), 'val'), threshold_chart(sweep('255'), BINARY, None, 'val')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert dict(matplotlib.rcParams) == before\n"
        "assert before['text.usetex']\n"
    )
    root = Path(__file__).resolve().parent.parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env={"MATPLOTLIBRC": str(tmp_path)})
