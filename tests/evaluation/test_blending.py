"""Windows over a scene, and how their logits are blended."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from segtune.evaluation.blending import Blend, Grid


def blended(grid: Grid, block: int, found: torch.Tensor) -> torch.Tensor:
    """Cut windows out of a scene's logits, (outputs, H, W), and blend them again."""
    blend = Blend(len(found), grid, block)
    rows = []
    for row in range(len(grid.tops)):
        for column in range(len(grid.lefts)):
            (top, bottom), (left, right) = grid.span(row, column)
            blend.add(row, column, found[:, top:bottom, left:right], torch.ones(bottom - top, right - left, dtype=bool))
        for top, logits, valid in blend.finished(row):
            assert top == sum(part.shape[1] for part in rows)
            assert top % block == 0
            assert valid.all()
            rows.append(logits.clone())
    return torch.cat(rows, dim=1)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.8])
@pytest.mark.parametrize(("height", "width"), [(100, 75), (32, 33), (20, 90), (31, 7)])
def test_equal_windows_blend_to_the_scene_they_were_cut_from(height: int, width: int, overlap: float) -> None:
    scene = torch.rand(2, height, width)
    found = blended(Grid.over(height, width, 32, overlap), 16, scene)
    assert found.shape == scene.shape
    torch.testing.assert_close(found, scene, rtol=1e-5, atol=1e-6)


def test_a_pixel_that_one_window_covers_keeps_its_logits() -> None:
    scene = torch.rand(1, 32, 56)
    found = blended(Grid.over(32, 56, 32, 0.25), 32, scene)
    assert torch.equal(found[:, :, :24], scene[:, :, :24])
    assert torch.equal(found[:, :, 32:], scene[:, :, 32:])


@pytest.mark.parametrize("length", [32, 33, 57, 100, 1000])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
def test_windows_lie_inside_and_overlap_at_least_so_much(length: int, overlap: float) -> None:
    grid = Grid.over(length, length, 32, overlap)
    assert grid.tops[0] == 0
    assert grid.tops[-1] == length - 32
    assert all(later - first <= round(32 * (1 - overlap)) for first, later in itertools.pairwise(grid.tops))


def test_weights_fall_to_zero_at_the_edge_of_a_window_that_another_covers() -> None:
    grid = Grid.over(64, 200, 64, 0.25)
    left, middle = grid.column_weights[:2]
    assert left[0] == 1
    assert left[-1] < 0.01
    assert middle[0] < 0.01
    assert np.abs(np.diff(middle)).max() < 0.15  # no step anywhere
    total = np.zeros(200)
    for begin, weights in zip(grid.lefts, grid.column_weights, strict=True):
        total[begin : begin + 64] += weights
    assert np.abs(total - 1).max() < 1e-6


def test_windows_that_differ_leave_no_step_where_one_ends() -> None:
    grid = Grid.over(64, 200, 64, 0.25)
    blend = Blend(1, grid, 64)
    for column in range(len(grid.lefts)):
        blend.add(0, column, torch.full((1, 64, 64), float(column % 2)), torch.ones(64, 64, dtype=bool))
    ((_, logits, _),) = blend.finished(0)
    assert logits.diff(dim=2).abs().max() < 0.15


def test_memory_holds_a_band_of_rows_only() -> None:
    grid = Grid.over(100_000, 50, 32, 0.25)
    blend = Blend(1, grid, 16)
    assert sum(tensor.numel() for tensor in vars(blend).values() if isinstance(tensor, torch.Tensor)) < 2 * 50 * 100
