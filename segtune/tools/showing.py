"""Choose tiles of a data set, and draw them with their masks on one sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from segtune.config import RunConfig
from segtune.data.bands import rgb_positions
from segtune.data.mask_values import count_labels
from segtune.data.reading import TilePixels
from segtune.data.statistics import Moments
from segtune.data.tiles import Split, Tile
from segtune.pictures.render import Picture, render
from segtune.pictures.sheet import Shown, contact_sheet
from segtune.tools.pixels import DataSet, bands_of, labels_of, valid_pixels


def choose(
    data: DataSet,
    split: Split,
    number: int,
    label: int | None,
    seed: int,
    progress: Callable[[int, int], None],
) -> list[int]:
    """Return the positions of tiles to show: drawn at random, in their order, or those with most of a label.

    Only a label needs the tiles to be read: all of the split. `progress` is called with the number read, and of all.
    """
    if label is None:
        random = np.random.default_rng(seed)
        return sorted(random.permutation(len(split))[:number].tolist())
    found = []
    for position, share in enumerate(data.read(split, lambda tile: float((tile.mask == label).mean()))):
        progress(position + 1, len(split))
        if share:
            found.append((-share, position))
    return [position for _, position in sorted(found)[:number]]


def sheet(config: RunConfig, data: DataSet, tiles: Sequence[Tile], with_classes: bool, title: str) -> Picture:
    """Draw tiles with their masks, all with the same stretch of their values.

    with_classes: whether `config.classes` is meant; otherwise all labels but 0 are classes.
    """
    read: list[TilePixels] = list(data.read(tiles, lambda tile: tile))
    moments: Moments | None = None
    for one in filter(None, (Moments.of(valid_pixels(tile)) for tile in read)):
        moments = one if moments is None else moments.merge(one)
    bands = bands_of(moments, data.channels, config.dataset)
    rgb = rgb_positions(config.rgb, bands)
    labels = labels_of(config, with_classes, {label for tile in read for label in count_labels(tile.mask)})
    shown = [
        Shown(tile.name, render(np.concatenate(found.sources, axis=2), bands, rgb), labels.to_indices(found.mask))
        for tile, found in zip(tiles, read, strict=True)
    ]
    return contact_sheet(shown, labels, title)
