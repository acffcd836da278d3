"""Try whether a network with an encoder of timm can be built and run, without computing anything."""

from __future__ import annotations

import functools
import warnings

import segmentation_models_pytorch as smp
import torch

from segtune.errors import one_line
from segtune.models.networks import Network, has_drop_path

_COLOURS = 3
_NO_PYRAMID = "Unsupported model downsampling pattern"  # smp's text
_DILATION, _DROP_PATH = "output_stride", "drop_path_rate"  # timm's names


@functools.cache
def fault(network: Network, image_size: int) -> str | None:
    """Return why a network cannot be built, or cannot take a square image of this size; None if it can.

    timm has more than a thousand encoders, and no list says which of them give smp the feature maps that it needs. The
    network is built on the meta device, where tensors have shapes and no numbers, which takes a fraction of a second.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with torch.device("meta"):
                    _try(network, image_size)
            except (NotImplementedError, RuntimeError) as error:
                if not (isinstance(error, NotImplementedError) or "meta" in str(error)):
                    raise
                _try(network, image_size)  # the network reads numbers, and meta tensors have none
    except Exception as error:
        # timm and smp have no error of their own for this: there are assertions, TypeErrors, RuntimeErrors.
        return _reason(error)
    return None


def _reason(error: Exception) -> str:
    text = one_line(error)
    if _NO_PYRAMID in text:
        return "its feature maps are not half as large from stage to stage"
    if _DILATION in text:
        return "it cannot be dilated"
    # Of a text with several sentences, the first one says enough.
    return text.partition(". ")[0].partition("! ")[0] or "a check in timm's code fails"


def _try(network: Network, image_size: int) -> None:
    """Raise an error if the network cannot be built, or gives anything but a mask of the image's size."""
    built = network.create(_COLOURS, 1).eval()
    if network.drop_path and not has_drop_path(built.get_submodule("encoder")):
        raise ValueError(_DROP_PATH)
    masks = built(torch.zeros(1, _COLOURS, image_size, image_size))
    if tuple(masks.shape) != (1, 1, image_size, image_size):
        raise ValueError(f"its masks have {masks.shape[-1]} pixels a side")


@functools.cache
def encoder_parameters(encoder: str) -> int | None:
    """Return the number of parameters of an encoder for images of three bands.

    None where smp cannot build it alone: a plain vision transformer has no pyramid, and dpt has a way of its own to
    use one.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            try:
                with torch.device("meta"):
                    built = smp.encoders.get_encoder(encoder, weights=None)
            except (NotImplementedError, RuntimeError):  # it reads numbers, and meta tensors have none
                built = smp.encoders.get_encoder(encoder, weights=None)
        except Exception:  # timm and smp have no error of their own for this
            return None
    return sum(parameter.numel() for parameter in built.parameters())
