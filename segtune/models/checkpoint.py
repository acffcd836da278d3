"""Save and load models. A folder is written completely or not at all; loading executes nothing that it contains."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import load_model as load_tensors
from torch import Tensor, nn

from segtune.errors import InputError, one_line
from segtune.files.atomic import (
    CARD,
    CONFIG,
    MANIFEST,
    WEIGHTS,
    discard_folder,
    recover_folder,
    replace_folder,
    replaced_folder,
    write_text,
)
from segtune.files.model_files import damage
from segtune.models.build import blank_model, parameter_count
from segtune.models.card import model_card
from segtune.models.compatibility import check_network
from segtune.models.foreign import Described, has_manifest, manifest_of, read_config
from segtune.models.foreign_network import ForeignNetwork
from segtune.models.manifest import Manifest
from segtune.models.tensors import check_numbers, check_plain, check_shape, disk_errors

_SECOND_HEAD = "classification_head."


def save_model(folder: Path, model: nn.Module, manifest: Manifest) -> None:
    """Write a model in smp's save_pretrained format, with its run.yaml; an existing folder is replaced."""
    # Otherwise smp.from_pretrained would download the encoder's initial weights and then overwrite them.
    model.config["encoder_weights"] = None  # type: ignore[index,operator,assignment]
    with disk_errors(folder), replaced_folder(folder) as temporary:
        model.save_pretrained(temporary)  # type: ignore[operator]
        manifest.write(temporary / MANIFEST)
        write_text(temporary / CARD, model_card(manifest))  # replaces the hub's template


def load_model(folder: Path, device: torch.device, described: Described | None = None) -> tuple[nn.Module, Manifest]:
    """Load a model that `save_model` or smp's save_pretrained wrote, in evaluation mode.

    `described` says of a model without run.yaml what it was trained on. Raises InputError if the model is missing or
    damaged, or if that is not known.
    """
    manifest = manifest_of(folder, described)
    try:
        check_network(manifest.config)
    except InputError as error:
        if has_manifest(folder):
            raise InputError(f"{folder / MANIFEST}: {mistake}" for mistake in error.mistakes) from None
        lines = [mistake.replace("image_size", "--tile-size") for mistake in error.mistakes]
        raise InputError(f"{folder / CONFIG}: {line}" for line in lines) from None
    if has_manifest(folder):
        # The network is built from run.yaml, which was checked. smp's from_pretrained would build whatever config.json
        # names, such as an encoder whose weights have to be downloaded.
        model = blank_model(manifest.config, len(manifest.bands), manifest.labels.outputs)
        _check_same_network(folder / CONFIG, model)
    else:
        model = _foreign_network(folder)
        manifest = replace(manifest, parameters=parameter_count(model))
    _fill(model, folder / WEIGHTS)
    return model.eval().to(device).to(memory_format=torch.channels_last), manifest


def _foreign_network(folder: Path) -> nn.Module:
    """Build the network that a config.json describes, after a try without memory: the file can claim any size."""
    network = ForeignNetwork.read(folder / CONFIG)
    if not network.needs_numbers:
        with torch.device("meta"):
            outline = network.create()
        _fill(outline, folder / WEIGHTS)
    return network.create()


def _fill(model: nn.Module, weights: Path) -> None:
    """Load the tensors of a file into a model; raise InputError if the file is damaged, or of another network."""
    folder = weights.parent
    if not weights.is_file():
        raise InputError(f"{folder}: {WEIGHTS} is missing")
    if reason := damage(weights):
        raise InputError(f"{weights}: {reason}")
    try:
        tensors = load_file(weights)
        _check_tensors(tensors, model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of meta tensors, which take no numbers
            missing, unexpected = load_tensors(model, weights, strict=False)
        # The second head of smp's aux_params classifies whole images: it is not used.
        _check_names(sorted(missing), sorted(name for name in unexpected if not name.startswith(_SECOND_HEAD)))
    except Exception as error:
        # For a broken file, safetensors, torch and the file system each raise errors of their own.
        raise InputError(f"{folder}: the model cannot be loaded ({one_line(error)})") from None


def _check_names(missing: Sequence[str], unexpected: Sequence[str]) -> None:
    """Raise ValueError if a file lacks tensors of the network, or has others."""
    parts = {"has no": missing, "has an unknown": unexpected}
    said = [f"{verb} {names[0]}{_more(len(names) - 1)}" for verb, names in parts.items() if names]
    if said:
        raise ValueError(f"{WEIGHTS} is of another network than {CONFIG}: it {' and '.join(said)}")


def _more(number: int) -> str:
    return f" and {number} more" if number else ""


def _check_same_network(path: Path, model: nn.Module) -> None:
    """Raise InputError if config.json, which smp reads the model by, describes another network than run.yaml."""
    content = read_config(path)
    own: Any = model.config
    expected = json.loads(json.dumps({**own, "_model_class": type(model).__name__}))
    for name, value in expected.items():
        if name != "encoder_weights" and content.get(name, value) != value:
            raise InputError(f"{path}: {name} is {one_line(repr(content[name]))}, but {value!r} in {MANIFEST}")


def _check_tensors(tensors: Mapping[str, Tensor], model: nn.Module) -> None:
    """Raise ValueError if a tensor cannot replace the model's tensor of the same name."""
    own = model.state_dict()
    common, others = [name for name in tensors if name in own], []
    for name in common:
        check_plain(name, tensors[name])
        check_numbers(name, tensors[name], own[name])
        try:
            check_shape(name, tensors[name], own[name])  # smp would print a warning of many lines instead
        except ValueError as error:
            others.append(str(error))
    if others:
        counts = f"{len(others)} of {len(common)} tensors have other shapes"
        raise ValueError(f"{others[0]}; {WEIGHTS} is of another network than {CONFIG}: {counts}")


def settle_model(folder: Path, candidate: Path, epoch: int) -> bool:
    """Keep only this epoch's model in `folder`; return whether it exists.

    A run first writes its new best model to `candidate`, then the state that names it, and only then puts it into
    `folder`. So a run that continues finds the model that its state names, at whatever moment it was killed.
    """
    recover_folder(folder)
    for place in (candidate, folder):
        if place.exists() and Manifest.read(place / MANIFEST).metrics.get("epoch") != epoch:
            discard_folder(place)
    if candidate.exists():
        replace_folder(candidate, folder)
    return folder.exists()


def model_score(folder: Path) -> float | None:
    """Return the score that a folder's model reached in training, by the objective of its run.

    None if there is no model or its score is unknown.
    """
    try:
        return Manifest.read(folder / MANIFEST).score if folder.is_dir() else None
    except InputError:
        return None
