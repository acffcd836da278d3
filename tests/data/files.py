"""Files that GDAL does not write by itself: turned pictures, pages, and noise to fill them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from segtune.data.reading import read_image
from segtune.errors import InputError

ORIENTATION = 0x0112
SHAPE = (12, 20)


def noise(bands: int = 3, dtype: str = "uint8") -> npt.NDArray[Any]:
    """Return random pixels, (H, W, bands), none of which is 0 or the largest value."""
    return np.random.default_rng(bands).integers(1, 250, (*SHAPE, bands)).astype(dtype)


def mistake(path: Path, read: Any = read_image) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    (text,) = caught.value.mistakes
    assert "\n" not in text
    return text


def profile(bands: int, dtype: str = "uint8") -> dict[str, Any]:
    height, width = SHAPE
    return {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": dtype}


def directory(tags: list[tuple[int, int]], following: int = 0) -> bytes:
    """Return a TIFF of one directory with these tags and without pixels."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", following) + bytes(200)


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
