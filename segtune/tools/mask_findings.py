"""What is wrong with the masks of a data set: values that are no labels, classes that are absent, wrong masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from segtune.data.diagnosis import Finding
from segtune.data.reading import TilePixels
from segtune.data.scale import grid
from segtune.data.statistics import Moments
from segtune.data.tiles import TRAIN
from segtune.errors import counted, first_few
from segtune.tools.exchanged import Colours, Exchange, usual_colours
from segtune.tools.looks import Look, colours_of, sample_of

_COMMON = 0.05  # share of a label that other values shade into
_FEW = 8  # tiles from which colours tell which masks are odd
_CLEAR, _WEAK, _AGREE = 0.5, 0.35, 0.9  # how well a mask fits its image, relative to the usual; share that must fit
_AGREE_BUT_WEAK = 0.98  # share that must fit of those that are not weak
_FITS = 0.5, 1.6  # how well a mask fits the image that it was swapped with
_INVERTED, _CONTRADICT = 1 / 3, 0.05  # most masks that may be inverted among right ones; share that may contradict
_MANY = 64  # values of a mask that may be a picture
_MOST_ODD = 60  # masks that are tried on each other's images
_LEAST = 1e-4  # share of pixels from which a label that another split lacks is told

ReadTile = Callable[[str], TilePixels]  # by SPLIT/NAME


@dataclass(frozen=True)
class Meaning:
    """What the user says of labels; without classes, all labels that are not ignored count alike."""

    classes: tuple[int, ...]
    ignore: tuple[int, ...]


def mask_findings(
    looks: Sequence[Look], meaning: Meaning, read: ReadTile, exchanged: Sequence[Exchange]
) -> Iterator[Finding]:
    """Yield what is wrong with masks; `read` reads a tile again, to try masks on other images.

    `exchanged` has the labels that whole splits hold exchanged, whose tiles are not told one by one.
    """
    yield from _folders(looks)
    yield from _values(looks)
    labelled = [look for look in looks if look.labels]
    shaded = any(look.shaded for look in labelled)
    yield from _empty([look for look in looks if look.labelled], meaning)
    if meaning.classes or not shaded:  # otherwise every shade would count as a class
        yield from _classes(labelled, meaning)
    yield from (exchange.finding() for exchange in exchanged)
    wrong = {exchange.split for exchange in exchanged}
    if not shaded:
        yield from _odd([look for look in labelled if look.split not in wrong], meaning, read)


def pixels_by_split(looks: Sequence[Look]) -> dict[str, Counter[int]]:
    """Return the pixels of each label, by split."""
    found: dict[str, Counter[int]] = {look.split: Counter() for look in looks}
    for look in looks:
        found[look.split].update(look.labels)
    return found


def _folders(looks: Sequence[Look]) -> Iterator[Finding]:
    """Yield that images and masks are exchanged as a whole: images of few values, masks of colours or many values."""
    coloured = [any(fault.kind == "mask_bands" for fault in look.faults) for look in looks]
    odd = [has or len(look.labels) > _MANY for has, look in zip(coloured, looks, strict=True)]
    alike = [look.name for has, look in zip(odd, looks, strict=True) if has and look.few_values]
    if len(alike) > len(looks) / 2:
        yield Finding(
            "error",
            "swapped_folders",
            f"images and masks are likely swapped: {len(alike)} of {len(looks)} images hold few values, and their "
            "masks are pictures",
            "rename the folders, or exchange images_dir and masks_dir (--set)",
            tuple(alike),
        )


def _values(looks: Sequence[Look]) -> Iterator[Finding]:
    """Yield masks with values between labels, as smooth edges, resampling and JPEG make them."""
    if broken := [look for look in looks if look.fractions]:
        ranges = [look.fractions for look in broken if look.fractions]
        low, high = min(found.low for found in ranges), max(found.high for found in ranges)
        between, cut = sum(found.between for found in ranges), (low + high) / 2
        yield Finding(
            "error",
            "mask_fractions",
            f"{counted(len(broken), 'mask')} with fractions instead of labels, from {low:g} to {high:g}, {between} "
            f"pixels in between ({first_few(look.mask for look in broken)})",
            f"write labels: --threshold {cut:g} (python -m segtune.tools relabel) puts each pixel on the nearer side",
            tuple(look.name for look in broken),
        )
    if shaded := [look for look in looks if look.shaded]:
        pixels = sum((Counter(look.labels) for look in shaded), Counter[int]())
        total = sum(pixels.values())
        steps = sorted(value for value, number in pixels.items() if number >= _COMMON * total)
        ends = steps if len(steps) > 1 else [min(pixels), max(pixels)]
        between = total - sum(pixels[value] for value in ends)
        cuts = [(one + other + 1) // 2 for one, other in pairwise(ends)]
        to = " ".join(f"{step}:{value}" for step, value in enumerate(ends))
        yield Finding(
            "warning",
            "mask_shades",
            f"{counted(len(shaded), 'mask')} with rare values between labels, as smooth edges, resampling or JPEG make "
            f"them: {between} pixels ({between / total:.2%}) between {' and '.join(map(str, ends))} "
            f"({first_few(look.mask for look in shaded)})",
            f"write labels: --threshold {' '.join(map(str, cuts))} --labels {to} (python -m segtune.tools relabel)",
            tuple(look.name for look in shaded),
        )


def _empty(looks: Sequence[Look], meaning: Meaning) -> Iterator[Finding]:
    ignored = [look for look in looks if set(look.labels) <= set(meaning.ignore)]
    if ignored:
        yield Finding(
            "warning",
            "unlabelled",
            f"{counted(len(ignored), 'mask')} without a label that counts ({first_few(look.name for look in ignored)})",
            "label them, or leave them out: they teach nothing",
            tuple(look.name for look in ignored),
            leave_out=tuple(look.name for look in ignored),
        )


def _classes(looks: Sequence[Look], meaning: Meaning) -> Iterator[Finding]:
    """Yield labels that some split lacks, and those that nobody named."""
    by_split = pixels_by_split(looks)
    everything = sum(by_split.values(), Counter[int]())
    wanted = meaning.classes or tuple(sorted(everything.keys() - set(meaning.ignore)))
    for split, pixels in by_split.items():
        absent = [label for label in wanted if not pixels[label] and _told(everything, label, meaning)]
        if not absent:
            continue
        named = first_few(map(str, absent), 12)
        if split == TRAIN and meaning.classes:
            held = first_few(map(str, sorted(pixels)), 12)
            what = f"train: no mask holds {named}; they hold {held}"
            yield Finding("error", "class_absent", what, "correct classes, or the labels of the masks")
        elif split == TRAIN:
            do = "label them in train, too, or ignore them"
            yield Finding("warning", "class_absent", f"train: no mask holds {named}, which other splits hold", do)
        else:
            what = f"{split}: no mask holds {named}, so its score says nothing of them"
            yield Finding("warning", "class_absent", what, "split by class share (python -m segtune.tools split)")
    if meaning.classes and (others := everything.keys() - {*meaning.classes, *meaning.ignore, 0}):
        total = sum(everything.values())
        shares = (f"{label} ({everything[label] / total:.2%})" for label in sorted(others))
        what = f"labels that count as background, being neither in classes nor in ignore: {first_few(shares, 6)}"
        yield Finding("note", "background", what, "list them in classes or ignore if they are no background")


def _told(everything: Mapping[int, int], label: int, meaning: Meaning) -> bool:
    return bool(meaning.classes) or everything[label] >= _LEAST * sum(everything.values())


def _odd(looks: Sequence[Look], meaning: Meaning, read: ReadTile) -> Iterator[Finding]:
    """Yield masks that fit the colours of their images much worse than the others: inverted, or of another tile."""
    usual = usual_colours([look.colours for look in looks], meaning.ignore, _FEW)
    if len(usual) < 2:
        return
    fits = {look.name: fit for look in looks if (fit := _fit(look.colours, usual)) is not None}
    if len(fits) < _FEW:
        return
    agree = bool(np.mean([fit >= _CLEAR for fit in fits.values()]) >= _AGREE)
    if len(usual) == 2 and (inverted := _inverted(looks, fits, tuple(usual), agree)):
        one, other = usual
        yield Finding(
            "warning",
            "inverted",
            f"{counted(len(inverted), 'mask')} with {one} and {other} likely inverted: the image has, where the mask "
            f"says {one}, what other images have at {other} ({first_few(inverted)})",
            f"look at them, and invert them: --labels {one}:{other} {other}:{one} (python -m segtune.tools relabel)",
            inverted,
            leave_out=inverted,
        )
    if not agree:
        return
    weak = [name for name, fit in fits.items() if abs(fit) < _WEAK]
    others = [fit >= _CLEAR for name, fit in fits.items() if abs(fit) >= _WEAK]
    if np.mean(others) < _AGREE_BUT_WEAK:  # colours say too little: masks would fit other images by chance
        return
    if pairs := _swapped(weak[:_MOST_ODD], usual, read):
        names = tuple(sorted({name for pair in pairs for name in pair}))
        listed = first_few((f"{one} and {other}" for one, other in pairs), 3)
        yield Finding(
            "warning",
            "swapped",
            f"{counted(len(pairs), 'pair')} of tiles with likely swapped masks: each fits the other's image ({listed})",
            "look at them, and rename the masks",
            names,
            tuple(pairs),
            names,
        )


def _inverted(
    looks: Sequence[Look], fits: Mapping[str, float], labels: tuple[int, ...], agree: bool
) -> tuple[str, ...]:
    """Return the tiles whose masks fit inverted.

    Where most do not `agree`, the share of the label must be mirrored, too, and hardly any other mask may contradict:
    colours of a class that is darker here and brighter there say nothing.
    """
    contrary = tuple(name for name, fit in fits.items() if fit <= -_CLEAR)
    if agree:
        return contrary
    shares = {
        look.name: look.labels.get(labels[0], 0) / total
        for look in looks
        if look.name in fits and (total := sum(look.labels.get(label, 0) for label in labels))
    }
    usual = float(np.median(list(shares.values())))
    found = tuple(name for name in contrary if abs(shares[name] - (1 - usual)) < abs(shares[name] - usual))
    others = [fit for name, fit in fits.items() if name not in found]
    few = len(found) <= _INVERTED * len(fits) and len(contrary) - len(found) <= _CONTRADICT * len(fits)
    return found if few and np.mean([fit > 0 for fit in others]) >= _AGREE else ()


def _fit(colours: Colours, usual: Colours) -> float | None:
    """Return how well the colours of a tile's labels agree with the usual ones: 1 as usual, -1 inverted, 0 unrelated.

    It compares the differences between labels; None for a tile that holds fewer than two of them.
    """
    shared = [label for label in usual if label in colours and len(colours[label]) == len(usual[label])]
    if len(shared) < 2:
        return None
    own, common = (np.stack([found[label] for label in shared]) for found in (colours, usual))
    own, common = own - own.mean(axis=0), common - common.mean(axis=0)
    scale = float((common**2).sum())
    return float((own * common).sum() / scale) if scale > 1e-3 else None


def _swapped(names: Sequence[str], usual: Colours, read: ReadTile) -> list[tuple[str, str]]:
    """Return pairs of tiles whose masks fit each other's images as masks usually do."""
    pixels = {name: read(name) for name in names}

    def fit(image: str, mask: str) -> float:
        sources, valid, own = pixels[image]
        other = pixels[mask].mask
        if own.shape != other.shape:
            return 0.0
        sampled = grid(own.shape)
        kept = valid[sampled]
        values = sample_of(sources, sampled, kept)
        return _fit(colours_of(values, other[sampled][kept], Moments.of(values)), usual) or 0.0

    low, high = _FITS
    found = [
        (one, other)
        for i, one in enumerate(names)
        for other in names[i + 1 :]
        if low <= fit(one, other) <= high and low <= fit(other, one) <= high
    ]
    # A mask that fits several images says nothing.
    often = Counter(name for pair in found for name in pair)
    return [pair for pair in found if all(often[name] == 1 for name in pair)]
