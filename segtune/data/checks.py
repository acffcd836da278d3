"""Checks of a whole data set: what makes training on it pointless, and what its owner should know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segtune.class_names import class_text
from segtune.config import RunConfig
from segtune.data.alignment import check_georeferences
from segtune.data.findings import Kind
from segtune.data.mask_values import FEWEST_SHADES, count_labels, kept_share, looks_shaded
from segtune.data.reading import read_mask, readable_at_once, unmeasurable
from segtune.data.statistics import Extremes
from segtune.data.threads import reading_threads
from segtune.data.tiles import TRAIN, VAL, Split, Tile
from segtune.errors import InputError, counted, first_few

_MOST_LABELS = 12  # listed without their shares
_MOST_SHARES = 6  # labels listed with their shares
_LEAST_KEPT = 0.5  # share of the pixels that a threshold would give the classes
_MANY = 0.001  # share of pixels from which a value counts as frequent
_FILLS = (-999.0, -9999.0, -99999.0, -32767.0, -32768.0)  # often used for missing data
_HUGE = 1e20  # larger than any measurement
_FILL_APART = 0.1  # a fill value is farther from the rest than this share of its range
_MENDED = "write them without loss (PNG, GeoTIFF), resample them by nearest neighbour, or round values to labels"


@dataclass(frozen=True)
class Masks:
    """What the masks of one split hold."""

    place: str  # their folder, or the list file of the split
    count: int
    pixels: Mapping[int, int]  # of each label
    shaded: Sequence[str]  # paths of masks that shade from label to label
    jpeg: bool  # any of them is a JPEG

    def held(self) -> str:
        """List the labels: all of them, or the most frequent ones with their shares."""
        grey = 2 * len(self.shaded) > self.count
        lossy = f", and {'look grey' if grey else 'are JPEGs'}: {_MENDED}" if grey or self.jpeg else ""
        few = len(self.pixels) <= _MOST_LABELS
        return f"{', '.join(map(str, self.pixels)) if few else shares(self.pixels, self.pixels)}{lossy}"


def has_jpeg(tiles: Split) -> bool:
    """Return whether any mask is a JPEG, which does not keep labels."""
    return any(file.lower().endswith((".jpg", ".jpeg")) for file in tiles.files[1])


def survey(tiles: Split, config: RunConfig) -> Masks:
    """Read only the masks of a split; InputError where one cannot be read, or lies elsewhere than its image."""

    def look(tile: Tile) -> tuple[dict[int, int], bool]:
        check_georeferences(tile)
        mask = read_mask(tile.mask)
        pixels = count_labels(mask)
        return pixels, looks_shaded(mask, pixels)

    pixels: Counter[int] = Counter()
    shaded = []
    with reading_threads(readable_at_once(tiles)) as pool:
        for tile, (found, shades) in zip(tiles, pool.map(look, tiles), strict=True):
            pixels.update(found)
            shaded += [str(tile.mask)] if shades else []
    shaded = with_shades(config, pixels, shaded)
    return Masks(tiles.folders[1], len(tiles), dict(sorted(pixels.items())), shaded, has_jpeg(tiles))


def with_shades(config: RunConfig, pixels: Mapping[int, int], shaded: list[str]) -> list[str]:
    """Return the masks that look shaded; none where the settings name nearly all labels."""
    unnamed = pixels.keys() - {*config.classes, *config.ignore}
    return shaded if len(unnamed) >= FEWEST_SHADES else []


def check_classes(config: RunConfig, masks: Mapping[str, Masks]) -> None:
    """Raise InputError where a class cannot be learnt, nothing can be scored, or masks have lost their classes."""
    limited = f" (limit_tiles is {config.limit_tiles})" if config.limit_tiles else ""
    train = masks[TRAIN]
    mistakes = [
        f"classes: no mask in {train.place} contains {_named(config, label)}; the masks hold {train.held()}{limited}"
        for label in config.classes
        if label not in train.pixels
    ]
    added = [found for split, found in masks.items() if split not in (TRAIN, VAL)]
    scored = added if config.use_only_add_val else [masks[VAL]]
    if not mistakes and not any(set(config.classes) & found.pixels.keys() for found in scored):
        where = "the added validation sets" if config.use_only_add_val else scored[0].place
        drawn = f" (val_samples is {config.val_samples})" if config.val_samples else limited
        mistakes = [f"{where}: no mask contains any of the classes {config.classes}, so nothing can be scored{drawn}"]
    if mistakes:
        raise InputError(mistakes)
    check_kept(config, masks.values())


def check_same_kind(tiles: Mapping[str, Split], positions: Mapping[Kind, Mapping[str, Sequence[int]]]) -> None:
    """Raise InputError where some tiles differ from most in their bands, or in whether they are uint8.

    `positions` holds the tiles of each kind, by split.
    """
    if len(positions) <= 1:
        return
    usual = max(positions, key=lambda kind: sum(map(len, positions[kind].values())))
    odd = [
        (kind, tiles[split][index].image)
        for kind, splits in positions.items()
        for split, indices in splits.items()
        for index in indices
        if kind != usual
    ]
    mistakes = []
    if named := [f"{image} ({kind.bands[0]})" for kind, image in odd if kind.bands != usual.bands]:
        do = "does" if len(named) == 1 else "do"
        wanted = f"{counted(usual.bands[0], 'band')} as the others have"
        mistakes.append(f"{counted(len(named), 'image')} {do} not have {wanted}: {first_few(named)}")
    if named := [str(image) for kind, image in odd if kind.uint8 != usual.uint8]:
        what = "not uint8, and the others are" if usual.uint8 else "uint8, and the others are not"
        are = "is" if len(named) == 1 else "are"
        mistakes.append(f"{counted(len(named), 'tile')} {are} {what}: {first_few(named)}")
    raise InputError(mistakes)


def check_kept(config: RunConfig, masks: Collection[Masks]) -> None:
    """Raise InputError where masks shade from label to label and the classes keep less than half of their pixels."""
    mistakes = []
    for found in masks:
        kept = kept_share(found.pixels, config.classes, config.ignore) if found.shaded else 1.0
        if kept < _LEAST_KEPT:
            mistakes.append(
                f"classes: {', '.join(map(str, config.classes))} keep only {kept:.0%} of the pixels in {found.place} "
                f"whose values are nearest to them: the masks look lossy or resampled; {_MENDED}"
            )
    if mistakes:
        raise InputError(mistakes)


def mask_remarks(config: RunConfig, masks: Collection[Masks]) -> Iterator[str]:
    """Yield lines on masks that look lossy and on labels that count as background."""
    pixels: Counter[int] = Counter()
    for found in masks:
        pixels.update(found.pixels)
    if shaded := [path for found in masks for path in found.shaded]:
        kept = kept_share(pixels, config.classes, config.ignore)
        yield (
            f"warning: {len(shaded)} of {sum(found.count for found in masks)} masks look lossy or resampled "
            f"({first_few(shaded, 2)}): between labels lie many rare values, which count as background; the classes "
            f"keep {kept:.0%} of the pixels that are nearest to them; {_MENDED}"
        )
    others = pixels.keys() - {*config.classes, *config.ignore}
    if others - {0} and not shaded and any(found.jpeg for found in masks):
        yield f"warning: masks are JPEGs, which change labels; {_MENDED}"
    if others - {0}:
        which = shares(pixels, others)
        yield f"labels that count as background, being neither in classes nor in ignore: {which}"


def absent_remarks(config: RunConfig, masks: Mapping[str, Masks]) -> Iterator[str]:
    """Yield a line on classes that no mask of a validation set contains."""
    absent = {
        found.place: [_named(config, label) for label in config.classes if label not in found.pixels]
        for split, found in masks.items()
        if split != TRAIN
    }
    named = [f"{', '.join(labels)} (in {place})" for place, labels in absent.items() if labels]
    if named:
        drawn = config.limit_tiles or config.val_samples
        few = "; not all validation tiles are used" if drawn else ""
        yield f"warning: no mask contains {first_few(named)}; left out of the mean{few}"


def _named(config: RunConfig, label: int) -> str:
    return class_text(label, config.classes, config.class_names)


@dataclass(frozen=True)
class Fill:
    """A value that may stand for no data, without being declared."""

    value: float
    what: str  # where it is found
    do: str


def fill_remarks(extremes: Extremes | None, names: Sequence[str]) -> Iterator[str]:
    """Yield a line on each value that may stand for no data."""
    return (f"warning: {fill.what}; {fill.do}" for fill in undeclared_fills(extremes, names))


def undeclared_fills(extremes: Extremes | None, names: Sequence[str]) -> Iterator[Fill]:
    """Yield values far outside the rest of a band that many pixels have: they may stand for no data."""
    bands: dict[float, list[str]] = {}
    for found in extremes.outside(names) if extremes else ():
        gap, spread = max(found.low - found.value, found.value - found.high), found.high - found.low
        by_custom = (found.value in _FILLS or abs(found.value) >= _HUGE) and gap > _FILL_APART * spread
        if found.share >= _MANY and (by_custom or gap > spread > 0):
            text = f"{found.band} ({found.share:.2%} of the pixels; the rest is {found.low:g} to {found.high:g})"
            bands.setdefault(found.value, []).append(text)
    for value, where in bands.items():
        text = f"{value:.0f}" if value == round(value) and abs(value) < 1e9 else str(np.float32(value))
        whole = "" if unmeasurable(value) else ", which counts where all bands of a pixel have it"
        yield Fill(
            value,
            f"the value {text} is far outside the rest in {first_few(where, 3)}",
            f"if it stands for no data, declare it with nodata: {text} (--set nodata={text}){whole}",
        )


def shares(pixels: Mapping[int, int], labels: Collection[int]) -> str:
    """List labels with their shares of all pixels, the most frequent first."""
    total = sum(pixels.values())
    order = sorted(labels, key=lambda label: -pixels[label])
    return first_few((f"{label} ({pixels[label] / total:.2%})" for label in order), _MOST_SHARES)
