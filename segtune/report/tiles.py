"""Look at the winner of a search on its validation tiles: the worst, the median and the best ones."""

from __future__ import annotations

from pathlib import Path

from segtune.data.pairs import find_tiles
from segtune.data.tiles import VAL
from segtune.errors import InputError
from segtune.evaluation.grouping import find_groups, grouped_intervals
from segtune.evaluation.measure import Measure
from segtune.evaluation.spread import Spread, SpreadTile
from segtune.evaluation.validate import OnDone, PredictedTile, Validation, validate
from segtune.files.folders import SearchFolder, find_model
from segtune.models.manifest import Manifest
from segtune.pictures.gallery import tile_picture
from segtune.pictures.quartet import colours_of, quartet
from segtune.report.record import Example, Examples
from segtune.report.text import scored_split

EACH = 3  # tiles of each kind


def look_at_winner(folder: SearchFolder, on_done: OnDone | None = None) -> Examples:
    """Predict the validation tiles with the winner's model, and return what is seen and measured.

    Of several validation sets, the first one is taken. Raises InputError where the model or the data is gone, and
    DeviceMemoryError where memory is not enough.
    """
    config = Manifest.read(find_model(folder.path) / "run.yaml").config
    split = scored_split(config)
    if split is None:
        raise InputError(f"{config.dataset}: the validation tiles are gone")
    return _seen(folder.path, split, len(config.classes), on_done)


def _seen(folder: Path, split: Path, classes: int, on_done: OnDone | None) -> Examples:
    spread = Spread(classes)

    def note(tile: PredictedTile) -> None:
        if tile.index == 0:  # the split is measured again with smaller batches where memory was not enough
            spread.clear()
        spread.note(tile.index, tile.prediction.indices, tile.prediction.truth)

    found = validate(folder, split, on_tile=note, on_done=on_done)
    labels, measured = found.manifest.labels, found.measured
    # A search on some of the tiles has another score than all of them, and the interval would not be around it.
    same = found.tiles == found.manifest.tiles.get(VAL, found.tiles)
    grouping = find_groups(find_tiles(split, found.manifest.layout))
    intervals = grouped_intervals(measured.tiles, labels.classes, grouping)[0] if same else None
    measure = Measure.named(found.manifest.config.objective, labels.classes)
    support = {label: score.support for label, score in measured.classes.by_label.items()}
    total = max(1, sum(support.values()))
    return Examples(
        tuple(_example(found, tile) for tile in spread.tiles(EACH)),
        tuple(colours_of(labels)),
        measure.interval(measured.tiles, grouping.groups) if intervals else None,
        dict(intervals.iou) if intervals else {},
        {label: count / total for label, count in support.items()},
        str(split),
        found.tiles,
        measure.unsure(measured.tiles, grouping.groups) if intervals else None,
    )


def _example(found: Validation, tile: SpreadTile) -> Example:
    store, manifest = found.store, found.manifest
    truth = store.target(tile.index)
    picture = tile_picture(store, manifest, tile.index, truth.shape)
    pictures = quartet(picture, truth, tile.predicted, manifest.labels)
    return Example(tile.place, store.name(tile.index), tile.iou, pictures)
