"""A model is pushed to the hub as it lies in its folder; no test reaches the hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from torch import nn

from segtune.errors import InputError
from segtune.models.checkpoint import load_model, save_model
from segtune.models.hub import push_model
from segtune.models.manifest import Manifest
from tests.models.saved import CPU


def pushed(folder: Path, repo: str = "user/model") -> str:
    return push_model(load_model(folder, CPU)[0], folder, repo)


def mistake(folder: Path, repo: str = "user/model") -> str:
    with pytest.raises(InputError) as caught:
        pushed(folder, repo)
    (line,) = caught.value.mistakes
    assert "\n" not in line
    return line


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_none")


@pytest.fixture
def sent(token: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What is pushed, by the names of the files; no hub is asked."""
    files: dict[str, bytes] = {}

    def create_repo(api: Any, repo_id: str, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(api: Any, repo_id: str, folder_path: Path, **_: Any) -> str:
        files.update({path.name: path.read_bytes() for path in folder_path.iterdir()})
        return f"https://hub/{repo_id}/commit/1"

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    return files


def test_the_files_of_the_folder_are_pushed_and_no_others(saved: Path, sent: dict[str, bytes]) -> None:
    (saved / "notes.txt").write_text("mine")
    assert pushed(saved) == "https://hub/user/model/commit/1"
    names = {"config.json", "model.safetensors", "run.yaml", "README.md"}
    assert sent.keys() == names
    assert all(sent[name] == (saved / name).read_bytes() for name in names - {"run.yaml"})


def test_what_tells_of_the_machine_is_not_pushed(
    tmp_path: Path, network: nn.Module, manifest: Manifest, sent: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.node", lambda: "annas-computer")
    paths = {"dataset": "/home/anna/ponds", "add_val_dirs": ["/home/anna/north"], "cache_dir": "/home/anna/cache"}
    paths |= {"encoder_weights": "/home/anna/w.pth"}
    save_model(tmp_path, network, replace(manifest, config=manifest.config.model_copy(update=paths)))
    before = (tmp_path / "run.yaml").read_bytes()
    pushed(tmp_path)
    assert (tmp_path / "run.yaml").read_bytes() == before
    assert b"annas-computer" in before
    for content in sent.values():
        assert b"anna" not in content
    (tmp_path / "there").mkdir()
    for name, content in sent.items():
        (tmp_path / "there" / name).write_bytes(content)
    own, found = (load_model(folder, CPU)[1] for folder in (tmp_path, tmp_path / "there"))
    config = {"dataset": "ponds", "add_val_dirs": ["north"], "cache_dir": "cache", "encoder_weights": "w.pth"}
    assert found == replace(own, config=own.config.model_copy(update=config))


@pytest.mark.parametrize("old", [None, "# A segmentation model\n"])
def test_a_card_without_metadata_is_written_anew(saved: Path, sent: dict[str, bytes], old: str | None) -> None:
    card = (saved / "README.md").read_bytes()
    (saved / "README.md").unlink()
    if old:
        (saved / "README.md").write_text(old)
    pushed(saved)
    assert sent["README.md"] == card
    assert not old or (saved / "README.md").read_text() == old


@pytest.mark.usefixtures("token", "no_hub")
def test_a_hub_out_of_reach_is_one_line(saved: Path) -> None:
    assert mistake(saved).startswith("--push-to-hub: user/model: the hub cannot be reached (")


def test_without_a_token_one_line_says_how_to_log_in(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segtune.models.hub.get_token", lambda: None)
    assert "`hf auth login`, or set HF_TOKEN" in mistake(saved)


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("repo", ["a b", "one/two/three", "-x-"])
def test_a_wrong_name_is_refused(saved: Path, repo: str) -> None:
    assert mistake(saved, repo).startswith(f"--push-to-hub: {repo}: not the name of a repository (")
