"""Encoders, architectures and image sizes: what works together, and the message for what does not."""

from __future__ import annotations

import pytest

from segtune.models.compatibility import incompatibility, unknown_encoder
from tests.models.networks import ENCODER, VIT


@pytest.mark.parametrize("name", ["resnet18", "efficientnet-b0", "mit_b0", ENCODER, "tu-resnet18.a1_in1k"])
def test_encoders_of_smp_and_of_timm_are_known(name: str) -> None:
    assert unknown_encoder(name) is None


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("resnet81", "resnet18"),
        ("efficientnet_b0", "efficientnet-b0"),
        ("ResNet34", "resnet34"),
        ("tu-mobilenetv3_smal_050", ENCODER),
        ("mobilenetv3_small_050", ENCODER),
        ("tu-resnet18.a1_in1kk", "tu-resnet18.a1_in1k"),
        ("timm-resnet26", "tu-resnet26"),
        ("timm-convnext_tiny", "tu-convnext_tiny"),
    ],
)
def test_an_unknown_encoder_comes_with_the_nearest_known_one(given: str, meant: str) -> None:
    message = unknown_encoder(given)
    assert message is not None
    assert repr(given) in message
    assert f"did you mean {meant!r}?" in message


def test_an_encoder_like_no_other_is_refused_without_a_suggestion() -> None:
    message = unknown_encoder("qqqqqqqq")
    assert message is not None
    assert "did you mean" not in message


@pytest.mark.parametrize(
    ("model", "encoder"),
    [
        ("unetplusplus", "mit_b0"),
        ("linknet", "mit_b2"),
        ("deeplabv3plus", "vgg16_bn"),
        ("deeplabv3plus", "tu-vgg16"),
        ("deeplabv3", "densenet121"),
        ("pan", "xception"),
        ("pan", "tu-swin_tiny_patch4_window7_224"),
        ("dpt", "resnet18"),
        ("dpt", "tu-resnet18"),
        ("unet", VIT),
        ("segformer", "tu-deit_tiny_patch16_224"),
    ],
)
def test_impossible_pairs_are_refused_by_name(model: str, encoder: str) -> None:
    message = incompatibility(model, encoder, None)
    assert message is not None
    assert model in message
    assert encoder in message


@pytest.mark.parametrize(
    ("model", "encoder"),
    [("unet", "mit_b0"), ("segformer", "mit_b0"), ("unet", "vgg16_bn"), ("dpt", VIT), ("unetplusplus", "resnet18")],
)
def test_possible_pairs_pass(model: str, encoder: str) -> None:
    assert incompatibility(model, encoder, None) is None


@pytest.mark.parametrize(
    ("model", "size", "number"),
    [
        ("fpn", 48, "32"),
        ("manet", 100, "32"),
        ("segformer", 144, "32"),
        ("deeplabv3", 60, "8"),
        ("pspnet", 60, "8"),
        ("deeplabv3plus", 40, "16"),
        ("pan", 130, "16"),
        ("pan", 112, "128"),
    ],
)
def test_image_sizes_that_an_architecture_cannot_take_are_refused(model: str, size: int, number: str) -> None:
    message = incompatibility(model, ENCODER, size)
    assert message is not None
    assert f"image_size {size}" in message
    assert number in message
    assert model in message


@pytest.mark.parametrize(
    ("model", "size"), [("unet", 37), ("fpn", 96), ("deeplabv3", 40), ("deeplabv3plus", 48), ("pan", 128), ("dpt", 224)]
)
def test_image_sizes_that_an_architecture_can_take_pass(model: str, size: int) -> None:
    assert incompatibility(model, VIT if model == "dpt" else ENCODER, size) is None
