"""A scene that is predicted: its files, read window by window, with the pixels that training would see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from segtune.data.alignment import compare, georeference_of
from segtune.data.bands import check_count, check_types
from segtune.data.fitting import Fit, filled, resized
from segtune.data.formats import UPRIGHT
from segtune.data.georeference import Place
from segtune.data.listing import channel_beside
from segtune.data.raster import Raster, Span, opened, opened_together, reading
from segtune.data.reading import Image, Valid, read_pixels
from segtune.data.store import Array, joined
from segtune.data.tiles import ReadSettings
from segtune.errors import InputError, counted
from segtune.models.manifest import Manifest

_AN_IMAGE = "an image"
_NOWHERE = Place(None, None, (), None)


@dataclass(frozen=True)
class SceneFiles:
    """The files of a scene."""

    image: tuple[Path, ...]  # one file, or several whose bands follow each other
    channels: tuple[Path, ...] = ()  # the model's extra channels, in their order

    @property
    def name(self) -> str:
        """The name of what is predicted: that of its first file."""
        return self.image[0].stem


def find_scene(paths: Sequence[Path], manifest: Manifest) -> SceneFiles:
    """Return the files of a scene that somebody named: its image, then its extra channels.

    The image is one file, a VRT too, or several files in the order of the model's bands. The model's extra channels
    are the last of the files, or lie beside: CHANNEL/NAME.tif beside the image's folder or in it, or NAME_CHANNEL.tif
    beside the image. Raises InputError where one is missing.
    """
    names, own = manifest.channel_files, manifest.image_bands
    counts = []
    for path in paths:
        with opened(path, _AN_IMAGE, scene=True) as raster:
            counts.append(raster.bands)
    extra = len(names)
    _check_one_scene(paths, counts, manifest)
    if extra and len(paths) > extra and sum(counts[:-extra]) >= own:
        return SceneFiles(tuple(paths[:-extra]), tuple(paths[-extra:]))
    beside = tuple(_beside(paths[0], name) for name in names)
    for path, count in zip(paths, counts, strict=True):
        if any(path.samefile(channel) for channel in beside):
            held = counted(sum(counts) - count, "band")
            raise InputError(f"{path}: is an extra channel, and the other files have {held}, but the model needs {own}")
    return SceneFiles(tuple(paths), beside)


def _check_one_scene(paths: Sequence[Path], counts: Sequence[int], manifest: Manifest) -> None:
    """Raise InputError where several files hold more bands than the model takes: they may be images of their own."""
    if len(paths) == 1:
        return
    hint = "several files are the bands of one scene; give their folder to predict each of them"
    if not manifest.order and sum(counts) > len(manifest.bands):
        raise InputError(
            f"-d: {paths[0]} and {counted(len(paths) - 1, 'other')} have {sum(counts)} bands in all, but the model was "
            f"trained on {len(manifest.bands)}; {hint}, or choose bands with --bands"
        )
    first = 1  # number of the file's first band
    for path, count in zip(paths[: len(paths) - len(manifest.channel_files)], counts, strict=False):
        used = any(first <= number < first + count for number in manifest.order)
        if manifest.order and not used and count >= manifest.image_bands:
            raise InputError(f"--bands: takes no band of {path}; {hint}, or leave it out")
        first += count


def _beside(image: Path, channel: str) -> Path:
    """Return the file of an extra channel that lies beside an image; raise InputError where there is none."""
    found = channel_beside(image, channel)
    if found is None:
        raise InputError(
            f"{image}: the model needs its channel {channel}, and there is no {channel}/{image.stem}.tif beside; name "
            f"its file after the image's, or say with --bands which band of the image it is"
        )
    return found


class SceneSource(Protocol):
    """Pixels that are read by rows and columns."""

    name: str  # of what is read, for messages
    height: int
    width: int
    place: Place

    def read(self, span: Span) -> tuple[list[Image], Valid]:
        """Return these rows and columns of the image and each extra channel, (H, W, bands), and which hold data."""


class FileSource:
    """The open files of a scene."""

    def __init__(self, image: Raster, channels: Sequence[Raster], manifest: Manifest) -> None:
        self.name = str(image.path)
        self.height, self.width = image.size
        self.place = image.place
        self._image, self._channels = image, channels
        self._settings = manifest.read_settings

    def read(self, span: Span) -> tuple[list[Image], Valid]:
        """Return these rows and columns of the image and each extra channel, (H, W, bands), and which hold data."""
        with reading(self._image.path, _AN_IMAGE):
            image, valid = read_pixels(self._image, self._settings, span)
        sources = [image]
        for raster in self._channels:
            with reading(raster.path, _AN_IMAGE):
                channel, channel_valid = read_pixels(raster, ReadSettings(self._settings.nodata, bands=1), span)
            sources.append(channel)
            valid &= channel_valid
        return sources, valid


class ArraySource:
    """An image in memory, (H, W, bands): the model's extra channels are its last bands."""

    def __init__(self, image: Image, place: Place = _NOWHERE, name: str = "the array") -> None:
        self.name, self.place, self._image = name, place, image
        self.height, self.width = image.shape[:2]

    def read(self, span: Span) -> tuple[list[Image], Valid]:
        """Return these rows and columns, (H, W, bands), and which of them are finite."""
        (top, bottom), (left, right) = span
        part = np.ascontiguousarray(self._image[top:bottom, left:right])
        return [part], np.logical_and.reduce(np.isfinite(part), axis=2)


class Preview:
    """A source that keeps a small picture of what is read from another one, so that nothing is read twice for it.

    Parameters
    ----------
    source: what is read.
    bands: positions of the bands to keep, among all bands of the model.
    largest: pixels of the longer side that the picture has at most; each is the nearest one of the source.
    """

    def __init__(self, source: SceneSource, bands: Sequence[int], largest: int) -> None:
        self.name, self.place, self.height, self.width = source.name, source.place, source.height, source.width
        self._source, self._bands = source, list(bands)
        self._rows, self._columns = nearest_pixels((self.height, self.width), largest)
        self.image = np.zeros((len(self._rows), len(self._columns), len(bands)), np.float32)  # (h, w, bands)

    def read(self, span: Span) -> tuple[list[Image], Valid]:
        """Return these rows and columns of the source, and keep those pixels of them that are in the picture."""
        sources, valid = self._source.read(span)
        (rows, top), (columns, left) = (
            (slice(*np.searchsorted(kept, ends)), ends[0])
            for kept, ends in zip((self._rows, self._columns), span, strict=True)
        )
        part = np.ix_(self._rows[rows] - top, self._columns[columns] - left)
        found = np.concatenate([source[part] for source in sources], axis=2)
        self.image[rows, columns] = found[..., self._bands]
        return sources, valid


def nearest_pixels(size: tuple[int, int], largest: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the rows and columns of an image of this size, (H, W), that a picture of it shows.

    The picture has the image's aspect ratio, and at most `largest` pixels along its longer side.
    """
    scale = min(1.0, largest / max(size))
    counts = [max(1, round(side * scale)) for side in size]
    rows, columns = (
        ((np.arange(count) + 0.5) * side / count).astype(np.intp) for side, count in zip(size, counts, strict=True)
    )
    return rows, columns


@contextmanager
def opened_scene(files: SceneFiles, manifest: Manifest) -> Iterator[FileSource]:
    """Open the files of a scene.

    Raises InputError where one cannot be read, where sizes or places differ, or where the model needs other bands.
    """
    with ExitStack() as stack:
        image = stack.enter_context(opened_together(files.image, _AN_IMAGE))
        channels = [stack.enter_context(opened(path, _AN_IMAGE, place=True, scene=True)) for path in files.channels]
        _check_alike(image, channels)
        source = FileSource(image, channels, manifest)
        check_bands(source, manifest)
        still_open = stack.pop_all()
    try:  # not inside the contexts: they take each OSError for one of reading
        yield source
    finally:
        still_open.close()


def _check_alike(image: Raster, channels: Sequence[Raster]) -> None:
    """Raise InputError where the files of a scene do not cover the same pixels."""
    for raster in (image, *image.files, *channels):
        if raster.orientation != UPRIGHT:
            raise InputError(f"{raster.path}: is shown turned by its metadata; write it upright for a prediction")
        if raster.size != image.size:
            sizes = " and ".join(f"{width}x{height}" for height, width in (raster.size, image.size))
            raise InputError(f"{raster.path}: its size differs from that of {image.path} ({sizes})")
    compare(
        image.path, georeference_of(image), {file.path: georeference_of(file) for file in (*image.files, *channels)}
    )


def check_bands(source: SceneSource, manifest: Manifest) -> None:
    """Raise InputError where a source has other bands than the model, or a type that the model does not take."""
    sources, _ = source.read(((0, min(1, source.height)), (0, min(1, source.width))))
    check_count(source.name, sum(part.shape[2] for part in sources), [band.name for band in manifest.bands])
    check_types(source.name, sources, manifest.bands, manifest.uint8)


def network_input(sources: Sequence[Image], valid: Valid, size: tuple[int, int], fit: Fit, uint8: bool) -> Array:
    """Return what the network sees of a window, (S, S, bands), by the steps that a training tile goes through.

    Pixels without data get the mean of the others. The window is resized to `size`, (h, w), in its own type; what is
    missing to S x S is padded with the mean colour.
    """
    dtype = np.uint8 if uint8 else np.float32
    parts: list[Array] = [resized(filled(source, valid), size).astype(dtype, copy=False) for source in sources]
    return np.ascontiguousarray(fit.pad_image(joined(parts)))
