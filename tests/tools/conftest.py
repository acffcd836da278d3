"""Fixtures of the tests of tools."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tools.sets import sound


@pytest.fixture(scope="package")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set without any fault; tests do not change it."""
    return sound(tmp_path_factory.mktemp("sound") / "set")


@pytest.fixture
def root(tmp_path: Path, clean: Path) -> Path:
    """A data set without any fault, to be changed."""
    return Path(shutil.copytree(clean, tmp_path / "set"))
