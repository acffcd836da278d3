"""Files that would fill the memory or take very long to read."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest

from segtune.errors import InputError
from segtune.space.reader import load_space

NINES = "9" * 400


BOMB = "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghi"))


MERGES = "\n".join(f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 10)}]}}" for a, b in pairwise("abcdefghi"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"a: &a [x, x, x, x, x, x, x, x, x]\n{BOMB}\n", "5: more than 20,000 values"),
        (f"a: &a {{lr: 1, epochs: 2}}\n{MERGES}\n", "5: more than 20,000 values"),
        ("run:\n  epochs: " + NINES, "2: is too large a number"),
        ("run:\n  epochs: " + NINES * 20, "2: is too large a number"),
        ("run: {lr: -" + NINES + "}", "1: is too large a number"),
        ("space: {lr: {low: 1, high: " + NINES + "}}", "1: is too large a number"),
        ("search: {time_budget: " + NINES + "}", "1: is too large a number"),
        ("search: {time_budget: " + NINES + "h}", "1: search.time_budget: must be a finite number"),
        ("a: " + "[" * 3000, " nested too deeply"),
        ("a: " + "{a: " * 3000, " nested too deeply"),
        ("[" + "1, " * 30_000 + "]", "1: more than 20,000 values"),
        ('dataset: "a\\0b"', "1: holds a character that no name can have"),
        ('dataset: "\\ud800"', "1: holds a character that no name can have"),
        ("run: !!python/object/apply:os.system [ls]", "1: could not determine a constructor for the tag"),
        ("#" * (1 << 20) + "\n", " is larger than 1 MiB"),
    ],
)
def test_a_file_that_would_fill_the_memory_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    begun = time.process_time()
    with pytest.raises(InputError) as caught:
        load_space(path)
    assert any(mistake.startswith(f"{path}:{problem}") for mistake in caught.value.mistakes)
    assert all(len(mistake) < 400 for mistake in caught.value.mistakes)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ("lr: {low: 1e-7, high: 1, step: 1e-7}", False),
        ("lr: {low: 1e-9, high: 1e9, step: 1e-9}", False),
        ("batch_size: {low: 1, high: 999999999999, step: 1}", False),
        ("batch_size: {low: 1, high: 999999999999}", True),
        ("lr: {low: 0.001, high: 1, step: 0.001}", True),
    ],
)
def test_a_range_of_very_many_steps_is_refused_at_once(tmp_path: Path, given: str, allowed: bool) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(f"space: {{{given}}}", encoding="utf-8")
    begun = time.process_time()
    if allowed:
        assert load_space(path).searched()
    else:
        with pytest.raises(InputError, match="are more than 100,000; leave step out"):
            load_space(path)
    assert time.process_time() - begun < 1


def test_two_thousand_mistakes_are_reported_quickly(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("".join(f"lrr{i}: 1\n" for i in range(2000)), encoding="utf-8")
    begun = time.process_time()
    with pytest.raises(InputError):
        load_space(path)
    assert time.process_time() - begun < 5
