"""Some of the runs that a search would draw."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.errors import InputError
from segtune.planning.feasibility import possible_run
from segtune.space.parameters import RandomSuggest
from segtune.space.space import Space
from segtune.training.resolve import resolve

_SAMPLES = 10  # configurations shown
_PROBED = 3  # of them measured, beside the first run
_MOST_DRAWS = 10_000
_MOST_REPEATED = 1_000  # draws of known runs, after which a small space counts as exhausted


@dataclass(frozen=True)
class Samples:
    """Some runs that a search would draw."""

    runs: list[RunConfig]  # with image_size and paths filled in
    searched: list[dict[str, Any]]  # of each run, the settings that were drawn
    refused: list[str]  # why draws were not taken: a reason for each


def draw_samples(space: Space, info: DataInfo) -> Samples:
    """Return the first runs of a grid, or different runs drawn at random.

    Impossible combinations of settings and repeated runs are drawn again.
    """
    if space.search.sampler == "grid":
        points = [point for _, point in zip(range(_SAMPLES), space.grid(), strict=False)]
        return Samples(
            [resolve(RunConfig.from_settings(space.settings_at(point)), info) for point in points],
            [{key.rpartition(".")[2]: value for key, value in point.items()} for point in points],
            [],
        )
    suggest = RandomSuggest(random.Random(space.search.seed))
    runs: list[RunConfig] = []
    drawn: list[dict[str, Any]] = []
    reasons: list[str] = []
    repeated = 0
    while len(runs) < _SAMPLES and len(reasons) < _MOST_DRAWS and repeated < _MOST_REPEATED:
        settings = space.draw(suggest)
        try:
            run = possible_run(space, info, settings)
        except InputError as error:
            reasons.append(error.mistakes[0])
            continue
        if run in runs:
            repeated += 1
        else:
            runs.append(run)
            drawn.append({name: value for name, value in settings.items() if name not in space.fixed})
    return Samples(runs, drawn, reasons)


def measured_runs(first: RunConfig, samples: Sequence[RunConfig]) -> dict[str, RunConfig]:
    """Return the runs to measure, by name: the baseline, and some of the other samples."""
    others = [(f"run {number}", run) for number, run in enumerate(samples, start=1) if run != first]
    return {"baseline": first, **dict(others[:_PROBED])}
