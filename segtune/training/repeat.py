"""Count what the model of a finished run gets right on each validation tile, for a comparison over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from segtune.config import RunConfig
from segtune.data.batches import Batches
from segtune.data.dataset import DataInfo
from segtune.data.splits import find_data_set
from segtune.data.store import TileStore
from segtune.data.tiles import TRAIN, VAL
from segtune.errors import InputError
from segtune.evaluation.evaluate import evaluate
from segtune.evaluation.grouping import FLAG, Grouping, find_groups, groups_by_name
from segtune.evaluation.opened import open_predictor
from segtune.evaluation.overlap import TileCounts
from segtune.evaluation.predictor import Predictor
from segtune.evaluation.tile_counts import write_tiles
from segtune.files.atomic import discard_folder
from segtune.files.folders import RunFolder
from segtune.models.device import torch_threads, within_memory
from segtune.objectives import Objective
from segtune.training.stopwatch import Alive


def count_tiles(folder: RunFolder, config: RunConfig, info: DataInfo, alive: Alive) -> None:
    """Measure the model in best/ as its training did, on the sets that the run is scored on; write tiles.npz.

    The score of all tiles together is that of the run to the last digit, on the same device. Raises InputError where
    there is no sound model, and DeviceMemoryError where memory is too small for one tile at a time.
    """
    predictor = open_predictor(folder.best, config.device)
    sets = scored_sets(config, info)
    with torch_threads(predictor.manifest.threads):
        counted = [_counted(predictor, store, alive) for store in sets.values()]
    write_tiles(folder.tiles, tile_names(sets), TileCounts.joined(counted))


def measure_fold(folder: RunFolder, config: RunConfig, info: DataInfo, alive: Alive) -> None:
    """Count what the model of a fold gets right on the fold's tiles, where that is not done; then delete the model.

    A model of a fold is no better than one that is trained on all of train. Raises errors as `count_tiles` does.
    """
    if not folder.tiles.is_file():
        count_tiles(folder, config, info, alive)
    forget_model(folder)


def forget_model(folder: RunFolder) -> None:
    """Delete the model of a run, and the state to continue from."""
    folder.state.unlink(missing_ok=True)
    discard_folder(folder.best)


def scored_sets(config: RunConfig, info: DataInfo) -> dict[str, TileStore]:
    """Return the validation sets that a resolved run is scored on."""
    splits = [split for split in info.counts if split == VAL or (config.use_only_add_val and split != TRAIN)]
    return {split: info.store(split, config) for split in splits}


def tile_names(sets: Mapping[str, TileStore]) -> list[str]:
    """Return the names of all tiles of some sets as tiles.npz holds them: SPLIT/NAME."""
    return [f"{split}/{store.name(index)}" for split, store in sets.items() for index in range(len(store))]


def validation_groups(
    names: Sequence[str], config: RunConfig, pattern: str | None = None, setting: str = FLAG
) -> Grouping:
    """Return which validation tiles are drawn together for intervals; see `find_groups`.

    Parameters
    ----------
    names: of the tiles as tiles.npz holds them.
    config: tells where their files lie.
    pattern, setting: see `find_groups`.

    Raises InputError where the pattern does not fit the names.
    """
    if pattern is not None:
        return groups_by_name([name_in_set(name) for name in names], pattern, setting)
    with suppress(InputError):  # the cache may hold tiles whose files are gone
        sets = find_data_set(config, config.channels)
        tiles = {f"{split}/{tile.name}": tile for split, found in sets.items() for tile in found}
        if tiles.keys() >= set(names):
            return find_groups([tiles[name] for name in names], None, setting)
    return Grouping(remark="tiles are drawn one by one, since the files that tell their places are gone")


def name_in_set(name: str) -> str:
    """Return the name that a tile has in its set, from its name in tiles.npz."""
    return name.partition("/")[2]


def _counted(predictor: Predictor, store: TileStore, alive: Alive) -> TileCounts:
    outlines = Objective.of(predictor.manifest.config.objective).needs_outlines
    with Batches(store, predictor.manifest.evaluation_batch_size) as batches:

        def attempt(size: int) -> TileCounts:
            batches.batch_size = size
            return evaluate(predictor, batches, on_batch=lambda: alive("evaluation"), outlines=outlines).tiles

        return within_memory(attempt, predictor.manifest.evaluation_batch_size)[0]
