"""Fixtures that read a space, or its mistakes, from the text of a file."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from segtune.errors import InputError
from segtune.space.reader import load_space
from segtune.space.space import Space


@pytest.fixture
def space_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def load(text: str, **options: Any) -> Space:
        Path("s.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
        return load_space(Path("s.yaml"), **options)

    return load


@pytest.fixture
def mistakes_of(space_of):
    def load(text: str, **options: Any) -> list[str]:
        with pytest.raises(InputError) as caught:
            space_of(text, **options)
        return caught.value.mistakes

    return load
