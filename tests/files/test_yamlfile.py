"""YAML as plain data, and files that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from segtune.errors import InputError
from segtune.files.yamlfile import Document, document_of, parse_yaml, read_yaml, yaml_of
from segtune.space.reader import load_space


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        load_space(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="is a directory"):
        read_yaml(tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("space:\n  encoder: [é]".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.yaml:2: is not UTF-8 text \(byte 0xe9\)"):
        load_space(latin)


def test_read_yaml(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("\ufefflr: 1e-5\nencoder: no\nimage_size: ~\nlabels: [010, -3, 1.5]\nday: 2024-05-01\n")
    assert read_yaml(path) == {
        "lr": 1e-5,
        "encoder": "no",
        "image_size": None,
        "labels": [10, -3, 1.5],
        "day": "2024-05-01",
    }
    path.write_text("lr: 1\nlr: 2\n")
    with pytest.raises(InputError, match=r"run\.yaml:2: lr: stands in the same mapping twice"):
        read_yaml(path)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "92452292e072",
            "1e5",
            "1.5E3",
            "1.",
            ".5e1",
            "123456789012",
            "010",
            "0o17",
            "0x1f",
            "1:30",
            "-",
            "+1",
            ".inf",
        ),
        *("no", "on", "true", "null", "~", "", "<<", "2024-05-01", "a: b", "# a", "*a", " x ", "é", "a\nb", "- 1"),
    ],
)
def test_a_text_that_looks_like_something_else_is_written_as_a_text(text: str) -> None:
    content = {"value": text, text: [text, {"in": text}]}
    for flow in (False, None, True):
        assert parse_yaml(yaml_of(content, flow=flow)) == content


def test_numbers_and_what_is_neither_stay_what_they_are() -> None:
    content = {"lr": 1e-5, "n": 10, "big": 1e20, "whole": 2.0, "on": True, "none": None, "inf": float("inf"), 3: [-1.5]}
    found = parse_yaml(yaml_of(content))
    assert found == content
    assert [type(value) for value in found.values()] == [type(value) for value in content.values()]
    assert list(found) == list(content)
    assert yaml_of({"word": "unet", "path": "data/x-1.tif", "digest": "0123abcd"}).count("'") == 0


def test_a_pipe_is_read_and_one_that_gives_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segtune.files.yamlfile._WAIT_S", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="gives nothing to read"):
        read_yaml(pipe)
    with pytest.raises(InputError, match="is larger than 1 MiB"):
        read_yaml(Path("/dev/zero"))
    reading, writing = os.pipe()
    os.write(writing, b"lr: 1")
    os.close(writing)
    assert read_yaml(Path(f"/dev/fd/{reading}")) == {"lr": 1}  # what a shell makes of <(...)
    os.close(reading)


SOUND = [
    "a: 1e-5\nb: no\nc: ~\nd:\ne: ''\nf: [010, -3, +7, 1., .5, 2024-05-01, .inf, -.INF, 0x10, 1_000, 1:30]\n",
    "a: &x {lr: 0.1}\nb: {<<: *x, wd: 1}\nc: [*x, *x]\n",
    "a: |\n  lines\n  stay\nb: >\n  these\n  fold\nc: \"\\u00e4 \\x41\\n\"\nd: 'it''s'\n",
    "? a\n: - 1\n  - - 2\n    - {b: c}\n",
    "--- # with a comment\na: !!str 12\nb: !!float 1\nc: !!null x\n...\n",
    "\ufeffä: ö\n",
    "",
    "- 1\n",
    "a: &x [*x]\n",
    "plain words",
]
DAMAGED = [
    "a: [1, 2",
    "a: 1\n b: 2\n",
    "a: b: c",
    "a: 'open\n",
    "a: *x\n",
    "a: &x 1\nb: &x 2\n",
    "a: !!int x\n",
    "a: !!python/object/apply:os.system [ls]\n",
    "a: 12345678901234567890\n",
    "{1: 2}: 3\n",
    "a: 1\nb: 2\na: 3\n",
    "a: {b: 1, b: 2}\n",
    'a: "\\ud800"\n',
    "a: \x07\n",
    "a:\n\t- 1\n",
    "a: @\n",
    "--- 1\n--- 2\n",
    "[" * 3000,
    "a: [" + "1, " * 20_001 + "]\n",
    "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
    "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d]\n",
]


def plainly(path: Path) -> object:
    """Read a file by the loader that knows lines; return the text of its data, or a list of mistakes."""
    try:
        document = document_of(path, path.read_text(encoding="utf-8-sig"))
    except InputError as error:
        return error.mistakes
    return [f"{path}:{line}: {message}" for line, message in document.repeated] or repr(document.data)


@pytest.mark.parametrize("text", [*SOUND, *DAMAGED])
def test_both_loaders_read_the_same_and_say_the_same(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    expected = plainly(path)
    assert isinstance(expected, str) == (text in SOUND)
    if text in SOUND:  # the quick loader needs no help

        def asked(*_: object) -> Document:
            raise AssertionError("the slow loader was asked")

        monkeypatch.setattr("segtune.files.yamlfile.document_of", asked)
        assert repr(read_yaml(path)) == expected
    else:
        with pytest.raises(InputError) as raised:
            read_yaml(path)
        assert raised.value.mistakes == expected
