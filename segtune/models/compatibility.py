"""Check which encoders exist, and which architectures, encoders and image sizes work together."""

from __future__ import annotations

import functools
from fnmatch import fnmatch

import segmentation_models_pytorch as smp
import timm

from segtune.config import RunConfig
from segtune.decoders import Decoder
from segtune.errors import InputError, nearest
from segtune.models.networks import TIMM, Network, takes_drop_path
from segtune.models.probe import fault

_VIT = (f"{TIMM}vit_*", f"{TIMM}deit*", f"{TIMM}beit*", f"{TIMM}eva*")
_NOT_DILATED = ("vgg*", "densenet*", "xception*", "inception*")
# smp's own encoders that smp 0.6 refuses or fails with, by architecture; timm's are tried.
_INCOMPATIBLE = {
    "unetplusplus": ("mit_*",),
    "linknet": ("mit_*",),
    "deeplabv3": _NOT_DILATED,
    "deeplabv3plus": _NOT_DILATED,
    "pan": _NOT_DILATED,
}
# An architecture's image size must be a multiple of its stride and at least its smallest size.
_STRIDES = {"unet": 1, "pspnet": 8, "deeplabv3": 8, "deeplabv3plus": 16, "pan": 16}
_SMALLEST = {"pan": 128}
_DEFAULT_STRIDE = 32
_ANY_RATE = 0.1  # whether an encoder has stochastic depth does not depend on the rate
_SIZES = (256, 224)  # that most encoders of timm are made for


def unknown_encoder(name: str) -> str | None:
    """Return why there is no encoder of this name, with the nearest known name; None if there is one."""
    native, from_timm = _encoder_names()
    architecture, _, tag = name.removeprefix(TIMM).partition(".")
    if name.startswith(TIMM) and architecture in from_timm:
        tagged = {TIMM + full for full in timm.models.get_arch_pretrained_cfgs(architecture)}
        return None if not tag or name in tagged else f"timm has no weights {name!r}{nearest(name, tagged)}"
    if name in native:
        return None
    known = native | {TIMM + other for other in from_timm}
    of_timm = TIMM + name.removeprefix("timm-")
    meant = f"; did you mean {of_timm!r}?" if name.startswith("timm-") and of_timm in known else nearest(name, known)
    return f"unknown encoder {name!r} (names of smp, or tu-NAME for an encoder of timm){meant}"


def incompatibility(
    model: str, encoder: str, image_size: int | None, drop_path: float | None = None, attention: str = "none"
) -> str | None:
    """Return why an architecture, an encoder and an image size do not work together; None if they do.

    With `image_size` None, only the architecture and the encoder are checked. Not every encoder takes `drop_path`, or
    has the channels that `decoder_attention` needs.
    """
    mistake = _wrong_pair(model, encoder) or (None if image_size is None else _wrong_size(model, image_size))
    if mistake or not encoder.startswith(TIMM):
        return mistake or (None if drop_path is None or takes_drop_path(encoder) else _without_drop_path(encoder))
    return _fault_of_timm(model, encoder, image_size, drop_path, attention)


def incompatibility_of(config: RunConfig) -> str | None:
    """Return why the settings of a run do not work together; None if they do."""
    return incompatibility(config.model, config.encoder, config.image_size, config.drop_path, config.decoder_attention)


def _wrong_pair(model: str, encoder: str) -> str | None:
    vit = any(fnmatch(encoder, pattern) for pattern in _VIT)
    if model == "dpt" and not vit:
        return f"model dpt needs one of timm's ViT encoders (tu-vit_...), not {encoder}"
    if vit and model != "dpt":
        return f"encoder {encoder} is a plain ViT, which works only with model dpt, not {model}"
    if model == "dpt" and "patch14" in encoder:
        return f"model dpt does not work with encoder {encoder}: its patches of 14 pixels do not divide 32"
    if any(fnmatch(encoder, pattern) for pattern in _INCOMPATIBLE.get(model, ())):
        return f"model {model} does not work with encoder {encoder}"
    return None


def _wrong_size(model: str, image_size: int) -> str | None:
    stride, smallest = _STRIDES.get(model, _DEFAULT_STRIDE), _SMALLEST.get(model, 0)
    if image_size % stride:
        return f"image_size {image_size} is not a multiple of {stride}, which model {model} needs"
    if image_size < smallest:
        return f"image_size {image_size} is below {smallest}, which model {model} needs"
    return None


def _fault_of_timm(
    model: str, encoder: str, image_size: int | None, drop_path: float | None, attention: str
) -> str | None:
    """Return why an encoder of timm does not work in an architecture, at a size or at any size; None if it does."""
    plain = Decoder(model, None, "none", None)
    sizes = [size for size in (image_size, *_SIZES) if size and not _wrong_size(model, size)]
    faults = {size: fault(Network(plain, encoder, size), size) for size in sizes[:1]}
    if first := faults[sizes[0]]:
        faults |= {size: fault(Network(plain, encoder, size), size) for size in sizes[1:]}
    working = next((size for size, found in faults.items() if found is None), None)
    if working is None:
        return f"model {model} does not work with encoder {encoder}: {first}"
    if first and image_size is not None:
        return f"image_size {image_size} does not work with encoder {encoder} ({first}); {working} works"
    if drop_path is not None and fault(Network(plain, encoder, working, _ANY_RATE), working):
        return _without_drop_path(encoder)
    if attention != "none" and fault(Network(Decoder(model, None, attention, None), encoder, working), working):
        return f"decoder_attention {attention} does not work with encoder {encoder}: it has stages of few channels"
    return None


def _without_drop_path(encoder: str) -> str:
    return f"encoder {encoder} takes no drop_path (stochastic depth); leave it out"


def check_network(config: RunConfig) -> None:
    """Raise InputError if the encoder is unknown, or does not work with the run's other settings."""
    if mistake := unknown_encoder(config.encoder):
        raise InputError(f"encoder: {mistake}")
    if mistake := incompatibility_of(config):
        raise InputError(mistake)


@functools.cache
def _encoder_names() -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the encoders of smp and of timm."""
    return frozenset(smp.encoders.get_encoder_names()), frozenset(timm.list_models())
