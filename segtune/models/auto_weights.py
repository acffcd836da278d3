"""Decide what `encoder_weights: auto` stands for: ImageNet weights for all encoders of a search, or for none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from segtune.errors import first_few
from segtune.models.build import check_weights
from segtune.models.compatibility import incompatibility
from segtune.models.pretrained import (
    NO_WEIGHTS,
    WEIGHTS_FOLDER,
    bringing_command,
    cached_file,
    fetch_weights,
    imagenet_file,
    unavailable,
)

_COST = "this costs 0.05 to 0.06 mIoU (on two small data sets: benchmarks/README.md)"
_NOT_MIXED = "a search does not mix random with ImageNet weights"
_BRING = f"to have them, run this where there is a network, then set {WEIGHTS_FOLDER}=FOLDER here:"


@dataclass(frozen=True)
class AutoWeights:
    """What auto stands for in a run or a search."""

    weights: Literal["imagenet", "none"]
    remarks: Sequence[str] = ()  # lines that tell the user what follows from it


def decide_weights(networks: Iterable[tuple[str, str]], fetch: bool = True) -> AutoWeights:
    """Decide once for all networks, given as (model, encoder): pretrained and random encoders are never mixed.

    The answer is imagenet if the weights of all encoders are in $SEGTUNE_WEIGHTS, are cached or, with `fetch`, can be
    downloaded; they are in the cache afterwards. Without `fetch`, nothing is downloaded and the servers' answers count.
    Raises InputError if a file in $SEGTUNE_WEIGHTS is damaged or does not fit.
    """
    possible = [(model, encoder) for model, encoder in networks if not incompatibility(model, encoder, None)]
    encoders = list(dict.fromkeys(encoder for _, encoder in possible))
    check_weights((model, encoder, "imagenet") for model, encoder in possible if imagenet_file(encoder))
    lost = fetch_weights(encoders) if fetch else unavailable(encoders)
    if lost or not encoders:
        return AutoWeights("none", _warning(encoders, lost) if lost else ())
    absent = [encoder for encoder in encoders if not (imagenet_file(encoder) or cached_file(encoder))]
    downloads = f"encoder_weights: ImageNet weights of {first_few(absent)} are downloaded before anything starts"
    return AutoWeights("imagenet", [downloads] if absent else ())


def _warning(encoders: Sequence[str], lost: Mapping[str, str]) -> list[str]:
    """Return short lines: that encoders start with random weights, what this costs, why, and the command that helps."""
    by_reason: dict[str, list[str]] = {}
    for encoder, reason in lost.items():
        by_reason.setdefault(reason, []).append(encoder)
    start = f"{encoders[0]} starts" if len(encoders) == 1 else "all encoders start"
    lines = [_COST, *(f"ImageNet weights of {first_few(names)} {reason}" for reason, names in by_reason.items())]
    if len(lost) < len(encoders):
        lines.append(_NOT_MIXED)
    bring, without = ([name for name in lost if (lost[name] == NO_WEIGHTS) == none] for none in (False, True))
    if bring:
        lines += [_BRING, f"  {bringing_command(bring)}"]
    if without and len(without) < len(encoders):
        lines.append(f"leave out {', '.join(without)}: the others can start with ImageNet weights then")
    return [f"warning: encoder_weights: {start} with random weights", *(f"  {line}" for line in lines)]
