"""Evaluate the model of an epoch: every process of the run on its share of the tiles."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from segtune.data.distances import DistanceMaps
from segtune.data.tiles import VAL
from segtune.evaluation.evaluate import Evaluated, OnTile, evaluate
from segtune.evaluation.metrics import ConfusionMatrix, Scores
from segtune.evaluation.overlap import TileCounts
from segtune.evaluation.predict import TilePrediction
from segtune.evaluation.predictor import Predictor
from segtune.evaluation.worst import Worst, WorstTile
from segtune.models.device import within_memory
from segtune.training.run import Run
from segtune.training.val_loss import ValidationLoss, mean_loss


@dataclass(frozen=True)
class Measured:
    """The result of evaluating the model of an epoch."""

    scores: Scores | None  # on the sets that the run is scored on; None where these were not evaluated
    added: dict[str, float | None]  # mIoU on each added set that was evaluated
    worst: dict[str, list[WorstTile]]  # worst tiles of the sets that the run is scored on, by split
    collapsed: bool | None  # whether all predictions were of one class; None where scores are None
    loss: float | None  # on the sets that the run is scored on; None where it is not known
    tiles: TileCounts | None = None  # of the sets that the run is scored on; None where scores are None
    score: float | None = None  # the objective of the run; None where scores are None


@dataclass(frozen=True)
class _Counted:
    """What was counted on the tiles of a split."""

    split: str
    evaluated: Evaluated
    worst: list[WorstTile]
    loss: tuple[float, int] | None  # sum over tiles, and their number; None where the run is not scored on the split


def evaluate_epoch(run: Run, epoch: int) -> Measured:
    """Evaluate the model; start again with smaller batches where memory is too small."""
    progress = run.progress
    for model in dict.fromkeys((run.model, run.state.measured)):  # in the same order in all processes
        run.group.send_buffers(model)
    found, size = within_memory(
        lambda size: _measure(run, epoch, size), progress.evaluation_batch_size, agree=run.group.any
    )
    if size < progress.evaluation_batch_size:
        progress.evaluation_batch_size = size
        run.write_manifest()
    return _scored(run, [_of_all(run, counted) for counted in found])


def _measure(run: Run, epoch: int, batch_size: int) -> list[_Counted]:
    """Return, for each split that is evaluated, what was counted on the tiles of this process."""
    turn = epoch % run.config.adv_freq == 0 or epoch == run.config.epochs
    pooled = run.config.use_only_add_val
    found = []
    maps = DistanceMaps.of(run.config.loss, run.manifest.labels)
    with ThreadPoolExecutor(run.cores) as pool:  # which starts threads only when there are maps to compute
        for split, batches in run.sets.items():
            if split != VAL and not turn:
                continue
            batches.batch_size = batch_size
            tiles = Worst(run.config.worst)
            note = _noter(tiles) if run.config.worst else None
            loss = ValidationLoss(run.loss, run.device, maps, pool) if split == VAL or pooled else None
            on_logits = loss.add if loss else None
            predictor = Predictor(run.state.measured, run.manifest, run.device)
            evaluated = evaluate(
                predictor, batches, note, run.pause, on_logits, outlines=run.measure.objective.needs_outlines
            )
            found.append(_Counted(split, evaluated, tiles.tiles(), loss.sums() if loss else None))
    return found


def _of_all(run: Run, counted: _Counted) -> _Counted:
    """Return what all processes together counted on a split."""
    evaluated = Evaluated.joined(run.group.gather(counted.evaluated))
    worst = Worst(run.config.worst)
    for tile in itertools.chain.from_iterable(run.group.gather(counted.worst)):
        worst.add(tile.score, tile.index, tile.predicted)
    sums = [part for part in run.group.gather(counted.loss) if part]
    loss = (sum(total for total, _ in sums), sum(tiles for _, tiles in sums)) if sums else None
    return _Counted(counted.split, evaluated, worst.tiles(), loss)


def _scored(run: Run, found: Sequence[_Counted]) -> Measured:
    """Compute the scores of the splits that were evaluated."""
    total = ConfusionMatrix(run.manifest.labels.classes)
    added: dict[str, float | None] = {}
    worst: dict[str, list[WorstTile]] = {}
    losses, tiles = [], []
    for counted in found:
        split, matrix = counted.split, counted.evaluated.matrix
        if split != VAL:
            added[split] = matrix.scores().miou if matrix.measurable else None
        if counted.loss:  # the run is scored on it
            total.add(matrix)
            worst[split] = counted.worst
            tiles.append(counted.evaluated.tiles)
            losses.append(counted.loss)
    loss = mean_loss(losses)
    if not total.measurable:
        return Measured(None, added, worst, None, loss)
    scores, together = total.scores(), TileCounts.joined(tiles)
    score = scores.miou if run.measure.objective.is_miou else run.measure.of(together)
    return Measured(scores, added, worst, total.collapsed, loss, together, score)


def _noter(worst: Worst) -> OnTile:
    """Return the function that evaluation calls for each tile; it collects the tiles with the most wrong pixels."""

    def note(index: int, tile: TilePrediction) -> None:
        worst.note(index, tile.indices, tile.truth)

    return note
