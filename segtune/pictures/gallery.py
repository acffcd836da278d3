"""Draw the tiles of a run: before and after augmentation, and those that its model predicts worst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
from segtune.evaluation.worst import WorstTile
from segtune.files.transforms_file import TransformsFile
from segtune.models.manifest import Manifest
from segtune.pictures.png import write_png
from segtune.pictures.render import Picture, render
from segtune.pictures.sheet import CELL, Prediction, Preview, preview_sheet, worst_sheet


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
    mix = Mix.of(config, info.labels, info.pixels[TRAIN])
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


def worst_picture(
    store: TileStore,
    manifest: Manifest,
    worst: Sequence[WorstTile],
    title: str,
    with_difference: bool = True,
    cell: int = CELL,
) -> Picture:
    """Draw the worst tiles of a split beside their masks, their predictions and, if asked for, the differences."""
    fit, rgb = Fit.of(manifest.config), rgb_positions(manifest.config.rgb, manifest.bands)
    rows = []
    for tile in worst:
        truth = store.target(tile.index)
        height, width = fit.inner(*truth.shape)
        image = store.image(tile.index)[:height, :width]  # without the padding
        picture = render(image, manifest.bands, rgb)
        iou = tile_iou(tile.predicted, truth, len(manifest.labels.classes)) or 0.0
        rows.append(Prediction(store.name(tile.index), iou, picture, truth, tile.predicted))
    return worst_sheet(rows, manifest.labels, title, with_difference, cell)
