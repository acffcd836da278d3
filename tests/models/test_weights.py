"""Encoders that start from a file: real ImageNet weights, names, wrappings and channels."""

from __future__ import annotations

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from segtune.models.weights import weights_file
from tests.models.files import (
    LITE,
    SMALL,
    as_torchvision_saves,
    build_from,
    encoder_state,
    same,
    scrambled,
)

pytestmark = pytest.mark.usefixtures("offline")


@pytest.mark.parametrize("channels", [3, 4, 1])
def test_imagenet_weights_give_the_same_features_as_in_timm(imagenet_weights: Path, channels: int) -> None:
    # timm's own loader of the same file, with its own names and its own rule for other channels.
    reference = timm.create_model(
        LITE,
        features_only=True,
        in_chans=channels,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(imagenet_weights)},
    ).eval()
    reference.to(memory_format=torch.channels_last)  # as build_model does; other kernels round otherwise
    images = torch.randn(1, channels, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference(images)
        found = build_from(f"tu-{LITE}", imagenet_weights, channels).get_submodule("encoder")(images)[1:]
    assert len(found) == len(expected) == 5
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_imagenet_weights_are_trained_ones(imagenet_weights: Path) -> None:
    # A network at its random start has seen nothing: all running means are zero.
    means = [value for name, value in load_file(imagenet_weights).items() if name.endswith("running_mean")]
    assert len(means) == 49
    assert all(mean.abs().max() > 1e-3 for mean in means)


@pytest.mark.parametrize(
    ("channels", "copied"), [(3, [0, 1, 2]), (4, [0, 1, 2, 0]), (7, [0, 1, 2, 0, 1, 2, 0]), (2, [0, 1])]
)
def test_the_first_convolution_gets_the_three_channels_in_turn(
    imagenet_weights: Path, channels: int, copied: list[int]
) -> None:
    kernel = encoder_state(build_from(f"tu-{LITE}", imagenet_weights, channels))["model.conv_stem.weight"]
    given = load_file(imagenet_weights)["conv_stem.weight"]
    torch.testing.assert_close(kernel, given[:, copied] * 3 / channels)


def test_the_decoder_starts_as_it_does_without_a_file(imagenet_weights: Path) -> None:
    def decoder(weights: object) -> dict[str, Tensor]:
        torch.manual_seed(3)
        return build_from(f"tu-{LITE}", weights).get_submodule("decoder").state_dict()

    assert same(decoder("none"), decoder(imagenet_weights))


@pytest.mark.parametrize(
    ("name", "classifier", "channels"),
    [("mobilenet_v2", "classifier.1", 3), ("mobilenet_v2", "classifier.1", 1), ("resnet18", "fc", 4)],
)
def test_a_native_encoder_takes_a_file_as_smp_takes_a_download(
    tmp_path: Path, name: str, classifier: str, channels: int
) -> None:
    reference = as_torchvision_saves(name, classifier, tmp_path / "weights.pth")
    reference.set_in_channels(channels, pretrained=True)
    found = encoder_state(build_from(name, tmp_path / "weights.pth", channels))
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(found[key], value)


@pytest.mark.parametrize(
    ("prefix", "entry"),
    [
        ("", "state_dict"),
        ("", "model"),
        ("module.", ""),
        ("encoder.", ""),
        ("model.", "model"),
        ("backbone.", ""),
        ("module.model.encoder.", "state_dict"),
        ("_orig_mod.", "model"),
    ],
)
def test_wrappings_are_taken_off(mobilenet: tuple[Path, nn.Module], tmp_path: Path, prefix: str, entry: str) -> None:
    path, encoder = mobilenet
    state = {prefix + name: value for name, value in torch.load(path, weights_only=True).items()}
    content = {entry: state, "epoch": 3, "optimizer": {"state": {}}} if entry else {**state, "epoch": 3}
    torch.save(content, tmp_path / "wrapped.pt")
    found = encoder_state(build_from("mobilenet_v2", tmp_path / "wrapped.pt"))
    assert all(torch.equal(found[name], value) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("name", "model"),
    [(SMALL, "unet"), ("convnext_atto", "unet"), ("coat_tiny", "pspnet"), ("vit_tiny_patch16_224", "dpt")],
)
def test_a_file_of_timm_loads_although_smp_changes_its_names(tmp_path: Path, name: str, model: str) -> None:
    trained = scrambled(timm.create_model(name))
    path = tmp_path / "timm.pth"
    torch.save(trained.state_dict(), path)
    # Every tensor of the encoder is some tensor of the file's, and none is left at its start.
    given = [value for value in trained.state_dict().values() if value.is_floating_point()]
    found = encoder_state(build_from(f"tu-{name}", path, model=model)).values()
    floating = [value for value in found if value.is_floating_point()]
    assert floating
    sums = {(value.shape, value.double().sum().item()) for value in given}
    assert all((value.shape, value.contiguous().double().sum().item()) in sums for value in floating)


@pytest.mark.parametrize("encoder", ["mobilenet_v2", f"tu-{SMALL}"])
def test_a_saved_model_gives_its_encoder(tmp_path: Path, encoder: str) -> None:
    trained = scrambled(smp.create_model("fpn", encoder, encoder_weights=None, in_channels=4, classes=2))
    trained.save_pretrained(str(tmp_path))
    torch.manual_seed(0)
    model = build_from(encoder, tmp_path / "model.safetensors", 4, model="fpn")
    own, theirs = encoder_state(model), encoder_state(trained)
    assert all(torch.equal(own[name], value) for name, value in theirs.items() if "num_batches" not in name)
    decoder, other = model.get_submodule("decoder").state_dict(), trained.get_submodule("decoder").state_dict()
    assert not same(decoder, other)


def test_only_a_file_is_a_file() -> None:
    assert weights_file("none") is None
    assert weights_file("imagenet") is None
    assert weights_file("a/b.pth") == Path("a/b.pth")
