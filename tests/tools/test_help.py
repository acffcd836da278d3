"""python -m segtune.tools NAME --help: each tool tells of itself, and of no other."""

from __future__ import annotations

import sys

import pytest

from segtune.tools.__main__ import TOOLS, main


def shown(*words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the help that words on the command line show."""
    monkeypatch.setattr(sys, "argv", ["tools", *words, "--help"])
    with pytest.raises(SystemExit):
        main()
    return capsys.readouterr().out


@pytest.mark.parametrize("tool", TOOLS)
def test_the_help_of_a_tool_has_its_usage_its_paragraph_and_its_examples(
    tool: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(tool, capsys=capsys, monkeypatch=monkeypatch)
    usage, _, paragraph, *others = text.splitlines()
    assert usage.startswith(f"usage: python -m segtune.tools {tool} ")
    assert paragraph.startswith(f"`{tool}` ")
    named = [line.split()[3] for line in others if line.startswith("    python -m segtune.tools ")]
    assert named
    assert set(named) == {tool}
    assert not any(f"\n`{other}` " in text for other in TOOLS if other != tool)


def test_a_usage_names_what_a_command_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown("tile", capsys=capsys, monkeypatch=monkeypatch)
    assert text.startswith("usage: python -m segtune.tools tile SCENE [SCENE ...] --to FOLDER --size N [flags]\n")


def test_the_help_of_all_tools_tells_of_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(capsys=capsys, monkeypatch=monkeypatch)
    for tool in TOOLS:
        assert f"\n    python -m segtune.tools {tool} " in text
        assert f"\n`{tool}` " in text
