"""Fixtures of the tests of searches."""

from __future__ import annotations

from pathlib import Path

import pytest

from segtune.files.folders import SearchFolder
from tests.tuning.bench import SPACE, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(SearchFolder(tmp_path / "search"), SPACE)
