"""validate.py refuses files that are no model, or a damaged one: one line, exit status 2, and nothing executed."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.evaluation.plain import flags, plain_model
from tests.evaluation.runs import Run, Trained, errors
from tests.evaluation.scenes import picture, write_scene

Capsys = pytest.CaptureFixture[str]
WEIGHTS = "model.safetensors"


class Bomb:
    """Executed by a pickle that is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("the pickle was executed",))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    plain_model(folder / "model", 2)
    write_scene(folder / "tile.tif", picture(64, 64))
    return folder


@pytest.fixture
def model(sound: Path, tmp_path: Path) -> Path:
    """A copy that a test damages."""
    return Path(shutil.copytree(sound / "model", tmp_path / "model"))


@pytest.fixture
def refused(sound: Path, tmp_path: Path, run: Run, capsys: Capsys) -> Callable[..., str]:
    """Run validate.py on what must be refused; returns the line."""

    def refused(flag: str, path: Path, *others: object) -> str:
        given = others or ("--classes", "1,2", *flags())
        assert run(flag, path, "-d", sound / "tile.tif", "-o", tmp_path / "out", *given) == 2
        (line,) = errors(capsys)
        assert not (tmp_path / "out").exists()
        return line

    return refused


def torchscript(path: Path) -> None:
    torch.jit.script(torch.nn.Conv2d(3, 1, 1)).save(str(path))


def onnx(path: Path) -> None:
    path.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x052.0.0" + bytes(200))


def old_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def torch_pickle(path: Path) -> None:
    torch.save({"state_dict": Bomb()}, path)


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


@pytest.mark.parametrize("share", [0.5, 0.001, 1e-9, 0.999999])
@pytest.mark.parametrize("flag", ["-c", "-cd"])
def test_cut_off_weights(model: Path, refused: Callable[..., str], share: float, flag: str) -> None:
    content = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(content[: int(share * len(content))])
    line = refused(flag, model)
    assert line.startswith(f"error: {model / WEIGHTS}: is ")
    assert "is cut off: it has " in line if share > 0.0001 else "is empty" in line


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (old_pickle, "is a pickle, and loading one can run code that is stored in it"),
        (torch_pickle, "is a pickle, and loading one can run code that is stored in it"),
        (torchscript, "is a TorchScript file, not one of safetensors"),
        (onnx, "is an ONNX file, not one of safetensors"),
        (text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n"), "git lfs pull fetches the file itself"),
        (text("<!DOCTYPE html><html>"), "is a web page, not a file of safetensors"),
        (text("weights"), "is not a file of safetensors, or is damaged"),
        (text("x"), "is not a file of safetensors, or is damaged"),
        (lambda path: path.write_bytes(struct.pack("<Q", 20) + b"{" + bytes(40)), "has a damaged header"),
    ],
)
def test_other_files_under_the_name_of_weights(
    model: Path, refused: Callable[..., str], write: Callable[[Path], object], words: str
) -> None:
    (model / WEIGHTS).unlink()
    write(model / WEIGHTS)
    line = refused("-c", model)
    assert line.startswith(f"error: {model / WEIGHTS}: ")
    assert words in line


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("m.pt", torch_pickle, "is a pickle, and loading one can run code"),
        ("m.pth", old_pickle, "is a pickle, and loading one can run code"),
        ("m.ckpt", torch_pickle, "is a pickle, and loading one can run code"),
        ("pytorch_model.bin", torch_pickle, "write it with smp's model.save_pretrained(FOLDER)"),
        (
            "m.pt",
            torchscript,
            "is a TorchScript file, which does not say what its classes and bands are; give the folder",
        ),
        ("m.onnx", onnx, "is a ONNX file, which does not say what its classes and bands are; give the folder"),
        ("m.pt2", torch_pickle, "is a torch.export file, which does not say"),
        ("m.safetensors", text("x"), "is not named model.safetensors; give the folder of a model"),
        ("m.tif", text("x"), "is not a model; a model is a folder with model.safetensors"),
    ],
)
def test_files_that_are_no_model(
    tmp_path: Path, refused: Callable[..., str], name: str, write: Callable[[Path], object], words: str
) -> None:
    write(tmp_path / name)
    line = refused("-c", tmp_path / name)
    assert line.startswith(f"error: -c: {tmp_path / name} ")
    assert words in line


@pytest.mark.parametrize("flag", ["-c", "-cd"])
@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "is empty; a model was expected"),
        (
            ["pytorch_model.bin", "config.json"],
            "holds no model.safetensors, but pytorch_model.bin: pickles, and loading",
        ),
        (
            ["a.safetensors", "b.safetensors"],
            "holds no model.safetensors, but a.safetensors, b.safetensors; smp's save",
        ),
        (["config.json"], "holds no model: neither model.safetensors nor best/model.safetensors"),
        (
            [f"run_a/best/{WEIGHTS}", f"run_b/best/{WEIGHTS}"],
            "but models in run_a, run_b; name one of them, such as -cd ",
        ),
        ([f"a/{WEIGHTS}", f"b/{WEIGHTS}"], "but models in a, b; name one of them, such as -cd "),
        (["search.yaml", f"trial_0000/best/{WEIGHTS}"], "a search without a winner yet: -cd "),
    ],
)
def test_folders_without_a_model(
    tmp_path: Path, refused: Callable[..., str], flag: str, files: list[str], words: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    line = refused(flag, folder)
    assert str(folder) in line
    assert words in line


def test_weights_of_another_network(model: Path, refused: Callable[..., str]) -> None:
    tensors = load_file(model / WEIGHTS)
    names = sorted(name for name in tensors if not name.endswith("num_batches_tracked"))
    renamed = {("module." + name if name in names[:3] else name): tensor for name, tensor in tensors.items()}
    save_file(renamed, model / WEIGHTS)
    line = refused("-c", model)
    assert f"model.safetensors is of another network than config.json: it has no {names[0]} and 2 more" in line
    assert f"has an unknown module.{names[0]} and 2 more" in line
    wider = {
        name: tensor.repeat(2, *[1] * (tensor.ndim - 1)) if name in names[:3] else tensor
        for name, tensor in tensors.items()
    }
    save_file(wider, model / WEIGHTS)
    assert f"another network than config.json: 3 of {len(tensors)} tensors have other shapes" in refused("-c", model)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "not a config.json as smp's save_pretrained writes it: it has no _model_class"),
        ('{"architectures": ["Segformer"], "model_type": "segformer"}', "it has no _model_class"),
        ({"_model_class": "UNet3D"}, "_model_class: smp has no architecture 'UNet3D'"),
        ({"_model_class": 7}, "_model_class: smp has no architecture '7'"),
        ({"encoder_name": "resnet99"}, "unknown encoder 'resnet99'"),
        ({"encoder_name": "tu-hf_hub:user/model"}, "unknown encoder 'tu-hf_hub:user/model'"),
        ({"encoder_name": 5}, "encoder"),
        ({"encoder_name": "resnet18"}, "is of another network than config.json"),
        ({"checkpoint_path": "/etc/passwd"}, "smp's Unet takes no checkpoint_path"),
        ({"decoder_channels": [10**9] * 5}, "decoder_channels: [1000000000, "),
        ({"decoder_channels": [512, 256, 128, 64, 32]}, "tensors have other shapes"),
        ({"decoder_channels": "wide"}, "smp cannot build this network"),
        ({"encoder_depth": 9}, "smp cannot build this network"),
        ({"in_channels": "3"}, "in_channels: must be a number from 1, but is '3'"),
        ({"in_channels": 10**9}, "--mean: needs a value for each band"),
        ({"classes": 0}, "classes: must be a number from 1, but is 0"),
        ({"classes": 10**9}, "--classes: "),
    ],
)
def test_a_config_json_that_is_not_of_such_a_model(
    model: Path, refused: Callable[..., str], content: object, words: str
) -> None:
    path = model / "config.json"
    if isinstance(content, dict):
        content = json.dumps(json.loads(path.read_text()) | content)
    path.write_text(str(content))
    line = refused("-c", model)
    assert words in line
    assert str(model) in line


def test_names_of_earlier_releases_of_smp_are_understood(sound: Path, model: Path, tmp_path: Path, run: Run) -> None:
    path = model / "config.json"
    content = json.loads(path.read_text())
    del content["decoder_use_norm"], content["decoder_interpolation"]
    path.write_text(json.dumps(content | {"decoder_use_batchnorm": True, "encoder_weights": "imagenet"}))
    given = ["--classes", "1,2", *flags()]
    assert run("-c", model, "-d", sound / "tile.tif", "-o", tmp_path / "out", *given) == 0


@pytest.mark.parametrize("how", ["cut", "empty", "dataset", "list", "binary"])
def test_a_run_yaml_that_is_cut_off_or_of_another_kind(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys, how: str
) -> None:
    folder = Path(shutil.copytree(binary.folder / "best", tmp_path / "model"))
    path = folder / "run.yaml"
    whole = path.read_text(encoding="utf-8")
    texts = {
        "cut": whole[: len(whole) // 2],
        "empty": "",
        "dataset": "path: .\ntrain: images/train\nnc: 3\n",
        "list": "- 1",
    }
    path.write_bytes(np.random.default_rng(0).bytes(300) if how == "binary" else texts[how].encode())
    assert run("-c", folder, "-d", binary.val, "-o", tmp_path / "out") == 2
    (line,) = errors(capsys)
    assert str(path) in line
