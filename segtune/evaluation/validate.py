"""A trained model + a split's folder -> metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from segtune.data.batches import Batches
from segtune.data.checks import check_kept, mask_remarks, survey
from segtune.data.fitting import Fit
from segtune.data.labels import Indices
from segtune.data.pairs import find_tiles
from segtune.data.reading import readable_at_once
from segtune.data.store import DecodedTiles
from segtune.data.tiles import Layout, Tile
from segtune.errors import InputError
from segtune.evaluation.evaluate import evaluate
from segtune.evaluation.masks import Mask
from segtune.evaluation.metrics import ConfusionMatrix, Scores
from segtune.files.folders import find_model
from segtune.machine import versions
from segtune.models.checkpoint import load_model
from segtune.models.device import resolve_device, within_memory
from segtune.models.manifest import MEMORY_FORMAT, THRESHOLD, Manifest

_MOST_LOADERS = 8  # processes that decode
OnPrediction = Callable[[Tile, Mask], None]


@dataclass(frozen=True)
class Validation:
    """What measuring a model on a split gave."""

    model_folder: Path
    manifest: Manifest
    scores: Scores
    tiles: int
    device: str

    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json: the scores, and the settings that they were measured with."""
        config = self.manifest.config
        return {
            "miou": self.scores.miou,
            "miou_with_background": self.scores.miou_with_background,
            "iou": self.scores.iou,
            "tiles": self.tiles,
            "model": str(self.model_folder),
            "classes": config.classes,
            "ignore": config.ignore,
            "channels": config.channels,
            "image_size": config.image_size,
            "batch_size": self.manifest.evaluation_batch_size,
            "precision": self.manifest.precision,
            "memory_format": MEMORY_FORMAT,
            "threshold": THRESHOLD,
            "device": self.device,
            "versions": versions(),
        }

    def absent(self) -> list[str]:
        """Classes that occur in none of the masks, and so count for nothing."""
        return [label for label, value in self.scores.iou.items() if value is None]


def validate(
    folder: Path,
    split: Path,
    device: str = "auto",
    on_tile: OnPrediction | None = None,
    say: Callable[[str], None] | None = None,
) -> Validation:
    """Measure the model in a search's, a run's or its own folder on a split, as its training measured it.

    Batch size, precision and number of torch threads are those of the training's evaluation, so that on the same
    device the score is the same to the last digit. Where memory is not enough for that batch size, the whole split is
    measured again with half of it. `on_tile` gets each tile and its prediction, each time: a mask in the data set's
    own labels, (H, W), at the size of the tile's mask. `say` gets a line on all that is odd about the data. Raises
    InputError for a folder without a model, and for a split that is not sound, and DeviceMemoryError where memory is
    not enough for one tile at a time.
    """
    place = resolve_device(device)
    model_folder = find_model(folder)
    model, manifest = load_model(model_folder, place)
    config, labels = manifest.config, manifest.labels
    tiles = find_tiles(split, Layout.of(config, config.channels))
    sources = range(1 + len(config.channels))
    fit = Fit.of(config)
    store = DecodedTiles(tiles, labels, manifest.bands, sources, fit, manifest.uint8, None, config.nodata)
    # Before the first prediction is passed on.
    masks = survey(tiles, config)
    if not set(config.classes) & masks.pixels.keys():
        raise InputError(f"{masks.place}: none of the classes occurs in the masks ({config.classes})")
    check_kept(config, [masks])
    if say:
        for line in (*(f"warning: {text}" for text in tiles.unread), *mask_remarks(config, [masks])):
            say(line)

    def pass_on(index: int, predicted: Indices, truth: Indices) -> None:
        if on_tile:
            on_tile(tiles[index], labels.to_labels(predicted))

    workers = min(_MOST_LOADERS, readable_at_once(tiles) - 1)
    at_once = manifest.evaluation_batch_size
    with _threads(manifest.threads), Batches(store, at_once, workers=workers) as batches:

        def measure(size: int) -> ConfusionMatrix:
            batches.batch_size = size
            return evaluate(model, manifest, batches, place, pass_on)

        matrix, at_once = within_memory(measure, at_once)
    if not matrix.measurable:
        raise InputError(f"{tiles.folders[1]}: no valid pixel of any class occurs in the masks ({config.classes})")
    manifest = replace(manifest, evaluation_batch_size=at_once)  # what was used
    return Validation(model_folder, manifest, matrix.scores(), len(tiles), str(place))


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
