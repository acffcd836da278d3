"""What an epoch records besides its scores: validation loss, and mIoU of the training batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from segtune.data.batches import Batches
from segtune.data.distances import DistanceMaps
from segtune.data.labels import BACKGROUND, IGNORED, Labels
from segtune.data.scan import scan
from segtune.evaluation.evaluate import evaluate
from segtune.evaluation.metrics import ConfusionMatrix
from segtune.evaluation.predict import count_pixels, most_likely
from segtune.evaluation.predictor import Predictor
from segtune.files.folders import RunFolder
from segtune.models.checkpoint import load_model
from segtune.planning.cost import probe
from segtune.training.losses import SegmentationLoss
from segtune.training.resolve import resolve
from segtune.training.runlog import read_rows
from segtune.training.val_loss import ValidationLoss, mean_loss
from segtune.vocabulary import BINARY_LOSSES, LOSSES
from tests.training.runs import CPU, run, small_unet

LABELS = {
    "binary": Labels.from_masks([7], [], [7, 1]),
    "background": Labels.from_masks([1, 2, 3], [], [0, 1, 2, 3]),
    "no background": Labels.from_masks([1, 2, 3], [], [1, 2, 3]),
}


def batch(labels: Labels) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    first = 0 if labels.binary or labels.background else 1
    targets = torch.randint(first, len(labels.classes) + 1, (4, 16, 16), generator=random, dtype=torch.uint8)
    targets[0, :8] = IGNORED
    targets[1] = IGNORED
    return torch.randn(4, labels.outputs, 16, 16, generator=random), targets


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_pixels_are_counted_as_in_the_confusion_matrix(labels: Labels) -> None:
    logits, targets = batch(labels)
    matrix = ConfusionMatrix(labels.classes)
    matrix.update(most_likely(logits, labels).numpy(), targets.numpy())
    assert np.array_equal(count_pixels(logits, targets, labels).numpy(), matrix.counts)
    assert matrix.counts.sum() == 16 * (8 + 16 + 16)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_validation_loss_is_weighted_by_tiles_with_a_pixel_that_counts(labels: Labels) -> None:
    logits, targets = batch(labels)
    loss = SegmentationLoss("dice", labels)
    mean = ValidationLoss(loss, CPU)
    assert mean_loss([mean.sums()]) is None
    mean.add(logits[1:2], targets[1:2])
    assert mean_loss([mean.sums()]) is None  # nothing but ignored pixels
    mean.add(logits[:2], targets[:2])
    mean.add(logits[2:], targets[2:])
    wanted = (loss(logits[:2], targets[:2]) + 2 * loss(logits[2:], targets[2:])) / 3
    assert mean_loss([mean.sums()]) == pytest.approx(wanted.item(), rel=1e-6)
    mean.add(torch.full_like(logits[2:], torch.nan), targets[2:])
    assert mean_loss([mean.sums()]) is None


@pytest.mark.parametrize("name", sorted({*LOSSES} - {*BINARY_LOSSES}))
def test_labels_that_no_training_tile_has_are_ignored(name: str) -> None:
    labels = LABELS["no background"]
    logits, targets = batch(labels)
    targets[2, :4] = BACKGROUND
    counted = torch.where(targets == BACKGROUND, IGNORED, targets)
    sums = []
    for given in (targets, counted):
        mean = ValidationLoss(SegmentationLoss(name, labels), CPU, DistanceMaps.of(name, labels))
        mean.add(logits, given)
        sums.append(mean.sums())
    assert sums[0] == sums[1]
    assert math.isfinite(sums[0][0])
    assert (targets[2, :4] == BACKGROUND).all()  # the score counts them


def test_a_run_goes_on_where_validation_tiles_have_other_labels(tmp_path: Path, data_set: Callable[..., Path]) -> None:
    listed = data_set(tmp_path / "listed", labels=(1, 2, 3))
    others = data_set(tmp_path / "others", labels=(0, 1, 2, 3))
    config = small_unet(listed, val_dir=str(others / "val"), classes=[1, 2, 3], epochs=1, loss="boundary+dice")
    (result,) = run(config, tmp_path / "run")
    assert result.val_loss is not None
    info = scan(config)
    assert probe(resolve(config, info), info, threads=1).batch_seconds > 0  # what a dry run does


@pytest.mark.parametrize(
    "settings", [{}, {"fit": "crop", "image_size": 32}, {"fit": "pad", "image_size": 64}, {"loss": "boundary_ce"}]
)
def test_val_loss_is_that_of_the_model_and_leaves_the_score(
    tiles: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    config = small_unet(tiles, epochs=1, worst=0, augmentation="none", **settings)
    (result,) = run(config, tmp_path)
    assert result.scores is not None
    model, manifest = load_model(tmp_path / "best", CPU)
    info = scan(config)
    mean = ValidationLoss(SegmentationLoss(config.loss, info.labels), CPU, DistanceMaps.of(config.loss, info.labels))
    with Batches(info.store("val", manifest.config), 4) as batches:
        with_loss = evaluate(Predictor(model, manifest, CPU), batches, on_logits=mean.add)
        without = evaluate(Predictor(model, manifest, CPU), batches)
    assert np.array_equal(with_loss.matrix.counts, without.matrix.counts)
    assert result.val_loss == pytest.approx(mean_loss([mean.sums()]), rel=1e-5)
    assert result.val_loss > 0
    (row,) = read_rows(RunFolder(tmp_path))
    assert float(row["val_loss"]) == result.val_loss
    assert float(row["train_miou"]) == result.train_miou
    assert 0 < float(row["train_miou"]) < 1
    assert 0 <= float(row["waiting_share"]) <= 1
    assert float(row["images_per_second"]) > 0
