"""Fixtures of the tests of searches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event

from segtune.files.folders import SearchFolder
from tests.tuning.bench import SPACE, Bench


@pytest.fixture(scope="session", autouse=True)
def _quick_studies() -> Iterator[None]:
    """Let a study of this process be made and written quickly: tests make hundreds, and none must outlive a power cut.

    Alembic imports every schema that Optuna ever had, for each study anew.
    """

    def do_not_wait_for_the_disk(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    schemas: list[ScriptDirectory] = []
    read = ScriptDirectory.from_config

    def read_once(config: Any) -> ScriptDirectory:
        if not schemas:
            schemas.append(read(config))
        return schemas[0]

    event.listen(Engine, "connect", do_not_wait_for_the_disk)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", read_once)
        yield
    event.remove(Engine, "connect", do_not_wait_for_the_disk)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(SearchFolder(tmp_path / "search"), SPACE)
