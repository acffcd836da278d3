"""Pictures of the validation tiles that the best model of a run gets most wrong."""

from __future__ import annotations

from collections.abc import Mapping

from segtune.data.store import TileStore
from segtune.files.folders import RunFolder
from segtune.models.manifest import Manifest
from segtune.pictures.gallery import worst_picture
from segtune.pictures.png import write_png
from segtune.training.runlog import RunLog
from segtune.training.state import TrainingState


def show_worst(
    folder: RunFolder, log: RunLog, stores: Mapping[str, TileStore], manifest: Manifest, state: TrainingState
) -> None:
    """Draw the worst tiles of the best epoch: as worst.png, for the first split, and as images in TensorBoard.

    A worst.png from an earlier start is deleted where there are no such tiles now.
    """
    first = next(iter(state.worst), None)
    if first is None or not state.worst[first]:
        folder.worst.unlink(missing_ok=True)
    for split, tiles in state.worst.items():
        if tiles:
            title = f"Worst tiles of {split} in epoch {state.progress.best_epoch}"
            picture = worst_picture(stores[split], manifest, tiles, title)
            log.picture(f"worst/{split}", state.progress.best_epoch, picture)
            if split == first:
                write_png(folder.worst, picture)
            state.phases.beat()
