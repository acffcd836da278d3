"""Files of weights that cannot be read or do not fit are refused before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.models.build import build_model, check_weights
from segtune.models.weights import read_weights
from tests.models.files import (
    LITE,
    SMALL,
    build_from,
    check,
    mistakes_of,
    scrambled,
)

pytestmark = pytest.mark.usefixtures("offline")


@pytest.mark.parametrize("given", ["imagenett", "ImageNet"])
def test_a_misspelt_imagenet_is_suggested(given: str) -> None:
    (mistake,) = mistakes_of(lambda: check(given))
    assert mistake == f"encoder_weights: {given}: is neither auto, none, imagenet, nor a file; did you mean 'imagenet'?"


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    (mistake,) = mistakes_of(lambda: check(tmp_path / "gone.pth"))
    assert mistake == f"encoder_weights: {tmp_path}/gone.pth: is neither auto, none, imagenet, nor a file"
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
    """An object that creates a file when it is unpickled."""

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
        f"encoder_weights: {path}: holds no named tensors; save model.state_dict()"
    ]


def test_missing_tensors_are_counted_and_the_first_are_named(mobilenet: tuple[Path, nn.Module], tmp_path: Path) -> None:
    state = torch.load(mobilenet[0], weights_only=True)
    del state["features.18.0.weight"]
    torch.save(state, tmp_path / "less.pth")
    assert mistakes_of(lambda: build_from("mobilenet_v2", tmp_path / "less.pth")) == [
        f"encoder_weights: {tmp_path}/less.pth: holds 259 of 260 tensors of encoder mobilenet_v2 "
        f"(missing features.18.0.weight)"
    ]


def _quantized(tensor: torch.Tensor) -> torch.Tensor:
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda tensor: tensor.to("meta"), "has only a shape"),
        (_quantized, "is quantized"),
        (lambda tensor: tensor.to(torch.complex64), "is complex"),
        (lambda tensor: tensor.to(torch.int32), "is int32 instead of float32"),
        (lambda tensor: tensor > 0, "is bool instead of float32"),
        (lambda tensor: tensor.to_sparse(), "is not a plain tensor"),
        (lambda tensor: torch.full_like(tensor, torch.nan), "holds NaN or infinity"),
    ],
    ids=["meta", "quantized", "complex", "int", "bool", "sparse", "nan"],
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
    with pytest.raises(InputError, match="is not a regular file"):
        read_weights(path)


def test_another_encoders_file_is_refused(imagenet_weights: Path, tmp_path: Path) -> None:
    (mistake,) = mistakes_of(lambda: build_from("mobilenet_v2", imagenet_weights))
    assert mistake.startswith(f"encoder_weights: {imagenet_weights}: holds 0 of 260 tensors of encoder mobilenet_v2 ")
    assert mistake.endswith("(missing features.0.0.weight, features.0.1.weight, features.0.1.bias and 257 more)")
    save_file(timm.create_model(SMALL).state_dict(), tmp_path / "small.safetensors")
    (mistake,) = mistakes_of(lambda: build_from("tu-mobilenetv3_small_075", tmp_path / "small.safetensors"))
    assert (
        " tensors of encoder tu-mobilenetv3_small_075 (model.blocks.0.0.conv_pw.weight is 8x16x1x1 instead of "
        in mistake
    )
    assert "missing" not in mistake  # the names are the same


def test_a_deeper_encoders_file_is_refused(tmp_path: Path) -> None:
    deeper = smp.encoders.get_encoder("resnet34", weights=None)
    torch.save({f"encoder.{key}": value for key, value in deeper.state_dict().items()}, tmp_path / "r34.pt")
    assert mistakes_of(lambda: build_from("resnet18", tmp_path / "r34.pt")) == [
        f"encoder_weights: {tmp_path}/r34.pt: has 80 tensors of the encoder that resnet18 does not have, such as "
        f"layer1.2.conv1.weight: it is of another encoder"
    ]
    save_file(timm.create_model("tf_efficientnet_lite1").state_dict(), tmp_path / "lite1.safetensors")
    (mistake,) = mistakes_of(lambda: build_from(f"tu-{LITE}", tmp_path / "lite1.safetensors"))
    assert mistake.endswith("does not have, such as blocks.1.2.bn1.bias: it is of another encoder")


@pytest.mark.parametrize(("given", "wanted"), [(4, 5), (4, 3), (1, 3), (2, 1)])
def test_other_than_three_channels_are_not_turned_into_others(tmp_path: Path, given: int, wanted: int) -> None:
    save_file(
        smp.encoders.get_encoder("mobilenet_v2", in_channels=given, weights=None).state_dict(),
        tmp_path / "w.safetensors",
    )
    assert mistakes_of(lambda: build_from("mobilenet_v2", tmp_path / "w.safetensors", wanted)) == [
        f"encoder_weights: {tmp_path}/w.safetensors: holds 259 of 260 tensors of encoder mobilenet_v2 "
        f"(features.0.0.weight is 32x{given}x3x3 instead of 32x{wanted}x3x3)"
    ]


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


def test_other_channels_are_checked_once_the_bands_are_known(tmp_path: Path) -> None:
    path = str(tmp_path / "four.safetensors")
    save_file(smp.encoders.get_encoder("mobilenet_v2", in_channels=4, weights=None).state_dict(), path)
    check_weights([("unet", "mobilenet_v2", path)])
    check_weights([("unet", "mobilenet_v2", path)], in_channels=4)
    (mistake,) = mistakes_of(lambda: check_weights([("unet", "mobilenet_v2", path)], in_channels=5))
    assert "features.0.0.weight is 32x4x3x3 instead of 32x5x3x3" in mistake


@pytest.mark.slow
def test_a_shallow_architecture_needs_only_the_stages_that_it_has(tmp_path: Path) -> None:
    shallow = scrambled(smp.create_model("pspnet", "tu-convnext_atto", encoder_weights=None))
    shallow.save_pretrained(str(tmp_path))
    file = str(tmp_path / "model.safetensors")
    check_weights([("pspnet", "tu-convnext_atto", file)])
    (mistake,) = mistakes_of(lambda: check_weights([("unet", "tu-convnext_atto", file)]))
    assert "holds 44 of 124 tensors of encoder tu-convnext_atto (missing model.stages_2." in mistake


@pytest.mark.slow
def test_the_image_size_counts_where_shapes_depend_on_it(tmp_path: Path) -> None:
    encoder, path = "tu-efficientformerv2_s0", str(tmp_path / "small.safetensors")
    config = RunConfig(model="unet", encoder=encoder, image_size=128, encoder_weights="none")
    tensors = build_model(config, 3, 1).get_submodule("encoder").state_dict()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    starts = [("unet", encoder, path)]
    check_weights(starts)  # not known yet
    check_weights(starts, in_channels=4, image_size=128)
    (mistake,) = mistakes_of(lambda: check_weights(starts, image_size=224))
    assert "attention_biases is 8x16 instead of 8x49" in mistake
    assert mistake.endswith("; its tensors depend on image_size, which is 224 here")
