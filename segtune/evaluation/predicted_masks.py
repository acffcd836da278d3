"""Write predicted masks as files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.io import DatasetWriter

from segtune.data.listing import FACTS
from segtune.data.raster import alone, beside, opened
from segtune.data.tiles import Tile
from segtune.files.atomic import replaced_file

Mask = npt.NDArray[np.integer]
MOST_LABELS = 256  # GDAL lists the names of all values from 0 on


@dataclass(frozen=True)
class Category:
    """What a label in a mask means, for programs that show masks."""

    label: int
    name: str  # empty where the classes have no names
    colour: tuple[int, int, int]


def write_mask(folder: Path, tile: Tile, mask: Mask, categories: Sequence[Category] = ()) -> Path:
    """Write a predicted mask, (H, W), under the tile's name and with the tile's georeference; return its path.

    The file is a GeoTIFF if the tile's image is one or if PNG cannot hold the mask's type, else a PNG. A GeoTIFF has
    the colours of `categories` as its colour table; a PNG has none, since OpenCV would read colours instead of labels.
    A file beside it, with .aux.xml after its name, holds the georeference of a PNG, and names and colours if there are
    names and no label is negative or above 255. GDAL reads it.
    """
    tiff = tile.image.suffix.lower() in (".tif", ".tiff") or mask.dtype not in (np.uint8, np.uint16)
    path = folder / f"{tile.name}{'.tif' if tiff else '.png'}"
    with replaced_file(path) as temporary:
        with alone(), rasterio.open(temporary, "w", **_profile(tile, mask[None], tiff)) as target:
            if tiff:
                write_colours(target, categories)
            target.write(mask, 1)
        facts = beside(temporary, FACTS)
        if categories and all(category.name and 0 <= category.label < MOST_LABELS for category in categories):
            add_categories(facts, categories)
        if facts.exists():
            os.replace(facts, beside(path, FACTS))
    return path


def write_probabilities(folder: Path, tile: Tile, probabilities: npt.NDArray[np.float32], names: Sequence[str]) -> Path:
    """Write probabilities, (outputs, H, W), as a GeoTIFF with a named band per output, and return its path.

    It has the tile's name and georeference.
    """
    path = folder / f"{tile.name}.tif"
    profile = _profile(tile, probabilities, tiff=True)
    with replaced_file(path) as temporary, alone(), rasterio.open(temporary, "w", **profile) as target:
        target.write(probabilities)
        target.descriptions = tuple(names)
    return path


def _profile(tile: Tile, array: npt.NDArray[Any], tiff: bool) -> dict[str, Any]:
    """Return rasterio's keywords for a file of this array, (bands, H, W), at the place of a tile."""
    count, height, width = array.shape
    profile: dict[str, Any] = {"driver": "GTiff", "compress": "deflate"} if tiff else {"driver": "PNG"}
    profile |= {"height": height, "width": width, "count": count, "dtype": array.dtype}
    with opened(tile.image, "an image", place=True) as raster:
        return profile | raster.place.profile


def write_colours(target: DatasetWriter, categories: Sequence[Category]) -> None:
    """Write the colours of labels as the colour table of a new GeoTIFF, if its type of pixels can have one."""
    if target.dtypes[0] in ("uint8", "uint16"):
        largest = int(np.iinfo(target.dtypes[0]).max)
        colours = {entry.label: (*entry.colour, 255) for entry in categories if 0 <= entry.label <= largest}
        if colours:
            target.write_colormap(1, colours)


def add_categories(facts: Path, categories: Sequence[Category]) -> None:
    """Write names and colours into the .aux.xml file of a raster, as GDAL itself does; labels are 0 to 255."""
    root = ElementTree.parse(facts).getroot() if facts.exists() else ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    ElementTree.SubElement(band, "ColorInterp").text = "Palette"
    colours = ElementTree.SubElement(band, "ColorTable")
    names = ElementTree.SubElement(band, "CategoryNames")
    known = {category.label: category for category in categories}
    for label in range(max(known) + 1):
        red, green, blue = known[label].colour if label in known else (0, 0, 0)
        ElementTree.SubElement(colours, "Entry", c1=str(red), c2=str(green), c3=str(blue), c4="255")
        ElementTree.SubElement(names, "Category").text = known[label].name if label in known else ""
    ElementTree.ElementTree(root).write(facts, encoding="utf-8")
