"""The code of docs/api.md runs, in the order of the page, and prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from segtune.data.demo import write_demo

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"


@pytest.mark.slow
def test_the_code_of_the_page_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_demo(tmp_path / "data" / "demo", train_tiles=8, val_tiles=4)
    monkeypatch.chdir(tmp_path)
    parts = re.findall(r"^```(python|text)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    printed = ""
    ran = 0
    for kind, text in parts:
        if kind == "python":
            exec(compile(text, str(PAGE), "exec"), names)
            printed, ran = capsys.readouterr().out, ran + 1
        elif not text.startswith(("segtune.", "Model.")):  # a signature
            assert printed.endswith(text), printed
    assert ran == 6
    assert names["found"].miou == names["run"].miou
