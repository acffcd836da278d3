"""Read COCO's JSON of object instances: polygons and runs (RLE), compressed or not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segtune.errors import InputError
from segtune.tools.annotations import (
    Annotated,
    Annotations,
    Runs,
    Shape,
    entries,
    image_inside,
    outline,
    read_json,
    run_lengths,
    text,
    whole,
)

_MOST_BITS = 60  # of a number in a compressed text


def read_coco(path: Path, images: Path) -> Annotations:
    """Read the images and objects of a COCO file; objects keep their order. Images lie in the folder `images`."""
    content = read_json(path)
    found = Annotations()
    categories: dict[int, str] = {}
    for entry in entries(content, "categories", path):
        number = whole(entry.get("id"), f"{path}: the id of a category")
        if number in categories:
            raise InputError(f"{path}: two categories have the id {number}")
        categories[number] = text(entry.get("name"), f"{path}: the name of category {number}")
    for number, name in sorted(categories.items()):
        found.names.setdefault(name, str(number))
    shapes: dict[int, list[Shape]] = {}
    sizes: dict[int, tuple[int, int]] = {}
    for entry in entries(content, "images", path):
        number = whole(entry.get("id"), f"{path}: the id of an image")
        if number in shapes:
            raise InputError(f"{path}: two images have the id {number}")
        shapes[number] = []
        width, height = (whole(entry.get(key), f"{path}: the {key} of image {number}") for key in ("width", "height"))
        sizes[number] = width, height
    for entry in entries(content, "annotations", path):
        try:
            _add(entry, f"{path}: annotation {entry.get('id')!r}"[:200], categories, shapes, sizes, found)
        except InputError as error:
            found.mistakes += error.mistakes
    for entry in entries(content, "images", path):
        number = int(entry["id"])
        try:
            file, inside = image_inside(images, entry.get("file_name"), f"{path}: image {number}")
        except InputError as error:
            found.mistakes += error.mistakes
        else:
            found.images.append(Annotated(file, inside, tuple(shapes[number]), str(path), sizes[number]))
    return found


def _add(
    entry: Mapping[str, Any],
    what: str,
    categories: Mapping[int, str],
    shapes: Mapping[int, list[Shape]],
    sizes: Mapping[int, tuple[int, int]],
    found: Annotations,
) -> None:
    """Add the shape of an annotation to those of its image."""
    image = whole(entry.get("image_id"), f"{what}: image_id")
    category = whole(entry.get("category_id"), f"{what}: category_id")
    if image not in shapes:
        raise InputError(f"{what}: there is no image {image}")
    if category not in categories:
        raise InputError(f"{what}: there is no category {category}")
    segmentation, name = entry.get("segmentation"), categories[category]
    if not segmentation:
        found.no_areas["box alone"] += 1
    elif isinstance(segmentation, list):
        parts = tuple((outline(part, f"{what}: its outline"),) for part in segmentation)
        shapes[image].append(Shape(name, parts))
    elif isinstance(segmentation, dict):
        shapes[image].append(Shape(name, runs=_runs(segmentation, what, sizes[image])))
    else:
        raise InputError(f"{what}: its segmentation is neither a list of outlines nor runs")


def _runs(segmentation: Mapping[str, Any], what: str, image: tuple[int, int]) -> Runs:
    width, height = image
    if segmentation.get("size") != [height, width]:
        raise InputError(f"{what}: the size of its runs is not that of the image, [{height}, {width}]")
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        lengths = run_lengths(uncompressed(counts, what), what, width * height)
    elif isinstance(counts, list):
        lengths = run_lengths(counts, what, width * height)
    else:
        raise InputError(f"{what}: its runs have no counts")
    return Runs(lengths, height, width, by_column=True)


def uncompressed(counts: str, what: str) -> list[int]:
    """Return the lengths of runs that COCO's API wrote as text (rleToString of its maskApi.c).

    A character holds five bits and says whether more follow; from the fourth length on, a number is the difference to
    the length two before. pycocotools reads it too, but it fills runs that are too short from memory that is not set.
    """
    lengths: list[int] = []
    number, bits = 0, 0
    for char in counts:
        code = ord(char) - 48
        if not 0 <= code < 64 or bits > _MOST_BITS:
            raise InputError(f"{what}: its runs are damaged")
        number |= (code & 31) << bits
        bits += 5
        if not code & 32:
            number -= (1 << bits) if code & 16 else 0
            lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
            number, bits = 0, 0
    if bits:
        raise InputError(f"{what}: its runs are damaged")
    return lengths


def runs_of(pixels: npt.NDArray[np.bool_], left: int, top: int) -> Runs:
    """Return a mask of a box, (height, width), as runs along its rows."""
    flat = np.concatenate([[False], pixels.ravel(), [not pixels.ravel()[-1]]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return Runs(np.diff(edges, prepend=0), pixels.shape[0], pixels.shape[1], left, top)
