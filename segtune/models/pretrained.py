"""The weights that an encoder starts from: the model hub's, or a file's; and the input that they are for."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants as hub
from safetensors.torch import load_file
from timm import data as timm_data
from torch import Tensor, nn

from segtune.config import RunConfig
from segtune.data.bands import Band, rgb_positions
from segtune.errors import InputError, first_few, nearest, one_line

TIMM = "tu-"
COLOURS = 3  # input channels of weights that were trained on photographs
_PROBE_S = 5.0  # seconds to wait for a server before it counts as out of reach
_WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
_NO_FILE = ("none", "imagenet")  # what encoder_weights can be besides a file
# Where a file keeps its weights: entries of a training checkpoint, and modules that hold the encoder, whose names come
# before its own.
_ENTRIES = ("state_dict", "model")
_WRAPPERS = {"module", "_orig_mod", "encoder", "model", "backbone"}
# Mean and standard deviation of the inputs, 0 to 1, that smp's own encoders were trained with. smp has kept them on its
# hub since 0.4; these are the values of smp 0.3.4, which had them in its code. Those that are not named are ImageNet's.
_IMAGENET = (timm_data.IMAGENET_DEFAULT_MEAN, timm_data.IMAGENET_DEFAULT_STD)
_INCEPTION = (timm_data.IMAGENET_INCEPTION_MEAN, timm_data.IMAGENET_INCEPTION_STD)
_PREPROCESSING = {
    "dpn*": (timm_data.IMAGENET_DPN_MEAN, timm_data.IMAGENET_DPN_STD),
    "inception*": _INCEPTION,
    "xception": _INCEPTION,
    "timm-tf_efficientnet_lite*": _INCEPTION,
}
_UINT8_MAX = 255.0


def weights_file(setting: str) -> Path | None:
    """The file that `encoder_weights` names; None where it is none or imagenet."""
    return None if setting in _NO_FILE else Path(setting)


def fetch_weights(encoder: str) -> None:
    """Have an encoder's ImageNet weights in a local cache; InputError where they cannot be had."""
    where = f"encoder_weights: imagenet weights of {encoder}"
    if not _pretrained(encoder):
        raise InputError(f"{where} do not exist; encoder_weights none starts from random weights")
    repository, url = _source(encoder)
    server = hub.ENDPOINT if repository else f"https://{urlsplit(url).netloc}"
    if not (_in_hub_cache(repository) if repository else _in_torch_cache(url)) and not _in_reach(server):
        raise InputError(
            f"{where} cannot be downloaded: {server} is out of reach; encoder_weights none starts from random weights"
        )
    try:
        if encoder.startswith(TIMM):
            # Not by smp, whose get_encoder knows no plain ViT.
            timm.create_model(encoder.removeprefix(TIMM), pretrained=True)
        else:
            smp.encoders.get_encoder(encoder, weights="imagenet")
    except Exception as error:
        # The hub's client raises whatever its HTTP library does; for the user they are all one thing.
        raise InputError(f"{where} cannot be had ({_named(error)})") from None


def input_statistics(config: RunConfig, bands: tuple[Band, ...], uint8: bool) -> tuple[Band, ...]:
    """The bands with the mean and standard deviation, in pixel values, that the input is normalised with.

    Parameters
    ----------
    config: `normalization` data leaves the bands as they are; encoder gives red, green and blue (`rgb`) the values
        that the encoder's ImageNet weights were trained with. Other bands keep the data's own.
    bands: of the input, with the statistics of the training tiles.
    uint8: whether all images are 8-bit, which is what those values are for.

    Raises InputError where the images are not 8-bit or have no three rgb bands.
    """
    if config.normalization == "data":
        return bands
    if not uint8:
        raise InputError("normalization: encoder is for 8-bit images, and these are not; data fits any")
    positions = rgb_positions(config.rgb, bands)
    if len(positions) != COLOURS:
        raise InputError("normalization: encoder needs three bands, red, green and blue, and rgb is one; data fits any")
    changed = list(bands)
    for position, mean, std in zip(positions, *_preprocessing(config.encoder), strict=True):
        changed[position] = replace(bands[position], mean=mean * _UINT8_MAX, std=std * _UINT8_MAX)
    return tuple(changed)


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a state dict that torch.save wrote; InputError where it is neither."""
    where = f"encoder_weights: {file}"
    if file.is_dir():
        raise InputError(f"{where}: is a folder; name the file in it")
    if file.exists() and not file.is_file():
        raise InputError(f"{where}: is no regular file")
    if not file.exists():
        raise InputError(f"{where}: is neither none, imagenet, nor a file{nearest(file.name, _NO_FILE)}")
    try:
        if file.suffix == ".safetensors":
            content: Any = load_file(file)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # about pickle protocols
                content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        # safetensors, zip and torch's unpickler each have errors of their own (KeyError for a stray byte).
        if "Unsupported global" in str(error):
            reason = "holds pickled objects, which are never loaded; save model.state_dict() alone"
        else:
            # torch's own text goes on to recommend weights_only=False.
            why = type(error).__name__ if isinstance(error, UnpicklingError) else _named(error)
            reason = f"cannot be read as safetensors, or as a state dict of torch.save ({why})"
        raise InputError(f"{where}: {reason}") from None
    for entry in _ENTRIES:
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            content = content[entry]
    entries = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name): value for name, value in entries if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"{where}: holds no named tensors; a state dict is wanted")
    return tensors


def unusable(tensor: Tensor) -> str:
    """Why a tensor of a file is nothing that a network can have; empty where it is fine."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_nested or tensor.layout is not torch.strided:
        return "is no plain tensor"
    if tensor.is_meta:
        return "has a shape alone, without numbers"
    if tensor.is_quantized:
        return "is quantised"
    return "is complex" if tensor.is_complex() else ""


def unfit(given: Tensor, own: Tensor) -> str:
    """Why a tensor of a file cannot take the place of a network's own of the same shape; empty where it can."""
    if given.is_floating_point() != own.is_floating_point():
        return f"is {str(given.dtype).removeprefix('torch.')} instead of {str(own.dtype).removeprefix('torch.')}"
    return "" if bool(given.float().isfinite().all()) else "holds NaN or infinite numbers"


def fitting_weights(
    tensors: Mapping[str, Tensor], encoder: nn.Module, name: str, in_channels: int | None, file: Path
) -> dict[str, Tensor]:
    """The file's tensor for each of the encoder's own, by the encoder's names; InputError where not all are there."""
    # How many batches BatchNorm has seen matters to nothing here, and old files do not have it.
    own = {key: value for key, value in encoder.state_dict().items() if not key.endswith("num_batches_tracked")}
    given = _by_own_names(tensors, own)
    fitting, missing, misshapen = {}, [], []
    for key, value in own.items():
        reason = unusable(given[key]) if key in given else ""
        fitted = _for_channels(given[key], value.shape, in_channels) if key in given and not reason else None
        if reason or (fitted is not None and (reason := unfit(fitted, value))):
            misshapen.append(f"{key} {reason}")
        elif fitted is not None:
            fitting[key] = fitted
        elif key in given:
            misshapen.append(f"{key} is {sides(given[key])} instead of {sides(value)}")
        else:
            missing.append(key)
    if missing or misshapen:
        reasons = [f"missing {first_few(missing, 3)}"] if missing else []
        reasons += [first_few(misshapen, 3)] if misshapen else []
        raise InputError(
            f"encoder_weights: {file}: holds {len(fitting)} of {len(own)} tensors of encoder {name} "
            f"({'; '.join(reasons)})"
        )
    return fitting


def _by_own_names(tensors: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """What a file holds of the tensors named `own`, inside the wrapping where it holds most of them."""
    # smp has timm's networks in a module `model`, some of them twice.
    own_wrapping = max(set.intersection(*(set(_wrappings(name)) for name in own)), key=len)
    flat = {name: _flat(name.removeprefix(own_wrapping)) for name in own}
    best: dict[str, Tensor] = {}
    for wrapping in sorted({outer for name in tensors for outer in _wrappings(name)}):
        inside = {_flat(name.removeprefix(wrapping)): tensors[name] for name in tensors if name.startswith(wrapping)}
        best = max(best, {name: inside[key] for name, key in flat.items() if key in inside}, key=len)
    return best


def _wrappings(name: str) -> list[str]:
    """What may be wrapped around a tensor's own name: of module.encoder.conv1.weight "", module. and module.encoder."""
    found = [""]
    for part in name.split(".")[:-1]:
        if part not in _WRAPPERS:
            break
        found.append(f"{found[-1]}{part}.")
    return found


def _flat(name: str) -> str:
    # timm's networks that give features out have stages_0.blocks where the classifier has stages.0.blocks.
    return name.replace(".", "_")


def _for_channels(given: Tensor, shape: torch.Size, in_channels: int | None) -> Tensor | None:
    """A tensor for the place of one of `shape`: itself, or a first convolution for other channels; None: unfit."""
    if given.shape == shape:
        return given
    first = given.ndim == len(shape) == 4 and (given.shape[0], *given.shape[2:]) == (shape[0], *shape[2:])
    if first and in_channels is None and shape[1] == COLOURS:
        return given
    if not first or given.shape[1] != COLOURS or shape[1] != in_channels:
        return None
    if in_channels == 1:
        return given.sum(1, keepdim=True)
    return given[:, [channel % COLOURS for channel in range(in_channels)]] * (COLOURS / in_channels)


def load_weights(encoder: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors, such as `fitting_weights` gives, into the encoder's own of the same names."""
    # Not load_state_dict: that of some encoders takes names of its own making, or no strict=False.
    own = encoder.state_dict()
    for name, tensor in tensors.items():
        own[name].copy_(tensor)


def sides(tensor: Tensor) -> str:
    """A tensor's shape in words."""
    return "x".join(map(str, tensor.shape)) or "one number"


def _named(error: Exception) -> str:
    # Some texts alone say little, such as that of a KeyError.
    return f"{type(error).__name__}: {one_line(error)}"


def _preprocessing(encoder: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation per colour, 0 to 1, of the input that an encoder's ImageNet weights are for."""
    if encoder.startswith(TIMM):
        settings = timm.models.get_pretrained_cfg(encoder.removeprefix(TIMM))
        return settings.mean, settings.std
    found = [values for pattern, values in _PREPROCESSING.items() if fnmatch(encoder, pattern)]
    return found[0] if found else _IMAGENET


def _pretrained(encoder: str) -> bool:
    """Whether smp or timm offers ImageNet weights of an encoder; of some smp has only others' weights."""
    if encoder.startswith(TIMM):
        return bool(timm.models.is_model_pretrained(encoder.removeprefix(TIMM)))
    return "imagenet" in smp.encoders.encoders[encoder]["pretrained_settings"]


def _source(encoder: str) -> tuple[str, str]:
    """Where an encoder's ImageNet weights lie: a repository of the model hub, or, where that is empty, a URL."""
    if encoder.startswith(TIMM):
        settings = timm.models.get_pretrained_cfg(encoder.removeprefix(TIMM))
        return settings.hf_hub_id or "", settings.url or ""
    return smp.encoders.encoders[encoder]["pretrained_settings"].get("imagenet", {}).get("repo_id", ""), ""


def _in_hub_cache(repository: str) -> bool:
    """Whether the hub's cache holds weights of a repository, and not only what a broken download left behind."""
    files = Path(hub.HF_HUB_CACHE, "models--" + repository.replace("/", "--")).glob("snapshots/*/*")
    return any(file.suffix in _WEIGHTS_SUFFIXES and file.exists() for file in files)


def _in_torch_cache(url: str) -> bool:
    return Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(urlsplit(url).path).name).is_file()


def _in_reach(server: str) -> bool:
    """Whether a server, or the proxy before it, answers: those who download try for half a minute."""
    place = urlsplit(server)
    proxies = getproxies()
    proxy = proxies.get(place.scheme) or proxies.get("all")
    if proxy and not proxy_bypass(place.netloc):
        place = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        port = place.port or (80 if place.scheme == "http" else 443)
        socket.create_connection((place.hostname or "", port), timeout=_PROBE_S).close()
    except (OSError, ValueError):  # ValueError: a proxy whose port is no number
        return False
    return True
