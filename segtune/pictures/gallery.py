"""Draw the tiles of a run: before and after augmentation, with their predictions, and the worst ones on a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from segtune.config import RunConfig
from segtune.data.bands import rgb_positions
from segtune.data.batches import DrawnTiles
from segtune.data.dataset import DataInfo
from segtune.data.fitting import Fit
from segtune.data.mix import Mix
from segtune.data.store import TileStore
from segtune.data.tiles import TRAIN
from segtune.data.transforms import make_augmentation
from segtune.evaluation.metrics import tile_iou
from segtune.evaluation.predict import TilePrediction, probabilities
from segtune.evaluation.worst import WorstTile
from segtune.files.transforms_file import TransformsFile
from segtune.models.manifest import Manifest
from segtune.pictures.layout import CELL
from segtune.pictures.panels import Panels
from segtune.pictures.png import write_png
from segtune.pictures.render import Picture, render
from segtune.pictures.sheet import Prediction, Preview, preview_sheet, worst_sheet


def write_preview(
    config: RunConfig, info: DataInfo, count: int, folder: Path, transforms: TransformsFile | None = None
) -> Path:
    """Write a sheet of training tiles before and after augmentation, and return its path: see `preview_picture`.

    `check_preview` checks `count`.
    """
    path = folder / f"preview_{_level(config, transforms, '_')}.png"
    folder.mkdir(parents=True, exist_ok=True)
    write_png(path, preview_picture(config, info, count, transforms))
    return path


def preview_picture(
    config: RunConfig, info: DataInfo, count: int, transforms: TransformsFile | None = None, cell: int = CELL
) -> Picture:
    """Draw training tiles before and after augmentation.

    `count` tiles are taken at equal distances from the training set and augmented as in the run's first epoch.
    `transforms` is the file that `augmentation` names; each picture is at most `cell` pixels wide.
    """
    bands = info.input_bands(config.channels)
    rgb = rgb_positions(config.rgb, bands)
    augmentation = make_augmentation(config, info, bands, transforms)
    store = info.store(TRAIN, config)
    crop = Fit.of(config) if config.fit == "crop" else None
    mix = Mix.of(config, info.labels, info.pixels[TRAIN], info.holders)
    tiles = DrawnTiles(store, config.seed, augmentation, crop, mix)
    rows = []
    shown = min(count, len(store))
    for index in (row * len(store) // shown for row in range(shown)):
        image, target = tiles.draw(index, epoch=1, number=index)
        before = render(store.image(index), bands, rgb)
        rows.append(Preview(store.name(index), before, store.target(index), render(image, bands, rgb), target))
    return preview_sheet(rows, info.labels, _level(config, transforms, ", "), cell)


def _level(config: RunConfig, transforms: TransformsFile | None, joint: str) -> str:
    level = Path(transforms.path).stem if transforms else config.augmentation
    return level if config.mix == "none" else joint.join((level, config.mix))


def write_worst(path: Path, store: TileStore, manifest: Manifest, worst: Sequence[WorstTile], title: str) -> None:
    """Write a sheet of the worst tiles of a split as PNG; delete that of an earlier start where there are none."""
    if worst:
        write_png(path, worst_picture(store, manifest, worst, title))
    else:
        path.unlink(missing_ok=True)


def worst_picture(
    store: TileStore,
    manifest: Manifest,
    worst: Sequence[WorstTile],
    title: str,
    with_difference: bool = True,
    cell: int = CELL,
) -> Picture:
    """Draw the worst tiles of a split beside their masks, their predictions and, if asked for, the differences."""
    rows = []
    for tile in worst:
        truth = store.target(tile.index)
        picture = tile_picture(store, manifest, tile.index, truth.shape)
        iou = tile_iou(tile.predicted, truth, len(manifest.labels.classes)) or 0.0
        rows.append(Prediction(store.name(tile.index), iou, picture, truth, tile.predicted))
    return worst_sheet(rows, manifest.labels, title, with_difference, cell)


def tile_picture(store: TileStore, manifest: Manifest, index: int, shape: tuple[int, ...]) -> Picture:
    """Draw the image of a tile, of a size of (H, W), as the network sees it: without the padding."""
    height, width = Fit.of(manifest.config).inner(*shape)
    image = store.image(index)[:height, :width]
    return render(image, manifest.bands, rgb_positions(manifest.config.rgb, manifest.bands))


def tile_panels(name: str, image: npt.NDArray[Any], manifest: Manifest, tile: TilePrediction) -> Panels:
    """Return what is drawn of a tile and its prediction.

    `image` is (h, w, bands), as read and without padding, of any size.
    """
    labels = manifest.labels
    picture = render(image, manifest.bands, rgb_positions(manifest.config.rgb, manifest.bands))
    probability = probabilities(tile.logits, labels)[0].cpu().numpy() if labels.binary else None
    iou = None if tile.truth is None else tile_iou(tile.indices, tile.truth, len(labels.classes))
    return Panels(name, picture, tile.indices, probability, tile.truth, iou)
