"""What a check remembers of each tile, read once: its faults, its labels, its values, and what finds others like it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segtune.data.alignment import Georeference, difference, georeference_of
from segtune.data.diagnosis import Severity
from segtune.data.footprints import footprint_of
from segtune.data.labels import UNLABELLED
from segtune.data.leaks import Trace
from segtune.data.likeness import Likeness
from segtune.data.mask_values import count_labels, looks_shaded
from segtune.data.raster import Raster, alone, opened
from segtune.data.reading import Image, Valid, read_labels, read_pixels, read_values, readable_at_once
from segtune.data.scale import Levels, grid, levels_of
from segtune.data.statistics import Extremes, Moments
from segtune.data.tiles import TRAIN, ReadSettings, Split, Tile
from segtune.errors import InputError, SegtuneError

_PART, _MANY = 8, 2000  # tiles that are read in one go; from how many on processes are worth their start
_FEW_VALUES = 16  # of an image that may be a mask
_SEEN = 16  # of them, from which a label's colours count
_COLOURED = 16  # labels of a tile whose colours are remembered


@dataclass(frozen=True)
class Fault:
    """What is wrong with one file of a tile."""

    severity: Severity
    kind: str
    what: str
    do: str


@dataclass(frozen=True)
class Fractions:
    """The values of a mask that does not hold whole numbers."""

    low: float
    high: float
    between: int  # pixels whose values are neither


@dataclass
class Look:
    """What is remembered of a tile; what could not be read is empty."""

    split: str
    name: str  # SPLIT/NAME
    faults: list[Fault] = field(default_factory=list)
    size: tuple[int, int] | None = None  # height and width of the image
    dtypes: tuple[str, ...] = ()  # of the image and of each channel
    bands: tuple[int, ...] = ()
    trace: Trace | None = None
    without_data: float = 0.0  # share of the pixels
    constant: bool = False  # the image shows nothing
    moments: Moments | None = None  # of a sample of the valid pixels; bands of the image, then channels
    extremes: Extremes | None = None
    levels: Levels | None = None  # of the same sample
    few_values: bool = False  # the image looks like a mask: one band of few values
    labelled: bool = False  # the mask was read, and holds integers
    labels: Mapping[int, int] = field(default_factory=dict)  # pixels of each
    colours: Mapping[int, npt.NDArray[np.float64]] = field(default_factory=dict)  # see `colours_of`
    shaded: bool = False  # the mask shades from label to label
    fractions: Fractions | None = None
    mask: str = ""  # path


@dataclass(frozen=True)
class _Part:
    """Some tiles of a split."""

    split: str
    tiles: Sequence[Tile]
    settings: ReadSettings


@dataclass(frozen=True)
class _File:
    """What was read of one image file."""

    pixels: Image
    valid: Valid
    place: Georeference | None


def look_at_all(
    tiles: Sequence[tuple[str, Split]], settings: ReadSettings, progress: Callable[[int, int], None]
) -> Iterator[Look]:
    """Look at the tiles of splits, by name, on all cores; yield them in order.

    Few tiles are read in threads. Many are read in processes of their own, which take a second to start: Python runs
    one thread at a time, and a small tile takes as much of Python as of decoding. Raises SegtuneError where a process
    dies.
    """
    total, done = sum(len(split) for _, split in tiles), 0
    parts = [
        _Part(name, split[start : start + _PART], settings)
        for name, split in tiles
        for start in range(0, len(split), _PART)
    ]
    workers = min((readable_at_once(split) for _, split in tiles), default=1)
    with _pool(workers, total) as pool:
        try:
            for looks in pool.map(_look_at_part, parts):
                for look in looks:
                    yield look
                    done += 1
                    progress(done, total)
        except BrokenProcessPool:
            raise SegtuneError("a process that reads tiles ended, for lack of memory perhaps") from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)  # Ctrl-C does not wait for tiles that were not begun


def _pool(workers: int, tiles: int) -> Executor:
    if workers == 1 or tiles < _MANY:
        return ThreadPoolExecutor(workers)
    # Not forked: the threads of this process may hold locks.
    return ProcessPoolExecutor(workers, get_context("spawn"), _start_worker)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the first process, which ends the others
    cv2.setNumThreads(1)


def _look_at_part(part: _Part) -> list[Look]:
    with alone():
        return [look_at(part.split, tile, part.settings) for tile in part.tiles]


def look_at(split: str, tile: Tile, settings: ReadSettings) -> Look:
    """Read the files of a tile and note all of their faults; nothing raises."""
    found = Look(split, f"{split}/{tile.name}", mask=str(tile.mask))
    image = _image(found, tile, settings)
    files = [image, *(_channel(found, path, settings) for path in tile.channels)]
    mask = _mask(found, tile.mask)
    if image and mask:
        _compare(found, tile.image, image, tile.mask, mask[0].shape, mask[1])
    for path, file in zip(tile.channels, files[1:], strict=True):
        if image and file:
            _compare(found, tile.image, image, path, file.pixels.shape, file.place)
    read = [file for file in files if file]
    if len(read) == len(files) and len({file.valid.shape for file in read}) == 1:
        _values(found, read, mask[0] if mask else None)
    return found


def _image(found: Look, tile: Tile, settings: ReadSettings) -> _File | None:
    def read(raster: Raster) -> _File:
        pixels, valid = read_pixels(raster, settings)
        place = georeference_of(raster)
        found.size = pixels.shape[:2]
        likeness = Likeness.of(pixels, valid)
        found.constant = likeness.details is None and bool(valid.any())
        found.trace = Trace(tile.name, likeness, footprint_of(raster))
        return _File(pixels, valid, place)

    return _read(found, tile.image, "an image", read)


def _channel(found: Look, path: Path, settings: ReadSettings) -> _File | None:
    def read(raster: Raster) -> _File | None:
        pixels, valid = read_pixels(raster, ReadSettings(settings.nodata, bands=1))
        if pixels.shape[2] == 1:
            return _File(pixels, valid, georeference_of(raster))
        what = f"{path}: an extra channel has one band, but this has {pixels.shape[2]}"
        found.faults.append(Fault("error", "bands", what, "write one band to each extra folder"))
        return None

    return _read(found, path, "an image", read)


def _mask(found: Look, path: Path) -> tuple[npt.NDArray[np.integer], Georeference | None] | None:
    def read(raster: Raster) -> tuple[npt.NDArray[np.integer], Georeference | None] | None:
        if raster.bands != 1:
            what = f"{path}: a mask has one band of labels, but this has {raster.bands}"
            do = "write labels instead of colours (python -m segtune.tools relabel --labels R,G,B:LABEL)"
            found.faults.append(Fault("error", "mask_bands", what, do))
            return None
        try:
            labels = read_labels(raster)
        except InputError:
            found.fractions = _fractions(*read_values(raster))
            return None
        found.labels = {label: number for label, number in count_labels(labels).items() if label != UNLABELLED}
        found.labelled = True
        found.shaded = looks_shaded(labels, found.labels)
        return labels, georeference_of(raster)

    return _read(found, path, "a mask", read)


def _fractions(values: npt.NDArray[Any], missing: npt.NDArray[np.bool_]) -> Fractions:
    labelled = values.real[~missing]
    low, high = float(labelled.min()), float(labelled.max())
    return Fractions(low, high, int(np.count_nonzero((labelled != low) & (labelled != high))))


def _read(found: Look, path: Path, what: str, read: Callable[[Raster], Any]) -> Any:
    """Return what `read` returns for an open file; None, and a fault, where that fails."""
    try:
        with opened(path, what, place=True) as raster:
            return read(raster)
    except InputError as error:
        do = "replace the file, or leave the tile out"
        found.faults += [Fault("error", "unreadable", mistake, do) for mistake in error.mistakes]
        return None


def _compare(
    found: Look, path: Path, image: _File, other: Path, shape: tuple[int, ...], place: Georeference | None
) -> None:
    """Note where another file of a tile differs from the image in size or place."""
    height, width = image.valid.shape
    if shape[:2] != (height, width):
        what = f"{other}: is {shape[1]}x{shape[0]} pixels, and {path} is {width}x{height}"
        do = "cut or resample one of them; masks by nearest neighbour"
        found.faults.append(Fault("error", "size", what, do))
    elif image.place and place and (differing := difference(image.place, place)):
        what = f"{other}: does not lie where {path} does: {differing}"
        do = "align the two, or remove the georeference that is wrong"
        found.faults.append(Fault("error", "georeference", what, do))


def _values(found: Look, files: Sequence[_File], mask: npt.NDArray[np.integer] | None) -> None:
    """Note types and a sample of the values of a tile whose images are all of one size."""
    found.dtypes = tuple(file.pixels.dtype.name for file in files)
    found.bands = tuple(file.pixels.shape[2] for file in files)
    valid = np.logical_and.reduce([file.valid for file in files]) if len(files) > 1 else files[0].valid
    found.without_data = 1 - np.count_nonzero(valid) / valid.size
    sampled = grid(valid.shape)
    kept = valid[sampled]
    pixels = sample_of([file.pixels for file in files], sampled, kept)
    found.few_values = found.bands[0] == 1 and len(np.unique(pixels[:, 0])) <= _FEW_VALUES
    found.moments, found.extremes = Moments.of(pixels), Extremes.of(pixels) if found.split == TRAIN else None
    found.levels = levels_of(pixels)
    if mask is not None and mask.shape == valid.shape:
        found.colours = colours_of(pixels, mask[sampled][kept], found.moments)


def sample_of(sources: Sequence[Image], sampled: tuple[slice, slice], kept: Valid) -> npt.NDArray[np.float64]:
    """Return the `kept` ones of sampled pixels of images, (N, bands), stored band by band: sums are faster."""
    everywhere = kept.all()
    bands = [
        (band if everywhere else band[kept]).ravel()
        for source in sources
        for band in source[sampled].transpose(2, 0, 1)
    ]
    return np.stack(bands).astype(np.float64).T


def colours_of(
    pixels: npt.NDArray[np.float64], labels: npt.NDArray[np.integer], moments: Moments | None
) -> dict[int, npt.NDArray[np.float64]]:
    """Return the mean values, (bands,), at the pixels of each label, in deviations from the mean of the whole tile.

    `pixels` is (N, bands), `labels` (N,), and `moments` those of the pixels. Labels of few pixels are left out. So
    brightness does not matter.
    """
    if moments is None or not moments.squares.any():
        return {}
    spread = (moments.squares / moments.count) ** 0.5
    spread[spread == 0] = 1
    found = {}
    for label in np.unique(labels)[:_COLOURED].tolist():
        held = labels == label
        number = np.count_nonzero(held)
        if number >= _SEEN and label != UNLABELLED:
            found[label] = (held.astype(np.float64) @ pixels / number - moments.mean) / spread
    return found
