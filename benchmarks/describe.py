"""What recorded curves hold: the figures of the datasheet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from judge import epochs_of
from recorded import Recorded


def describe(sets: Mapping[str, Recorded]) -> Iterator[str]:
    """Describe every data set in a line: counts, scores, chance and cost."""
    yield (
        f"{'':14}{'configurations':>16}{'repeated':>10}{'failed':>8}{'epochs':>8}{'mIoU median':>13}{'best':>8}"
        f"{'deviation from seed to seed':>60}{'seconds each':>14}{'CPU hours':>11}"
    )
    for name, recorded in sets.items():
        final = recorded.best[:, -1]
        repeated = len({curve.number for curve in recorded.all if curve.seed != recorded.space.baseline.seed})
        failed = sum(curve.failed for curve in recorded.all)
        hours = sum(curve.seconds[-1] for curve in recorded.all if curve.seconds) / 3600
        yield (
            f"{name:14}{len(recorded.curves):16}{repeated:10}{failed:8}{recorded.epochs:8}{np.median(final):13.4f}"
            f"{final.max():8.4f}{_deviations(recorded):>60}{recorded.full_training():14.0f}{hours:11.1f}"
        )


def _deviations(recorded: Recorded) -> str:
    """Return the deviation from seed to seed of repeated configurations, early and at the end."""
    found = {epoch: np.sqrt(np.mean(recorded.repeats.miou[:, epoch - 1] ** 2)) for epoch in epochs_of(recorded)}
    return ", ".join(f"{value:.4f} (epoch {epoch})" for epoch, value in found.items())
