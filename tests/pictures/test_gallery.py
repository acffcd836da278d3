"""Tiles of a split as files: the sheet of the worst ones, and what panels take from a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segtune.config import RunConfig
from segtune.data.bands import Band
from segtune.data.labels import IGNORED, Labels
from segtune.evaluation.predict import TilePrediction
from segtune.evaluation.worst import WorstTile
from segtune.models.manifest import Manifest
from segtune.pictures.gallery import tile_panels, write_worst
from tests.manifests import untrained
from tests.pictures.sheets import stripes

SIDE = 32


class Split:
    """Two tiles of one band, as a store returns them."""

    decoded = True

    def __len__(self) -> int:
        return 2

    def name(self, index: int) -> str:
        return f"tile_{index}"

    def image(self, index: int) -> np.ndarray:
        return np.full((SIDE, SIDE, 1), 100 * index, dtype=np.uint8)

    def target(self, index: int) -> np.ndarray:
        return stripes(SIDE, SIDE)


def manifest(*classes: int) -> Manifest:
    config = RunConfig(dataset="d", classes=list(classes), image_size=SIDE)
    return untrained(config, Labels(classes, (), True, 0), [Band("image:1", 100, 50, 0, 200)])


def test_worst_tiles_are_written_and_without_any_an_old_sheet_goes(tmp_path: Path) -> None:
    path = tmp_path / "worst.png"
    wrong = WorstTile(-5, 1, np.zeros((SIDE, SIDE), np.uint8))
    write_worst(path, Split(), manifest(10, 20), [wrong], "val")
    assert path.stat().st_size > 0
    write_worst(path, Split(), manifest(10, 20), [], "val")
    assert not path.exists()


def test_panels_of_a_single_class_hold_its_probability_and_iou() -> None:
    image, truth = Split().image(1), (stripes() == 1).astype(np.uint8)
    logits = torch.full((1, SIDE, SIDE), 2.0)
    tile = tile_panels("tile", image, manifest(10), TilePrediction(logits, np.ones_like(truth), truth))
    assert tile.iou == pytest.approx(0.25)
    assert tile.probability is not None
    np.testing.assert_allclose(tile.probability, 1 / (1 + np.exp(-2)), rtol=1e-6)
    assert (tile.picture == 128).all()  # the mean of the band
    empty = tile_panels("tile", image, manifest(10), TilePrediction(logits, truth * 0, truth * 0))
    assert empty.iou is None


def test_panels_of_several_classes_need_no_probability() -> None:
    truth = stripes()
    found = TilePrediction(torch.zeros(3, SIDE, SIDE), np.where(truth == IGNORED, 0, truth).astype(np.uint8), truth)
    tile = tile_panels("tile", Split().image(0), manifest(10, 20), found)
    assert (tile.probability, tile.iou) == (None, 1)
