"""Pictures as files."""

from __future__ import annotations

from pathlib import Path

import cv2

from segtune.files.atomic import replaced_file
from segtune.pictures.render import Picture


def write_png(path: Path, picture: Picture) -> None:
    """Write a picture, whole or not at all, to a path that may hold any characters; raises OSError on failure."""
    try:
        data = encoded(picture, ".png")
    except ValueError as error:
        raise OSError(f"{path}: {error}") from None
    with replaced_file(path) as temporary:
        temporary.write_bytes(data)


def encoded(picture: Picture, suffix: str) -> bytes:
    """A picture as the bytes of a file of this suffix, .png or .jpg; ValueError where that cannot be."""
    try:
        written, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except cv2.error:  # an empty picture; one that is too large is not written
        written = False
    if not written:
        raise ValueError(f"a picture of shape {picture.shape} cannot be written as {suffix[1:].upper()}")
    return data.tobytes()
