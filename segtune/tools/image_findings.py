"""What is wrong with the images of a data set: kinds that differ, tiles without content, splits that differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from segtune.data.checks import Fill, undeclared_fills
from segtune.data.diagnosis import Finding, Severity
from segtune.data.scale import SAME_SCALE, other_scales, usual_levels
from segtune.data.statistics import Extremes, Moments
from segtune.data.tiles import TRAIN
from segtune.errors import counted, first_few
from segtune.tools.exchanged import Exchange
from segtune.tools.looks import Look
from segtune.tools.mask_findings import pixels_by_split

_SHIFT, _SIGMAS = 0.5, 4.0  # of means: in deviations of the pixels, and of what tiles vary by themselves
_RESOLUTION = 1.2  # ratio of the widths of pixels on the ground
_SHARES = 0.2  # difference of a label's shares in two splits that is told, where tiles do not vary as much anyway
_RARE, _TIMES = 0.001, 5.0  # share from which a rare label is compared; ratio of shares that is told
_ALIKE = 0.1  # difference of shares below which two splits may hold labels exchanged
_MOSTLY = 0.5  # share of a tile


def image_findings(
    looks: Sequence[Look], names: Sequence[str], fills: Sequence[Fill], exchanged: Sequence[Exchange]
) -> Iterator[Finding]:
    """Yield what is wrong with images. `names` are those of the extra channels, `fills` what `fills_of` found.

    Shares of labels that a split holds exchanged are not told again.
    """
    read = [look for look in looks if look.size]
    yield from _kinds(read)
    yield from _places(read)
    yield from _content(read)
    yield from (Finding("warning", "fill_value", fill.what, fill.do) for fill in fills)
    whole, bands = _whole(looks, names)
    yield from _splits(whole, bands)
    yield from _shares(looks, {(one.split, label) for one in exchanged for label in one.labels})


def _kinds(looks: Sequence[Look]) -> Iterator[Finding]:
    kinds: list[tuple[str, str, dict[str, int | str]]] = [
        ("bands", "band", {look.name: look.bands[0] for look in looks if look.bands}),
        ("types", "", {look.name: look.dtypes[0] for look in looks if look.dtypes}),
    ]
    for kind, noun, values in kinds:
        usual, odd = _odd(values)
        if odd and usual:
            own = counted(int(usual), noun) if noun else usual
            shown = first_few(f"{name} ({found})" for name, found in odd.items())
            # Training takes other types than uint8 as numbers, but one scale must hold for all.
            both = not noun and "uint8" not in (usual, *odd.values())
            severity: Severity = "warning" if both else "error"
            what = f"{counted(len(odd), 'image')} not of {own}, as most are: {shown}"
            do = "bring all images to the same bands" if noun else "bring all images to one type and scale"
            yield Finding(severity, kind, what, do, tuple(odd), leave_out=tuple(odd))
    sizes = Counter(look.size for look in looks if look.size)
    if len(sizes) > 1:
        shown = first_few((f"{h}x{w} ({number})" for (h, w), number in sizes.most_common()), 4)
        what = f"{len(sizes)} sizes of tiles, height x width: {shown}"
        yield Finding("note", "sizes", what, "the setting fit says how they become the square that the network sees")


def _odd(values: dict[str, int | str]) -> tuple[int | str | None, dict[str, int | str]]:
    """Return the most frequent value, and those that differ."""
    frequent = Counter(values.values()).most_common(1)
    usual = frequent[0][0] if frequent else None
    return usual, {name: value for name, value in values.items() if value != usual}


def _places(looks: Sequence[Look]) -> Iterator[Finding]:
    systems = Counter(
        look.trace.footprint.crs.to_string() if look.trace.footprint.crs else "unknown"
        for look in looks
        if look.trace and look.trace.footprint
    )
    placed = sum(systems.values())
    if 0 < placed < len(looks):
        without = [look.name for look in looks if look.trace and not look.trace.footprint]
        what = f"{len(without)} of {len(looks)} images without a place on the ground ({first_few(without)})"
        yield Finding("note", "places", what, "leaks of these are found by their pictures alone", tuple(without))
    if len(systems) > 1:
        shown = first_few((f"{name} ({number})" for name, number in systems.most_common()), 4)
        yield Finding(
            "note",
            "crs",
            f"{len(systems)} coordinate systems: {shown}",
            "use one where you can: pixels are compared in size within one system only",
        )
    if len(systems) == 1:  # metres and degrees are not compared
        yield from _resolutions(looks)


def _resolutions(looks: Sequence[Look]) -> Iterator[Finding]:
    found: dict[str, float] = {}
    for look in looks:
        if look.trace and look.trace.footprint and look.size:
            ring = look.trace.footprint.ring
            found[look.name] = float(np.hypot(*(ring[1] - ring[0]))) / look.size[1]
    usual = float(np.median(list(found.values())))
    odd = {name: value for name, value in found.items() if max(value / usual, usual / value) > _RESOLUTION}
    if odd:
        shown = first_few(f"{name} ({value:.3g})" for name, value in odd.items())
        what = f"{len(odd)} of {len(found)} images whose pixels are not {usual:.3g} wide, as the others' are: {shown}"
        do = "resample them: objects of another size are harder to learn"
        yield Finding("warning", "resolution", what, do, tuple(odd))


def _content(looks: Sequence[Look]) -> Iterator[Finding]:
    for kind, what, odd in (
        ("no_data", "without any pixel that holds data", [look.name for look in looks if look.without_data == 1]),
        ("constant", "of a single colour", [look.name for look in looks if look.constant]),
    ):
        if odd:
            told = f"{counted(len(odd), 'image')} {what} ({first_few(odd)})"
            yield Finding("warning", kind, told, "leave them out: they teach nothing", tuple(odd), leave_out=tuple(odd))
    some = {look.name: look.without_data for look in looks if 0 < look.without_data < 1}
    mostly = [name for name, share in some.items() if share > _MOSTLY]
    if some:
        share = sum(some.values()) / len(looks)
        more = f", {len(mostly)} of them in most of the tile" if mostly else ""
        what = f"{counted(len(some), 'tile')} with pixels that hold no data, {share:.2%} of all pixels{more}"
        shown = f" ({first_few(sorted(some, key=lambda name: -some[name]))})"
        do = "nothing: they count neither in training nor in the score"
        yield Finding("note", "partly_no_data", what + shown, do, tuple(some))


def _whole(looks: Sequence[Look], names: Sequence[str]) -> tuple[list[Look], list[str]]:
    """Return the tiles whose files were all read, and the names of their bands; nothing where the bands differ."""
    whole = [look for look in looks if look.size and look.moments and look.dtypes]
    if len({look.bands for look in whole}) != 1:
        return [], []
    return whole, [f"image:{i + 1}" for i in range(whole[0].bands[0])] + list(names)


def fills_of(looks: Sequence[Look], names: Sequence[str]) -> list[Fill]:
    """Return the values that may stand for no data in the tiles of train; `names` are those of the extra channels."""
    whole, bands = _whole(looks, names)
    extremes: Extremes | None = None
    for look in whole:
        if look.split == TRAIN and look.extremes:
            extremes = extremes.merge(look.extremes) if extremes else look.extremes
    return list(undeclared_fills(extremes, bands))


def _splits(looks: Sequence[Look], bands: Sequence[str]) -> Iterator[Finding]:
    """Yield splits whose values differ from those of train: in scale, or in what they show."""
    by_split: dict[str, list[Moments]] = {}
    for look in looks:
        if look.moments:
            by_split.setdefault(look.split, []).append(look.moments)
    levels = {
        split: [look.levels for look in looks if look.split == split and look.levels is not None] for split in by_split
    }
    usual = {split: level for split, found in levels.items() if (level := usual_levels(found)) is not None}
    scales = dict(other_scales(usual, bands))
    train = by_split.pop(TRAIN, None)
    for split, found in by_split.items() if train else ():
        if split in scales:
            yield Finding("error", "scale", scales[split], SAME_SCALE)
            continue
        here, there = _means(found), _means(train or [])
        deviation = np.sqrt(np.mean([m.squares / m.count for m in train or []], axis=0) + there.var(axis=0))
        step = here.mean(axis=0) - there.mean(axis=0)
        error = np.sqrt(here.var(axis=0) / len(here) + there.var(axis=0) / len(there))
        far = (abs(step) > _SHIFT * deviation) & (abs(step) > _SIGMAS * error)
        if far.any():
            means = zip(bands, here.mean(axis=0), there.mean(axis=0), far, strict=True)
            shown = first_few(
                (f"{band} {own:.4g} (train {other:.4g})" for band, own, other, is_far in means if is_far), 4
            )
            what = f"{split}: other values than in train, on average: {shown}"
            yield Finding("warning", "distribution", what, "see that light, season and sensor are alike in both")


def _means(found: Sequence[Moments]) -> npt.NDArray[np.float64]:
    return np.stack([moments.mean for moments in found])


def _shares(looks: Sequence[Look], known: Collection[tuple[str, int]]) -> Iterator[Finding]:
    """Yield splits whose classes have other shares than in train, by more than tiles differ anyway."""
    by_split = pixels_by_split(looks)
    train = by_split.pop(TRAIN, None)
    if not train:
        return
    for split, pixels in by_split.items():
        told = []
        for label in sorted(train.keys() & pixels.keys()):
            if (split, label) in known:
                continue
            own, other = (_tile_shares(looks, name, label) for name in (split, TRAIN))
            step = float(own.mean() - other.mean())
            error = float(np.sqrt(own.var() / len(own) + other.var() / len(other)))
            if abs(step) > _SHARES and abs(step) > _SIGMAS * error:
                told.append(f"{label} {own.mean():.1%} (train {other.mean():.1%})")
            elif _rare(own, other):
                held = counted(int(np.count_nonzero(own)), "tile")
                told.append(f"{label} {own.mean():.2%}, {pixels[label]} pixels in {held} (train {other.mean():.2%})")
        if told:
            what = f"{split}: other shares of labels than in train: {first_few(told, 6)}"
            do = "split by class share (python -m segtune.tools split)"
            if mirrored := _mirrored(train, pixels):
                what += f"; {mirrored}: inverted?"
                do = f"see whether the masks of {split} are inverted; if not, {do}"
            yield Finding("warning", "class_shares", what, do)


def _rare(own: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> bool:
    """Return whether one split's tiles hold several times the share of a label that the other's do, beyond chance."""
    low, high = sorted((float(own.mean()), float(other.mean())))
    # The rarer one varies by as much as the other would in so few tiles: what is hardly there seems not to vary.
    error = np.sqrt(max(own.var(), other.var()) * (1 / len(own) + 1 / len(other)))
    return high > _RARE and high > _TIMES * low and high - low > _SIGMAS * error


def _mirrored(train: Mapping[int, int], pixels: Mapping[int, int]) -> str | None:
    """Say that the shares of two labels are nearly those of train exchanged; None where they are not."""
    if len(labels := sorted(train.keys() | pixels.keys())) != 2:
        return None
    one, other = ([found[label] / sum(found.values()) for label in labels] for found in (pixels, train))
    if abs(one[0] - other[1]) > _ALIKE:
        return None
    own, theirs = ("/".join(f"{100 * share:.1f}" for share in both) for both in (one, other))
    return f"{own} against {theirs}"


def _tile_shares(looks: Sequence[Look], split: str, label: int) -> npt.NDArray[np.float64]:
    own = [look.labels for look in looks if look.split == split and look.labels]
    return np.array([labels.get(label, 0) / sum(labels.values()) for labels in own])
