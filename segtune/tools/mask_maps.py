"""Write masks with other labels: from labels, from colours, from palettes, or from grey values."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp

from segtune.data.findings import in_parallel
from segtune.data.formats import driver_of
from segtune.data.labels import UNLABELLED
from segtune.data.listing import SUFFIXES, list_folder
from segtune.data.raster import Raster, alone, opened, writing
from segtune.data.reading import read_labels, read_pixels, read_values
from segtune.data.tiles import ReadSettings, Tile
from segtune.errors import InputError, counted, first_few, first_mistakes
from segtune.remarks import Say
from segtune.tools.label_rules import NODATA, LabelRules, colour_text
from segtune.tools.placing import check_one_name_each, joined_tree

_MOST_UNKNOWN = 8  # values that are named
_TYPES = ("uint8", "uint16", "int16", "int32")  # of masks that are written: the first that holds all labels
_ENDINGS = {"GTiff": (".tif", ".tiff"), "PNG": (".png",), "BMP": (".bmp",)}
_LARGEST = {"PNG": 65535, "BMP": 255}  # labels that a format holds; neither holds negative ones

Codes = npt.NDArray[np.int64]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class _Source:
    """A mask as it was read, and what of its file is kept."""

    codes: Codes  # (H, W), of pixels with data
    missing: npt.NDArray[np.bool_]  # pixels without data, (H, W)
    driver: str
    profile: Mapping[str, Any]  # keywords for rasterio: the place on the ground
    nodata: int | None  # a declared nodata value that is a label
    colours: Mapping[int, Colour]  # of a palette, by code


@dataclass(frozen=True)
class Folder:
    """A folder of masks, and the folder for the new ones."""

    source: Path
    target: Path
    masks: tuple[str, ...]  # names of files
    unread: str | None  # what else lies there


@dataclass
class Relabelled:
    """The pixels and files of each code, summed over masks; `None` stands for pixels without data."""

    pixels: Counter[int | None]
    files: Counter[int | None]
    example: dict[int | None, Path]  # the first file with this code

    def add(self, path: Path, pixels: Mapping[int | None, int]) -> None:
        """Add the pixels of one mask."""
        self.pixels.update(pixels)
        self.files.update(pixels.keys())
        for code in pixels:
            self.example.setdefault(code, path)


def find_masks(source: Path, target: Path) -> Folder:
    """List the masks of a folder; InputError where there are none, or where two would get one name."""
    if not source.is_dir():
        raise InputError(f"{source}: no such folder of masks")
    listing = list_folder(source)
    names = tuple(name for name in listing.files if os.path.splitext(name)[1].lower() in SUFFIXES)
    if not names:
        raise InputError(f"{source}: holds no masks ({', '.join(SUFFIXES)})")
    new = []
    for name in names:
        with suppress(InputError):  # reported when the mask is read
            new.append(_new_name(source / name, driver_of(source / name, "a mask")))
    check_one_name_each(source, new)
    return Folder(source, target, names, listing.unread(below=True))


def relabel_folders(
    folders: Sequence[Folder], rules: LabelRules, write: bool, progress: Callable[[int, int], None], say: Say
) -> None:
    """Write the masks of folders with new labels, or look at them only; say what becomes of their values.

    All folders are written, or none. Raises InputError for values without a rule, each with the number of its pixels
    and masks, and for files that cannot be read or written.
    """
    total = sum(len(folder.masks) for folder in folders)
    done, lines, mistakes = 0, list[str](), list[str]()
    with ExitStack() as stack:
        for folder in folders:
            place = stack.enter_context(joined_tree(folder.target)) if write else None
            found, unknown = Relabelled(Counter(), Counter(), {}), Relabelled(Counter(), Counter(), {})
            wrong, palettes = list[str](), dict[Path, Mapping[int, Colour]]()
            tiles = [Tile(name, folder.source / name, folder.source / name, ()) for name in folder.masks]
            look = partial(_relabel, rules=rules, place=place)
            for tile, looking in zip(tiles, in_parallel(tiles, look), strict=True):
                try:
                    pixels, unlisted, palettes[tile.mask] = looking.result()
                except InputError as error:
                    wrong += error.mistakes
                else:
                    found.add(tile.mask, pixels)
                    unknown.add(tile.mask, unlisted)
                done += 1
                progress(done, total)
            mistakes += [*first_mistakes(wrong, folder.source), *_unknown(folder.source, rules, unknown)]
            lines += [*_told(folder, rules, found), *_mixed(folder.source, palettes)]
        if mistakes:
            raise InputError(mistakes)
    for line in lines:
        say(line)


def _relabel(
    tile: Tile, rules: LabelRules, place: Path | None
) -> tuple[Mapping[int | None, int], Mapping[int | None, int], Mapping[int, Colour]]:
    """Write a mask with new labels into the folder `place`, where all of its values have one.

    Returns the pixels of each listed code, those of each code without a label, and the colours of labels in a palette.
    """
    source = _read(tile.mask, rules)
    present, where = _present(source.codes)
    counts = np.bincount(where[~source.missing], minlength=len(present))
    nearest = _nearest(present, rules)
    pixels, unlisted = Counter[int | None](), Counter[int | None]()
    table = np.zeros(len(present), np.int64)
    for index, (code, listed, count) in enumerate(zip(present.tolist(), nearest, counts.tolist(), strict=True)):
        label = rules.other if listed is None else rules.labels[listed]
        table[index] = 0 if label is None else label
        if count:
            (unlisted if label is None else pixels)[code if listed is None else listed] += count
    if absent := int(source.missing.sum()):
        (unlisted if rules.nodata is None else pixels)[None] += absent
    _check_holds(tile.mask, source.driver, rules)
    if place and not unlisted:
        mask = table[where]
        mask[source.missing] = rules.nodata or 0
        _write(place / _new_name(tile.mask, source.driver), mask, source, rules, bool(absent))
    seen = {code: colour for code, colour in source.colours.items() if code in pixels} if rules.kind == "labels" else {}
    return pixels, unlisted, seen


def _mixed(folder: Path, palettes: Mapping[Path, Mapping[int, Colour]]) -> list[str]:
    """Return a line where one label has different colours in two masks: it may mean different things."""
    first: dict[int, tuple[Colour, Path]] = {}
    for path, colours in palettes.items():
        for label, colour in colours.items():
            before, other = first.setdefault(label, (colour, path))
            if before != colour:
                one, two = (",".join(map(str, found)) for found in (before, colour))
                return [
                    f"  warning: {folder}: the palettes differ, so {label} may mean different things: it is {one} in "
                    f"{other.name} and {two} in {path.name}; --labels of colours, such as {one}:{label}, means the "
                    f"same in all files"
                ]
    return []


def _present(codes: Codes) -> tuple[Codes, npt.NDArray[np.intp]]:
    """Return the codes of a mask, sorted, and the position of each pixel's code among them, (H, W)."""
    if codes.min(initial=0) >= 0 and codes.max(initial=0) < 2**16:  # counting is faster than sorting
        there = np.bincount(codes.ravel()) > 0
        return np.flatnonzero(there), (np.cumsum(there) - 1)[codes]
    present, where = np.unique(codes, return_inverse=True)
    return present, where.reshape(codes.shape)


def _nearest(present: Codes, rules: LabelRules) -> list[int | None]:
    """Return the listed code for each code: itself, or the nearest one within the tolerance; None where none is."""
    listed = list(rules.labels)
    if not listed:
        return [None] * len(present)
    exact = [code if code in rules.labels else None for code in present.tolist()]
    if not rules.tolerance:
        return exact
    apart = np.abs(_parts(present, rules)[:, None] - _parts(np.array(listed), rules)[None]).max(axis=2)
    best = apart.argmin(axis=1)
    within = apart.min(axis=1) <= rules.tolerance
    return [listed[i] if near else None for i, near in zip(best.tolist(), within.tolist(), strict=True)]


def _parts(codes: Codes, rules: LabelRules) -> Codes:
    """Return the red, green and blue of colours, (N, 3), or the values themselves, (N, 1)."""
    if rules.kind != "colours":
        return codes[:, None]
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)


def _read(path: Path, rules: LabelRules) -> _Source:
    with opened(path, "a mask", place=True) as raster:
        palette = _palette(raster)
        nodata = raster.source.nodatavals[0]
        if rules.kind == "labels":
            if raster.bands in (3, 4) and not raster.more:
                raise InputError(
                    f"{path}: has {raster.bands} bands, so it holds colours; list them, such as --labels 255,0,0:1"
                )
            codes = read_labels(raster).astype(np.int64)
            missing = codes == UNLABELLED
        elif rules.kind == "colours":
            codes, missing = _read_colours(raster)
            palette = {_code(colour): colour for colour in palette.values()}
        else:
            codes, missing = _read_steps(raster, rules.thresholds, bool(palette))
            palette = {}
        codes[missing] = 0
        label = int(nodata) if nodata is not None and rules.kind == "labels" and nodata in rules.labels else None
        return _Source(codes, missing, raster.source.driver, raster.place.profile, label, palette)


def _read_colours(raster: Raster) -> tuple[Codes, npt.NDArray[np.bool_]]:
    """Read the colours of a mask as codes, (H, W), and which pixels have no data: transparent ones."""
    image, valid = read_pixels(raster, ReadSettings(alpha="mask"))
    if image.dtype != np.uint8 or image.shape[2] not in (1, 3):
        held = f"{counted(image.shape[2], 'band')} of {image.dtype}"
        raise InputError(f"{raster.path}: colours are red, green and blue of uint8, but this has {held}")
    red, green, blue = (image[..., min(band, image.shape[2] - 1)].astype(np.int64) for band in range(3))
    return red << 16 | green << 8 | blue, ~valid


def _read_steps(raster: Raster, thresholds: Sequence[float], palette: bool) -> tuple[Codes, npt.NDArray[np.bool_]]:
    """Read how many thresholds the grey of each pixel reaches, (H, W), and which pixels have no data."""
    if raster.bands == 1 and not palette:
        values, missing = read_values(raster)
    else:
        image, valid = read_pixels(raster, ReadSettings(alpha="mask"))
        if (image != image[..., :1]).any():
            raise InputError(f"{raster.path}: has colours, and --threshold is for grey masks; use --labels 255,0,0:1")
        values, missing = image[..., 0], ~valid
    return np.digitize(values, thresholds).astype(np.int64), missing


def _palette(raster: Raster) -> dict[int, Colour]:
    """Return the colours of a palette by index; empty where there is none."""
    if raster.bands != 1 or raster.source.colorinterp[0] != ColorInterp.palette:
        return {}
    return {index: colour[:3] for index, colour in raster.source.colormap(1).items()}


def _code(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _new_name(path: Path, driver: str) -> str:
    """Return the name of the new mask: a JPEG becomes a PNG, other files keep their format."""
    endings = _ENDINGS.get(driver, _ENDINGS["PNG"])
    return path.name if path.suffix.lower() in endings else f"{path.stem}{endings[0]}"


def _check_holds(path: Path, driver: str, rules: LabelRules) -> None:
    """Raise InputError where the format of a new mask cannot hold the labels."""
    largest = _LARGEST.get(driver if driver in _ENDINGS else "PNG")
    if largest is not None and not 0 <= min(rules.written) <= max(rules.written) <= largest:
        odd = sorted(label for label in rules.written if not 0 <= label <= largest)
        kind = driver if driver in _ENDINGS else "PNG"
        raise InputError(
            f"{path}: {kind} holds labels from 0 to {largest}, not {first_few(map(str, odd))}; GeoTIFF masks hold all"
        )


def _write(path: Path, mask: Codes, source: _Source, rules: LabelRules, missing: bool) -> None:
    """Write a mask, (H, W), as a file in the format of its source."""
    holding = (np.iinfo(name) for name in _TYPES)
    kind = next(kind for kind in holding if kind.min <= min(rules.written) and max(rules.written) <= kind.max)
    driver = source.driver if source.driver in _ENDINGS else "PNG"
    profile: dict[str, Any] = {"driver": driver, "height": mask.shape[0], "width": mask.shape[1], "count": 1}
    profile |= {"dtype": kind.dtype, **source.profile}
    if driver == "GTiff":
        profile |= {"compress": "deflate"}
        nodata = _nodata(source, rules, missing)
        profile |= {} if nodata is None else {"nodata": nodata}
    colours: dict[int, Colour] = {}
    for code, label in rules.labels.items():
        if code in source.colours:
            colours.setdefault(label, source.colours[code])
    with writing(path), alone(), rasterio.open(path, "w", **profile) as target:
        if colours and kind.dtype == np.uint8 and driver != "BMP":
            target.write_colormap(1, {label: (*colour, 255) for label, colour in colours.items()})
        target.write(mask.astype(kind.dtype), 1)


def _nodata(source: _Source, rules: LabelRules, missing: bool) -> int | None:
    """Return the label to declare as nodata: what missing data became, or the old one's, where nothing else has it."""
    label = rules.nodata if missing else rules.labels[source.nodata] if source.nodata is not None else None
    given = [*rules.labels.values(), rules.other]
    return label if given.count(label) <= (0 if missing else 1) else None


def _unknown(folder: Path, rules: LabelRules, unknown: Relabelled) -> list[str]:
    """Return a line on each value that has no new label, the most frequent first."""
    found = unknown.pixels.most_common()
    lines = []
    for code, pixels in found[:_MOST_UNKNOWN]:
        text = f"{counted(pixels, 'pixel')} in {counted(unknown.files[code], 'mask')}, such as {unknown.example[code]}"
        if code is None:
            lines.append(f"{folder}: pixels without data have no label: {text}; add {NODATA}:LABEL to --labels")
        else:
            what = {"labels": "label", "colours": "colour", "thresholds": "step"}[rules.kind]
            name = rules.named(code)
            lines.append(f"{folder}: the {what} {name} has no new label: {text}; add {name}:LABEL or other:LABEL")
    if rest := len(found) - _MOST_UNKNOWN:
        lines += [f"{folder}: {counted(rest, 'more value')} without a label; --tolerance takes similar ones"] * (
            rest > 0
        )
    return lines


def _told(folder: Folder, rules: LabelRules, found: Relabelled) -> list[str]:
    """Return lines on what the values of a folder's masks become."""
    total = max(found.pixels.total(), 1)
    unread = [f"warning: {folder.source}: not read: {folder.unread}"] if folder.unread else []
    lines = [*unread, f"{folder.source} -> {folder.target}: {counted(len(folder.masks), 'mask')}"]
    others = Relabelled(Counter(), Counter(), {})
    for code, pixels in sorted(found.pixels.items(), key=lambda item: -item[1]):
        if code is not None and code not in rules.labels:
            others.pixels[None] += pixels
            continue
        label = rules.nodata if code is None else rules.labels[code]
        name = NODATA if code is None else _step(code, rules)
        lines.append(
            f"  {name} -> {label}: {pixels / total:.2%} of the pixels, in {counted(found.files[code], 'mask')}"
        )
    if number := others.pixels[None]:
        lines.append(f"  other -> {rules.other}: {number / total:.2%} of the pixels")
    absent = [rules.named(code) for code in rules.labels if code not in found.pixels]
    if absent:
        lines.append(f"  warning: no mask has {first_few(absent)}")
    return lines


def _step(code: int, rules: LabelRules) -> str:
    if rules.kind == "colours":
        return colour_text(code)
    if rules.kind == "labels":
        return str(code)
    if code == 0:
        return f"below {rules.thresholds[0]:g}"
    return f"from {rules.thresholds[code - 1]:g}"
