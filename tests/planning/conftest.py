"""Data that runs are planned on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import WriteDataSet


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory, data_set: WriteDataSet) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "tiles", train=8, val=4, size=(32, 48), labels=(0, 3, 7, 255))
