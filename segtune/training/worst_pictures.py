"""Pictures of the validation tiles that a run's best model does worst on."""

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
    """Draw the worst tiles of the best epoch: worst.png, and TensorBoard's images."""
    for split, tiles in state.worst.items():
        if tiles:
            title = f"Worst tiles of {split} in epoch {state.progress.best_epoch}"
            picture = worst_picture(stores[split], manifest, tiles, title)
            log.picture(f"worst/{split}", state.progress.best_epoch, picture)
            if split == next(iter(state.worst)):
                write_png(folder.worst, picture)
            state.phases.beat()
