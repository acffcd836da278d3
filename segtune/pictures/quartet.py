"""Draw a tile as four small pictures: image, truth, prediction and error."""

from __future__ import annotations

import cv2

from segtune.data.labels import Indices, Labels
from segtune.pictures.png import encoded
from segtune.pictures.render import CERTAIN, GROUND, Colour, Picture, class_titles, difference, painted, palette

LARGEST = 192  # longer side in pixels; larger tiles are shrunk
_IMAGE_QUALITY, _LOSSLESS = 90, 101  # of WebP, as OpenCV counts


def quartet(picture: Picture, truth: Indices, predicted: Indices, labels: Labels) -> tuple[bytes, bytes, bytes, bytes]:
    """Return image, truth, prediction and error as WebP files, of the aspect ratio of the mask.

    The error is the image in grey with wrong pixels in red. Ignored pixels are hatched. No side is longer than 192
    pixels, so each file has at most 112 kB. The image is stored with losses that are hard to see; in the others each
    pixel is exact, so that edges stay sharp. On Sentinel-2 tiles they take a third of the bytes of PNG.
    """
    height, width = truth.shape
    scale = min(1.0, LARGEST / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    shrinks = size[0] < picture.shape[0]
    small = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    drawn = (small, painted(truth, labels, size), painted(predicted, labels, size), difference(small, predicted, truth))
    qualities = (_IMAGE_QUALITY, _LOSSLESS, _LOSSLESS, _LOSSLESS)
    image, mask, output, error = (
        encoded(one, ".webp", [cv2.IMWRITE_WEBP_QUALITY, quality])
        for one, quality in zip(drawn, qualities, strict=True)
    )
    return image, mask, output, error


def colours_of(labels: Labels) -> list[tuple[str, Colour]]:
    """Return the names and colours of the classes as `quartet` draws them, and of background where there is some."""
    titles = class_titles(labels)
    colours = (CERTAIN,) if labels.binary else palette(len(labels.classes))
    ground: Colour = (255, 255, 255) if labels.binary else (GROUND, GROUND, GROUND)
    background = [(titles[0], ground)] if labels.predicts_background else []
    return [*background, *zip(titles[1:], colours, strict=True)]
