"""Validate a trained model on the tiles of a split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from segtune.config import RunConfig
from segtune.data.batches import Batches
from segtune.data.checks import check_kept, mask_remarks, survey
from segtune.data.fitting import Fit
from segtune.data.labels import Indices
from segtune.data.pairs import find_tiles
from segtune.data.reading import readable_at_once
from segtune.data.store import DecodedTiles
from segtune.data.tiles import Layout, Split, Tile
from segtune.errors import InputError
from segtune.evaluation.evaluate import evaluate
from segtune.evaluation.metrics import ConfusionMatrix, Scores
from segtune.evaluation.predicted_masks import Mask
from segtune.files.folders import find_model
from segtune.machine import versions
from segtune.models.checkpoint import load_model
from segtune.models.device import resolve_device, within_memory
from segtune.models.manifest import MEMORY_FORMAT, THRESHOLD, Manifest
from segtune.remarks import Say, unheard

_MOST_LOADERS = 8  # processes that decode tiles
OnPrediction = Callable[[Tile, Mask], None]


@dataclass(frozen=True)
class Validation:
    """The result of a validation: the scores, and the settings that they were measured with."""

    model_folder: Path
    manifest: Manifest
    scores: Scores
    tiles: int
    device: str

    def metrics(self) -> dict[str, Any]:
        """Return the content of metrics.json."""
        config = self.manifest.config
        return {
            "miou": self.scores.miou,
            "miou_with_background": self.scores.miou_with_background,
            "iou": self.scores.iou,
            "tiles": self.tiles,
            "model": str(self.model_folder),
            "classes": config.classes,
            "class_names": config.class_names,
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
        """Return the classes that no mask contains; they are not part of the mean."""
        labels = self.manifest.labels
        return [labels.text(label) for label, value in self.scores.iou.items() if value is None]


def validate(
    folder: Path,
    split: Path,
    device: str = "auto",
    on_tile: OnPrediction | None = None,
    say: Say = unheard,
) -> Validation:
    """Measure a model on a split in the same way as its training did.

    Batch size, precision and number of torch threads are those of the training's evaluation, so on the same device
    the score is the same to the last digit. If memory is not enough for that batch size, the whole split is measured
    again with half of it.

    Parameters
    ----------
    folder: the folder of a search, a run or a model.
    split: the folder of a split, or the list of its tiles.
    device: auto, cpu, cuda or cuda:N.
    on_tile: called with each tile and its predicted mask in the data set's own labels, (H, W), at the size of the
        tile's mask; called again for every tile when the split is measured again.
    say: called with one line about each thing that is odd about the data.

    Raises InputError if there is no model or the split is not sound, and DeviceMemoryError if memory is not enough for
    one tile at a time.
    """
    place = resolve_device(device)
    model_folder = find_model(folder)
    model, manifest = load_model(model_folder, place)
    config, labels = manifest.config, manifest.labels
    tiles = find_tiles(split, Layout.of(config, config.channels))
    sources = range(1 + len(config.channels))
    fit = Fit.of(config)
    store = DecodedTiles(tiles, labels, manifest.bands, sources, fit, manifest.uint8, None, config.nodata)
    for remark in _remarks(tiles, config):  # before the first prediction is passed on
        say(remark)

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
    manifest = replace(manifest, evaluation_batch_size=at_once)  # the size that memory was enough for
    return Validation(model_folder, manifest, matrix.scores(), len(tiles), str(place))


def _remarks(tiles: Split, config: RunConfig) -> list[str]:
    """Read the masks and return a line about each thing that is odd; raise InputError if they cannot be scored."""
    masks = survey(tiles, config)
    if not set(config.classes) & masks.pixels.keys():
        raise InputError(f"{masks.place}: none of the classes occurs in the masks ({config.classes})")
    check_kept(config, [masks])
    return [*(f"warning: {text}" for text in tiles.unread), *mask_remarks(config, [masks])]


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let torch use this number of threads for a while; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
