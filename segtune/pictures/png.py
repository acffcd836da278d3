"""Encode pictures and write them as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2

from segtune.files.atomic import replaced_file
from segtune.pictures.render import Picture

_QUALITIES = (90, 75, 60)  # of JPEGs
_SHRINK = 0.7  # from one size to the next


def write_png(path: Path, picture: Picture) -> None:
    """Write a picture completely or not at all; raise OSError on failure. The path may hold any characters."""
    try:
        data = encoded(picture, ".png")
    except ValueError as error:
        raise OSError(f"{path}: {error}") from None
    with replaced_file(path) as temporary:
        temporary.write_bytes(data)


def jpeg_within(most: int, picture: Picture) -> tuple[bytes, tuple[int, int]]:
    """Return a picture as a JPEG of at most this number of bytes, and its (height, width).

    The quality is lowered first, and then the size. Raises ValueError if the shape does not allow a JPEG.
    """
    while True:
        for quality in _QUALITIES:
            data = encoded(picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])
            if len(data) <= most:
                return data, picture.shape[:2]
        height, width = picture.shape[:2]
        smaller = max(1, round(_SHRINK * width)), max(1, round(_SHRINK * height))
        picture = cv2.resize(picture, smaller, interpolation=cv2.INTER_AREA)


def encoded(picture: Picture, suffix: str, options: Sequence[int] = ()) -> bytes:
    """Return a picture as the bytes of a .png, .jpg or .webp file; raise ValueError if its shape does not allow that.

    `options` are those of OpenCV's imencode.
    """
    try:
        written, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    except cv2.error:  # raised for an empty picture; for one that is too large, `written` is false
        written = False
    if not written:
        raise ValueError(f"a picture of shape {picture.shape} cannot be written as {suffix[1:].upper()}")
    return data.tobytes()
