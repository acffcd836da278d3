"""Write and read what a model counted on each tile: all that a comparison of models needs of the pixels."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segtune.errors import InputError, one_line
from segtune.evaluation.overlap import TileCounts
from segtune.files.atomic import replaced_file


def write_tiles(path: Path, names: Sequence[str], tiles: TileCounts) -> None:
    """Write the numbers of pixels of each tile, and the tiles' names, completely or not at all.

    A thousand tiles of five classes take about 30 kB.
    """
    if len(names) != len(tiles):
        raise ValueError(f"{len(names)} names for {len(tiles)} tiles")
    with replaced_file(path) as temporary, temporary.open("wb") as file:
        parts = {"names": np.array(names, dtype=np.str_), "numbers": tiles.numbers}
        if tiles.outlines is not None:
            parts["outlines"] = tiles.outlines
        np.savez_compressed(file, **parts)  # type: ignore[arg-type]


def read_tiles(path: Path) -> tuple[list[str], TileCounts]:
    """Read what `write_tiles` wrote; raise InputError if the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as content:
            names, numbers = content["names"], content["numbers"]
            outlines = content.get("outlines")
    except FileNotFoundError:
        raise InputError(f"{path}: is missing") from None
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged, not the counts of tiles ({one_line(error)})") from None
    for found in (numbers, outlines):
        if found is not None and (found.dtype != np.int64 or found.ndim != 3 or found.shape[:2] != (len(names), 3)):
            raise InputError(f"{path}: damaged, not the counts of tiles ({found.dtype} of shape {found.shape})")
    return names.tolist(), TileCounts(numbers, outlines)
