"""A Gaussian process over whole learning curves: its mean, and functions drawn from what the data leave open.

The kernel is a Matern 5/2 kernel with a length scale for every input (automatic relevance determination). Epochs are
correlated as they are in the data: the covariance is the product of the kernel and of a matrix over epochs. Functions
are drawn as Wilson et al. 2020 do (arXiv:2002.09309): one of the prior, with random Fourier features (Rahimi and Recht
2007), is corrected by what it misses of the data. Such a function can be evaluated anywhere, always with one result.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

Array = npt.NDArray[np.float64]
_NU = 2.5
_SCALES = (0.1, 100.0)  # length scales of inputs from 0 to 1
_FEATURES = 1000  # random ones
_ROWS = 250  # that the kernel is fitted to, at most: the time grows with their square and more


@dataclass(frozen=True)
class Kernel:
    """A fitted kernel: variance of the function, variance of the noise, and a length scale per input."""

    variance: float
    noise: float
    scales: Array

    def between(self, one: Array, two: Array) -> Array:
        """Return the covariance of the function at the rows of two matrices."""
        a, b = one / self.scales, two / self.scales
        square = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0.0)
        scaled = np.sqrt(5.0 * square)
        return self.variance * (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


def fit_kernel(x: Array, y: Array) -> Kernel:
    """Fit the kernel by the likelihood of targets (a column per epoch, each with mean 0 and deviation 1)."""
    rows = np.random.default_rng(0).permutation(len(x))[:_ROWS]
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(np.ones(x.shape[1]), _SCALES, nu=_NU)
    kernel += WhiteKernel(0.3, (1e-4, 2.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an input that tells nothing has the largest length scale
        fitted = GaussianProcessRegressor(kernel).fit(x[rows], y[rows]).kernel_
    return Kernel(float(fitted.k1.k1.constant_value), float(fitted.k2.noise_level), np.array(fitted.k1.k2.length_scale))


def mean(kernel: Kernel, x: Array, y: Array, at: Array) -> Array:
    """Return the expected curves at the rows of `at`, given the curves `y` at `x`."""
    return kernel.between(at, x) @ _solve(kernel, x, y)


def _solve(kernel: Kernel, x: Array, y: Array) -> Array:
    covariance = kernel.between(x, x) + kernel.noise * np.eye(len(x))
    return cho_solve(cho_factor(covariance), y)


class Drawn:
    """A function that agrees with the data, drawn from the process by `seed`."""

    def __init__(self, kernel: Kernel, x: Array, y: Array, seed: int) -> None:
        random = np.random.default_rng(seed)
        size = (x.shape[1], _FEATURES)
        # The spectrum of a Matern kernel is Student's t with 2 nu degrees of freedom.
        self._waves = random.normal(size=size) / np.sqrt(random.chisquare(2 * _NU, _FEATURES) / (2 * _NU))
        self._waves /= kernel.scales[:, None]
        self._phases = random.uniform(0, 2 * np.pi, _FEATURES)
        self._kernel, self._x = kernel, x
        values, vectors = np.linalg.eigh(np.cov(y, rowvar=False).reshape(y.shape[1], y.shape[1]))
        over_epochs = (vectors * np.sqrt(np.maximum(values, 0.0))).T  # of its rows, normal ones have that covariance
        self._weights = random.normal(size=(_FEATURES, y.shape[1])) @ over_epochs
        noise = np.sqrt(kernel.noise) * random.normal(size=y.shape) @ over_epochs
        self._missed = _solve(kernel, x, y - self._prior(x) - noise)

    def __call__(self, at: Array) -> Array:
        """Return the curves at the rows of `at`."""
        return self._prior(at) + self._kernel.between(at, self._x) @ self._missed

    def _prior(self, at: Array) -> Array:
        waves = np.cos(at @ self._waves + self._phases)
        return np.sqrt(2 * self._kernel.variance / _FEATURES) * waves @ self._weights
