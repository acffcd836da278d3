"""Pictures of the validation tiles that a run gets most wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from segtune.data.store import TileStore
from segtune.evaluation.worst import WorstTile
from segtune.files.folders import RunFolder
from segtune.models.manifest import Manifest
from segtune.pictures.gallery import worst_picture, write_worst
from segtune.training.runlog import RunLog
from segtune.training.state import TrainingState

_CELL = 160  # width in pixels of a tile in TensorBoard


def log_worst(
    log: RunLog,
    stores: Mapping[str, TileStore],
    manifest: Manifest,
    worst: Mapping[str, Sequence[WorstTile]],
    epoch: int,
) -> None:
    """Add the worst tiles of an epoch, by split, to the events for TensorBoard: image, truth, prediction."""
    for split, tiles in worst.items():
        if tiles:
            title = f"{split}, epoch {epoch}"
            picture = worst_picture(stores[split], manifest, tiles, title, False, _CELL)
            log.picture(f"worst/{split}", epoch, picture)


def draw_worst(folder: RunFolder, stores: Mapping[str, TileStore], manifest: Manifest, state: TrainingState) -> None:
    """Draw the worst tiles of the best epoch, of the first split, as worst.png.

    A worst.png from an earlier start is deleted where there are no such tiles now.
    """
    first = next(iter(state.worst), None)
    if first is None:
        folder.worst.unlink(missing_ok=True)
        return
    title = f"Worst tiles of {first} in epoch {state.progress.best_epoch}"
    write_worst(folder.worst, stores[first], manifest, state.worst[first], title)
