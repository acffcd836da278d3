"""YAML as plain data, and files that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from segtune.errors import InputError
from segtune.files.yamlfile import read_yaml
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
