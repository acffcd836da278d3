"""Normalization of the input: with the data's statistics, or with those of an encoder's weights."""

from __future__ import annotations

from typing import Any

import pytest

from segtune.config import RunConfig
from segtune.data.bands import Band
from segtune.errors import InputError
from segtune.models.normalization import input_statistics
from tests.models.networks import ENCODER, VIT

BANDS = tuple(
    Band(name, mean=float(number), std=10.0 + number, low=0.0, high=200.0)
    for number, name in enumerate(["image:1", "image:2", "image:3", "image:4", "nir"], start=1)
)
INCEPTION = ((0.5,) * 3, (0.5,) * 3)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def statistics(bands: tuple[Band, ...], uint8: bool = True, **settings: Any) -> tuple[Band, ...]:
    return input_statistics(RunConfig.from_settings({"normalization": "encoder", **settings}), bands, uint8)


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        ("resnet18", IMAGENET),
        ("se_resnet50", IMAGENET),
        ("mit_b0", IMAGENET),
        ("efficientnet-b0", IMAGENET),
        ("timm-efficientnet-b0", IMAGENET),
        ("timm-tf_efficientnet_lite0", INCEPTION),
        ("xception", INCEPTION),
        ("inceptionv4", INCEPTION),
        ("inceptionresnetv2", INCEPTION),
        ("dpn68", ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)),
        (ENCODER, IMAGENET),
        ("tu-tf_efficientnet_lite0", INCEPTION),
        (VIT, INCEPTION),
        ("tu-vit_base_patch16_clip_224.openai", ((0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758))),
    ],
)
@pytest.mark.usefixtures("no_hub")
def test_the_encoders_own_mean_and_deviation_are_known_without_the_hub(encoder: str, expected: Any) -> None:
    found = statistics(BANDS, encoder=encoder)
    assert [band.mean / 255 for band in found[:3]] == pytest.approx(expected[0], abs=1e-4)
    assert [band.std / 255 for band in found[:3]] == pytest.approx(expected[1], abs=1e-4)


def test_they_are_those_of_the_rgb_bands_and_all_else_stays() -> None:
    found = statistics(BANDS, encoder="resnet18", rgb=[4, 2, 1])  # red is the fourth band
    assert [round(band.mean / 255, 3) for band in found] == [0.406, 0.456, round(3 / 255, 3), 0.485, round(5 / 255, 3)]
    assert found[2] == BANDS[2]
    assert found[4] == BANDS[4]
    assert [(band.name, band.low, band.high) for band in found] == [(band.name, 0.0, 200.0) for band in BANDS]


@pytest.mark.parametrize("uint8", [True, False])
def test_the_datas_own_statistics_stay(uint8: bool) -> None:
    assert statistics(BANDS, uint8, normalization="data") == BANDS
    assert statistics(BANDS[3:], uint8, normalization="data", rgb=[1, 2, 3]) == BANDS[3:]


@pytest.mark.parametrize(
    ("bands", "uint8", "rgb", "said"),
    [
        (BANDS, False, [], "normalization: encoder is for 8-bit images"),
        (BANDS, True, [2], "normalization: encoder needs three bands, red, green and blue"),
        (BANDS[:1] + BANDS[4:], True, [], "normalization: encoder needs three bands, red, green and blue"),
        (BANDS[:2], True, [1, 2, 3], "rgb: there is no band 3"),
    ],
)
def test_an_encoders_statistics_need_three_8_bit_bands(
    bands: tuple[Band, ...], uint8: bool, rgb: list[int], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        statistics(bands, uint8, rgb=rgb)
    (mistake,) = caught.value.mistakes
    assert mistake.startswith(said)
