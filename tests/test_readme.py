"""The README is kept true where a program can tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from segtune.cli.flags import ALIASES
from segtune.cli.tasks import SPACES
from segtune.config import RunConfig
from segtune.models.compatibility import unknown_encoder
from segtune.space.reader import load_space
from segtune.space.settings import SearchSettings

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
LINES = [line for line in README.splitlines() if line.startswith("| `")]


def row(name: str, text: str = "") -> str:
    """The table row about a name that holds this text."""
    return next((line for line in LINES if line.startswith(f"| `{name}` ") and text in line), "")


@pytest.mark.parametrize("name", RunConfig.model_fields)
def test_the_settings_table_has_every_setting_with_its_flags_and_meaning(name: str) -> None:
    field = RunConfig.model_fields[name]
    assert field.description
    assert row(name, field.description)
    assert all(f"`{flag}`" in row(name, field.description) for flag in ALIASES.get(name, ()))


@pytest.mark.parametrize("name", SearchSettings.model_fields)
def test_the_search_table_has_every_setting_of_a_search(name: str) -> None:
    assert row(name, SearchSettings.model_fields[name].description or "?")


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_space_that_ships_loads_opens_with_a_comment_and_is_named(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("#")
    space = load_space(path, checks={"encoder": unknown_encoder})
    assert space.searched()
    assert row(path.stem)


def test_no_output_is_missing() -> None:
    assert "@@" not in README
