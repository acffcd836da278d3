"""Encoders that start from a file: real ImageNet weights, names and wrappings, channels, and files that do not fit."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.models.build import build_model, check_weights
from segtune.models.pretrained import read_weights, weights_file

LITE = "tf_efficientnet_lite0"
SMALL = "mobilenetv3_small_050"
VIT = "vit_tiny_patch16_224"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reaches for the network here fails."""

    def refused(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the network is not to be touched")

    monkeypatch.setattr(socket.socket, "connect", refused)


@pytest.fixture(scope="session")
def imagenet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A safetensors file of timm's tf_efficientnet_lite0, classifier included, trained on ImageNet."""
    script = Path(__file__).parent.parent.parent / "benchmarks" / "pretrained.py"
    spec = importlib.util.spec_from_file_location("pretrained", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.convert(tmp_path_factory.mktemp("weights") / f"{LITE}.safetensors")


def build(encoder: str, weights: object, channels: int = 3, model: str = "unet") -> nn.Module:
    settings = {"model": model, "encoder": encoder, "encoder_weights": str(weights)}
    return build_model(RunConfig.from_settings(settings), channels, 1).eval()


def check(weights: object) -> None:
    check_weights([("unet", "mobilenet_v2", str(weights))])


def mistakes_of(call: Callable[[], object]) -> list[str]:
    with pytest.raises(InputError) as caught:
        call()
    assert all("\n" not in mistake for mistake in caught.value.mistakes)
    return caught.value.mistakes


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def encoder_state(model: nn.Module) -> dict[str, Tensor]:
    return model.get_submodule("encoder").state_dict()


def scrambled(model: nn.Module, seed: int = 1) -> nn.Module:
    """The model with other numbers everywhere, BatchNorm's statistics included, as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) * 0.1 + 0.01)
    return model.eval()


def as_torchvision_saves(name: str, classifier: str, path: Path) -> nn.Module:
    """Write a file with torchvision's names, a classifier and no counts of batches; smp's encoder with its weights."""
    encoder = scrambled(smp.encoders.get_encoder(name, weights=None))
    state = {key: value for key, value in encoder.state_dict().items() if "num_batches" not in key}
    torch.save({**state, f"{classifier}.weight": torch.zeros(9, 8), f"{classifier}.bias": torch.zeros(9)}, path)
    return encoder


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A file as torchvision's mobilenet_v2, and smp's encoder with its weights."""
    path = tmp_path_factory.mktemp("mobilenet") / "mobilenet_v2.pth"
    return path, as_torchvision_saves("mobilenet_v2", "classifier.1", path)


# Real weights.


@pytest.mark.parametrize("channels", [3, 4, 1])
def test_imagenet_weights_give_the_features_that_timm_gets_from_them(imagenet_weights: Path, channels: int) -> None:
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
        found = build(f"tu-{LITE}", imagenet_weights, channels).get_submodule("encoder")(images)[1:]
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
    kernel = encoder_state(build(f"tu-{LITE}", imagenet_weights, channels))["model.conv_stem.weight"]
    given = load_file(imagenet_weights)["conv_stem.weight"]
    torch.testing.assert_close(kernel, given[:, copied] * 3 / channels)


def test_the_decoder_starts_as_it_does_without_a_file(imagenet_weights: Path) -> None:
    def decoder(weights: object) -> dict[str, Tensor]:
        torch.manual_seed(3)
        return build(f"tu-{LITE}", weights).get_submodule("decoder").state_dict()

    assert same(decoder("none"), decoder(imagenet_weights))


# Names and wrappings.


@pytest.mark.parametrize(
    ("name", "classifier", "channels"),
    [("mobilenet_v2", "classifier.1", 3), ("mobilenet_v2", "classifier.1", 1), ("resnet18", "fc", 4)],
)
def test_a_native_encoder_takes_the_files_weights_as_smp_takes_downloaded_ones(
    tmp_path: Path, name: str, classifier: str, channels: int
) -> None:
    reference = as_torchvision_saves(name, classifier, tmp_path / "weights.pth")
    reference.set_in_channels(channels, pretrained=True)
    found = encoder_state(build(name, tmp_path / "weights.pth", channels))
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
    found = encoder_state(build("mobilenet_v2", tmp_path / "wrapped.pt"))
    assert all(torch.equal(found[name], value) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("name", "model"),
    [(SMALL, "unet"), ("convnext_atto", "unet"), ("coat_tiny", "pspnet"), (VIT, "dpt")],
)
def test_what_timm_saves_of_a_network_loads_whatever_smp_makes_of_its_names(
    tmp_path: Path, name: str, model: str
) -> None:
    trained = scrambled(timm.create_model(name))
    path = tmp_path / "timm.pth"
    torch.save(trained.state_dict(), path)
    # Every tensor of the encoder is some tensor of the file's, and none is left at its start.
    given = [value for value in trained.state_dict().values() if value.is_floating_point()]
    found = encoder_state(build(f"tu-{name}", path, model=model)).values()
    floating = [value for value in found if value.is_floating_point()]
    assert floating
    sums = {(value.shape, value.double().sum().item()) for value in given}
    assert all((value.shape, value.contiguous().double().sum().item()) in sums for value in floating)


@pytest.mark.parametrize("encoder", ["mobilenet_v2", f"tu-{SMALL}"])
def test_of_a_trained_model_that_segtune_or_smp_saved_the_encoder_is_taken(tmp_path: Path, encoder: str) -> None:
    trained = scrambled(smp.create_model("fpn", encoder, encoder_weights=None, in_channels=4, classes=2))
    trained.save_pretrained(str(tmp_path))
    torch.manual_seed(0)
    model = build(encoder, tmp_path / "model.safetensors", 4, model="fpn")
    own, theirs = encoder_state(model), encoder_state(trained)
    assert all(torch.equal(own[name], value) for name, value in theirs.items() if "num_batches" not in name)
    decoder, other = model.get_submodule("decoder").state_dict(), trained.get_submodule("decoder").state_dict()
    assert not same(decoder, other)


def test_only_a_file_is_a_file() -> None:
    assert weights_file("none") is None
    assert weights_file("imagenet") is None
    assert weights_file("a/b.pth") == Path("a/b.pth")


# Files that cannot be read.


@pytest.mark.parametrize("given", ["imagenett", "ImageNet"])
def test_a_misspelt_imagenet_is_suggested(given: str) -> None:
    (mistake,) = mistakes_of(lambda: check(given))
    assert mistake == f"encoder_weights: {given}: is neither none, imagenet, nor a file; did you mean 'imagenet'?"


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    (mistake,) = mistakes_of(lambda: check(tmp_path / "gone.pth"))
    assert mistake == f"encoder_weights: {tmp_path}/gone.pth: is neither none, imagenet, nor a file"
    (mistake,) = mistakes_of(lambda: check(tmp_path))
    assert mistake == f"encoder_weights: {tmp_path}: is a folder; name the file in it"


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("content", ["empty", "noise", "cut off"])
def test_a_broken_file_is_one_line(
    mobilenet: tuple[Path, nn.Module], tmp_path: Path, suffix: str, content: str
) -> None:
    path = tmp_path / f"broken.{suffix}"
    if suffix == "pth":
        torch.save({"a": torch.zeros(500)}, path)
    else:
        save_file({"a": torch.zeros(500)}, path)
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "noise": b"no weights at all\n" * 20, "cut off": whole[: len(whole) // 2]}[content])
    (mistake,) = mistakes_of(lambda: check(path))
    assert mistake.startswith(f"encoder_weights: {path}: cannot be read as safetensors, or as a state dict")


class Harm:
    """Loading it as a pickle writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_nothing_that_a_file_holds_is_executed(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"conv1.weight": torch.zeros(1), "harm": Harm(tmp_path / "done")}, path)
    (mistake,) = mistakes_of(lambda: check(path))
    assert mistake.startswith(f"encoder_weights: {path}: holds pickled objects, which are never loaded")
    assert "state_dict()" in mistake
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)], {}, {"state_dict": {"epoch": 1}}])
def test_a_file_without_named_tensors_is_told(tmp_path: Path, content: object) -> None:
    path = tmp_path / "list.pth"
    torch.save(content, path)
    assert mistakes_of(lambda: check(path)) == [
        f"encoder_weights: {path}: holds no named tensors; a state dict is wanted"
    ]


# Files that do not fit.


def test_tensors_that_are_missing_are_counted_and_the_first_are_named(
    mobilenet: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    state = torch.load(mobilenet[0], weights_only=True)
    del state["features.18.0.weight"]
    torch.save(state, tmp_path / "less.pth")
    assert mistakes_of(lambda: build("mobilenet_v2", tmp_path / "less.pth")) == [
        f"encoder_weights: {tmp_path}/less.pth: holds 259 of 260 tensors of encoder mobilenet_v2 "
        f"(missing features.18.0.weight)"
    ]


def _quantised(tensor: torch.Tensor) -> torch.Tensor:
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda tensor: tensor.to("meta"), "has a shape alone"),
        (_quantised, "is quantised"),
        (lambda tensor: tensor.to(torch.complex64), "is complex"),
        (lambda tensor: tensor.to(torch.int32), "is int32 instead of float32"),
        (lambda tensor: tensor > 0, "is bool instead of float32"),
        (lambda tensor: tensor.to_sparse(), "is no plain tensor"),
        (lambda tensor: torch.full_like(tensor, torch.nan), "holds NaN or infinite numbers"),
    ],
    ids=["meta", "quantised", "complex", "int", "bool", "sparse", "nan"],
)
def test_tensors_that_are_no_weights_are_named(
    mobilenet: tuple[Path, nn.Module], tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor], problem: str
) -> None:
    tensors = torch.load(mobilenet[0], weights_only=True)
    name = next(name for name in tensors if name.endswith("weight"))
    tensors[name] = change(tensors[name])
    path = tmp_path / "changed.pth"
    torch.save(tensors, path)
    with pytest.raises(InputError) as caught:
        check_weights([("unet", "mobilenet_v2", str(path))])
    (message,) = caught.value.mistakes
    assert message.startswith(f"encoder_weights: {path}: holds ")
    assert problem in message


@pytest.mark.parametrize("place", ["pipe", "/dev/zero"])
def test_a_file_that_is_none_is_not_waited_for(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    if place == "pipe":
        os.mkfifo(path)
    with pytest.raises(InputError, match="is no regular file"):
        read_weights(path)


def test_another_encoders_file_is_refused(imagenet_weights: Path, tmp_path: Path) -> None:
    (mistake,) = mistakes_of(lambda: build("mobilenet_v2", imagenet_weights))
    assert mistake.startswith(f"encoder_weights: {imagenet_weights}: holds 0 of 260 tensors of encoder mobilenet_v2 ")
    assert mistake.endswith("(missing features.0.0.weight, features.0.1.weight, features.0.1.bias and 257 more)")
    save_file(timm.create_model(SMALL).state_dict(), tmp_path / "small.safetensors")
    (mistake,) = mistakes_of(lambda: build("tu-mobilenetv3_small_075", tmp_path / "small.safetensors"))
    assert (
        " tensors of encoder tu-mobilenetv3_small_075 (model.blocks.0.0.conv_pw.weight is 8x16x1x1 instead of "
        in mistake
    )
    assert "missing" not in mistake  # the names are the same


@pytest.mark.parametrize(("given", "wanted"), [(4, 5), (4, 3), (1, 3), (2, 1)])
def test_other_than_three_channels_are_not_turned_into_others(tmp_path: Path, given: int, wanted: int) -> None:
    save_file(
        smp.encoders.get_encoder("mobilenet_v2", in_channels=given, weights=None).state_dict(),
        tmp_path / "w.safetensors",
    )
    assert mistakes_of(lambda: build("mobilenet_v2", tmp_path / "w.safetensors", wanted)) == [
        f"encoder_weights: {tmp_path}/w.safetensors: holds 259 of 260 tensors of encoder mobilenet_v2 "
        f"(features.0.0.weight is 32x{given}x3x3 instead of 32x{wanted}x3x3)"
    ]


# Checked before anything is trained.


def test_files_that_fit_pass_the_check(
    mobilenet: tuple[Path, nn.Module], imagenet_weights: Path, tmp_path: Path
) -> None:
    save_file(smp.encoders.get_encoder("mit_b0", weights=None).state_dict(), tmp_path / "mit.safetensors")
    check_weights(
        [
            ("unet", "mobilenet_v2", str(mobilenet[0])),
            ("pspnet", "mobilenet_v2", str(mobilenet[0])),
            ("unet", f"tu-{LITE}", str(imagenet_weights)),
            ("unet", f"tu-{LITE}", "none"),
        ],
        in_channels=5,
    )
    check_weights([("segformer", "mit_b0", str(tmp_path / "mit.safetensors"))])


def test_the_check_tells_every_mistake_once(mobilenet: tuple[Path, nn.Module], imagenet_weights: Path) -> None:
    file = str(mobilenet[0])
    found = mistakes_of(
        lambda: check_weights(
            [
                ("unet", "mobilenet_v2", file),
                ("unet", "resnet18", file),
                ("fpn", "resnet18", file),
                ("unet", "resnet18", "imagenett"),
                ("unet", "mobilenet_v2", "imagenett"),
                ("linknet", "mit_b0", file),  # impossible, which is told elsewhere
                ("unet", "dpn68b", "imagenet"),
                ("fpn", "dpn68b", "imagenet"),
                ("unet", "tu-coatnet_0_224", "imagenet"),
            ]
        )
    )
    assert len(found) == 4
    assert f"{file}: holds 0 of 100 tensors of encoder resnet18" in found[0]
    assert "'imagenet'?" in found[1]
    assert found[2].startswith("encoder_weights: imagenet weights of dpn68b do not exist; ")
    assert found[3].startswith("encoder_weights: imagenet weights of tu-coatnet_0_224 do not exist; ")


def test_a_first_convolution_for_other_channels_is_checked_where_the_bands_are_known(tmp_path: Path) -> None:
    path = str(tmp_path / "four.safetensors")
    save_file(smp.encoders.get_encoder("mobilenet_v2", in_channels=4, weights=None).state_dict(), path)
    check_weights([("unet", "mobilenet_v2", path)])
    check_weights([("unet", "mobilenet_v2", path)], in_channels=4)
    (mistake,) = mistakes_of(lambda: check_weights([("unet", "mobilenet_v2", path)], in_channels=5))
    assert "features.0.0.weight is 32x4x3x3 instead of 32x5x3x3" in mistake


def test_a_shallow_architecture_needs_only_the_stages_that_it_has(tmp_path: Path) -> None:
    shallow = scrambled(smp.create_model("pspnet", "tu-convnext_atto", encoder_weights=None))
    shallow.save_pretrained(str(tmp_path))
    file = str(tmp_path / "model.safetensors")
    check_weights([("pspnet", "tu-convnext_atto", file)])
    (mistake,) = mistakes_of(lambda: check_weights([("unet", "tu-convnext_atto", file)]))
    assert "holds 44 of 124 tensors of encoder tu-convnext_atto (missing model.stages_2." in mistake
