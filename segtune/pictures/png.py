"""Encode pictures and write them as PNG files."""

from __future__ import annotations

from pathlib import Path

import cv2

from segtune.files.atomic import replaced_file
from segtune.pictures.render import Picture


def write_png(path: Path, picture: Picture) -> None:
    """Write a picture completely or not at all; raise OSError on failure. The path may hold any characters."""
    try:
        data = encoded(picture, ".png")
    except ValueError as error:
        raise OSError(f"{path}: {error}") from None
    with replaced_file(path) as temporary:
        temporary.write_bytes(data)


def encoded(picture: Picture, suffix: str) -> bytes:
    """Return a picture as the bytes of a .png or .jpg file; raise ValueError if its shape does not allow that."""
    try:
        written, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except cv2.error:  # raised for an empty picture; for one that is too large, `written` is false
        written = False
    if not written:
        raise ValueError(f"a picture of shape {picture.shape} cannot be written as {suffix[1:].upper()}")
    return data.tobytes()
