"""Mix training tiles: parts of another tile replace parts of this one, in image and mask alike."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from segtune.config import RunConfig
from segtune.data.labels import Indices, Labels
from segtune.data.store import Array


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
    holders: tuple[Sequence[int], ...] = ()  # for copy_paste: of each class, the tiles that hold it, in their order

    @classmethod
    def of(
        cls, config: RunConfig, labels: Labels, pixels: Mapping[int, int], holders: Mapping[int, Sequence[int]]
    ) -> Mix | None:
        """Return how a run mixes tiles, or None if it does not.

        Parameters
        ----------
        pixels: number of training pixels of each label.
        holders: positions of the training tiles that hold each class, in their order.
        """
        if config.mix == "none":
            return None
        rarity = tuple(1 / max(1, pixels.get(label, 0)) for label in labels.classes)
        held = tuple(holders.get(label, ()) for label in labels.classes) if config.mix == "copy_paste" else ()
        return cls(config.mix, config.mix_probability, rarity, held)

    def partner(self, tiles: int, index: int, random: np.random.Generator) -> int:
        """Return which of so many tiles to mix into the one at `index`; another one if there are several.

        For copy_paste it is one that holds a class, which is drawn by its rarity. No tile is read for that.
        """
        # Sorted lists: looked up by halving, since this is done for every sample.
        places = [bisect_left(held, index) for held in self.holders]
        itself = [place < len(held) and held[place] == index for held, place in zip(self.holders, places, strict=True)]
        others = np.array([len(held) - own for held, own in zip(self.holders, itself, strict=True)])
        if not others.any():
            return (index + 1 + int(random.integers(max(1, tiles - 1)))) % tiles
        weights = np.where(others > 0, self.rarity, 0.0)
        drawn = int(random.choice(len(weights), p=weights / weights.sum()))
        step = int(random.integers(others[drawn]))
        return self.holders[drawn][step + (itself[drawn] and step >= places[drawn])]

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
