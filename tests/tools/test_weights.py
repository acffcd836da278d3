"""python -m segtune.tools weights: ImageNet weights as files, or one line that says why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file, save_file

from segtune.config import RunConfig
from segtune.models.build import build_model
from tests.models.networks import ENCODER
from tests.models.test_pretrained import put_into_cache
from tests.scripts import Ended, call

REPOSITORY, COMMIT = "timm/mobilenetv3_small_050.lamb_in1k", "c0ffee"


@pytest.fixture
def weights_of_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """A cache of the hub that holds the weights of one encoder, and these weights."""
    torch.manual_seed(5)
    tensors = timm.create_model(ENCODER.removeprefix("tu-")).state_dict()
    put_into_cache(tmp_path / "cache", REPOSITORY, COMMIT)
    (file,) = (tmp_path / "cache").rglob("model.safetensors")
    save_file(tensors, file)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tensors


def weights(*arguments: object) -> Ended:
    """Type the command, in the folder of the test."""
    return call("segtune.tools.__main__", "weights", *arguments)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_files_and_their_origins_are_written_and_used(
    weights_of_timm: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = weights("--encoders", ENCODER.upper(), ENCODER, "--to", "taken along")
    file = tmp_path / "taken along" / f"{ENCODER}.safetensors"
    assert (ended.status, ended.err) == (0, "")
    first, last = ended.out.splitlines()
    assert first.startswith(f"1/1 {ENCODER}: taken along/{file.name}, ")
    assert first.endswith(f"/{REPOSITORY} at {COMMIT}")
    assert last == "all 1 are in taken along; SEGTUNE_WEIGHTS='taken along' uses them"
    (origin,) = yaml.safe_load(file.with_name("origins.yaml").read_text()).values()
    assert len(origin["sha256"]) == 64
    stem = next(tensor for name, tensor in load_file(file).items() if name.endswith("conv_stem.weight"))
    assert torch.equal(stem, weights_of_timm["conv_stem.weight"])

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setenv("SEGTUNE_WEIGHTS", "taken along")
    built = build_model(RunConfig(model="unet", encoder=ENCODER, encoder_weights="imagenet"), 3, 1).state_dict()
    assert torch.equal(next(built[name] for name in built if name.endswith("conv_stem.weight")), stem)

    before = file.stat().st_mtime_ns
    assert "is there already; --force writes it again" in weights("--encoders", ENCODER, "--to", "taken along").out
    assert file.stat().st_mtime_ns == before


@pytest.mark.usefixtures("weights_of_timm")
def test_encoders_of_a_space_are_written(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(f"run: {{encoder: {ENCODER}}}\nspace: {{lr: [1e-3, 1e-4]}}")
    assert weights("--space", "s.yaml", "--to", "to").status == 0
    assert (tmp_path / "to" / f"{ENCODER}.safetensors").is_file()


@pytest.mark.parametrize(
    ("typed", "status", "line"),
    [
        ("--encoders resnet81 --to w", 2, "encoder: unknown encoder 'resnet81'"),
        ("--encoders dpn68b --to w", 2, "encoder: ImageNet weights of dpn68b do not exist; leave it out"),
        ("--encoders resnet18 --to file", 2, "--to: file: "),
        ("--encoders resnet18 --to file/w", 2, "--to: file/w: "),
        ("--encoders resnet18", 2, "the following arguments are required: --to"),
        ("--to w", 2, "--encoders NAME ... or --space FILE is required"),
        ("--space nosuch --to w", 2, "no search space 'nosuch'"),
        ("--space bad.yaml --to w", 2, "bad.yaml"),
        ("--encoders resnet18 --to known", 2, "known/origins.yaml: is not the list of origins that this tool writes"),
        (
            "--space encoders --to w",
            1,
            "ImageNet weights of resnet34, mobilenet_v2, efficientnet-b0, mit_b0 cannot be ",
        ),
    ],
)
def test_what_goes_wrong_is_one_line_and_writes_nothing(typed: str, status: int, line: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "bad.yaml").write_text("space: {encodr: [resnet18]}")
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "origins.yaml").write_text("mine")
    before = set(tmp_path.rglob("*"))
    ended = weights(*typed.split())
    assert (ended.status, ended.out) == (status, "")
    (said,) = ended.err.splitlines()
    assert said.startswith(f"error: {line}")
    assert set(tmp_path.rglob("*")) == before
