"""Made-up tiles for tests of measures: truth, and predictions or probabilities that are right in part."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from segtune.data.labels import IGNORED, Indices, Labels

Probabilities = npt.NDArray[np.float32]


def labels_of(classes: int, background: bool = True) -> Labels:
    return Labels(tuple(range(101, 101 + classes)), (), background, 0)


def blobs(shape: tuple[int, int], indices: int, seed: int, first: int = 0) -> Indices:
    """A mask of smooth regions with these many indices, from `first` on."""
    noise = np.random.default_rng(seed).random((indices, *shape)).astype(np.float32)
    smooth = [cv2.GaussianBlur(layer, (0, 0), 2.5) for layer in noise]
    return (np.argmax(smooth, axis=0) + first).astype(np.uint8)


def tiles(classes: int, seed: int, count: int = 4, background: bool = True) -> list[tuple[Indices, Probabilities]]:
    """Tiles of several sizes: true indices with some ignored pixels, and probabilities of the network's outputs."""
    random = np.random.default_rng(seed)
    labels, found = labels_of(classes, background), []
    for number in range(count):
        shape = (20 + 3 * number, 31 - 2 * number)
        truth = blobs(shape, classes + background, seed * 100 + number, first=0 if background else 1)
        if labels.binary:
            logits = random.normal(0, 1.5, (1, *shape)) + np.where(truth == 1, 1, -1)
            probabilities = 1 / (1 + np.exp(-logits))
        else:
            logits = random.normal(0, 1.5, (labels.outputs, *shape))
            outputs = np.arange(labels.outputs) + (0 if background else 1)
            scores = np.exp(logits + 2 * (truth == outputs[:, None, None]))
            probabilities = scores / scores.sum(axis=0)
        truth[random.random(shape) < 0.1] = IGNORED
        found.append((truth, probabilities.astype(np.float32)))
    return found
