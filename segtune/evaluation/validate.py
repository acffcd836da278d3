"""Validate a trained model on the tiles of a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from segtune.data.batches import Batches
from segtune.data.checks import check_kept, mask_remarks, shares, survey
from segtune.data.exclusion import exclusion_lines
from segtune.data.pairs import find_tiles
from segtune.data.reading import ground_resolution, readable_at_once
from segtune.data.store import DecodedTiles, TileStore
from segtune.data.tile_sizes import largest_side
from segtune.data.tiles import Split, Tile
from segtune.errors import InputError
from segtune.evaluation.areas import AreaCounts
from segtune.evaluation.evaluate import Evaluated, OnTile, evaluate
from segtune.evaluation.measure import Measure
from segtune.evaluation.measures import Measured, Measures
from segtune.evaluation.metrics import Scores
from segtune.evaluation.opened import UNCHANGED, Changes, open_predictor, order_line
from segtune.evaluation.predict import TilePrediction, probabilities
from segtune.evaluation.predictor import Predictor
from segtune.evaluation.scene_scale import tile_remarks
from segtune.files.folders import find_model
from segtune.machine import versions
from segtune.models.device import torch_threads, within_memory
from segtune.models.manifest import MEMORY_FORMAT, Manifest
from segtune.remarks import Say, unheard
from segtune.values import OVERLAP

_MOST_LOADERS = 8  # processes that decode tiles
_TILES_EACH = 8  # for fewer, to start a process takes longer than it saves


@dataclass(frozen=True)
class PredictedTile:
    """A tile with its prediction, the model's manifest, and the store that its image comes from."""

    tile: Tile
    index: int  # in the split, and in the store
    prediction: TilePrediction
    store: TileStore
    manifest: Manifest


T = TypeVar("T")
OnPrediction = Callable[[PredictedTile], None]
OnDone = Callable[[int, int], object]  # the numbers of tiles that are done, and of all; two passes count them twice


@dataclass(frozen=True)
class Validation:
    """The result of a validation: what was measured, and with which settings."""

    model_folder: Path
    split: Path
    manifest: Manifest
    measured: Measured
    store: TileStore
    device: str
    tta: str
    overlap: float
    ensemble: tuple[Path, ...] = ()  # other models whose probabilities were averaged with its own

    @property
    def scores(self) -> Scores:
        """The scores of the whole split."""
        return self.measured.scores

    @property
    def tiles(self) -> int:
        """The number of tiles."""
        return len(self.measured.names)

    def metrics(self) -> dict[str, Any]:
        """Return the content of metrics.json."""
        found = self.measured
        config = self.manifest.config
        sweeps = {"thresholds": found.thresholds, "min_areas": found.areas}
        return {
            "miou": found.scores.miou,
            "miou_with_background": found.scores.miou_with_background,
            "iou": found.scores.iou,
            "tiles": self.tiles,
            **({} if measure_of(self).objective.is_miou else {"objective": self.objective}),
            "per_class": found.classes.plain(),
            **found.boundary.plain(),
            "calibration": found.calibration.plain(),
            "confusion": {"labels": ["background", *map(str, config.classes)], "pixels": found.confusion.tolist()},
            **{name: sweep.plain() for name, sweep in sweeps.items() if sweep},
        } | prediction_settings(self.model_folder, self.manifest, self.device, self.tta, self.overlap, self.ensemble)

    @property
    def objective(self) -> dict[str, Any]:
        """What the model was chosen by, and its value; None where the masks lack a class that it needs."""
        measure = measure_of(self)
        return {"name": measure.objective.name, "value": measure.of(self.measured.tiles)}

    def absent(self) -> list[str]:
        """Return the classes that no mask contains; they are not part of the mean."""
        labels = self.manifest.labels
        return [labels.text(label) for label, value in self.scores.iou.items() if value is None]


def measure_of(found: Validation) -> Measure:
    """Return the measure by which the best epoch of the model was chosen."""
    return Measure.named(found.manifest.config.objective, found.manifest.labels.classes)


def prediction_settings(
    folder: Path, manifest: Manifest, device: str, tta: str, overlap: float, ensemble: Sequence[Path] = ()
) -> dict[str, Any]:
    """Return what predictions were made with, as it stands in metrics.json.

    `ensemble` are other models whose probabilities were averaged with those of the model in the folder.
    """
    config = manifest.config
    return {
        "model": str(folder),
        "models": 1 + len(ensemble),
        **({"ensemble": [str(model) for model in (folder, *ensemble)]} if ensemble else {}),
        "classes": config.classes,
        "class_names": config.class_names,
        "ignore": config.ignore,
        "channels": config.channels,
        "bands": list(manifest.order) or None,
        "image_size": config.image_size,
        "fit": config.fit,
        "overlap": overlap,
        "tta": tta,
        "batch_size": manifest.evaluation_batch_size,
        "precision": manifest.precision,
        "memory_format": MEMORY_FORMAT,
        "threshold": manifest.threshold,
        "min_area": manifest.min_area,
        "device": device,
        "versions": versions(),
    }


def validate(
    folder: Path,
    split: Path,
    device: str = "auto",
    on_tile: OnPrediction | None = None,
    say: Say = unheard,
    changes: Changes = UNCHANGED,
    overlap: float = OVERLAP,
    worst: int = 0,
    sweep: bool = False,
    on_done: OnDone | None = None,
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
    on_tile: called with each tile and its prediction at the size of the tile's mask; called again for every tile when
        the split is measured again.
    say: called with one line about each thing that is odd about the data.
    changes: what to do otherwise than the training's evaluation.
    overlap: of neighbouring windows with `fit` crop, as a share of their side.
    worst: how many of the tiles with the most wrong pixels to keep.
    sweep: also measure all thresholds, and then, in a second pass, objects' smallest areas.
    on_done: called after each tile with the numbers of tiles that are done and of all; two passes count them twice.

    Raises InputError if there is no model or the split is not sound, and DeviceMemoryError if memory is not enough for
    one tile at a time.
    """
    model_folder = find_model(folder)
    predictor = open_predictor(model_folder, device, changes)
    manifest = predictor.manifest
    config = manifest.config
    tiles = find_tiles(split, manifest.layout)
    sources, order = range(1 + len(manifest.channel_files)), manifest.order
    store = DecodedTiles(
        tiles, manifest.labels, manifest.bands, sources, predictor.fit, manifest.uint8, None, config.nodata, order
    )
    for remark in _remarks(tiles, manifest):  # before the first prediction is passed on
        say(remark)
    workers = min(_MOST_LOADERS, readable_at_once(tiles) - 1, len(tiles) // _TILES_EACH)
    with torch_threads(manifest.threads), Batches(store, manifest.evaluation_batch_size, workers=workers) as batches:
        passes = _Passes(predictor, batches, overlap, on_done, len(tiles) * (2 if sweep else 1))
        measures, counted = passes.measure(tiles, store, on_tile, worst, sweep)
        areas = passes.areas(measures) if sweep else None
    try:
        measured = measures.result(tiles.names, counted, areas)
    except ValueError:
        raise InputError(
            f"{tiles.folders[1]}: no valid pixel of any class occurs in the masks ({config.classes})"
        ) from None
    manifest = replace(manifest, evaluation_batch_size=passes.at_once)  # the size that memory was enough for
    device, ensemble = str(predictor.device), changes.ensemble
    return Validation(model_folder, split, manifest, measured, store, device, predictor.tta, overlap, ensemble)


class _Passes:
    """Passes over the tiles of a split, with smaller batches where memory is not enough."""

    def __init__(
        self, predictor: Predictor, batches: Batches, overlap: float, on_done: OnDone | None, total: int
    ) -> None:
        self._predictor, self._batches, self._overlap = predictor, batches, overlap
        self._on_done, self._before, self._total = on_done, 0, total
        self.at_once = predictor.manifest.evaluation_batch_size

    def measure(
        self, tiles: Split, store: TileStore, on_tile: OnPrediction | None, worst: int, sweep: bool
    ) -> tuple[Measures, Evaluated]:
        """Measure everything but the smallest areas."""

        def begin() -> tuple[Measures, OnTile]:
            measures = Measures(self._predictor.manifest, worst, sweep)

            def pass_on(index: int, prediction: TilePrediction) -> None:
                measures.update(index, prediction)
                if on_tile:
                    on_tile(PredictedTile(tiles[index], index, prediction, store, self._predictor.manifest))

            return measures, pass_on

        return self._over_all(begin, outlines=True)

    def areas(self, measures: Measures) -> AreaCounts | None:
        """Measure the smallest areas at the best threshold; None if no class occurs in the masks."""
        manifest, found = self._predictor.manifest, measures.sweep()
        if not found or not found.curves:
            return None
        labels = manifest.labels
        threshold = found.best(str(labels.classes[0])) if labels.binary else manifest.threshold

        def begin() -> tuple[AreaCounts, OnTile]:
            counts = AreaCounts(labels, threshold, manifest.threshold, manifest.min_area)

            def add(index: int, prediction: TilePrediction) -> None:
                counts.update(prediction.truth, probabilities(prediction.logits, labels).cpu().numpy())

            return counts, add

        return self._over_all(begin)[0]

    def _over_all(self, begin: Callable[[], tuple[T, OnTile]], outlines: bool = False) -> tuple[T, Evaluated]:
        """Predict all tiles, and return what was counted; begin anew whenever memory was not enough."""

        def attempt(size: int) -> tuple[T, Evaluated]:
            self._batches.batch_size = size
            counts, add = begin()

            def count(index: int, prediction: TilePrediction) -> None:
                add(index, prediction)
                if self._on_done:
                    self._on_done(self._before + index + 1, self._total)

            return counts, evaluate(self._predictor, self._batches, count, overlap=self._overlap, outlines=outlines)

        found, self.at_once = within_memory(attempt, self.at_once)
        self._before += len(found[1].tiles)
        return found


def _remarks(tiles: Split, manifest: Manifest) -> list[str]:
    """Read the masks and return a line about each thing that is odd; raise InputError if they cannot be scored."""
    config, order = manifest.config, order_line(manifest)
    masks = survey(tiles, config)
    if not set(config.classes) & masks.pixels.keys():
        classes = f"none of the model's classes occurs in the masks ({config.classes})"
        raise InputError(f"{masks.place}: {classes}; they hold {masks.held()}")
    check_kept(config, [masks])
    scale = tile_remarks(manifest, tiles.folders[0], largest_side(tiles), ground_resolution(tiles[0].image))
    unread = [f"warning: {text}" for text in tiles.unread]
    unknown = masks.pixels.keys() - {*config.classes, *config.ignore}
    wrong = [
        f"warning: {masks.place}: {shares(masks.pixels, unknown)} are labels that the model does not know; it predicts "
        f"no background, so it is always wrong there"
    ]
    remarks = mask_remarks(config, [masks]) if manifest.labels.predicts_background or not unknown else wrong
    return [*exclusion_lines([tiles.excluded]), *([order] if order else []), *unread, *scale, *remarks]
