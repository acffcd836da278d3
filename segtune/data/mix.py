"""Mix training tiles: parts of another tile replace parts of this one, in image and mask alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from segtune.config import RunConfig
from segtune.data.labels import Indices, Labels
from segtune.data.store import Array, TileStore

_CANDIDATES = 3  # tiles that copy_paste chooses from


@dataclass(frozen=True)
class Mix:
    """A way of mixing two tiles, and how often.

    cutmix replaces a box (Yun et al. 2019, arXiv:1905.04899). copy_paste replaces the pixels of objects, which are
    connected regions of a class (Ghiasi et al. 2021, arXiv:2012.07177); a class is drawn the more often, the rarer its
    pixels are in the training tiles. Ignored pixels are replaced like others; those in a box stay ignored.
    """

    kind: str  # cutmix or copy_paste
    probability: float
    rarity: tuple[float, ...]  # a weight above zero for each class, in the order of the classes

    @classmethod
    def of(cls, config: RunConfig, labels: Labels, pixels: Mapping[int, int]) -> Mix | None:
        """Return how a run mixes tiles, or None if it does not; `pixels` are those of each label in training."""
        if config.mix == "none":
            return None
        rarity = tuple(1 / max(1, pixels.get(label, 0)) for label in labels.classes)
        return cls(config.mix, config.mix_probability, rarity)

    def partner(self, store: TileStore, index: int, random: np.random.Generator) -> int:
        """Return the tile to mix into the one at `index`; another one if there are several.

        For copy_paste it is, of some that are drawn, the one with the rarest class.
        """
        others = len(store) - 1
        count = _CANDIDATES if self.kind == "copy_paste" else 1
        drawn = [(index + 1 + int(step)) % len(store) for step in random.integers(max(1, others), size=count)]
        if count == 1:
            return drawn[0]
        return max(drawn, key=lambda tile: float(self._weights(store.target(tile)).max()))

    def __call__(
        self, image: Array, target: Indices, other: Array, other_target: Indices, random: np.random.Generator
    ) -> None:
        """Replace parts of image, (H, W, bands), and target, (H, W), in place, by those of another tile's.

        copy_paste changes nothing if the other tile holds none of the classes.
        """
        if self.kind == "cutmix":
            box = _box(target.shape, random)
            image[box], target[box] = other[box], other_target[box]
            return
        weights = self._weights(other_target)
        if weights.any():
            drawn = 1 + int(random.choice(len(weights), p=weights / weights.sum()))
            pasted = _objects(other_target == drawn, random)
            image[pasted], target[pasted] = other[pasted], other_target[pasted]

    def _weights(self, target: Indices) -> npt.NDArray[np.float64]:
        """Return the rarity of each class, and 0 for classes that the target does not hold."""
        there = np.bincount(target.ravel(), minlength=256)[1 : len(self.rarity) + 1] > 0
        return np.where(there, self.rarity, 0.0)


def _box(shape: tuple[int, ...], random: np.random.Generator) -> tuple[slice, slice]:
    """Draw a box: its area is a uniform share of the tile's, before what lies outside the tile is cut off."""
    share = float(np.sqrt(random.random()))
    sides = []
    for length in shape:
        half, centre = share * length / 2, random.random() * length
        sides.append(slice(max(0, round(centre - half)), min(length, round(centre + half))))
    return sides[0], sides[1]


def _objects(where: npt.NDArray[np.bool_], random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return the pixels of some of the connected regions of `where`: about half of them, and at least one."""
    count, regions = cv2.connectedComponents(where.view(np.uint8), connectivity=8)
    kept = random.random(count) < 0.5
    kept[int(random.integers(1, count))] = True
    kept[0] = False  # what is not in `where`
    chosen: npt.NDArray[np.bool_] = kept[regions]
    return chosen
