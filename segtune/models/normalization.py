"""Normalize a network's input: which statistics are used, and the operation itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch

import timm
import torch
from timm import data as timm_data
from torch import Tensor

from segtune.config import RunConfig
from segtune.data.bands import Band, rgb_positions
from segtune.errors import InputError
from segtune.models.networks import TIMM
from segtune.models.weights import COLOURS

# Mean and standard deviation, on a scale of 0 to 1, of the images that smp's own encoders were trained on. Since
# version 0.4 smp keeps them on its hub; these are the values in the code of smp 0.3.4. The others use ImageNet's.
_IMAGENET = (timm_data.IMAGENET_DEFAULT_MEAN, timm_data.IMAGENET_DEFAULT_STD)
_INCEPTION = (timm_data.IMAGENET_INCEPTION_MEAN, timm_data.IMAGENET_INCEPTION_STD)
_PREPROCESSING = {
    "dpn*": (timm_data.IMAGENET_DPN_MEAN, timm_data.IMAGENET_DPN_STD),
    "inception*": _INCEPTION,
    "xception": _INCEPTION,
    "timm-tf_efficientnet_lite*": _INCEPTION,
}
_UINT8_MAX = 255.0


def input_statistics(config: RunConfig, bands: tuple[Band, ...], uint8: bool) -> tuple[Band, ...]:
    """Return the bands with the mean and standard deviation, in pixel values, that normalize the input.

    Parameters
    ----------
    config: with `normalization` data, the bands stay as they are. With encoder, the bands that `rgb` names get the
        values that the encoder's ImageNet weights were trained with, and the other bands stay as they are.
    bands: bands of the input, with the statistics of the training tiles.
    uint8: whether all images are 8-bit, as the encoder's values require.

    Raises InputError if `normalization` is encoder and the images are not 8-bit or `rgb` is not three bands.
    """
    if config.normalization == "data":
        return bands
    if not uint8:
        raise InputError("normalization: encoder is for 8-bit images, and these are not; data works with any image")
    positions = rgb_positions(config.rgb, bands)
    if len(positions) != COLOURS:
        raise InputError(
            "normalization: encoder needs three bands, red, green and blue, but rgb is one band; data works with any"
        )
    changed = list(bands)
    for position, mean, std in zip(positions, *_preprocessing(config.encoder), strict=True):
        changed[position] = replace(bands[position], mean=mean * _UINT8_MAX, std=std * _UINT8_MAX)
    return tuple(changed)


def _preprocessing(encoder: str) -> tuple[Sequence[float], Sequence[float]]:
    """Return mean and standard deviation per colour, 0 to 1, of the images that an encoder's weights are for."""
    if encoder.startswith(TIMM):
        settings = timm.models.get_pretrained_cfg(encoder.removeprefix(TIMM))
        return settings.mean, settings.std
    found = [values for pattern, values in _PREPROCESSING.items() if fnmatch(encoder, pattern)]
    return found[0] if found else _IMAGENET


class Normalization:
    """Normalization with each band's mean and standard deviation, computed on the device."""

    def __init__(self, bands: Sequence[Band], device: torch.device) -> None:
        self._mean = torch.tensor([band.mean for band in bands], device=device)
        self._std = torch.tensor([band.std for band in bands], device=device)
        self._device = device

    def __call__(self, images: Tensor) -> Tensor:
        """Normalize (B, H, W, bands) of any type to (B, bands, H, W), float32, channels_last, on the device."""
        moved = images.to(self._device, non_blocking=True)
        return ((moved.float() - self._mean) / self._std).permute(0, 3, 1, 2)
