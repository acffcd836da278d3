"""Finding the file of a search space."""

from __future__ import annotations

from pathlib import Path

import pytest

from segtune.errors import InputError
from segtune.space.lookup import find_space


def test_find_space(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = tmp_path / "search_spaces"
    shipped.mkdir()
    for name in ("encoders", "losses"):
        (shipped / f"{name}.yaml").write_text("space: {lr: [1]}")
    (tmp_path / "losses").mkdir()  # a folder is no space
    assert find_space("encoders.yaml", shipped) == shipped / "encoders.yaml"
    assert find_space("losses", shipped) == shipped / "losses.yaml"
    (tmp_path / "encoders.yaml").write_text("space: {lr: [1]}")
    assert find_space("encoders.yaml", shipped) == Path("encoders.yaml")
    with pytest.raises(InputError, match=r"'loses\.yaml'.*encoders, losses; did you mean 'losses'\?"):
        find_space("loses.yaml", shipped)
