"""Write annotated images as splits of a data set: images, and masks of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from segtune.data.findings import in_parallel
from segtune.data.mask_values import count_labels
from segtune.data.raster import writing
from segtune.data.reading import read_header
from segtune.data.tiles import Tile
from segtune.errors import InputError, counted, first_mistakes
from segtune.evaluation.predicted_masks import write_mask
from segtune.files.yamlfile import yaml_of
from segtune.tools.annotations import Annotated, Annotations, flat_names
from segtune.tools.coco_json import read_coco
from segtune.tools.cvat_xml import read_cvat
from segtune.tools.drawing import draw
from segtune.tools.labelme_json import BACKGROUND, IGNORED, read_labelme
from segtune.tools.placing import joined_tree, place_file, sidecars
from segtune.tools.yolo_labels import read_yolo

_IMAGES, _MASKS = "images", "gt"
_IGNORED_LABEL = 255
_SUFFIXES = {"coco": (".json",), "cvat": (".xml",), "yolo": (".yaml", ".yml")}  # of files of annotations
_LARGEST = 65535  # label
Progress = Callable[[int, int], None]
Print = Callable[[Any], None]


@dataclass(frozen=True)
class Drawing:
    """How objects become masks."""

    labels: Mapping[str, int]  # by the names of classes
    smaller_on_top: bool
    copy: bool  # images, instead of linking them


@dataclass(frozen=True)
class Tally:
    """What masks hold."""

    pixels: Counter[int]  # by label
    masks: Counter[int]  # that hold each label

    def add(self, pixels: Mapping[int, int]) -> None:
        """Add a mask."""
        self.pixels.update(pixels)
        self.masks.update(pixels.keys())


def read_annotations(kind: str, source: Path, images: Path | None) -> Annotations:
    """Read annotations of a kind; InputError where the source cannot be read at all."""
    if kind == "labelme":
        if not source.is_dir():
            raise InputError(f"{source}: no such folder of labelme's JSON files")
        return read_labelme(source, images or source)
    if source.is_dir():
        file = {"coco": "JSON file", "cvat": "XML file", "yolo": "data.yaml"}[kind]
        held = sorted(path for path in source.iterdir() if path.suffix.lower() in _SUFFIXES[kind])
        hint = f", such as {held[0]}" if held else ""
        raise InputError(f"{source}: is a folder; give the {file} of the annotations{hint}")
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    if kind == "yolo":
        return read_yolo(source)
    return (read_coco if kind == "coco" else read_cvat)(source, images or source.parent)


def labels_for(found: Annotations, given: Mapping[int, str] | None, source: Path) -> dict[str, int]:
    """Return the label of each class: as given, or 1, 2, 3 and so on in the order of the annotations.

    labelme's names for background and for what is ignored are 0 and 255. Raises InputError for a class that has none.
    """
    used = Counter(shape.name for image in found.images for shape in image.shapes)
    special = {BACKGROUND: 0, IGNORED: _IGNORED_LABEL}
    if given is not None:
        labels = {name: label for label, name in given.items()}
        if len(labels) < len(given) or not all(0 <= label <= _LARGEST for label in given):
            raise InputError(f"--classes: labels are from 0 to {_LARGEST}, each with a name of its own")
        unknown = {name: number for name, number in used.items() if name not in labels and name not in special}
        if unknown:
            raise InputError(
                f"--classes: does not name {name!r}, which has {counted(number, 'object')} in {source}"
                for name, number in unknown.items()
            )
    else:
        plain = [name for name in found.names if name not in special]
        labels = {name: number for number, name in enumerate(plain, start=1)}
        if len(labels) > _LARGEST or (IGNORED in used and len(labels) >= _IGNORED_LABEL):
            raise InputError(f"{source}: has {len(labels)} classes, more than there are labels; give --classes")
    return labels | {name: label for name, label in special.items() if name in used and name not in labels}


def write_splits(found: Annotations, target: Path | None, drawing: Drawing, source: Path, progress: Progress) -> Tally:
    """Write the images and masks of all splits below `target`; None writes nothing. Return what the masks hold.

    Raises InputError where an image cannot be read or has another size than its annotations say; then nothing is
    written.
    """
    tally, mistakes, done = Tally(Counter(), Counter()), list[str](), 0
    with joined_tree(target) if target else nullcontext() as place:
        for split in dict.fromkeys(image.split for image in found.images):
            images = [image for image in found.images if image.split == split]
            entries = dict(zip(flat_names(images, source), images, strict=True))
            tiles = [Tile(name, image.image, image.image, ()) for name, image in entries.items()]
            beside = _beside(images) if place else {}
            write = partial(
                _write, entries=entries, drawing=drawing, place=place / split if place else None, beside=beside
            )
            for looking in in_parallel(tiles, write):
                try:
                    tally.add(looking.result())
                except InputError as error:
                    mistakes += error.mistakes
                done += 1
                progress(done, len(found.images))
        if mistakes:
            raise InputError(first_mistakes(mistakes, source))
    return tally


def _beside(images: Sequence[Annotated]) -> dict[Path, list[str]]:
    """Return the names of files beside images that change what is read from them."""
    found: dict[Path, list[str]] = {}
    by_folder: dict[Path, list[Path]] = {}
    for image in images:
        by_folder.setdefault(image.image.parent, []).append(image.image)
    for folder, files in by_folder.items():
        others = sidecars(folder, [file.name for file in files])
        for file in files if others else ():
            found[file] = [name for name in others if name.startswith((f"{file.stem}.", f"{file.stem}_"))]
    return found


def _write(
    tile: Tile,
    entries: Mapping[str, Annotated],
    drawing: Drawing,
    place: Path | None,
    beside: Mapping[Path, Sequence[str]],
) -> dict[int, int]:
    """Write an image and its mask below `place`; return the pixels of each label."""
    entry = entries[tile.name]
    header = read_header(entry.image)
    size = header.width, header.height
    if entry.size and entry.size != size:
        claimed, real = (f"{width}x{height}" for width, height in (entry.size, size))
        raise InputError(f"{entry.where}: says that {entry.image} has {claimed} pixels, but it has {real}")
    for runs in (shape.runs for shape in entry.shapes if shape.runs):
        # Looked at before the runs are written out: a few characters can stand for billions of pixels.
        if runs.width > header.width or runs.height > header.height:
            raise InputError(f"{entry.where}: a mask of {runs.width}x{runs.height} is larger than {entry.image}")
    mask = draw(entry.shapes_in(*size), drawing.labels, header.height, header.width, drawing.smaller_on_top)
    if place:
        (place / _MASKS).mkdir(parents=True, exist_ok=True)
        with writing(place / _MASKS / tile.name):
            write_mask(place / _MASKS, tile, mask)
        place_file(entry.image, place / _IMAGES / f"{tile.name}{entry.image.suffix}", drawing.copy)
        for name in beside.get(entry.image, ()):
            end = name[len(entry.image.stem) :]
            place_file(entry.image.with_name(name), place / _IMAGES / f"{tile.name}{end}", drawing.copy)
    return count_labels(mask)


def tell(found: Annotations, drawing: Drawing, tally: Tally, say: Print) -> None:
    """Say which label each class got, how much there is of it, and the settings that name the classes."""
    for line in found.remarks:
        say(line)
    if found.no_areas:
        say(f"left out: {', '.join(f'{number} {kind}' for kind, number in found.no_areas.most_common())}")
    objects = Counter(shape.name for image in found.images for shape in image.shapes)
    table = Table(*("id", "class", "label", "objects", "masks", "pixels"), box=box.SIMPLE)
    total = max(tally.pixels.total(), 1)
    for name, label in sorted(drawing.labels.items(), key=lambda item: item[1]):
        share = f"{tally.pixels[label] / total:.2%}"
        row = (found.names.get(name, ""), name, label, objects[name], tally.masks[label], share)
        table.add_row(*map(str, row))
    say(table)
    # Settings take no name with a comma.
    classes = {
        label: " ".join(name.replace(",", " ").split())
        for name, label in drawing.labels.items()
        if label and name != IGNORED
    }
    settings: dict[str, object] = {"classes": dict(sorted(classes.items()))}
    settings |= {"ignore": [_IGNORED_LABEL]} if IGNORED in drawing.labels else {}
    say("for the space file:")
    for name, value in settings.items():
        say(yaml_of({name: value}, width=10_000, flow=None).strip())
