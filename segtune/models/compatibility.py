"""Check which encoders exist, and which architectures, encoders and image sizes work together."""

from __future__ import annotations

import functools
from fnmatch import fnmatch

import segmentation_models_pytorch as smp
import timm

from segtune.errors import InputError, nearest

TIMM = "tu-"  # smp's prefix for the name of a timm encoder
_VIT = (f"{TIMM}vit_*", f"{TIMM}deit*", f"{TIMM}beit*", f"{TIMM}eva*")
_NOT_DILATED = (
    "vgg*",
    "densenet*",
    "xception*",
    "inception*",
    f"{TIMM}swin*",
    f"{TIMM}maxvit*",
    f"{TIMM}hrnet*",
    f"{TIMM}fastvit*",
    f"{TIMM}vgg*",
)
# Encoders that smp 0.6 refuses or fails with, by architecture.
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


def incompatibility(model: str, encoder: str, image_size: int | None) -> str | None:
    """Return why an architecture, an encoder and an image size do not work together; None if they do.

    With `image_size` None, only the architecture and the encoder are checked.
    """
    vit = any(fnmatch(encoder, pattern) for pattern in _VIT)
    if model == "dpt" and not vit:
        return f"model dpt needs one of timm's ViT encoders (tu-vit_...), not {encoder}"
    if vit and model != "dpt":
        return f"encoder {encoder} is a plain ViT, which works only with model dpt, not {model}"
    if model == "dpt" and "patch14" in encoder:
        return f"model dpt does not work with encoder {encoder}: its patches of 14 pixels do not divide 32"
    if any(fnmatch(encoder, pattern) for pattern in _INCOMPATIBLE.get(model, ())):
        return f"model {model} does not work with encoder {encoder}"
    if image_size is None:
        return None
    stride, smallest = _STRIDES.get(model, _DEFAULT_STRIDE), _SMALLEST.get(model, 0)
    if image_size % stride:
        return f"image_size {image_size} is not a multiple of {stride}, which model {model} needs"
    if image_size < smallest:
        return f"image_size {image_size} is below {smallest}, which model {model} needs"
    return None


def check_network(model: str, encoder: str, image_size: int | None) -> None:
    """Raise InputError if the encoder is unknown, or does not work with the architecture or the image size."""
    if mistake := unknown_encoder(encoder):
        raise InputError(f"encoder: {mistake}")
    if mistake := incompatibility(model, encoder, image_size):
        raise InputError(mistake)


@functools.cache
def _encoder_names() -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the encoders of smp and of timm."""
    return frozenset(smp.encoders.get_encoder_names()), frozenset(timm.list_models())
