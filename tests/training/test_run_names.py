"""The folders that a run of a name may have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.files.folders import RunFolder
from tests.training.processes import FORKED, line, script
from tests.training.runs import (
    contents,
)

pytestmark = FORKED


@pytest.mark.parametrize("name", ["a/b", "../a", "/tmp/a", "a/", "", ".", ".."])
def test_a_name_that_is_a_path_is_refused(config: RunConfig, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="--exp-name"):
        RunFolder.named(tmp_path / "logs", name)


def test_a_folder_that_is_no_run_is_refused(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"meow")
    (tmp_path / "notes").write_text("mine", encoding="utf-8")
    before = contents(tmp_path)
    for name in ("photos", "notes"):
        with pytest.raises(InputError, match=re.escape(f"{tmp_path / name}: exists, and is not a run")):
            RunFolder.named(tmp_path, name)
    said = script(*line(config, tmp_path)[:-1], "photos", where=tmp_path)
    assert said.status == 2
    assert len(said.err) == 1
    assert {
        name: data for name, data in contents(tmp_path).items() if "sa" not in name[:2] and name in before
    } == before
