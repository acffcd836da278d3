"""A confirmation draws tiles of one scene together: by their names, or by where they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from segtune.report.confirmation import confirmation_results
from segtune.tuning.confirm_looks import check_groups
from tests.tuning.confirming import Data, Searched, Trains

VALUES, SKILLS = [0.70, 0.80, 0.90, 0.60], {0: 0.70, 1: 0.85, 2: 0.80, 3: 0.90}


def test_tiles_of_one_scene_are_drawn_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Searched(tmp_path / "s", VALUES, r"confirm: {top: 2, seeds: 2, group: '^scene_(\d+)'}")
    monkeypatch.setattr("segtune.tuning.confirm_looks.resolve", lambda config, _: config)
    check_groups(search.bench.space, Data())  # type: ignore[arg-type]
    search.confirm(Trains(SKILLS))
    result = search.confirmation.result
    assert result
    assert (result.tiles, result.groups) == (12, 6)


def test_tiles_are_drawn_with_their_neighbours_on_the_ground(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.confirm(Trains(SKILLS, style=0.05))
    single = search.confirmation.result
    assert single
    assert (single.groups, single.drawn[:30]) == (None, "tiles are drawn one by one, si")
    assert single.configurations[1].lead
    for split, count in (("train", 1), ("val", 12)):
        for layer in ("images", "gt"):
            (tmp_path / "s" / "data" / split / layer).mkdir(parents=True)
            for number in range(count):
                path = tmp_path / "s" / "data" / split / layer / f"scene_{number // 2}_{number}.tif"
                place = Affine(1, 0, 1000 + 8 * (number % 2) + 500 * (number // 2), 0, -1, 1000)
                size = {"count": 1, "dtype": "uint8", "width": 8, "height": 8}
                with rasterio.open(path, "w", "GTiff", crs="EPSG:32632", transform=place, **size) as file:
                    file.write(np.ones((1, 8, 8), dtype=np.uint8))
    search.confirm(Trains(SKILLS))
    result = search.confirmation.result
    assert result
    assert (result.tiles, result.groups) == (12, 6)
    drawn = "tiles of 6 places (neighbours on the ground) are drawn together"
    first, other = result.configurations[1].lead, single.configurations[1].lead
    assert first
    times = (first.high - first.low) / (other.high - other.low)
    assert times > 1.1
    wide = f"the interval of the winner's lead is {times:.1f} times as wide as from single tiles"
    assert result.drawn == f"{drawn}: {wide}"
    assert result.drawn in confirmation_results(search.confirmation, search.results.trials())
