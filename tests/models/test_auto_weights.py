"""encoder_weights: auto is ImageNet weights for all encoders, or for none of them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.models.auto_weights import decide_weights
from segtune.models.build import build_model
from segtune.planning.feasibility import check_space
from segtune.space.reader import load_space
from segtune.tools.weights import write_weights
from tests.models.networks import ENCODER
from tests.models.test_pretrained import put_into_cache

RESNET18 = smp.encoders.encoders["resnet18"]["pretrained_settings"]["imagenet"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imagenet_weights: Path) -> Path:
    """$SEGTUNE_WEIGHTS with the weights of one encoder."""
    made = tmp_path / "weights"
    made.mkdir()
    (made / "tu-tf_efficientnet_lite0.safetensors").write_bytes(imagenet_weights.read_bytes())
    monkeypatch.setenv("SEGTUNE_WEIGHTS", str(made))
    return made


def test_a_folder_serves_without_a_network(folder: Path, imagenet_weights: Path) -> None:
    encoder = "tu-tf_efficientnet_lite0"
    decided = decide_weights([("unet", encoder), ("fpn", encoder)])
    assert (decided.weights, decided.remarks) == ("imagenet", ())
    config = RunConfig(model="unet", encoder=encoder, encoder_weights="imagenet")
    built = build_model(config, 3, 1).get_submodule("encoder").state_dict()
    stem = next(value for name, value in built.items() if name.endswith("conv_stem.weight"))
    assert torch.equal(stem, load_file(imagenet_weights)["conv_stem.weight"])


def test_encoders_are_never_mixed(folder: Path) -> None:
    decided = decide_weights([("unet", "tu-tf_efficientnet_lite0"), ("unet", "resnet18"), ("unet", "dpn68b")])
    assert decided.weights == "none"
    assert decided.remarks == [
        "warning: encoder_weights: all encoders start with random weights",
        "  this costs 0.05 to 0.06 mIoU (on two small data sets: benchmarks/README.md)",
        "  ImageNet weights of resnet18 cannot be downloaded: HF_HUB_OFFLINE is set",
        "  ImageNet weights of dpn68b do not exist",
        "  a search does not mix random with ImageNet weights",
        "  to have them, run this where there is a network, then set SEGTUNE_WEIGHTS=FOLDER here:",
        "    python -m segtune.tools weights --encoders resnet18 --to FOLDER",
        "  leave out dpn68b: the others can start with ImageNet weights then",
    ]


def test_the_warning_of_one_encoder_names_it_and_what_helps() -> None:
    said = decide_weights([("unet", "resnet18"), ("fpn", "resnet18")]).remarks
    assert said[0] == "warning: encoder_weights: resnet18 starts with random weights"
    assert [line.split()[0] for line in said[1:]] == ["this", "ImageNet", "to", "python"]
    said = decide_weights([("unet", "dpn68b")]).remarks  # nothing helps
    assert [line.split()[0] for line in said[1:]] == ["this", "ImageNet"]


def test_the_warning_names_a_few_of_many_encoders_and_the_command_all() -> None:
    names = ["resnet18", "resnet34", "resnet50", "mobilenet_v2", "vgg11", "vgg13"]
    said = decide_weights([("unet", name) for name in names]).remarks
    assert "resnet18, resnet34, resnet50, mobilenet_v2, vgg11 and 1 more cannot be downloaded" in said[2]
    (command,) = (line.split() for line in said if "segtune.tools" in line)
    assert command == ["python", "-m", "segtune.tools", "weights", "--encoders", *names, "--to", "FOLDER"]


def test_a_damaged_file_in_the_folder_is_one_error(folder: Path) -> None:
    (folder / "resnet18.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"resnet18.safetensors: cannot be read"):
        decide_weights([("unet", "resnet18")])


def test_a_folder_that_is_missing_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGTUNE_WEIGHTS", f"{folder}s")
    with pytest.raises(InputError, match=r"SEGTUNE_WEIGHTS: .*: no such folder"):
        decide_weights([("unet", "resnet18")])


@pytest.mark.usefixtures("no_hub")
def test_a_server_is_asked_once_for_all_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def silent(self: object, repository: str, **others: object) -> None:
        asked.append(repository)
        time.sleep(0.1)
        raise ConnectionError("no route")

    monkeypatch.setattr("segtune.models.pretrained.HfApi.model_info", silent)
    assert decide_weights([("unet", name) for name in ("resnet18", "resnet34", "mit_b0", ENCODER)]).weights == "none"
    assert len(asked) == 1


@pytest.mark.usefixtures("no_hub")
def test_a_dry_run_downloads_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("segtune.models.pretrained.HfApi.model_info", lambda self, repository, **others: None)
    put_into_cache(tmp_path, RESNET18["repo_id"], RESNET18["revision"])
    decided = decide_weights([("unet", "resnet18"), ("unet", "resnet34")], fetch=False)
    assert decided.weights == "imagenet"
    assert decided.remarks == ["encoder_weights: ImageNet weights of resnet34 are downloaded before anything starts"]


def test_a_space_keeps_what_auto_stood_for(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("space: {lr: [1e-3, 1e-4]}\nrun: {model: unet, encoder: tu-tf_efficientnet_lite0}")
    space = check_space(load_space(path))
    assert space.fixed["encoder_weights"] == space.baseline.encoder_weights == "imagenet"
    path.write_text("space: {encoder_weights: [auto, none]}\nrun: {encoder: resnet18}")
    with pytest.raises(InputError, match="auto stands for imagenet or none"):
        check_space(load_space(path))


@pytest.mark.usefixtures("no_hub")
def test_the_tool_keeps_files_that_are_there(tmp_path: Path) -> None:
    target = tmp_path / "to"
    target.mkdir()
    (target / "resnet18.safetensors").write_bytes(b"mine")
    assert "is there already" in next(write_weights(["resnet18"], target))
    assert (target / "resnet18.safetensors").read_bytes() == b"mine"
    with pytest.raises(InputError, match="dpn68b do not exist"):
        list(write_weights(["dpn68b"], target))
