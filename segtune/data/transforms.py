"""Augment tiles with the transforms of a file, and try before a run whether they suit the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import albumentations as A
import numpy as np
import numpy.typing as npt

from segtune.config import RunConfig
from segtune.data.augment import Augment, Augmentation, UsualRange
from segtune.data.bands import Band, rgb_positions
from segtune.data.dataset import DataInfo
from segtune.data.labels import IGNORED, Indices, Labels
from segtune.data.store import Array
from segtune.data.transform_nodes import Node, composition, make, read_transforms
from segtune.errors import InputError, counted, named, one_line
from segtune.files.transforms_file import TransformsFile

# Change colours, and take three bands: they get the rgb bands where there are others.
_COLOUR = frozenset(
    (
        *("CLAHE", "ChromaticAberration", "ColorJitter", "Equalize", "HEStain", "HueSaturationValue", "ISONoise"),
        *("PlanckianJitter", "RGBShift", "RandomFog", "RandomGravel", "RandomRain", "RandomSnow", "RandomSunFlare"),
        *("Spatter", "ToGray", "ToRGB", "ToSepia"),
    )
)
_TRIES = 4  # draws of each transform that is tried
_INSIDE = 0.5  # marks pixels that come from the tile: no transform fills a mask with it


class FileAugmentation:
    """The transforms of a file for tiles with these bands.

    They see float images in 0..1, scaled as for the levels. Transforms of colours change the rgb bands alone. Pixels
    that a transform pads, with `fill_mask: 0`, count as padding does elsewhere.

    Parameters
    ----------
    file: the file; InputError where it has mistakes.
    bands, uint8, rgb: see `Augmentation`.
    labels: the labels that masks are made of.
    """

    def __init__(
        self, file: TransformsFile, bands: Sequence[Band], uint8: bool, rgb: Sequence[int], labels: Labels
    ) -> None:
        places = _Places(len(bands), tuple(rgb), labels)
        transforms = [_built(node, places) for node in read_transforms(file)]
        self._compose = _compose(transforms)
        self._uint8, self._range = uint8, UsualRange(bands)

    def __call__(self, image: Array, target: Indices, seed: int, epoch: int, sample: int) -> tuple[Array, Indices]:
        """Augment an image, (H, W, bands), and its target, (H, W); both keep shape and type."""
        self._compose.set_random_seed(int(np.random.SeedSequence((seed, epoch, sample)).generate_state(1)[0]))
        if self._uint8:
            changed = self._compose(image=image, mask=target)
            return changed["image"], changed["mask"]
        usual, beyond = self._range.split(image)
        if not beyond.any():
            changed = self._compose(image=usual, mask=target)
            return self._range.restored(changed["image"]), changed["mask"]
        # What lies beyond the usual range moves as a mask does.
        marked = np.dstack([beyond, np.full(target.shape, _INSIDE, np.float32)])
        changed = self._compose(image=usual, mask=target, beyond=marked)
        moved, inside = changed["beyond"][..., :-1], changed["beyond"][..., -1:] == _INSIDE
        return self._range.restored(changed["image"] + np.where(inside, moved, 0)), changed["mask"]


def make_augmentation(config: RunConfig, info: DataInfo, bands: Sequence[Band], file: TransformsFile | None) -> Augment:
    """Return the augmentation of a run on tiles of these bands: the transforms of `file`, or a level if it is None."""
    rgb = rgb_positions(config.rgb, bands)
    if file:
        return FileAugmentation(file, bands, info.uint8, rgb, info.labels)
    return Augmentation(config.augmentation, bands, info.uint8, rgb)


def check_transforms(
    file: TransformsFile, bands: Sequence[Band], uint8: bool, rgb: Sequence[int], labels: Labels, size: int
) -> None:
    """Try the transforms of a file on random tiles of `size` pixels; raise InputError with those that do not suit.

    Parameters are those of `FileAugmentation`.
    """
    places = _Places(len(bands), tuple(rgb), labels)
    image, mask = _sample(len(bands), uint8, labels, size)
    mistakes = []
    for node in (leaf for top in read_transforms(file) for leaf in top.leaves()):
        if reason := _unsuitable(node, places, image, mask):
            mistakes.append(f"{node.where}: {reason}")
    if mistakes:
        raise InputError(mistakes)
    whole = FileAugmentation(file, bands, uint8, rgb, labels)
    real = image if uint8 else UsualRange(bands).restored(image * 1.5)
    try:
        for sample in range(_TRIES):
            whole(real, mask, 0, 0, sample)
    except Exception as error:  # albumentations raises errors of many kinds
        raise InputError(f"{file.path}: the transforms do not work together ({named(error)})") from None


class _Places:
    """What a transform must know of the data: the number of bands, where the rgb bands are, and the labels."""

    def __init__(self, bands: int, rgb: tuple[int, ...], labels: Labels) -> None:
        self.bands, self.rgb, self.labels = bands, rgb, labels

    def only_rgb(self, name: str) -> bool:
        """Return whether a transform gets the rgb bands alone."""
        return name in _COLOUR and len(self.rgb) == 3 and (self.bands, self.rgb) != (3, (0, 1, 2))


def _compose(transforms: Sequence[Any]) -> A.Compose:
    return A.Compose(list(transforms), additional_targets={"beyond": "mask"}, strict=True)


def _built(node: Node, places: _Places) -> Any:
    if not node.single:
        return composition(node, [_built(part, places) for part in node.parts])
    try:
        if places.only_rgb(node.name):
            share = make(node).p
            return A.SelectiveChannelTransform([make(node.always(), places.labels)], channels=places.rgb, p=share)
        return make(node, places.labels)
    except ValueError as error:
        raise InputError(f"{node.where}: {one_line(error)}") from None


def _unsuitable(node: Node, places: _Places, image: Array, mask: Indices) -> str | None:
    """Return why a transform does not suit the data; None if it does."""
    try:
        compose = _compose([_built(node.always(), places)])
    except InputError as error:
        return error.mistakes[0].removeprefix(f"{node.where}: ")
    fill = getattr(compose.transforms[0], "fill_mask", None)
    allowed = {*np.unique(mask), *([] if fill is None else [int(fill)])}
    for seed in range(_TRIES):
        compose.set_random_seed(seed)
        try:
            changed = compose(image=image, mask=mask)
        except Exception as error:  # albumentations raises errors of many kinds
            if node.name in _COLOUR and len(places.rgb) != 3:
                return f"changes colours, but of {counted(places.bands, 'band')} no three are rgb"
            return f"cannot change tiles of {counted(places.bands, 'band')} of {image.dtype} ({named(error)})"
        if reason := _spoilt(changed["image"], changed["mask"], image, mask, allowed):
            return reason
    return None


def _spoilt(image: Any, mask: Any, before: Array, mask_before: Indices, allowed: set[int]) -> str | None:
    """Return what a transform did to image or mask that no transform may do; None if both are still usable."""
    if image.shape[:2] != before.shape[:2] or mask.shape != mask_before.shape:
        (height, width), (old_height, old_width) = image.shape[:2], before.shape[:2]
        return (
            f"changes the size of tiles, here from {old_height} x {old_width} to {height} x {width}; "
            f"image_size and fit set it"
        )
    if image.shape != before.shape:
        return f"changes the number of bands from {before.shape[2]} to {image.shape[2]}"
    if image.dtype != before.dtype or mask.dtype != mask_before.dtype:
        return f"turns {before.dtype} images into {image.dtype}, masks of {mask_before.dtype} into {mask.dtype}"
    if not np.isfinite(image).all():
        return "gives values that are not finite"
    if not set(np.unique(mask)) <= allowed:
        return "mixes the labels of the mask; write mask_interpolation: 0, which takes the nearest pixel"
    return None


def _sample(bands: int, uint8: bool, labels: Labels, size: int) -> tuple[Array, Indices]:
    """Return a random image, uint8 or float32 in 0..1, and a mask with all indices."""
    random = np.random.default_rng(0)
    image: npt.NDArray[Any] = random.random((size, size, bands), dtype=np.float32)
    indices = [0, *range(1, len(labels.classes) + 1), IGNORED]
    mask = np.repeat(random.choice(indices, (size, 1)), size, axis=1).astype(np.uint8)
    return (image * 255).astype(np.uint8) if uint8 else image, mask
