"""Fixtures of the tests of data."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import WriteDataSet
from tests.data.caching import TRAIN, VAL, Counted


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted()
    monkeypatch.setattr("segtune.data.findings.read_tile", counted)
    monkeypatch.setattr("segtune.data.store.read_tile", counted)
    return counted


@pytest.fixture
def root(tmp_path: Path, data_set: WriteDataSet) -> Path:
    return data_set(tmp_path / "set", TRAIN, VAL)


@pytest.fixture(params=[True, False], ids=["cached", "decoded"])
def cached(request: pytest.FixtureRequest) -> bool:
    return request.param
