"""Open a trained model for predictions, with what the user wants otherwise than its training had it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from segtune.errors import InputError, one_line
from segtune.evaluation.predictor import Predictor
from segtune.models.averaged import Averaged
from segtune.models.checkpoint import load_model
from segtune.models.device import resolve_device, resolve_precision
from segtune.models.foreign import Described
from segtune.models.manifest import Manifest


@dataclass(frozen=True)
class Changes:
    """What a prediction does otherwise than the evaluation in training did; None leaves it as it was."""

    threshold: float | None = None
    min_area: int | None = None
    tile_size: int | None = None  # side of the square that the network sees
    precision: str | None = None  # fp32, fp16 or bf16
    tta: str = "none"
    order: tuple[int, ...] = ()  # bands of the image files to read, from 1; empty for all, as they lie
    described: Described | None = None  # what a model without run.yaml was trained on
    ensemble: tuple[Path, ...] = ()  # other models, of the same kind, whose probabilities are averaged with its own

    def of(self, manifest: Manifest) -> Manifest:
        """Return a copy of a manifest with these changes; raise InputError for a value that cannot be."""
        if self.threshold is not None and not manifest.labels.binary:
            raise InputError("-t: is for models of one class; of several classes, the most likely one is predicted")
        manifest = replace(
            manifest.with_order(self.order),
            threshold=manifest.threshold if self.threshold is None else self.threshold,
            min_area=manifest.min_area if self.min_area is None else self.min_area,
            precision=self.precision or manifest.precision,
        )
        if self.tile_size is None:
            return manifest
        settings = manifest.config.settings() | {"image_size": self.tile_size}
        try:
            config = type(manifest.config).from_settings(settings)
        except InputError as error:
            lines = [line.replace("image_size", "--tile-size", 1) for line in error.mistakes]
            raise InputError(lines) from None
        return replace(manifest, config=config)


UNCHANGED = Changes()


def order_line(manifest: Manifest) -> str | None:
    """Return a line that says which bands of the images are read; None where they are read as they lie."""
    if not manifest.order:
        return None
    pairs = zip((band.name for band in manifest.bands), manifest.order, strict=False)
    return f"bands: {', '.join(f'{name} from band {number}' for name, number in pairs)} of the images"


def open_predictor(folder: Path, device: str = "auto", changes: Changes = UNCHANGED) -> Predictor:
    """Load the model of a folder onto a device: auto, cpu, cuda or cuda:N.

    Raises InputError where there is no sound model, or where this machine lacks the device or the precision.
    """
    place = resolve_device(device)
    model, manifest = load_model(folder, place, changes.described)
    if changes.ensemble:
        others = [load_model(other, place)[0] for other in changes.ensemble]
        model = Averaged([model, *others], manifest.labels.binary)
    manifest = changes.of(manifest)
    resolve_precision(manifest.config.model_copy(update={"precision": manifest.precision}), place)
    predictor = Predictor(model, manifest, place, changes.tta)
    if changes.tile_size or changes.described:
        _check_size(predictor)
    return predictor


def _check_size(predictor: Predictor) -> None:
    """Raise InputError where the network does not take squares of the size that somebody asked for."""
    side = predictor.fit.size
    try:
        predictor.logits(torch.zeros(1, side, side, len(predictor.manifest.bands)))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError, ValueError) as error:
        # smp, timm and torch each refuse a size in their own way.
        raise InputError(f"--tile-size: the network does not take {side} pixels ({one_line(error)})") from None
