"""Tiles of one scene are drawn together: by their names, or by where they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from segtune.data.tiles import Tile
from segtune.errors import InputError
from segtune.evaluation.grouping import Grouping, find_groups, grouped_intervals, suggested_pattern
from segtune.evaluation.intervals import Interval, bootstrap
from segtune.evaluation.overlap import TileCounts
from tests.evaluation.test_intervals import split

SIDE = 8


def tiles(folder: Path, places: list[float | None], names: list[str] | None = None) -> list[Tile]:
    """Tiles in a row on the ground, so many widths from its beginning; None for one without a place."""
    found = []
    for number, place in enumerate(places):
        name = names[number] if names else f"t{number}"
        path = folder / f"{name}.tif"
        transform = None if place is None else Affine(1, 0, 1000 + place * SIDE, 0, -1, 1000)
        profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "width": SIDE, "height": SIDE}
        georeference = {"crs": "EPSG:32633", "transform": transform} if transform else {}
        with rasterio.open(path, "w", **profile, **georeference) as target:
            target.write(np.ones((1, SIDE, SIDE), dtype=np.uint8))
        found.append(Tile(name, path, path, ()))
    return found


def test_neighbours_on_the_ground_are_drawn_together(tmp_path: Path) -> None:
    found = find_groups(tiles(tmp_path, [0, 10, 1, 11, 20, None]))
    assert found.by == "places"
    assert found.groups
    first, second, *_ = found.groups
    assert found.groups[:4] == (first, second, first, second)
    assert len(set(found.groups)) == 4


def test_names_come_before_places(tmp_path: Path) -> None:
    given = tiles(tmp_path, [0, 1, 10, 11], ["a_1", "b_1", "a_2", "b_2"])
    assert find_groups(given, "^(.)") == Grouping(("a", "b", "a", "b"), "names")
    with pytest.raises(InputError, match=r"--group: 'x.*does not match 4 of 4 tiles"):
        find_groups(given, "x(.)")


def test_one_patch_tells_no_scenes_apart_and_a_line_says_so(tmp_path: Path) -> None:
    found = find_groups(tiles(tmp_path, [0, 1, 2, 3]))
    assert found.groups is None
    assert found.remark
    assert found.remark.startswith("all tiles are neighbours on the ground, so that their places do not tell")
    assert found.remark.endswith("tiles are drawn one by one; --group names scenes")


@pytest.mark.parametrize("places", [[0, 10, 20], [None, None, None], [5]])
def test_tiles_that_lie_alone_need_no_word(tmp_path: Path, places: list[float | None]) -> None:
    assert find_groups(tiles(tmp_path, places)) == Grouping()


def test_names_that_show_scenes_are_a_suggestion_alone(tmp_path: Path) -> None:
    names = ["006_0000_0256", "006_0000_0512", "007_0256_0000", "007_0000_0000"]
    found = find_groups(tiles(tmp_path, [None] * 4, names), setting="search.confirm.group")
    assert found.groups is None
    assert found.remark == (
        "tiles are drawn one by one, and names look like those of 2 scenes (006, 007): "
        r"search.confirm.group '(.+)_\d+_\d+' draws tiles of one scene together"
    )


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["a_r001_c002", "a_r001_c003", "b_r001_c002", "b_r9_c9"], r"(.+)_r\d+_c\d+"),
        (["a_x1_y2", "a_x1_y3", "b_x1_y2", "b_x9_y9"], r"(.+)_x\d+_y\d+"),
        (["a-1-2", "a-1-3", "b-1-2", "b-9-9"], r"(.+)-\d+-\d+"),
        (["a_1_2", "a_1_3", "b_1_2", "c_9_9"], None),  # one scene alone has several tiles
        (["a_1_2", "a_1_3", "b_1_2", "b_9"], None),
        (["scene_1_2", "scene_1_3", "scene_2_2", "scene_2_3"], None),  # one scene
        (["t1", "t2", "t3", "t4"], None),
    ],
)
def test_a_pattern_is_suggested_where_all_names_have_row_and_column(names: list[str], pattern: str | None) -> None:
    assert suggested_pattern(names) == pattern


def test_a_line_says_how_much_wider_the_interval_is() -> None:
    once = split(15, spread=0.2)
    counts = TileCounts.of(np.concatenate([once] * 4))  # the tiles of a scene are copies of each other
    groups = tuple(map(str, range(15))) * 4
    found, line = grouped_intervals(counts, (1, 2), Grouping(groups, "places"))
    assert found == bootstrap(counts, (1, 2), groups)
    single = bootstrap(counts, (1, 2)).miou
    assert found
    times = (found.miou.high - found.miou.low) / (single.high - single.low)
    assert times == pytest.approx(2, abs=0.3)
    assert line == (
        "tiles of 15 places (neighbours on the ground) are drawn together: the interval is "
        f"{times:.1f} times as wide as from single tiles"
    )
    by_names = grouped_intervals(counts, (1, 2), Grouping(groups, "names"))[1]
    assert by_names
    assert by_names.startswith("tiles of 15 scenes are drawn together")


def test_without_a_difference_there_is_no_line() -> None:
    grouping, single = Grouping(("a", "b"), "names"), Interval(0.5, 0.4, 0.6)
    assert grouping.difference(Interval(0.5, 0.401, 0.6), single) is None
    assert grouping.difference(single, Interval(0.5, 0.5, 0.5)) is None
    assert grouped_intervals(TileCounts.of(split(1)), (1, 2), Grouping(remark="x")) == (None, None)
    assert grouped_intervals(TileCounts.of(split(9)), (1, 2), Grouping(remark="x"))[1] == "x"
