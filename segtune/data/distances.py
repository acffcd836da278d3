"""Maps of distances to the borders in a target, for losses that weigh pixels by them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from segtune.data.labels import IGNORED, Indices, Labels
from segtune.vocabulary import loss_terms

Maps = npt.NDArray[np.float16]  # (maps, H, W); half the bytes of float32 on the way to the device
_Map = npt.NDArray[np.float32]
_Mask = npt.NDArray[np.bool_]
_BORDER_WEIGHT, _BORDER_PIXELS = 10.0, 5.0  # w0 and sigma of Ronneberger et al. 2015
_MASK = cv2.DIST_MASK_5  # at most 2 % off, in half of the time that exact distances take
_HALVED_FROM = 192  # pixels: larger targets have maps of half their size, in a quarter of the time


@dataclass(frozen=True)
class DistanceMaps:
    """Computes the maps that a loss needs from a target as training sees it, after augmentation.

    The maps are the signed distances of each output of the network, for boundary, then the border weights, for
    boundary_ce.
    """

    labels: Labels
    signed: bool
    weights: bool

    @classmethod
    def of(cls, loss: str, labels: Labels) -> DistanceMaps | None:
        """Return the maps of a loss; None where it needs none."""
        names = {name for _, name in loss_terms(loss)}
        maps = cls(labels, "boundary" in names, "boundary_ce" in names)
        return maps if maps.signed or maps.weights else None

    def __call__(self, target: Indices) -> Maps:
        """Return the maps of a target, (H, W), as (maps, H, W), or (maps, H / 2, W / 2) for a large target."""
        return torch.from_numpy(self.exact(target)).half().numpy()  # in a tenth of the time that numpy takes

    def exact(self, target: Indices) -> _Map:
        """Return the same maps before they are rounded to float16."""
        maps: list[_Map] = []
        if self.signed:
            maps += [
                signed_distances(target, index) for index in range(self.labels.first, len(self.labels.classes) + 1)
            ]
        if self.weights:
            maps.append(border_weights(target))
        return np.stack(maps)


def signed_distances(target: Indices, index: int) -> _Map:
    """Return the distance of each pixel of a target, (H, W), to the region of an index, in sides of the target.

    It is positive outside the region, zero on its border, negative inside, as in Kervadec et al. 2019
    (arXiv:1812.07032). It is zero everywhere where there is no border. An ignored pixel is on neither side. A target
    with even sides of 192 pixels or more has a map of (H / 2, W / 2): of its blocks of 2 x 2 pixels.
    """
    region = _blocks(target == index)
    others = _blocks((target != index) & (target != IGNORED))
    if not region.any() or not others.any():
        return np.zeros(region.shape, np.float32)
    # A block that the border crosses is in both, and is on the border.
    inside = np.minimum(1 - _distance(others), 0)
    return np.where(region, inside, _distance(region)) * np.float32(1 / max(region.shape))


def border_weights(target: Indices) -> _Map:
    """Return the weight of each pixel of a target, (H, W): 1 + 10 exp(-d^2 / 50), d pixels from another region.

    This is the weight map of the U-Net paper (Ronneberger et al. 2015, arXiv:1505.04597), which adds the distances to
    the two nearest regions. Here background is a region, too, so that every pixel lies in one: the first distance is 0.
    The map has the size of those of `signed_distances`.
    """
    border = np.zeros(target.shape, bool)
    for first, second in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
        one, other = target[first], target[second]
        differ = (one != other) & (one != IGNORED) & (other != IGNORED)
        border[first] |= differ
        border[second] |= differ
    blocks = _blocks(border)
    if not blocks.any():
        return np.ones(blocks.shape, np.float32)
    # A pixel of a border is one pixel away from the other region.
    distance = _distance(blocks) * np.float32(len(target) / len(blocks)) + 1
    return 1 + np.float32(_BORDER_WEIGHT) * np.exp(-(distance**2) / np.float32(2 * _BORDER_PIXELS**2))


def _blocks(there: _Mask) -> _Mask:
    """Return which blocks of 2 x 2 pixels hold a pixel of a mask; of a small mask, or one with odd sides, itself."""
    height, width = there.shape
    if min(height, width) < _HALVED_FROM or height % 2 or width % 2:
        return there
    # Of all ways to combine pixels, a resize by area is the fastest.
    shares = cv2.resize(there.view(np.uint8) * np.uint8(255), (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return shares > 0


def _distance(there: _Mask) -> _Map:
    """Return the distance of each pixel, or block, to the nearest one of a mask."""
    return cv2.distanceTransform((~there).view(np.uint8), cv2.DIST_L2, _MASK)
