"""Exported models on disk: written whole or not at all, read without executing anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import load_model as load_tensors
from torch import Tensor, nn

from segtune.errors import InputError, one_line
from segtune.files.atomic import (
    WEIGHTS,
    discard_folder,
    recover_folder,
    replace_folder,
    replaced_folder,
    write_text,
)
from segtune.models.build import blank_model
from segtune.models.compatibility import check_network
from segtune.models.manifest import Manifest
from segtune.models.tensors import check_numbers, check_plain, check_shape, disk_errors

_MANIFEST, _CONFIG = "run.yaml", "config.json"
_MOST_BYTES = 1 << 20  # of config.json, which stays far below


def save_model(folder: Path, model: nn.Module, manifest: Manifest) -> None:
    """Write a model's folder, replacing one that is there: smp's save_pretrained format and run.yaml."""
    # smp would download the encoder's first weights again, only to load others over them.
    model.config["encoder_weights"] = None  # type: ignore[index,operator,assignment]
    with disk_errors(folder), replaced_folder(folder) as temporary:
        model.save_pretrained(temporary)  # type: ignore[operator]
        manifest.write(temporary / _MANIFEST)
        write_text(temporary / "README.md", _card(manifest))  # in place of the hub's template


def _card(manifest: Manifest) -> str:
    """The page that a model's folder opens with, in Markdown."""
    config, miou = manifest.config, manifest.metrics.get("miou")
    classes = [f"- {label}: IoU {_score(manifest.metrics.get(f'iou/{label}'))}" for label in config.classes]
    size = f"{config.image_size} x {config.image_size} pixels"
    return "\n".join(
        [
            "# A segmentation model",
            "",
            f"{config.model} with the encoder {config.encoder}, {manifest.parameters:,} parameters, made by segtune.",
            f"Its mIoU on the validation tiles is {_score(miou)}. The classes, by their labels in the masks:",
            "",
            *classes,
            "",
            f"- data: {config.dataset}",
            f"- input: {len(manifest.bands)} bands ({', '.join(band.name for band in manifest.bands)}), {size}",
            "",
            "```python",
            "import segmentation_models_pytorch as smp",
            "",
            'model = smp.from_pretrained("FOLDER")',
            "```",
            "",
            "run.yaml has the normalisation of the bands, the threshold, and every setting of the training.",
            "`python validate.py -cd FOLDER -d SPLIT` measures the model on other tiles.",
            "",
        ]
    )


def _score(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def load_model(folder: Path, device: torch.device) -> tuple[nn.Module, Manifest]:
    """A model as `save_model` wrote it, ready to evaluate; InputError where the folder holds none."""
    manifest = Manifest.read(folder / _MANIFEST)
    config = manifest.config
    try:
        check_network(config.model, config.encoder, config.image_size)
    except InputError as error:
        raise InputError(f"{folder / _MANIFEST}: {mistake}" for mistake in error.mistakes) from None
    # Built from run.yaml, which was checked. smp's from_pretrained builds whatever config.json names: an encoder of the
    # hub, say, with weights to download.
    model = blank_model(config, len(manifest.bands), manifest.labels.outputs)
    _check_same_network(folder / _CONFIG, model)
    weights = folder / WEIGHTS
    try:
        _check_tensors(load_file(weights), model)
        load_tensors(model, weights)
    except Exception as error:
        # safetensors, torch and the file system each raise errors of their own for a broken file.
        raise InputError(f"{folder}: the model cannot be loaded ({one_line(error)})") from None
    return model.eval().to(device).to(memory_format=torch.channels_last), manifest


def _check_same_network(path: Path, model: nn.Module) -> None:
    """InputError where a config.json, by which smp alone would read the model, says that it is another one."""
    if not path.is_file():
        raise InputError(f"{path}: is missing, or no regular file")
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({one_line(error)})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a config.json as smp writes it")
    own: Any = model.config
    expected = json.loads(json.dumps({**own, "_model_class": type(model).__name__}))
    for name, value in expected.items():
        if name != "encoder_weights" and content.get(name, value) != value:
            raise InputError(f"{path}: {name} is {one_line(repr(content[name]))}, but {value!r} by {_MANIFEST}")


def _check_tensors(tensors: Mapping[str, Tensor], model: nn.Module) -> None:
    own = model.state_dict()
    for name in [name for name in tensors if name in own]:
        check_plain(name, tensors[name])
        check_numbers(name, tensors[name], own[name])
        check_shape(name, tensors[name], own[name])  # smp would print a warning of many lines


def settle_model(folder: Path, candidate: Path, epoch: int) -> bool:
    """Leave the model of this epoch in its folder, and no other; whether there is one.

    A run writes a better model than the one that it has beside that one, then the state that knows of it, and lets it
    take the other's place only then: a run that goes on finds the model of its state, whenever it was killed.
    """
    recover_folder(folder)
    for place in (candidate, folder):
        if place.exists() and Manifest.read(place / _MANIFEST).metrics.get("epoch") != epoch:
            discard_folder(place)
    if candidate.exists():
        replace_folder(candidate, folder)
    return folder.exists()


def model_score(folder: Path) -> float | None:
    """The mIoU that the model in a folder reached in training; None where there is no model, or none that tells."""
    try:
        return Manifest.read(folder / _MANIFEST).metrics.get("miou") if folder.is_dir() else None
    except InputError:
        return None
