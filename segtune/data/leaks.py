"""Leaks between splits: tiles whose picture or place another split also holds, so that a score is too good."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from segtune.data.diagnosis import Finding, Pair
from segtune.data.footprints import Footprint, Meeting, Relation, footprint_of, meetings
from segtune.data.likeness import Likeness, equal_groups, near_pairs
from segtune.data.raster import opened
from segtune.data.reading import read_pixels
from segtune.data.splits import TEST
from segtune.data.threads import reading_threads
from segtune.data.tiles import TRAIN, VAL, ReadSettings
from segtune.errors import InputError, counted, first_few
from segtune.machine import available_cpus

_ORDER = (TRAIN, VAL)  # others, such as test and added validation sets, come later
_SHOWN = 3  # pairs of tiles in a sentence
_BLOCKS = "split by place, with a gap, instead of at random (python -m segtune.tools split)"


@dataclass(frozen=True)
class Trace:
    """What is remembered of a tile's image, so that leaks are found without reading it again."""

    name: str  # of the tile, without its split
    likeness: Likeness | None  # None where pixels were not read
    footprint: Footprint | None  # None where the place is not known


def trace_of(name: str, image: Path, settings: ReadSettings, pixels: bool = True) -> Trace:
    """Read the trace of an image; without its `pixels`, which need decoding, only of its place.

    Raises InputError where the file cannot be read.
    """
    with opened(image, "an image", place=True) as raster:
        return Trace(name, Likeness.of(*read_pixels(raster, settings)) if pixels else None, footprint_of(raster))


def read_traces(
    images: Sequence[tuple[str, Path]],
    progress: Callable[[int, int], None] = lambda done, total: None,
    settings: ReadSettings | None = None,
    pixels: bool = True,
) -> Iterator[Trace | InputError]:
    """Read the traces of images, each with the name of its tile, on all cores; yield them in order.

    An image that cannot be read yields its error.
    """
    look = partial(_traced, settings=settings or ReadSettings(), pixels=pixels)
    with reading_threads(available_cpus()) as pool:
        for done, trace in enumerate(pool.map(look, images), start=1):
            yield trace
            progress(done, len(images))


def _traced(image: tuple[str, Path], settings: ReadSettings, pixels: bool) -> Trace | InputError:
    try:
        return trace_of(*image, settings, pixels)
    except InputError as error:
        return error


def _never(one: int, other: int) -> bool:
    return False


def find_leaks(
    traces: Sequence[Trace], splits: Sequence[str], contradict: Callable[[int, int], bool] = _never
) -> list[Finding]:
    """Find duplicates within and across splits, and tiles of different splits that meet on the ground.

    `splits` has the split of each trace. A finding names all its pairs, the tile of the earlier split first: train,
    then val, then the others. `leave_out` spares the later split, so that scores stay comparable. `contradict` says by
    position whether the masks of two equal images differ; which of them is right, a person must see.
    """
    splits = list(splits)
    names = [f"{split}/{trace.name}" for split, trace in zip(splits, traces, strict=True)]
    shown = [i for i, trace in enumerate(traces) if trace.likeness]
    likenesses = [trace.likeness for trace in traces if trace.likeness]
    equal = [
        (shown[first], shown[other])
        for group in equal_groups(likenesses)
        for k, first in enumerate(group)
        for other in group[k + 1 :]
    ]
    near = [(shown[i], shown[j]) for i, j in near_pairs(likenesses)]
    contrary = {pair for pair in equal if contradict(*pair)}
    copies = set(equal) | set(near)
    met = meetings([trace.footprint for trace in traces], splits)
    places = [meeting for meeting in met if (meeting.first, meeting.second) not in copies]
    return [
        *_contradictions([pair for pair in equal if pair in contrary], names, splits),
        *_copies("duplicate", "the same pixels", [pair for pair in equal if pair not in contrary], names, splits),
        *_copies("near_duplicate", "nearly the same picture", near, names, splits),
        *_places(places, names, splits),
    ]


def _copies(
    kind: str, what: str, pairs: Iterable[tuple[int, int]], names: Sequence[str], splits: Sequence[str]
) -> Iterator[Finding]:
    for (one, other), found in _by_splits(pairs, splits).items():
        named = _named(found, names)
        if one != other:
            do = f"leave the {one} tiles out, or split so that copies stay together"
            yield _across(kind, f"{what} in {one} and {other}", named, other, splits.count(other), do)
            continue
        tiles = tuple(sorted({name for pair in named for name in pair}))
        yield Finding(
            "warning",
            kind,
            f"{what} more than once in {one}: {len(tiles)} of its {splits.count(one)} tiles ({_listed(named)})",
            "keep one of each: the others only count it again",
            tiles,
            named,
            _fewest(named),
        )


def _contradictions(pairs: Iterable[tuple[int, int]], names: Sequence[str], splits: Sequence[str]) -> Iterator[Finding]:
    for (one, other), found in _by_splits(pairs, splits).items():
        named = _named(found, names)
        tiles = tuple(sorted({name for pair in named for name in pair}))
        where = one if one == other else f"{one} and {other}"
        what = f"the same image with masks that differ, in {where}: {counted(len(named), 'pair')} ({_listed(named)})"
        yield Finding("warning", "contradiction", what, "keep the tile whose mask is right", tiles, named)


def _places(found: Iterable[Meeting], names: Sequence[str], splits: Sequence[str]) -> Iterator[Finding]:
    by_relation: dict[Relation, dict[tuple[int, int], float]] = {"same": {}, "overlap": {}, "near": {}}
    for meeting in found:
        by_relation[meeting.relation][meeting.first, meeting.second] = meeting.share
    kinds = {
        "same": ("same_place", "the same place in other pictures (another date, another sensor, or moved a little) in"),
        "overlap": ("overlap", "overlap on the ground between"),
        "near": ("neighbours", "tiles directly beside each other in"),
    }
    for relation, pairs in by_relation.items():
        kind, what = kinds[relation]
        for (one, other), own in _by_splits(pairs, splits).items():
            named = _named(own, names)
            most = max(pairs.get((i, j), pairs.get((j, i), 0.0)) for i, j in own)
            by = "" if relation == "near" else f", by up to {most:.0%} of a tile"
            do = _BLOCKS if relation == "near" else f"{_BLOCKS}, or leave the {one} tiles out"
            finding = _across(kind, f"{what} {one} and {other}{by}", named, other, splits.count(other), do)
            yield replace(finding, leave_out=()) if relation == "near" else finding


def _across(kind: str, what: str, pairs: tuple[Pair, ...], other: str, size: int, do: str) -> Finding:
    """Return a finding on pairs of tiles of two splits; the later one is `other`, and has this size."""
    first, later = ({pair[k] for pair in pairs} for k in (0, 1))
    effect = f"the score of {other} {'may be' if kind == 'neighbours' else 'is'} too good"
    told = f"{what}: {len(later)} of the {size} {other} tiles ({_listed(pairs)}), so {effect}"
    return Finding("warning", kind, told, do, tuple(sorted(first | later)), pairs, tuple(sorted(first)))


def _by_splits(pairs: Iterable[tuple[int, int]], splits: Sequence[str]) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Group pairs of positions by their splits, the tile of the earlier split first."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for pair in pairs:
        one, other = sorted(pair, key=lambda position: (_rank(splits[position]), splits[position], position))
        found.setdefault((splits[one], splits[other]), []).append((one, other))
    return dict(sorted(found.items(), key=lambda item: item[0][0] == item[0][1]))


def _rank(split: str) -> int:
    return _ORDER.index(split) if split in _ORDER else len(_ORDER) + (split == TEST)


def _named(pairs: Iterable[tuple[int, int]], names: Sequence[str]) -> tuple[Pair, ...]:
    return tuple(sorted((names[one], names[other]) for one, other in pairs))


def _listed(pairs: Sequence[Pair]) -> str:
    return first_few((f"{one} and {other}" for one, other in pairs), _SHOWN)


def _fewest(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Return tiles without which no pair is left: the later one of each pair whose tiles are both still there."""
    gone: set[str] = set()
    for one, other in pairs:
        if one not in gone and other not in gone:
            gone.add(other)
    return tuple(sorted(gone))
