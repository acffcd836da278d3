"""Training states on disk: written completely or not at all, loaded without executing anything."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from segtune.errors import InputError
from segtune.training.state import load_state, save_state


class Boom:
    """What is in a file from a stranger."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("executed",)


def test_a_state_comes_back_exactly(tmp_path: Path) -> None:
    state = {
        "model": {"weight": torch.randn(3, 2), "steps": torch.tensor(7)},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "epoch": 3,
        "best": -1.0,
        "cuda": None,
        "rng": torch.get_rng_state(),
    }
    save_state(tmp_path / "state.pt", state)
    read = load_state(tmp_path / "state.pt")
    assert torch.equal(read["model"]["weight"], state["model"]["weight"])
    assert torch.equal(read["rng"], state["rng"])
    assert read["optimizer"] == state["optimizer"]
    assert (read["epoch"], read["best"], read["cuda"]) == (3, -1.0, None)
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_a_state_with_a_pickled_object_is_refused_and_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"epoch": Boom()}, tmp_path / "state.pt")
    with pytest.raises(InputError, match=r"state\.pt"):
        load_state(tmp_path / "state.pt")
    assert not (tmp_path / "executed").exists()


def test_a_state_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"epoch": 1})
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        save_state(path, {"epoch": lambda: 2})
    assert load_state(path) == {"epoch": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_a_state_gets_the_users_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        save_state(tmp_path / "state.pt", {"epoch": 1})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state.pt").stat().st_mode) == 0o666 & ~umask


def test_links_in_the_place_of_a_state_are_replaced_and_not_followed(tmp_path: Path) -> None:
    theirs, path = tmp_path / "mine.txt", tmp_path / "state.pt"
    theirs.write_text("precious", encoding="utf-8")
    for place in (path, tmp_path / f".{path.name}.tmp-{os.getpid()}"):
        place.symlink_to(theirs)
    save_state(path, {"epoch": 1})
    assert theirs.read_text(encoding="utf-8") == "precious"
    assert load_state(path) == {"epoch": 1}
