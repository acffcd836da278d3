"""Decide what `encoder_weights: auto` stands for: ImageNet weights for all encoders of a search, or for none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from segtune.models.build import check_weights
from segtune.models.compatibility import incompatibility
from segtune.models.pretrained import (
    NO_WEIGHTS,
    cached_file,
    fetch_weights,
    how_to_bring,
    imagenet_file,
    unavailable,
)

_COST = "which costs 0.05 to 0.06 mIoU in benchmarks/README.md"


@dataclass(frozen=True)
class AutoWeights:
    """What auto stands for in a run or a search."""

    weights: Literal["imagenet", "none"]
    remark: str | None  # what the user should know


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
        return AutoWeights("none", _warning(encoders, lost) if lost else None)
    absent = [encoder for encoder in encoders if not (imagenet_file(encoder) or cached_file(encoder))]
    downloads = f"encoder_weights: imagenet; those of {', '.join(absent)} are downloaded before anything starts"
    return AutoWeights("imagenet", downloads if absent else None)


def _warning(encoders: Sequence[str], lost: Mapping[str, str]) -> str:
    """Return one line: what it costs that weights are missing, which ones are and why, and what to do."""
    by_reason: dict[str, list[str]] = {}
    for encoder, reason in lost.items():
        by_reason.setdefault(reason, []).append(encoder)
    why = "; ".join(f"those of {', '.join(names)} {reason}" for reason, names in by_reason.items())
    start = "the encoder starts" if len(encoders) == 1 else "all encoders start"
    parts = [f"warning: encoder_weights: {start} with random weights instead of ImageNet weights, {_COST}: {why}"]
    if len(lost) < len(encoders):
        parts.append("a search mixes pretrained and random encoders only if asked to; leave these out, or bring theirs")
    if bring := [encoder for encoder, reason in lost.items() if reason != NO_WEIGHTS]:
        parts.append(how_to_bring(bring))
    return "; ".join(parts)
