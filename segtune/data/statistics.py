"""Statistics of pixels, computed per tile and merged: moments and extremes of each band."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_SAMPLED = 4096  # pixels per tile that extremes are searched in


@dataclass(frozen=True)
class Moments:
    """Count, mean, sum of squared differences and range per band; merged pairwise (Chan et al. 1983)."""

    count: int
    mean: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    @classmethod
    def of(cls, pixels: npt.NDArray[np.float64]) -> Moments | None:
        """Compute the moments of (N, bands) valid pixels; None where there are none."""
        if not len(pixels):
            return None
        mean = pixels.mean(axis=0)
        return cls(len(pixels), mean, ((pixels - mean) ** 2).sum(axis=0), pixels.min(axis=0), pixels.max(axis=0))

    def plain(self) -> dict[str, Any]:
        """Return the moments as JSON values."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> Moments:
        """Restore moments from JSON values; exact, since JSON keeps every digit of a float."""
        return cls(content["count"], **{name: np.array(value) for name, value in content.items() if name != "count"})

    def merge(self, other: Moments) -> Moments:
        """Return the statistics of both together."""
        count = self.count + other.count
        step = other.mean - self.mean
        return Moments(
            count,
            self.mean + step * other.count / count,
            self.squares + other.squares + step**2 * self.count * other.count / count,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )


@dataclass(frozen=True)
class Lowest:
    """The lowest value of each band, the number of pixels that have it, and the lowest value above it."""

    value: npt.NDArray[np.float64]
    pixels: npt.NDArray[np.int64]
    above: npt.NDArray[np.float64]  # infinite where there is none

    @classmethod
    def of(cls, pixels: npt.NDArray[np.float64]) -> Lowest:
        """Find the lowest values of (N, bands) pixels, at least one."""
        value = pixels.min(axis=0)
        lowest = pixels == value
        return cls(value, lowest.sum(axis=0), np.where(lowest, np.inf, pixels).min(axis=0))

    def merge(self, other: Lowest) -> Lowest:
        """Return the lowest values of both together."""
        value = np.minimum(self.value, other.value)
        pixels = self.pixels * (self.value == value) + other.pixels * (other.value == value)
        known = np.stack([self.value, self.above, other.value, other.above])
        return Lowest(value, pixels, np.where(known > value, known, np.inf).min(axis=0))


@dataclass(frozen=True)
class Extreme:
    """The lowest or the highest value of a band, and the range of the rest.

    Where there are more than two values, the rest is without the other extreme.
    """

    band: str
    value: float
    share: float  # of the pixels that have it
    low: float  # of the rest
    high: float


@dataclass(frozen=True)
class Extremes:
    """The lowest and the highest value of each band in a sample of the pixels, and where the others begin and end."""

    count: int  # pixels of the sample
    low: Lowest
    high: Lowest  # of the negated values

    @classmethod
    def of(cls, pixels: npt.NDArray[np.float64]) -> Extremes | None:
        """Find the extremes in a sample of (N, bands) valid pixels; None where there are none."""
        # An odd step avoids the same columns in every row.
        sample = pixels[:: max(1, len(pixels) // _SAMPLED) | 1]
        return cls(len(sample), Lowest.of(sample), Lowest.of(-sample)) if len(sample) else None

    def merge(self, other: Extremes) -> Extremes:
        """Return the statistics of both together."""
        return Extremes(self.count + other.count, self.low.merge(other.low), self.high.merge(other.high))

    def outside(self, names: Sequence[str]) -> Iterator[Extreme]:
        """Yield the lowest and the highest value of each band; bands of one value are left out."""
        for i, name in enumerate(names):
            low, high = float(self.low.above[i]), float(-self.high.above[i])
            if low < np.inf:
                yield Extreme(name, float(self.low.value[i]), self.low.pixels[i] / self.count, low, max(low, high))
                yield Extreme(name, float(-self.high.value[i]), self.high.pixels[i] / self.count, min(low, high), high)

    def plain(self) -> dict[str, Any]:
        """Return the extremes as JSON values."""
        ends = {name: [array.tolist() for array in vars(getattr(self, name)).values()] for name in ("low", "high")}
        return {"count": self.count, **ends}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> Extremes:
        """Restore extremes from JSON values."""
        low, high = (Lowest(*map(np.array, content[name])) for name in ("low", "high"))
        return cls(content["count"], low, high)
