"""Pictures of tiles: what is shown, in which colour, and that a sheet is as large as its rows say."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from segtune.data.labels import IGNORED, Band, Labels
from segtune.pictures.render import (
    Picture,
    Prediction,
    Preview,
    Worst,
    difference,
    overlay,
    palette,
    preview_sheet,
    render,
    tile_iou,
    worst_sheet,
    write_png,
    wrong_pixels,
)

LABELS = Labels((10, 20), (0,), True, 1)
RED, WHITE = (255, 0, 0), (255, 255, 255)
CELL = 64


def grey_picture(height: int = 32, width: int = 32, value: int = 100) -> Picture:
    return np.full((height, width, 3), value, dtype=np.uint8)


def stripes(height: int = 32, width: int = 32) -> npt.NDArray[np.uint8]:
    """Four columns: background, the first class, the second one, ignored."""
    columns = np.repeat(np.array([0, 1, 2, IGNORED], dtype=np.uint8), width // 4)
    return np.tile(columns, (height, 1))


def nearer(colour: npt.NDArray[Any], one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether a colour points from grey to one colour rather than to another."""
    return bool(np.dot(colour - 100.0, np.subtract(one, 100)) > np.dot(colour - 100.0, np.subtract(other, 100)))


# Images


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_each_band_reaches_over_two_standard_deviations(dtype: str) -> None:
    bands = [Band("image:1", 100, 10, 0, 250), Band("image:2", 60, 20, 0, 250), Band("nir", 30, 5, 0, 250)]
    image = np.array([[[80, 20, 20], [100, 60, 30], [120, 100, 40], [250, 250, 250]]]).astype(dtype)
    picture = render(image, bands, (0, 1, 2))
    assert (picture.shape, picture.dtype) == ((1, 4, 3), np.uint8)
    np.testing.assert_array_equal(picture[0, :, 0], [0, 128, 255, 255])
    np.testing.assert_array_equal(picture, np.repeat(picture[..., :1], 3, axis=2))


def test_a_band_is_not_stretched_beyond_its_values() -> None:
    bands = [Band("image:1", 50, 100, 0, 200)]
    picture = render(np.array([[[0], [50], [100], [200]]], np.int16), bands, (0,))
    np.testing.assert_array_equal(picture[0, :, 0], [0, 64, 128, 255])


def test_bands_are_shown_in_the_order_of_rgb() -> None:
    bands = [Band(f"image:{i}", 128, 64, 0, 256) for i in range(1, 5)]
    image = np.array([[[0, 64, 128, 192]]], dtype=np.uint8)
    assert render(image, bands, (3, 0, 1)).tolist() == [[[191, 0, 64]]]
    assert render(image, bands, (2,)).tolist() == [[[128, 128, 128]]]


def test_an_image_without_contrast_or_with_nan_is_black_there() -> None:
    image = np.array([[[5.0], [np.nan]]], dtype=np.float32)
    assert not render(image, [Band("image:1", 5, 0, 5, 5)], (0,)).any()


def test_two_bands_are_no_picture() -> None:
    with pytest.raises(ValueError, match="one position or three"):
        render(np.zeros((2, 2, 2), np.uint8), [Band("image:1", 1, 1, 0, 2)] * 2, (0, 1))


# Masks


def test_a_palette_has_a_colour_of_its_own_for_each_class() -> None:
    colours = palette(254)
    assert len(set(colours)) == 254
    assert all(palette(count) == colours[:count] for count in (1, 3, 7, 8, 40))
    assert not set(colours) & {(0, 0, 0), WHITE, RED}


def test_the_first_twenty_colours_look_different() -> None:
    lab = cv2.cvtColor(np.array([palette(20)], np.float32) / 255, cv2.COLOR_RGB2Lab)[0]
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    assert distances[~np.eye(20, dtype=bool)].min() > 25


def test_overlay_tints_classes_hatches_ignored_pixels_and_leaves_background() -> None:
    picture = grey_picture()
    shown = overlay(picture, stripes(), LABELS)
    first, second = palette(2)
    np.testing.assert_array_equal(shown[:, :8], picture[:, :8])
    assert nearer(shown[16, 12], first, second)
    assert nearer(shown[16, 20], second, first)
    assert tuple(shown[16, 8]) == first  # outlined
    assert tuple(shown[16, 16]) == second
    ignored = shown[:, 24:].astype(int)
    assert np.ptp(ignored, axis=2).max() == 0  # grey
    assert np.ptp(ignored) > 80  # in light and dark lines
    assert (picture == 100).all()


def test_hatching_is_seen_on_any_ground() -> None:
    mask = np.full((32, 32), IGNORED, dtype=np.uint8)
    for value in (0, 128, 255):
        assert np.ptp(overlay(grey_picture(value=value), mask, LABELS).astype(int)) > 80


def test_a_mask_of_another_size_covers_the_same_place() -> None:
    picture = grey_picture()
    same = overlay(picture, stripes(), LABELS)
    for height, width in ((64, 64), (16, 16), (320, 320)):
        other = overlay(picture, stripes(height, width), LABELS)
        assert other.shape == picture.shape
        np.testing.assert_array_equal(other[:, 2:-2:8], same[:, 2:-2:8])


def test_a_narrow_road_is_not_torn_where_the_mask_is_larger() -> None:
    mask = np.zeros((512, 512), dtype=np.uint8)
    road = np.clip(np.arange(512) // 3 + 17, 0, 511)
    mask[np.arange(512), road] = 1
    shown = overlay(grey_picture(64, 64), mask, LABELS)
    assert (shown != 100).any(axis=(1, 2)).all()


def test_differences_are_red_and_everything_else_is_grey() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    truth = stripes()
    predicted = truth.copy()
    predicted[truth == IGNORED] = 1
    predicted[:16, :8] = 2
    predicted[:16, 8:16] = 0
    shown = difference(picture, predicted, truth).astype(int)
    coloured = np.ptp(shown, axis=2) > 0
    np.testing.assert_array_equal(coloured, (predicted != truth) & (truth != IGNORED))
    assert (shown[coloured][:, 0] > shown[coloured][:, 1] + 100).all()


# The worst tiles


def prediction(value: int = 0) -> npt.NDArray[np.uint8]:
    return np.full((4, 4), value, dtype=np.uint8)


@pytest.mark.parametrize("count", [0, 1, 3, 10])
def test_the_lowest_scores_are_kept_the_worst_first(count: int) -> None:
    scores = [0.5, 0.1, 0.9, 0.3, 0.1, 0.7, 0.0]
    worst = Worst(count)
    for index, score in reversed(list(enumerate(scores))):
        worst.add(score, index, prediction(index))
        assert len(worst.tiles()) <= count
    expected = sorted((score, index) for index, score in enumerate(scores))[:count]
    assert [(tile.score, tile.index) for tile in worst.tiles()] == expected
    assert all((tile.predicted == tile.index).all() for tile in worst.tiles())


def test_what_is_kept_does_not_hold_on_to_a_batch() -> None:
    batch = np.zeros((8, 4, 4), dtype=np.uint8)
    worst = Worst(1)
    worst.add(0.5, 0, batch[0])
    batch[:] = 7
    assert worst.tiles()[0].predicted.base is None
    assert not worst.tiles()[0].predicted.any()


def test_tile_iou_is_the_mean_over_occurring_classes() -> None:
    truth = np.array([[1, 1, 1, 1, 0, 0, IGNORED, IGNORED]], dtype=np.uint8)
    predicted = np.array([[1, 1, 1, 0, 0, 1, 2, 3]], dtype=np.uint8)
    assert tile_iou(predicted, truth, 3) == pytest.approx(3 / 5)
    truth[0, 5] = 2
    assert tile_iou(predicted, truth, 3) == pytest.approx((3 / 5 + 0) / 2)


def test_a_false_alarm_counts_and_an_empty_tile_has_no_iou() -> None:
    truth = np.array([[0, 0, IGNORED]], dtype=np.uint8)
    assert tile_iou(np.array([[0, 2, 0]], dtype=np.uint8), truth, 2) == 0
    assert tile_iou(np.array([[0, 0, 2]], dtype=np.uint8), truth, 2) is None
    assert tile_iou(truth[:, 2:], truth[:, 2:], 2) is None


def test_the_worst_tile_is_the_one_that_costs_the_score_most_and_not_one_of_a_single_pixel() -> None:
    truth = np.zeros((2, 10, 10), dtype=np.uint8)
    truth[0, 0, 0] = truth[1, :5] = 1  # a tile with one pixel of the class, missed: IoU 0; one with fifty, ten missed
    truth[1, 9, :4] = IGNORED
    predicted = np.zeros_like(truth)
    predicted[1, :4] = 1
    predicted[1, 9, :2] = 1
    assert [wrong_pixels(*tile) for tile in zip(predicted, truth, strict=True)] == [1, 10]
    assert wrong_pixels(truth[0], truth[0]) == 0


# Sheets


def preview(name: str = "tile.tif", height: int = 32, width: int = 32) -> Preview:
    mask = stripes(height, width)
    return Preview(name, grey_picture(), mask, grey_picture(value=160), mask[:, ::-1])


def mistake(name: str = "tile.tif", height: int = 32, width: int = 32, iou: float = 0.25) -> Prediction:
    truth = stripes(height, width)
    return Prediction(name, iou, grey_picture(), truth, np.where(truth == 1, 2, 0).astype(np.uint8))


def has(sheet: Picture, colour: tuple[int, int, int]) -> bool:
    return bool((sheet == colour).all(axis=2).any())


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


def test_the_legend_names_each_class_and_explains_hatching_only_where_it_is_seen() -> None:
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
    """Letters of their own, not one replacement for all; and nothing outside of the sheet's width."""
    names = ["плитка Ё", "плитка Ж", "タイル", "瓦片", "πλακίδιο", "тайл_" * 60 + "1", "тайл_" * 60 + "2", ""]
    sheets = [worst_sheet([mistake(name)], LABELS, cell=CELL) for name in names]
    assert len({sheet.shape for sheet in sheets}) == 1
    assert len({sheet.tobytes() for sheet in sheets}) == len(names)
    assert all((sheet[:, -8:] == WHITE).all() for sheet in sheets)


def test_composed_and_decomposed_letters_are_drawn_alike() -> None:
    """macOS takes the letters of file names apart."""
    composed, decomposed = (worst_sheet([mistake(name)], LABELS, cell=CELL) for name in ("й", "\u0438\u0306"))
    np.testing.assert_array_equal(composed, decomposed)


def test_a_name_that_is_not_valid_utf8_does_not_end_the_process() -> None:
    """In a process of its own: OpenCV reads beyond the end of such a text."""
    code = (
        "from tests.test_pictures import *\n"
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


# Files


def test_png_files_have_any_name_and_keep_every_pixel(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    path = tmp_path / "худшие тайлы.png"
    write_png(path, picture)
    read = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read[..., ::-1], picture)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_picture_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, grey_picture())
    before = path.read_bytes()
    with pytest.raises(OSError, match=r"a\.png"):
        write_png(path, np.zeros((0, 5, 3), np.uint8))
    with pytest.raises(OSError, match="missing"):
        write_png(tmp_path / "missing" / "a.png", grey_picture())
    assert path.read_bytes() == before
