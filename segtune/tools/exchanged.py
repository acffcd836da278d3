"""Labels that a whole split holds exchanged, such as inverted masks: their colours are each other's in train."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from segtune.data.diagnosis import Finding
from segtune.data.labels import UNLABELLED
from segtune.data.tiles import TRAIN
from segtune.tools.looks import Look

_FEW_TRAIN, _FEW = 8, 4  # tiles from which a label's usual colours are known, in train and in another split
_NEARER = 0.35  # how far from train's colours the exchanged labels are, relative to the labels as they are
_MOST = 0.75  # share of a split's tiles that the exchange must suit better

Colour = npt.NDArray[np.float64]  # (bands,), see `looks.colours_of`
Colours = Mapping[int, Colour]  # by label


@dataclass(frozen=True)
class Exchange:
    """Two labels that a split holds exchanged."""

    split: str
    labels: tuple[int, int]
    only: bool  # train holds no other labels
    shares: tuple[tuple[float, float], tuple[float, float]]  # of the pixels: of both labels in the split, and in train
    tiles: tuple[str, ...]  # of the split, that hold either label

    def finding(self) -> Finding:
        """Say which labels are exchanged, by their shares, and how to mend them."""
        one, other = self.labels
        own, train = ("/".join(f"{100 * share:.1f}" for share in both) for both in self.shares)
        what = "inverted" if self.only else "exchanged"
        return Finding(
            "warning",
            "inverted",
            f"{self.split}: {one} and {other} are likely {what}: they hold {own}% of its pixels, against {train}% in "
            f"train, and its images have, where masks say {one}, what those of train have at {other}",
            f"look at both splits, and exchange the labels of the wrong one: --labels {one}:{other} {other}:{one} "
            "(python -m segtune.tools relabel)",
            self.tiles,
        )


def exchanges(looks: Sequence[Look], ignore: Collection[int]) -> list[Exchange]:
    """Find the two labels of each split whose exchange brings its colours and shares to those of train."""
    by_split: dict[str, list[Look]] = {}
    for look in looks:
        by_split.setdefault(look.split, []).append(look)
    train = by_split.pop(TRAIN, [])
    if any(look.shaded for look in looks):  # every shade would count as a label
        return []
    usual = usual_colours([look.colours for look in train], ignore, _FEW_TRAIN)
    found = (_exchange(split, own, train, usual, ignore) for split, own in by_split.items())
    return [exchange for exchange in found if exchange]


def _exchange(
    split: str, looks: Sequence[Look], train: Sequence[Look], usual: Colours, ignore: Collection[int]
) -> Exchange | None:
    own_colours = usual_colours([look.colours for look in looks], ignore, _FEW)
    here = {label: mean for label, mean in own_colours.items() if label in usual}
    if not here or any(mean.shape != usual[label].shape for label, mean in here.items()):
        return None
    own, other = _shares(looks), _shares(train)
    as_it_is = _distance(here, usual, {})
    found: list[tuple[float, Exchange]] = []
    for pair in combinations(usual, 2):
        if not here.keys() & set(pair):
            continue
        one, two = pair
        exchanged = {one: two, two: one}
        distance = _distance(here, usual, exchanged)
        holding = [look for look in looks if look.colours.keys() & set(pair)]
        better = [_distance(look.colours, usual, exchanged) < _distance(look.colours, usual, {}) for look in holding]
        step = sum(abs(own.get(label, 0) - other.get(label, 0)) for label in pair)
        step_exchanged = sum(abs(own.get(label, 0) - other.get(exchanged[label], 0)) for label in pair)
        if distance < _NEARER * as_it_is and np.mean(better) >= _MOST and step_exchanged < step:
            (a, b), (c, d) = ((shares.get(one, 0.0), shares.get(two, 0.0)) for shares in (own, other))
            names = tuple(look.name for look in holding)
            found.append((distance, Exchange(split, pair, len(usual) == 2, ((a, b), (c, d)), names)))
    return min(found, key=lambda item: item[0])[1] if found else None


def usual_colours(colours: Sequence[Colours], ignore: Collection[int], few: int) -> dict[int, Colour]:
    """Return the median colours of each label that at least `few` tiles hold beside others."""
    known = [found for found in colours if len(found) > 1 and len({len(mean) for mean in found.values()}) == 1]
    labels = Counter(label for found in known for label in found if label not in (*ignore, UNLABELLED))
    bands = Counter(len(next(iter(found.values()))) for found in known)
    if not bands:
        return {}
    own = bands.most_common(1)[0][0]
    return {
        label: np.median([found[label] for found in known if label in found and len(found[label]) == own], axis=0)
        for label, number in sorted(labels.items())
        if number >= few
    }


def _distance(colours: Colours, usual: Colours, exchanged: Mapping[int, int]) -> float:
    """Return how far colours are from the usual ones of their labels, some of which are exchanged: a sum of squares."""
    return sum(
        float(((mean - usual[exchanged.get(label, label)]) ** 2).sum())
        for label, mean in colours.items()
        if label in usual and mean.shape == usual[label].shape
    )


def _shares(looks: Sequence[Look]) -> dict[int, float]:
    """Return the share of each label in the pixels of all tiles."""
    pixels = sum((Counter(look.labels) for look in looks), Counter[int]())
    total = sum(pixels.values())
    return {label: number / total for label, number in pixels.items()}
