"""PNG files of all kinds have the pixels that were written, and cut or damaged ones are errors."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from segtune.data.reading import read_image
from segtune.data.tiles import ReadSettings
from tests.data.files import chunk, mistake

SIDE = 96


def smooth(bands: int, dtype: str = "uint8") -> Any:
    """Return pixels, (96, 96, bands), that row filters make smaller; several chunks hold them."""
    random = np.random.default_rng(bands)
    return (np.cumsum(random.integers(0, 7, (SIDE, SIDE, bands)), axis=0) % 250 + 1).astype(dtype)


def chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each chunk, and where it begins and ends."""
    place = 8
    while place < len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        yield kind, place, place + length + 12
        place += length + 12


def packed(path: Path) -> bytes:
    """Return the compressed pixels of a PNG."""
    content = path.read_bytes()
    return b"".join(content[start + 8 : end - 4] for kind, start, end in chunks(content) if kind == b"IDAT")


def repacked(path: Path, pixels: bytes) -> None:
    """Replace the compressed pixels of a PNG; checksums are right."""
    content = path.read_bytes()
    path.write_bytes(content[:33] + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), smooth(3)[..., ::-1])
    assert len([kind for kind, *_ in chunks(path.read_bytes()) if kind == b"IDAT"]) > 1
    return path


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


def last_data(content: bytes) -> int:
    return max(start for kind, start, _ in chunks(content) if kind == b"IDAT")


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "after the header": lambda content: content[:33],
    "in the first data": lambda content: content[:300],
    "in the middle": lambda content: content[: len(content) // 2],
    "between chunks": lambda content: content[: last_data(content)],
    "in the last data": lambda content: content[: last_data(content) + 60],
    "flipped early": lambda content: flipped(content, 100),
    "flipped late": lambda content: flipped(content, last_data(content) + 30),
    "flipped checksum": lambda content: flipped(content, last_data(content) - 2),
    "flipped length": lambda content: flipped(content, last_data(content) + 2),
}


@pytest.mark.parametrize("where", DAMAGED)
def test_a_png_that_is_cut_or_damaged_is_an_error(path: Path, where: str) -> None:
    path.write_bytes(DAMAGED[where](path.read_bytes()))
    assert mistake(path).startswith(f"{path}: cannot be read as an image (")


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("damage", ["short", "flipped", "checksum", "rows", "filter"])
def test_pixels_damaged_before_they_were_stored_are_an_error(path: Path, damage: str, before: bool) -> None:
    if before:  # a decoder must not take what a file read before left in memory
        read_image(path)
    data = packed(path)
    raw = zlib.decompress(data)
    changed = {
        "short": data[: len(data) // 2],
        "flipped": flipped(data, len(data) // 2),
        "checksum": flipped(data, len(data) - 1),
        "rows": zlib.compress(raw[: len(raw) // 2]),
        "filter": zlib.compress(b"\x09" + raw[1:]),
    }
    repacked(path, changed[damage])
    assert mistake(path).startswith(f"{path}: cannot be read as an image (")


@pytest.mark.parametrize("change", ["no end", "more after the end", "more rows", "more data"])
def test_a_png_whose_pixels_are_all_there_is_read(path: Path, change: str) -> None:
    content, data = path.read_bytes(), packed(path)
    if change == "no end":
        path.write_bytes(content[:-12])
    elif change == "more after the end":
        path.write_bytes(content + b"more")
    else:
        rows = zlib.compress(zlib.decompress(data) + bytes(3 * SIDE + 1))
        repacked(path, rows if change == "more rows" else data + b"more")
    np.testing.assert_array_equal(read_image(path)[0], smooth(3))


def saved(path: Path, kind: str) -> Any:
    """Write a PNG of a kind; return the pixels that are read from it, (H, W, bands)."""
    if kind == "palette":
        picture = Image.fromarray(smooth(1)[..., 0] % 7).convert("P")
        picture.putpalette(bytes(range(40, 40 + 21)) + bytes(747))
        picture.save(path)
        return np.array(picture.convert("RGB"))
    if kind == "16 bits":
        Image.fromarray(smooth(1, "uint16")[..., 0] * 250).save(path)
        return smooth(1, "uint16") * 250
    if kind == "one bit":
        Image.fromarray(smooth(1)[..., 0] > 120).save(path)
        return (smooth(1) > 120).astype(np.uint8)
    bands = {"grey": 1, "grey and alpha": 2, "colour": 3, "colour and alpha": 4}[kind]
    pixels = smooth(bands)
    Image.fromarray(pixels.squeeze()).save(path)
    return pixels


KINDS = ["grey", "grey and alpha", "colour", "colour and alpha", "palette", "16 bits", "one bit"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_png_has_the_pixels_that_were_written(tmp_path: Path, kind: str) -> None:
    expected = saved(tmp_path / "a.png", kind)
    image, valid = read_image(tmp_path / "a.png", ReadSettings(alpha="band"))
    np.testing.assert_array_equal(image, expected)
    assert valid.all()
