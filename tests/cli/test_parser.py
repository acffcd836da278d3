"""Flags: how they are spelt, and what their values may look like."""

from __future__ import annotations

import sys

import pytest

import run_single
from segtune.cli.given import given_settings
from tests.cli.runs import (
    Typed,
)


@pytest.mark.parametrize(
    ("name", "word", "hint"),
    [
        ("validate", "--only", "did you mean '--only-plots'?"),
        ("validate", "-dataset", "did you mean '--dataset-dir'?"),
        ("validate", "-dev", "did you mean '--device'?"),
        ("validate", "--zzz", ""),
        ("run_single", "-l", "did you mean '-lr'?"),
        ("run_single", "-va", "did you mean '-val'?"),
        ("run_single", "-lr1e-3", "did you mean '-lr 1e-3'?"),
        ("run_single", "-lo", "did you mean '-log'?"),
        ("run_single", "-batch", "did you mean '--batch'?"),
        ("run_single", "--class", "did you mean '--classes'?"),
        ("run_single", "--exp", "did you mean '--exp-name'?"),
        ("run_single", "-epochs=3", "did you mean '--epochs'?"),
        ("run_search", "--res", "did you mean '--resume'?"),
        ("run_search", "-trials", "did you mean '--trials'?"),
        ("run_search", "--epochs", "here it is --set epochs=VALUE"),
        ("run_search", "-lr", "here it is --set lr=VALUE"),
        ("run_search", "--class-list=1", "here it is --set classes=VALUE"),
    ],
)
def test_an_abbreviated_flag_is_refused_with_the_full_one(typed: Typed, name: str, word: str, hint: str) -> None:
    status, lines = typed(name, word, "x")
    assert status == 2
    flag = word.partition("=")[0]
    assert lines == [f"error: unknown flag {flag!r}{hint and '; '}{hint} (see --help)"]


def test_all_unknown_flags_are_reported_at_once(typed: Typed) -> None:
    assert len(typed("run_single", "-c", "x", "--epoch", "3", "-lr", "1e-3", "--", "-y")[1]) == 2


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("-lr=1e-3", "lr", 1e-3),
        ("-e3", "epochs", 3),
        ("-munet", "model", "unet"),
        ("-w 0", "workers", 0),
        ("-w AUTO", "workers", "auto"),
        ("--class-list 1 2 3", "classes", [1, 2, 3]),
        ("--class-list 1, 2, 3", "classes", [1, 2, 3]),
        ("--class-list 1,2 3", "classes", [1, 2, 3]),
        ("--class-list [1, 2]", "classes", [1, 2]),
        ("--class-list=1,2,3", "classes", [1, 2, 3]),
        ("--classes 1 --classes 2 3", "classes", [2, 3]),
        ("--add-dirs nir dem", "channels", ["nir", "dem"]),
        ("--add-dirs 2021 2022", "channels", ["2021", "2022"]),
        ("--ignore 0 254", "ignore", [0, 254]),
        ("--rgb 3 2 1", "rgb", [3, 2, 1]),
        ("--add-val-dirs a b --add-val-dirs c", "add_val_dirs", ["a", "b", "c"]),
    ],
)
def test_lists_are_taken_with_and_without_commas(
    monkeypatch: pytest.MonkeyPatch, words: str, name: str, value: object
) -> None:
    monkeypatch.setattr(sys, "argv", ["run_single.py", *words.split(), "-d", "x"])
    assert given_settings(run_single.parse())[name] == value


@pytest.mark.parametrize("value", ["-1", "-1,-100", "-1 -100", "-0.5"])
def test_a_negative_value_is_not_taken_for_a_flag(typed: Typed, value: str) -> None:
    _, lines = typed("run_single", "-d", "x", "-lr", *value.split())
    assert "flag" not in lines[0]
    assert "expected" not in lines[0]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("classes=1 2 3 lr=1", "classes: a list is written without blanks: classes=1,2,3"),
        ("channels=nir dem", "channels: a list is written without blanks: channels=nir,dem"),
        ("lr=1 2", "--set: '2' is no assignment; write KEY=VALUE, such as lr=1e-3"),
        ("lr", "--set: 'lr' is no assignment; write KEY=VALUE, such as lr=1e-3"),
    ],
)
def test_a_list_with_blanks_in_set_is_refused_with_its_right_form(typed: Typed, words: str, line: str) -> None:
    assert typed("run_search", "--space", "quickstart", "--set", *words.split()) == (2, [f"error: {line}"])
