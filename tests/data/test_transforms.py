"""Augmentation with the transforms of a file, and which of them do not suit the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import yaml

from segtune.data.labels import IGNORED, Labels
from segtune.data.transforms import FileAugmentation, check_transforms
from segtune.errors import InputError
from segtune.files.transforms_file import TransformsFile
from tests.data.pictures import SIZE, bands_like, sample

LABELS = Labels((10, 20), (7,), True, 0)
NO_IGNORED = Labels((10, 20), (), True, 0)


def file_of(*transforms: dict[str, Any]) -> TransformsFile:
    return TransformsFile("my.yaml", yaml.safe_dump(list(transforms)))


def one(name: str, **arguments: Any) -> dict[str, Any]:
    return {"__class_fullname__": name, "p": 1.0, **arguments}


def augmented(
    file: TransformsFile, image: Any, mask: Any, rgb: Sequence[int] = (), labels: Labels = LABELS, samples: int = 8
) -> list[tuple[Any, Any]]:
    augmentation = FileAugmentation(file, bands_like(image), image.dtype == np.uint8, rgb, labels)
    return [augmentation(image.copy(), mask.copy(), 1, 2, number) for number in range(samples)]


def refusals(
    *transforms: dict[str, Any], bands: int = 5, dtype: str = "uint8", rgb: Sequence[int] = (0, 1, 2), size: int = 64
) -> list[str]:
    image, _ = sample(bands, dtype)
    try:
        check_transforms(file_of(*transforms), bands_like(image), dtype == "uint8", rgb, LABELS, size)
    except InputError as error:
        return error.mistakes
    return []


@pytest.mark.parametrize("bands", [1, 4, 7])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_shape_type_and_labels_are_kept(bands: int, dtype: str) -> None:
    image, mask = sample(bands, dtype)
    nested = one(
        "OneOf", transforms=[one("GaussNoise", std_range=[0.1, 0.2]), one("Sequential", transforms=[one("D4")])]
    )
    file = file_of(one("Affine", rotate=[-30, 30]), nested, one("RandomBrightnessContrast"), one("CoarseDropout"))
    for changed, target in augmented(file, image, mask):
        assert (changed.shape, changed.dtype) == (image.shape, image.dtype)
        assert (target.shape, target.dtype) == (mask.shape, mask.dtype)
        assert set(np.unique(target)) <= {0, 1, 2, IGNORED}
        assert not np.array_equal(changed, image)


def test_draws_depend_on_seed_epoch_and_sample_only() -> None:
    image, mask = sample(3, "uint8")
    augmentation = FileAugmentation(file_of(one("Affine", rotate=[-90, 90])), bands_like(image), True, (), LABELS)
    first = augmentation(image, mask, 1, 2, 3)[0]
    for draw in ((1, 2, 4), (1, 3, 3), (2, 2, 3)):
        assert not np.array_equal(augmentation(image, mask, *draw)[0], first)
    np.testing.assert_array_equal(augmentation(image, mask, 1, 2, 3)[0], first)


def test_float_images_are_scaled_for_the_transforms() -> None:
    """A shift of brightness by a tenth of the usual range, in the unit of the data; a cloud is not cut off."""
    image, mask = sample(2, "float32")
    bands = bands_like(image)
    image[:9, :9] = 1e6
    brighter = one("RandomBrightnessContrast", brightness_limit=[0.1, 0.1], contrast_limit=[0, 0])
    augmentation = FileAugmentation(file_of(brighter), bands, False, (), LABELS)
    changed, _ = augmentation(image, mask, 0, 0, 0)
    middle = (image > 1000) & (image < 6000)
    spans = np.array([min(b.high, b.mean + 4 * b.std) - max(b.low, b.mean - 4 * b.std) for b in bands])
    shift = (changed - image) / spans
    np.testing.assert_allclose(shift[middle], 0.1, atol=0.002)
    assert changed[:9, :9].min() > 9e5


def test_what_lies_beyond_the_usual_range_moves_along() -> None:
    image, mask = sample(2, "float32")
    bands = bands_like(image)
    image[:12] = 1e6
    mask[:] = 0
    mask[:12] = 1
    augmentation = FileAugmentation(file_of(one("D4"), one("Affine", rotate=[20, 20])), bands, False, (), LABELS)
    for number in range(8):
        changed, target = augmentation(image, mask, 0, 0, number)
        bright = changed.min(axis=2) > 5e5
        assert (bright == (target == 1)).mean() > 0.95
        assert changed[target == IGNORED].max() < 2e4  # what was padded has no cloud in it


@pytest.mark.parametrize(("labels", "padding"), [(LABELS, IGNORED), (NO_IGNORED, 0)])
def test_padded_pixels_count_as_padding(labels: Labels, padding: int) -> None:
    image, mask = sample(3, "uint8")
    mask[:] = 2
    shift = one("Affine", translate_percent=[0.25, 0.25], fill_mask=0.0)
    for _, target in augmented(file_of(shift), image, mask, labels=labels):
        assert set(np.unique(target)) == {2, padding}


@pytest.mark.parametrize(("label", "index"), [(20, 2), (7, IGNORED)])
def test_fill_mask_names_a_label(label: int, index: int) -> None:
    image, mask = sample(3, "uint8")
    mask[:] = 1
    shift = one("Affine", translate_percent=[0.25, 0.25], fill_mask=label)
    for _, target in augmented(file_of(shift), image, mask):
        assert set(np.unique(target)) == {1, index}
    assert refusals({**shift, "fill_mask": 3}) == [
        "my.yaml:1: Affine: fill_mask: 3 is neither 0 nor one of the labels in classes and ignore"
    ]


@pytest.mark.parametrize("rgb", [(0, 1, 2), (3, 1, 0)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_transforms_of_colours_change_the_rgb_bands_alone(rgb: tuple[int, ...], dtype: str) -> None:
    image, mask = sample(5, dtype)
    others = [band for band in range(5) if band not in rgb]
    for changed, target in augmented(file_of(one("ToGray")), image, mask, rgb):
        np.testing.assert_allclose(changed[..., others], image[..., others], rtol=1e-4, atol=1e-2)
        assert not np.allclose(changed[..., list(rgb)], image[..., list(rgb)])
        np.testing.assert_array_equal(target, mask)


def test_the_probability_of_a_transform_of_colours_holds() -> None:
    image, mask = sample(4, "uint8")
    file = file_of({**one("ToGray"), "p": 0.3})
    changed = [not np.array_equal(found, image) for found, _ in augmented(file, image, mask, (0, 1, 2), samples=100)]
    assert 15 < sum(changed) < 45


@pytest.mark.parametrize("bands", [1, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_usual_transforms_suit_any_number_of_bands(bands: int, dtype: str) -> None:
    rgb = (0, 1, 2) if bands >= 3 else (0,)
    names = ("D4", "Affine", "ElasticTransform", "GridDistortion", "RandomGridShuffle", "GaussNoise", "GaussianBlur")
    more = [one(name) for name in (*names, "RandomGamma", "CoarseDropout", "ColorJitter", "CLAHE", "MotionBlur")]
    assert refusals(*more, bands=bands, dtype=dtype, rgb=rgb, size=SIZE) == []


@pytest.mark.parametrize(
    ("transform", "bands", "part"),
    [
        (
            one("RandomCrop", height=32, width=32),
            3,
            "RandomCrop: changes the size of tiles, here from 64 x 64 to 32 x 32",
        ),
        (one("RandomScale"), 3, "RandomScale: changes the size of tiles"),
        (one("RandomCropFromBorders"), 3, "changes the size of tiles"),
        (one("Resize", height=32, width=64), 3, "here from 64 x 64 to 32 x 64; image_size and fit set it"),
        (
            one("Downscale", scale_range=[0.3, 0.7], interpolation_pair={"downscale": 3, "upscale": 1}),
            5,
            "cannot change tiles of 5 bands of uint8",
        ),
        (one("GridElasticDeform", num_grid_xy=[4, 4], magnitude=4), 5, "cannot change tiles of 5 bands"),
        (one("ChannelDropout"), 1, "cannot change tiles of 1 band of"),
        (one("ChromaticAberration"), 2, "changes colours, but of 2 bands no three are rgb"),
        (
            one("Affine", rotate=[10, 20], mask_interpolation=1),
            3,
            "mixes the labels of the mask; write mask_interpolation: 0",
        ),
        (one("RandomFog"), 1, "changes colours, but of 1 band no three are rgb"),
    ],
)
def test_a_transform_that_does_not_suit_the_data_is_one_line(transform: Any, bands: int, part: str) -> None:
    (line,) = refusals(transform, bands=bands, rgb=(0, 1, 2) if bands >= 3 else (0,))
    assert line.startswith("my.yaml:1: ")
    assert part in line
    assert "\n" not in line


def test_every_unsuitable_transform_is_reported() -> None:
    found = refusals(one("D4"), one("OneOf", transforms=[one("RandomScale"), one("CenterCrop", height=8, width=8)]))
    assert [line.split(": ")[1] for line in found] == ["OneOf > RandomScale", "OneOf > CenterCrop"]


def test_transforms_that_keep_this_size_are_accepted() -> None:
    crops = [one("RandomResizedCrop", size=[64, 64]), one("RandomCrop", height=64, width=64)]
    assert refusals(*crops, one("PadIfNeeded", min_height=64, min_width=64)) == []
