"""validate.py --export and --push-to-hub: what is written or sent, where to, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch

from segtune.files.folders import find_model
from tests.evaluation.runs import Run, Trained, errors
from tests.evaluation.scenes import picture, saved_model, write_scene

pytestmark = pytest.mark.usefixtures("blank_charts")

Capsys = pytest.CaptureFixture[str]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("torchscript", "model.torchscript.pt"),
        ("torch_export", "model.pt2"),
        ("onnx", "model.onnx"),
        ("deepness", "model_deepness.onnx"),
    ],
)
def test_an_export_is_compared_on_the_tiles_and_written(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys, kind: str, name: str
) -> None:
    for _ in range(2 if kind == "torchscript" else 1):  # its own it replaces
        assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path, "--com", "--export", kind) == 0
    printed = capsys.readouterr().out
    assert "largest difference between its probabilities and the model's: " in printed
    assert "on 4 tiles" in printed
    assert f"written to {tmp_path / name}, with the STAC item {name}.stac.json" in printed
    item = json.loads((tmp_path / f"{name}.stac.json").read_text(encoding="utf-8"))
    assert item["assets"]["model"]["href"] == f"./{name}"
    assert (tmp_path / name).stat().st_size > 100_000
    if kind == "torchscript":
        with pytest.warns(FutureWarning):  # torch.jit is deprecated
            probabilities, labels = torch.jit.load(tmp_path / name)(torch.zeros(3, 4, 32, 32))
        assert probabilities.shape == (3, 1, 32, 32)
        assert set(labels.unique().tolist()) <= {0, 255}


@pytest.mark.slow
def test_flags_that_an_exported_file_does_not_follow_are_named(tmp_path: Path, run: Run, capsys: Capsys) -> None:
    model, scene = saved_model(tmp_path / "model"), write_scene(tmp_path / "a.tif", picture(70, 70))
    flags = ["-t", "0.3", "--tta", "flips", "--no-plots", "--export", "torchscript"]
    assert run("-cd", model, "-d", scene, "-o", tmp_path / "out", *flags) == 0
    note = "note: -t, --tta: for the images here; the file follows the model's own settings, in float32"
    assert note in " ".join(capsys.readouterr().out.split())


def test_an_export_without_data_and_folder_goes_beside_the_model(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    shutil.copytree(binary.folder, tmp_path / "run")
    assert run("-cd", tmp_path / "run", "--export", "torchscript") == 0
    assert "made-up tiles" in capsys.readouterr().out
    files = {"model.torchscript.pt", "model.torchscript.pt.stac.json"}
    assert {path.name for path in (tmp_path / "run" / "best" / "export").iterdir()} == files


@pytest.mark.parametrize("name", ["model.torchscript.pt", "model.torchscript.pt.stac.json"])
def test_an_export_replaces_no_file_of_others(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys, name: str
) -> None:
    (tmp_path / name).write_text("precious")
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path, "--com", "--export", "torchscript") == 2
    (line,) = errors(capsys)
    assert line.startswith(f"error: -o: {tmp_path / name} exists, and ")
    assert [path.name for path in tmp_path.iterdir()] == [name]  # nothing was measured before
    assert (tmp_path / name).read_text() == "precious"


@pytest.mark.parametrize(
    ("kind", "fields", "line"),
    [
        ("onnx", {}, "--export onnx: needs onnxscript, not found here; pip install '.[export]' installs it"),
        ("deepness", {"uint8": False}, "--export deepness: Deepness reads 8-bit rasters only, and "),
    ],
)
def test_what_an_export_lacks_is_told_of_before_anything_is_measured(
    tmp_path: Path, run: Run, capsys: Capsys, monkeypatch: pytest.MonkeyPatch, kind: str, fields: Any, line: str
) -> None:
    if kind == "onnx":
        monkeypatch.setitem(sys.modules, "onnxscript", None)
    model, scene = saved_model(tmp_path / "model", **fields), write_scene(tmp_path / "a.tif", picture(70, 70))
    assert run("-cd", model, "-d", scene, "-o", tmp_path / "out", "--export", kind) == 2
    (found,) = errors(capsys)
    assert found.startswith(f"error: {line}")
    assert not (tmp_path / "out").exists()


def test_a_model_is_uploaded_without_what_tells_of_the_machine(
    binary: Trained, run: Run, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, bytes] = {}

    def upload_folder(api: Any, repo_id: str, folder_path: Path, **_: Any) -> str:
        sent.update({path.name: path.read_bytes() for path in folder_path.iterdir()})
        return f"https://hub/{repo_id}/commit/1"

    monkeypatch.setenv("HF_TOKEN", "hf_none")
    monkeypatch.setattr(
        huggingface_hub.HfApi, "create_repo", lambda api, repo_id, **_: SimpleNamespace(repo_id=repo_id)
    )
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    assert run("-cd", binary.folder, "--push-to-hub", "user/ponds") == 0
    assert capsys.readouterr().out == "https://hub/user/ponds/commit/1\n"
    best = find_model(binary.folder)
    assert {"model.safetensors", "config.json", "run.yaml"} <= sent.keys()
    assert all(sent[name] == (best / name).read_bytes() for name in sent.keys() - {"run.yaml"})
    assert b"machine:" not in sent["run.yaml"]
    assert str(binary.dataset).encode() not in b"".join(sent.values())


@pytest.mark.parametrize(
    ("repo", "line"), [("user/ponds", "no token of the hub is here"), ("a b", "a b: not the name of a repository")]
)
def test_an_upload_that_cannot_be_is_refused_before_anything_is_measured(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys, monkeypatch: pytest.MonkeyPatch, repo: str, line: str
) -> None:
    monkeypatch.setattr("segtune.models.hub.get_token", lambda: None)
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path / "out", "--push-to-hub", repo) == 2
    (found,) = errors(capsys)
    assert found.startswith(f"error: --push-to-hub: {line}")
    assert not (tmp_path / "out").exists()
