"""Choose tiles of a data set, and draw them with their masks on one sheet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segtune.config import RunConfig
from segtune.data.bands import rgb_positions
from segtune.data.mask_values import count_labels
from segtune.data.reading import TilePixels
from segtune.data.statistics import Moments
from segtune.data.tiles import Split, Tile
from segtune.errors import InputError, counted, first_few
from segtune.pictures.render import Picture, render
from segtune.pictures.sheet import Shown, contact_sheet
from segtune.tools.found_tiles import Named, read_rows
from segtune.tools.pixels import DataSet, bands_of, labels_of, valid_pixels

_IN_A_ROW = 2  # tiles of a sheet


@dataclass(frozen=True)
class Sheet:
    """Tiles on one picture."""

    picture: Picture
    title: str  # which tiles, in words
    names: Sequence[str]  # of the tiles
    failed: Sequence[str] = ()  # a line for each tile that cannot be drawn


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


def sheet(config: RunConfig, data: DataSet, tiles: Sequence[Tile], with_classes: bool, title: str) -> Sheet:
    """Draw tiles with their masks, two in a row, all with the same stretch of their values.

    with_classes: whether `config.classes` is meant; otherwise all labels but 0 are classes.
    """
    named = [(tile.name, found) for tile, found in zip(tiles, data.read(tiles, lambda tile: tile), strict=True)]
    rows = [named[first : first + _IN_A_ROW] for first in range(0, len(named), _IN_A_ROW)]
    picture = _drawn(config, data.channels, rows, {}, with_classes, title)
    return Sheet(picture, title, [tile.name for tile in tiles])


def sheet_of_findings(
    config: RunConfig, channels: Sequence[str], named: Named, number: int, with_classes: bool
) -> Sheet:
    """Draw tiles that findings name: pairs side by side, each tile above what was found.

    Raises InputError where none can be drawn.
    """
    found, failed = read_rows(config, channels, named.rows, number)
    if not found:
        raise InputError(f"--findings: no tile that it names can be drawn: {first_few(failed, 3)}")
    rows: list[list[tuple[str, TilePixels]]] = []
    for names, read in found:
        both = list(zip(names, read, strict=True))
        if len(both) == 1 and rows and len(rows[-1]) == 1:
            rows[-1] += both
        else:
            rows.append(both)
    shown = list(dict.fromkeys(name for names, _ in found for name in names))
    told = f"{len(shown)} of {counted(named.tiles, 'tile')} that findings name, worst first"
    return Sheet(_drawn(config, channels, rows, named.notes, with_classes, told), told, shown, failed)


def _drawn(
    config: RunConfig,
    channels: Sequence[str],
    rows: Sequence[Sequence[tuple[str, TilePixels]]],
    notes: Mapping[str, str],
    with_classes: bool,
    title: str,
) -> Picture:
    every = [tile for row in rows for _, tile in row]
    moments: dict[int, Moments | None] = {}  # tiles of different bands may stand on one sheet
    for tile in every:
        one, before = Moments.of(valid_pixels(tile)), moments.get(_bands(tile))
        moments[_bands(tile)] = before.merge(one) if before and one else before or one
    bands = {number: bands_of(found, channels, config.dataset) for number, found in moments.items()}
    labels = labels_of(config, with_classes, {label for tile in every for label in count_labels(tile.mask)})

    def shown(name: str, tile: TilePixels) -> Shown:
        own = bands[_bands(tile)]
        picture = render(np.concatenate(tile.sources, axis=2), own, rgb_positions(config.rgb, own))
        return Shown(name, picture, labels.to_indices(tile.mask), notes.get(name, ""))

    return contact_sheet([[shown(name, tile) for name, tile in row] for row in rows], labels, title)


def _bands(tile: TilePixels) -> int:
    return sum(source.shape[2] for source in tile.sources)
