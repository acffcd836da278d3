"""Evaluation counts the pixels of each tile once, whatever the batches and the processes are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segtune.data.batches import Batches, Share
from segtune.data.scan import scan
from segtune.evaluation.evaluate import Evaluated, evaluate
from segtune.evaluation.metrics import ConfusionMatrix
from segtune.evaluation.overlap import Overlap, TileCounts
from segtune.evaluation.predict import TilePrediction
from segtune.evaluation.predictor import Predictor
from segtune.files.folders import find_model
from segtune.models.checkpoint import load_model
from tests.evaluation.runs import Trained

CPU = torch.device("cpu")


def evaluated(case: Trained, batch_size: int, share: Share | None = None) -> tuple[Evaluated, list[TilePrediction]]:
    model, manifest = load_model(find_model(case.folder), CPU)
    tiles: list[TilePrediction] = []
    store = scan(manifest.config).store("val", manifest.config)
    with Batches(store, batch_size, workers=0, share=share or Share()) as batches:
        found = evaluate(Predictor(model, manifest, CPU), batches, lambda index, tile: tiles.append(tile))
    return found, tiles


def test_the_numbers_of_each_tile_are_those_of_its_own_confusion_matrix(several: Trained) -> None:
    found, tiles = evaluated(several, batch_size=3)
    matrices = [ConfusionMatrix((300, 1)) for _ in tiles]
    for matrix, tile in zip(matrices, tiles, strict=True):
        matrix.update(tile.indices, tile.truth)
    each = np.stack([matrix.counts for matrix in matrices])
    assert found.positions == (0, 1, 2, 3)
    assert np.array_equal(found.matrix.counts, each.sum(axis=0))
    overlap = found.tiles.overlap
    assert np.array_equal(overlap.hits, each.diagonal(axis1=1, axis2=2))
    assert np.array_equal(overlap.truth, each.sum(axis=2))
    assert np.array_equal(overlap.predicted, each.sum(axis=1))
    assert np.array_equal(found.tiles.total().iou(), Overlap.of(found.matrix.counts).iou())


@pytest.mark.parametrize("size", [2, 5])  # of five processes, one has no tile
def test_processes_that_share_the_tiles_count_what_one_process_counts(binary: Trained, size: int) -> None:
    whole, _ = evaluated(binary, batch_size=1)
    parts = [evaluated(binary, batch_size=1, share=Share(rank, size))[0] for rank in reversed(range(size))]
    joined = Evaluated.joined(parts)
    assert joined.positions == whole.positions
    assert np.array_equal(joined.matrix.counts, whole.matrix.counts)
    assert np.array_equal(joined.tiles.numbers, whole.tiles.numbers)


def test_a_hundred_classes_take_three_numbers_each_for_a_tile() -> None:
    matrices = np.random.default_rng(0).integers(0, 9, (10, 101, 101))
    tiles = TileCounts.of(matrices)
    assert (len(tiles), tiles.numbers.nbytes) == (10, 10 * 3 * 101 * 8)
    grouped = tiles.grouped(["b", "a"] * 5)
    expected = TileCounts.of(np.stack([matrices[::2].sum(axis=0), matrices[1::2].sum(axis=0)]))
    assert np.array_equal(grouped.numbers, expected.numbers)
