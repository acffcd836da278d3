"""Validation: the score that training reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segtune.errors import InputError
from segtune.evaluation.validate import PredictedTile, validate
from tests.evaluation.runs import SIZE, Trained, trained

pytestmark = pytest.mark.usefixtures("blank_charts")


@pytest.mark.parametrize("which", ["binary", "several"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_validation_gives_exactly_the_score_that_training_reported(
    which: str, threads: int, request: pytest.FixtureRequest
) -> None:
    case: Trained = request.getfixturevalue(which)
    best = case.results[case.results[-1].best_epoch - 1]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seen = set()
        found = validate(case.folder, case.val, on_tile=lambda tile: seen.add(torch.get_num_threads()))
        assert seen == {1}  # as in training
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found.scores.miou == case.results[-1].best_miou == best.scores.miou
    assert found.scores == best.scores
    assert found.tiles == 4


def test_a_run_in_half_precision_is_validated_in_it(tmp_path: Path, binary: Trained) -> None:
    case = trained(binary.dataset, tmp_path / "run", precision="bf16", epochs=2)
    found = validate(case.folder, case.val)
    assert found.manifest.precision == "bf16"
    assert found.scores.miou == case.results[-1].best_miou


def test_the_models_own_folder_gives_the_same(binary: Trained) -> None:
    assert validate(binary.folder / "best", binary.val).scores == validate(binary.folder, binary.val).scores


def test_another_split_can_be_measured(binary: Trained, tmp_path: Path) -> None:
    found = validate(binary.folder, binary.dataset / "train")
    assert found.tiles == 6
    assert found.scores.miou != binary.results[-1].best_miou


def test_tiles_come_in_order_with_masks_of_their_own_size_and_labels(several: Trained) -> None:
    seen = []

    def look(seen_tile: PredictedTile) -> None:
        seen.append(seen_tile.tile.name)
        mask = seen_tile.manifest.labels.to_labels(seen_tile.prediction.indices)
        assert mask.shape == (SIZE, SIZE)
        assert mask.dtype == np.uint16
        assert set(np.unique(mask).tolist()) <= {0, 1, 300}

    validate(several.folder, several.val, on_tile=look)
    assert seen == sorted(path.stem for path in (several.val / "images").iterdir())


def test_progress_counts_each_tile_of_each_pass(binary: Trained) -> None:
    for sweep, total in ((False, 4), (True, 8)):
        seen: list[tuple[int, int]] = []
        validate(binary.folder, binary.val, sweep=sweep, on_done=lambda done, of, seen=seen: seen.append((done, of)))
        assert seen == [(done, total) for done in range(1, total + 1)]


def test_an_unsound_split_is_an_input_error_in_the_library_too(binary: Trained, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing"):
        validate(binary.folder, tmp_path / "nothing")
