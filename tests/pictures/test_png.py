"""Pictures as files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from segtune.pictures.png import write_png
from tests.pictures.sheets import grey_picture


def test_png_files_have_any_name_and_keep_every_pixel(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    path = tmp_path / "худшие тайлы.png"
    write_png(path, picture)
    read = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read[..., ::-1], picture)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_picture_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, grey_picture())
    before = path.read_bytes()
    with pytest.raises(OSError, match=r"a\.png"):
        write_png(path, np.zeros((0, 5, 3), np.uint8))
    with pytest.raises(OSError, match="missing"):
        write_png(tmp_path / "missing" / "a.png", grey_picture())
    assert path.read_bytes() == before
