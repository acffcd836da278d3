"""Sheets: their columns, legend and captions, and a size that follows from the rows."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segtune.data.labels import IGNORED, Labels
from segtune.pictures.render import palette
from segtune.pictures.sheet import Preview, preview_sheet, worst_sheet
from tests.pictures.sheets import CELL, LABELS, RED, WHITE, has, mistake, nearer, preview


def test_a_preview_shows_tile_and_mask_before_and_after() -> None:
    sheet = preview_sheet([preview()], LABELS, "hard", CELL)
    assert sheet.dtype == np.uint8
    bottom = sheet[-40]  # through the row of tiles
    starts = [int(np.flatnonzero((bottom == value).all(axis=1))[0]) for value in (100, 160)]
    assert (bottom[starts[0] : starts[0] + CELL] == 100).all()
    assert (bottom[starts[1] : starts[1] + CELL] == 160).all()
    assert starts[1] - starts[0] == 2 * (starts[1] - starts[0] - CELL - 8)  # two cells further
    masks = bottom[starts[0] + CELL + 8 :][:CELL], bottom[starts[1] + CELL + 8 :][:CELL]
    assert (masks[0][:14] == 100).all()  # background on the left, and on the right after it was mirrored
    assert (masks[1][-14:] == 160).all()


def test_columns_of_the_worst_tiles() -> None:
    with_it, without = (worst_sheet([mistake()], LABELS, with_difference=value, cell=CELL) for value in (True, False))
    assert with_it.shape[1] - without.shape[1] == CELL + 8
    assert has(with_it, RED)
    assert not has(without, RED)
    middle = without[-40, 16:-16]  # through the row of tiles
    truth, predicted = (middle[start : start + CELL] for start in (CELL + 8, 2 * (CELL + 8)))
    first, second = palette(2)
    assert nearer(truth[20], first, second)  # see `mistake`
    assert nearer(predicted[20], second, first)


@pytest.mark.parametrize(("height", "width", "drawn"), [(32, 32, 64), (32, 64, 32), (64, 32, 128), (3200, 4, 128)])
def test_a_row_is_as_high_as_its_mask_is_in_its_aspect(height: int, width: int, drawn: int) -> None:
    one, two = (worst_sheet([mistake("a", height, width)] * count, LABELS, cell=CELL) for count in (1, 2))
    assert one.shape[1] == two.shape[1]
    assert len(two) - len(one) == drawn + 32  # with its caption and the gap below


def test_tiles_of_different_sizes_share_a_sheet() -> None:
    sheet = worst_sheet([mistake("a", 32, 32), mistake("b", 100, 60), mistake("c", 12, 40)], LABELS, cell=CELL)
    assert sheet.ndim == 3


def test_the_legend_explains_hatching_only_if_it_occurs() -> None:
    row = preview()
    first, second = palette(2)
    plain = Preview("a", row.picture, row.mask * 0, row.augmented, row.mask * 0)
    sheet = preview_sheet([plain], LABELS, "light", CELL)
    assert has(sheet, first)
    assert has(sheet, second)
    one_ignored = Preview("a", row.picture, np.full_like(row.mask, IGNORED), row.augmented, row.mask * 0)
    head = len(sheet) - CELL - 40
    assert not np.array_equal(preview_sheet([one_ignored], LABELS, "light", CELL)[:head], sheet[:head])


def test_of_many_classes_the_legend_names_those_that_are_seen() -> None:
    labels = Labels(tuple(range(1, 255)), (), True, 0)
    colours = palette(254)
    row = preview()
    sheet = preview_sheet([Preview("a", row.picture, row.mask, row.augmented, row.mask)], labels, "light", CELL)
    assert has(sheet, colours[1])
    assert not has(sheet, colours[100])
    everything = np.arange(255, dtype=np.uint8).reshape(15, 17)
    sheet = preview_sheet([Preview("a", row.picture, everything, row.augmented, everything)], labels, "light", CELL)
    assert set(colours) <= set(map(tuple, sheet.reshape(-1, 3).tolist()))


def test_captions_change_with_name_score_and_title() -> None:
    sheets = [
        worst_sheet([mistake("one")], LABELS, cell=CELL),
        worst_sheet([mistake("two")], LABELS, cell=CELL),
        worst_sheet([mistake("one", iou=0.5)], LABELS, cell=CELL),
        worst_sheet([mistake("one")], LABELS, title="Epoch 3", cell=CELL),
    ]
    assert len({sheet.tobytes() for sheet in sheets}) == len(sheets)


def test_a_name_may_be_long_or_in_any_script() -> None:
    """Each script is drawn with its own letters, and nothing exceeds the width of the sheet."""
    names = ["плитка Ё", "плитка Ж", "タイル", "瓦片", "πλακίδιο", "тайл_" * 60 + "1", "тайл_" * 60 + "2", ""]
    sheets = [worst_sheet([mistake(name)], LABELS, cell=CELL) for name in names]
    assert len({sheet.shape for sheet in sheets}) == 1
    assert len({sheet.tobytes() for sheet in sheets}) == len(names)
    assert all((sheet[:, -8:] == WHITE).all() for sheet in sheets)


def test_composed_and_decomposed_letters_are_drawn_alike() -> None:
    """macOS decomposes the letters of file names."""
    composed, decomposed = (worst_sheet([mistake(name)], LABELS, cell=CELL) for name in ("й", "\u0438\u0306"))
    np.testing.assert_array_equal(composed, decomposed)


def test_a_name_that_is_not_valid_utf8_does_not_end_the_process() -> None:
    """Draw in a new process, because OpenCV reads beyond the end of such a text."""
    code = (
        "from segtune.pictures.sheet import worst_sheet\n"
        "from tests.pictures.sheets import *\n"
        "for name in ('\\udcff', 'a\\udcff\\ud800.tif', 'a\\x00b\\n'):\n"
        "    worst_sheet([mistake(name)], LABELS, cell=CELL)\n"
    )
    root = Path(__file__).resolve().parent.parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


@pytest.mark.parametrize("sheet", [lambda: preview_sheet([], LABELS, "hard"), lambda: worst_sheet([], LABELS)])
def test_a_sheet_without_rows_is_refused(sheet: Any) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        sheet()


def test_a_sheet_takes_milliseconds() -> None:
    rows = [mistake("tile.tif", 512, 512)] * 4
    worst_sheet(rows, LABELS)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        worst_sheet(rows, LABELS)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5  # 0.05 s where nothing else runs
