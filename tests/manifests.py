"""Helpers: manifests of models that no run has trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from segtune.config import RunConfig
from segtune.data.bands import Band
from segtune.data.labels import Labels
from segtune.models.manifest import Manifest


def untrained(config: RunConfig, labels: Labels, bands: Sequence[Band], **fields: Any) -> Manifest:
    """Return the manifest of a model for 8-bit images; `fields` are others of its fields."""
    made = Manifest(
        config,
        labels,
        tuple(bands),
        uint8=True,
        precision="fp32",
        device="cpu",
        fingerprint="0123abcd",
        parameters=57,
        micro_batch=4,
        evaluation_batch_size=4,
    )
    return replace(made, **fields)
