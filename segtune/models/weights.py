"""Read encoder weights from a file, match them with an encoder's tensors, and load them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from segtune.errors import InputError, counted, first_few, nearest, one_line
from segtune.models.tensors import check_numbers, check_plain, check_shape
from segtune.values import WEIGHTS_WORDS

COLOURS = 3  # input channels of weights trained on photographs
_NO_WEIGHTS = "num_batches_tracked"
_ENTRIES = ("state_dict", "model")  # entries of a training checkpoint that hold the weights
# Modules that contain the encoder: their names are a prefix of its tensors' names, such as module.encoder.
_WRAPPERS = {"module", "_orig_mod", "encoder", "model", "backbone"}
# The start of a flat name up to its first number: layer1, blocks_3. Heads have none in common with an encoder.
_STAGE = re.compile(r"\D*\d+")


def weights_file(setting: str) -> Path | None:
    """Return the file that `encoder_weights` names; None if it is auto, none or imagenet."""
    return None if setting in WEIGHTS_WORDS else Path(setting)


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read the named tensors of a safetensors file or of a state dict that torch.save wrote.

    Raises InputError if the file is neither of them. Nothing that it contains is executed.
    """
    where = f"encoder_weights: {file}"
    if file.is_dir():
        raise InputError(f"{where}: is a folder; name the file in it")
    if file.exists() and not file.is_file():
        raise InputError(f"{where}: is not a regular file")
    if not file.exists():
        raise InputError(f"{where}: is neither auto, none, imagenet, nor a file{nearest(file.name, WEIGHTS_WORDS)}")
    try:
        if file.suffix == ".safetensors":
            content: Any = load_file(file)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # about pickle protocols
                content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        # safetensors, zip and torch's unpickler each raise errors of their own, such as a KeyError for a stray byte.
        if "Unsupported global" in str(error):
            reason = "holds pickled objects, which are never loaded; save model.state_dict() alone"
        else:
            # The text of torch's UnpicklingError would recommend weights_only=False.
            text = "" if isinstance(error, UnpicklingError) else f": {one_line(error)}"
            reason = f"cannot be read as safetensors, or as a state dict of torch.save ({type(error).__name__}{text})"
        raise InputError(f"{where}: {reason}") from None
    for entry in _ENTRIES:
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            content = content[entry]
    entries = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name): value for name, value in entries if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"{where}: holds no named tensors; save model.state_dict()")
    return tensors


def fitting_weights(
    tensors: Mapping[str, Tensor], encoder: nn.Module, name: str, in_channels: int | None, file: Path
) -> dict[str, Tensor]:
    """Return a file's tensor for each tensor of an encoder, by the encoder's names.

    Parameters
    ----------
    tensors: named tensors of the file.
    encoder, name: the network whose tensors are needed, and its name for messages.
    in_channels: number of input bands; None if it is not known yet.
    file: path of the file, for messages.

    Raises InputError if tensors are missing or do not fit, or where the file has more of them in a stage than the
    encoder: it is then that of a deeper one. What lies outside the encoder's stages, such as a decoder or a classifier,
    is not looked at.
    """
    # BatchNorm's number of batches has no effect here, and old files do not have it.
    own = {key: value for key, value in encoder.state_dict().items() if not key.endswith(_NO_WEIGHTS)}
    given, surplus = _by_own_names(tensors, own)
    missing = [key for key in own if key not in given]
    fitting, unfit = {}, []
    for key in [key for key in own if key in given]:
        try:
            fitting[key] = _fitted(key, given[key], own[key], in_channels)
        except ValueError as error:
            unfit.append(str(error))
    if missing or unfit:
        reasons = [f"missing {first_few(missing, 3)}"] if missing else []
        reasons += [first_few(unfit, 3)] if unfit else []
        raise InputError(
            f"encoder_weights: {file}: holds {len(fitting)} of {len(own)} tensors of encoder {name} "
            f"({'; '.join(reasons)})"
        )
    if surplus:
        raise InputError(
            f"encoder_weights: {file}: has {counted(len(surplus), 'tensor')} of the encoder that {name} does not have, "
            f"such as {surplus[0]}: it is of another encoder"
        )
    return fitting


def _by_own_names(tensors: Mapping[str, Tensor], own: Iterable[str]) -> tuple[dict[str, Tensor], list[str]]:
    """Return a file's tensors by the encoder's names, from under the prefix with the most matches.

    The second value has the names, under that prefix, of tensors in stages of the encoder that it does not have.
    """
    # smp puts timm's networks into a module `model`, some of them twice.
    own_prefix = max(set.intersection(*(set(_prefixes(name)) for name in own)), key=len)
    flat = {name: _flat(name.removeprefix(own_prefix)) for name in own}
    best: dict[str, Tensor] = {}
    under = ""
    for prefix in sorted({outer for name in tensors for outer in _prefixes(name)}):
        inside = {_flat(name.removeprefix(prefix)): tensors[name] for name in tensors if name.startswith(prefix)}
        found = {name: inside[key] for name, key in flat.items() if key in inside}
        if len(found) > len(best):
            best, under = found, prefix
    names = set(flat.values())
    stages = {_stage(name) for name in names} - {None}
    others = (name.removeprefix(under) for name in tensors if name.startswith(under))
    weights = (name for name in others if not name.endswith(_NO_WEIGHTS) and _flat(name) not in names)
    return best, [name for name in weights if _stage(_flat(name)) in stages]


def _stage(flat_name: str) -> str | None:
    found = _STAGE.match(flat_name)
    return found and found.group()


def _prefixes(name: str) -> list[str]:
    """Return the possible prefixes of a name: of module.encoder.conv1.weight "", "module." and "module.encoder."."""
    found = [""]
    for part in name.split(".")[:-1]:
        if part not in _WRAPPERS:
            break
        found.append(f"{found[-1]}{part}.")
    return found


def _flat(name: str) -> str:
    # timm names a tensor stages.0.blocks in a classifier, and stages_0.blocks in a network that returns features.
    return name.replace(".", "_")


def _fitted(name: str, given: Tensor, own: Tensor, in_channels: int | None) -> Tensor:
    """Return a tensor that can replace the encoder's own one of this name; raise ValueError if it does not fit."""
    check_plain(name, given)
    fitted = given
    if given.shape != own.shape and given.ndim == own.ndim == 4 and _but_channels(given) == _but_channels(own):
        # A first convolution for another number of channels.
        if in_channels is None and own.shape[1] == COLOURS:
            check_numbers(name, given, own)
            return given  # the number of channels is not known yet
        if given.shape[1] == COLOURS and own.shape[1] == in_channels:
            fitted = _for_channels(given, in_channels)
    check_shape(name, fitted, own)
    check_numbers(name, fitted, own)
    return fitted


def _but_channels(kernel: Tensor) -> tuple[int, ...]:
    return (kernel.shape[0], *kernel.shape[2:])


def _for_channels(kernel: Tensor, channels: int) -> Tensor:
    """Turn a first convolution for three channels, (N, 3, H, W), into one for `channels`, (N, channels, H, W)."""
    if channels == 1:
        return kernel.sum(1, keepdim=True)
    return kernel[:, [channel % COLOURS for channel in range(channels)]] * (COLOURS / channels)


def load_weights(encoder: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors, as `fitting_weights` returns them, into the encoder's tensors of the same names."""
    # load_state_dict of some encoders changes names or does not accept strict=False.
    own = encoder.state_dict()
    for name, tensor in tensors.items():
        own[name].copy_(tensor)
