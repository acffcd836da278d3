"""Say how large a gain chance alone brings, also the largest of several gains over one control."""

from __future__ import annotations

import functools
import math

import numpy as np

from segtune.evaluation.overlap import Floats

_REACH, _STEPS = 8.0, 161  # of the grid of standard normal values
_SPREADS = 81  # steps of the grid of estimated deviations, each over the true one
_PRECISION = 1e-4  # of a critical value


@functools.cache
def critical(gains: int, chance: float, freedom: float = math.inf) -> float:
    """Return the value that the largest of several standardized gains exceeds by chance this often.

    All gains are over one control, and have a correlation of 0.5 for that reason: Dunnett's one-sided test of several
    treatments against a control (Dunnett 1955, doi:10.1080/01621459.1955.10501294). The same value serves gains of
    the best over each of the others, in whatever order they are (Hsu 1984, doi:10.1214/aos/1176346715).

    Parameters
    ----------
    gains: their number.
    chance: of the largest to exceed the value, where all are equal in truth.
    freedom: the degrees of freedom of the deviation that gains are divided by; infinite for a known one.
    """
    low, high = 0.0, 100.0
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - _none_above(middle, gains, freedom) > chance else (low, middle)
    return high


def probability_above_zero(gain: float, error: float, freedom: float) -> float:
    """Return the probability that a true gain is above zero.

    It is that of Student's t with a flat prior: 0.5 for an estimate of zero. `error` is the standard error of the
    estimate, and may be zero.
    """
    if not error:
        return 0.5 + 0.5 * float(np.sign(gain))
    spreads, weights = _spreads(freedom)
    return float(weights @ _below(gain / error * spreads))


def _none_above(value: float, gains: int, freedom: float) -> float:
    """Return the probability that no gain is above a value, in estimated standard deviations.

    Between the control at z and the best of the others, each N(0, 1), lies less than x with the chance of the integral
    of Phi(z + x)^gains phi(z); x varies with the estimated deviation.
    """
    places = np.linspace(-_REACH, _REACH, _STEPS)
    density = np.exp(-(places**2) / 2) / math.sqrt(2 * math.pi) * (places[1] - places[0])
    spreads, weights = _spreads(freedom)
    return float(weights @ (_below(places + math.sqrt(2) * value * spreads[:, None]) ** gains @ density))


def _spreads(freedom: float) -> tuple[Floats, Floats]:
    """Return values of the estimated deviation over the true one, and the weight of each."""
    if math.isinf(freedom):
        return np.ones(1), np.ones(1)
    half = 6 / math.sqrt(2 * freedom)
    values = np.linspace(max(1e-3, 1 - half), 1 + half, _SPREADS)
    logarithms = (freedom - 1) * np.log(values) - freedom * values**2 / 2
    weights = np.exp(logarithms - logarithms.max())
    return values, weights / weights.sum()


def _below(values: Floats) -> Floats:
    """Return the probability that a standard normal number is below each value."""
    return 0.5 * (1 + np.vectorize(math.erf, otypes=[np.float64])(values / math.sqrt(2)))
