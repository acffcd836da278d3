"""Cut scenes into tiles: in parts that fit into memory, on all cores."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import rasterio

from segtune.data.alignment import Georeference
from segtune.data.raster import alone, writing
from segtune.errors import InputError, SegtuneError, counted
from segtune.remarks import Say
from segtune.tools.layers import Layer, OpenScene, Pixels, opened_layers
from segtune.tools.outlines import Labelling, Outlines, check_packages, dtype_of, labels_of, prepare
from segtune.tools.placing import joined_tree
from segtune.tools.scenes import MASKS, Scene
from segtune.tools.tile_writer import place_of_tile, write_tile
from segtune.tools.windows import TILE_NAME, Window, chunks, starts, windows

_LARGEST, _SMALLEST = 64e6, 4e6  # bytes of pixels that a process reads together
_WHOLE = 0.99  # share of a scene; less at its edges is the rounding of grids
_PARTS = 8  # for each process, so that all end at about the same time
_CACHE_MB = "64"  # of GDAL in each process; it takes 5% of the machine's memory else

Progress = Callable[[int, int], None]  # tiles looked at, and all


@dataclass(frozen=True)
class Cut:
    """How scenes are cut."""

    size: int  # pixels, the side of a tile
    stride: int  # pixels from one tile to the next
    last: str = "shift"  # the last row and column: shift or pad
    min_valid: float = 0.0  # share of a tile's pixels that hold data
    min_labelled: float = 0.0  # share of a tile's pixels that have a label other than `background`
    background: tuple[int, ...] = (0,)  # labels that do not count as labelled; the first is that of no outline
    resample: str | None = None  # how channels of another grid are read
    labelling: Labelling = field(default_factory=Labelling)  # of outlines


@dataclass(frozen=True)
class Planned:
    """A scene and its tiles."""

    scene: Scene
    size: tuple[int, int]  # height and width
    bands: tuple[tuple[str, int], ...]  # folder and bands of each layer
    bytes_per_pixel: int
    rows: list[list[Window]]
    georeference: Georeference | None
    labels: tuple[str, dict[str, int]] | None = None  # layer and labels of its outlines
    remarks: tuple[str, ...] = ()  # on files that do not cover the scene

    @property
    def tiles(self) -> int:
        """The number of tiles in the grid."""
        return sum(map(len, self.rows))

    def line(self, cut: Cut) -> str:
        """Describe the scene and its tiles."""
        height, width = self.size
        held = ", ".join(f"{folder} {counted(bands, 'band')}" for folder, bands in self.bands)
        held += f", {MASKS} from {self.scene.mask}" if self.scene.outlined else ""
        grid = f"{len(self.rows)} x {len(self.rows[0])} = {counted(self.tiles, 'tile')}"
        return f"{self.scene.name}: {width}x{height} pixels, {held}: {grid} of {cut.size}x{cut.size}"


@dataclass(frozen=True)
class Looked:
    """What became of some tiles."""

    kept: int = 0
    invalid: int = 0  # left out for min_valid
    unlabelled: int = 0  # left out for min_labelled
    empty: int = 0  # kept, without any pixel that holds data
    most_valid: float = 0.0  # largest shares
    most_labelled: float = 0.0

    def plus(self, other: Looked) -> Looked:
        """Return what became of these and other tiles."""
        return Looked(
            self.kept + other.kept,
            self.invalid + other.invalid,
            self.unlabelled + other.unlabelled,
            self.empty + other.empty,
            max(self.most_valid, other.most_valid),
            max(self.most_labelled, other.most_labelled),
        )


@dataclass(frozen=True)
class _Part:
    """Tiles that a process cuts together."""

    scene: Scene
    outlines: Outlines | None
    windows: list[Window]
    cut: Cut
    folder: Path


def plan(scenes: Sequence[Scene], cut: Cut) -> list[Planned]:
    """Open all scenes and say which tiles they give; InputError with what is wrong in any of them."""
    mistakes: list[str] = []
    found: list[Planned] = []
    for scene in scenes:
        try:
            found.append(_planned(scene, cut))
        except InputError as error:
            mistakes += error.mistakes
    if not mistakes:
        mistakes = [
            f"{one.scene.image[0]}: has {_bands(one)}, but {found[0].scene.image[0]} has {_bands(found[0])}; the tiles "
            f"of a data set have the same bands, so cut the two into different folders"
            for one in found
            if one.bands != found[0].bands
        ]
    if mistakes:
        raise InputError(mistakes)
    return found


def _bands(one: Planned) -> str:
    return ", ".join(f"{counted(bands, 'band')} of {folder}" for folder, bands in one.bands)


def _planned(scene: Scene, cut: Cut) -> Planned:
    labels = None
    if scene.mask and scene.outlined:
        check_packages()
        labels = labels_of(scene.mask, cut.labelling)
    with opened_layers(scene, None, cut.resample, cut.background[0]) as opened:
        height, width = opened.height, opened.width
        bands = tuple((layer.folder, layer.form.bands) for layer in opened.layers)
        needed = sum(layer.form.bands * np.dtype(layer.form.dtype).itemsize for layer in opened.layers)
        place = opened.place
        remarks = tuple(line for layer in opened.layers for line in _uncovered(scene, layer))
    if min(height, width) < cut.size and cut.last == "shift":
        raise InputError(
            f"{scene.image[0]}: is {width}x{height} pixels, less than --size {cut.size}; --last pad fills up"
        )
    tops, lefts = (starts(side, cut.size, cut.stride, cut.last) for side in (height, width))
    rows = windows(scene.name, (height, width), tops, lefts)
    known = place.crs and place.transform and not place.gcps and place.located(height)
    georeference = Georeference(place.crs, place.transform, height, width) if known and place.transform else None
    if labels and not georeference:
        raise InputError(f"{scene.image[0]}: its place is not known by a transform and a CRS, which outlines need")
    return Planned(scene, (height, width), bands, needed, rows, georeference, labels, remarks)


def _uncovered(scene: Scene, layer: Layer) -> Iterator[str]:
    """Yield a line for each file of a layer that does not cover the scene."""
    is_mask = layer.folder == MASKS
    for path, share in layer.reaches:
        if not share:
            held = "its masks hold background only" if is_mask else "its tiles hold no data"
            yield f"warning: {path} does not reach {scene.name} at all; {held}"
        elif share < _WHOLE:
            held = "masks hold background" if is_mask else "tiles hold no data"
            yield f"warning: {path} covers {share:.1%} of {scene.name}; elsewhere, {held}"


def check_free(planned: Sequence[Planned], to: Path, force: bool) -> list[Path]:
    """Return the tiles of these scenes that lie in the folder `to`; InputError where there are any, unless `force`."""
    names = {one.scene.name for one in planned}
    found = [  # in all folders: that of a channel which is not asked for any more, too
        path
        for path in sorted(to.glob("[!.]*/*.tif"))
        if (name := TILE_NAME.fullmatch(path.stem)) and name["scene"] in names
    ]
    if found and not force:
        raise InputError(
            f"--to: {to} holds {counted(len(found), 'file')} of tiles of these scenes, such as {found[0]}; --force "
            f"replaces them all"
        )
    return found


def tile(
    planned: Sequence[Planned], cut: Cut, to: Path, replaced: Sequence[Path], workers: int, progress: Progress, say: Say
) -> Looked:
    """Cut scenes; write TO/images/NAME.tif, TO/gt/NAME.tif and a folder for each extra channel.

    Parameters
    ----------
    planned: the scenes, as `plan` returns them.
    cut: how they are cut.
    to: the folder of the tiles; it gets them when all are cut.
    replaced: files of earlier tiles, deleted then.
    workers: processes.
    progress: called with the tiles that were looked at and all of them.
    say: called with remarks.

    Raises InputError where a file turns out to be damaged, and where no tile reaches the shares that `cut` asks for.
    """
    looked, total, done = Looked(), sum(one.tiles for one in planned), 0
    with joined_tree(to, replaced) as tree:
        parts = _parts(planned, cut, tree, workers, say)
        with _results(parts, workers) as results:
            for found, part in zip(results, parts, strict=True):
                looked, done = looked.plus(found), done + len(part.windows)
                progress(done, total)
        if not looked.kept:
            raise InputError(_none_kept(cut, looked))
    return looked


def _none_kept(cut: Cut, looked: Looked) -> str:
    if looked.unlabelled:
        return f"--min-labelled: no tile has a share of {cut.min_labelled:g}; the largest is {looked.most_labelled:.4g}"
    return f"--min-valid: no tile has a share of {cut.min_valid:g}; the largest is {looked.most_valid:.4g}"


def _parts(planned: Sequence[Planned], cut: Cut, tree: Path, workers: int, say: Say) -> list[_Part]:
    """Return the parts of all scenes, with their outlines prepared."""
    everything = sum(one.bytes_per_pixel * one.tiles * cut.size**2 for one in planned)
    most = min(_LARGEST, max(_SMALLEST, everything / (_PARTS * workers)))
    dtype = dtype_of([label for one in planned if one.labels for label in (*one.labels[1].values(), *cut.background)])
    parts: list[_Part] = []
    for name in {name for one in planned for name, _ in one.bands} | {MASKS for one in planned if one.labels}:
        (tree / name).mkdir()
    for number, one in enumerate(planned):
        outlines = None
        if one.labels and one.georeference and one.scene.mask:
            layer, labels = one.labels
            target = Outlines(tree.parent / f"outlines_{number}.gpkg", dtype, 0)
            attribute = cut.labelling.attribute
            outlines, lines = prepare(one.scene.mask, layer, attribute, labels, one.georeference, target)
            for line in lines:
                say(line)
            if not outlines.number:
                say(f"warning: no outline of {one.scene.mask} lies in {one.scene.name}; its masks hold background only")
        groups = chunks(one.rows, cut.size, int(most / one.bytes_per_pixel))
        parts += [_Part(one.scene, outlines, group, cut, tree) for group in groups]
    return parts


@contextmanager
def _results(parts: Sequence[_Part], workers: int) -> Iterator[Iterator[Looked]]:
    """Cut parts in processes of their own, or here where one is enough; yield what becomes of each, in order."""
    if min(workers, len(parts)) == 1:
        yield map(_cut, parts)
        return
    # Not forked: the threads of this process may hold locks.
    pool = ProcessPoolExecutor(min(workers, len(parts)), get_context("spawn"), _start_worker)
    try:
        yield pool.map(_cut, parts)
    except BrokenProcessPool:
        raise SegtuneError(
            "a process that cuts tiles ended, for lack of memory perhaps; --workers 1 needs less"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the first process, which ends the others
    os.environ["GDAL_CACHEMAX"] = _CACHE_MB


def _cut(part: _Part) -> Looked:
    """Read the pixels of a part once, and write its tiles."""
    looked = Looked()
    cut = part.cut
    with opened_layers(part.scene, part.outlines, cut.resample, cut.background[0]) as scene:
        tops, lefts = ([getattr(window, side) for window in part.windows] for side in ("top", "left"))
        span = (
            (min(tops), min(scene.height, max(tops) + cut.size)),
            (min(lefts), min(scene.width, max(lefts) + cut.size)),
        )
        read = [layer.read(span) for layer in scene.layers]
        with alone(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            for window in part.windows:
                place = (slice(window.top - span[0][0], None), slice(window.left - span[1][0], None))
                own = [
                    (pixels[(slice(None), *place)][:, : cut.size, : cut.size], valid[place][: cut.size, : cut.size])
                    for pixels, valid in read
                ]
                found = _judged(scene, own, cut)
                looked = looked.plus(found)
                if found.kept:
                    _write(scene, own, window, part)
    return looked


def _judged(scene: OpenScene, own: Sequence[tuple[Pixels, np.ndarray]], cut: Cut) -> Looked:
    """Say whether a tile is kept; what is missing to its size holds no data."""
    valid = np.ones(own[0][1].shape, bool)
    labelled = 1.0
    for layer, (pixels, has_data) in zip(scene.layers, own, strict=True):
        if layer.folder == MASKS:
            labelled = float((has_data & ~np.isin(pixels[0], cut.background)).sum() / cut.size**2)
            continue
        valid &= has_data
        if pixels.dtype.kind == "f":
            valid &= np.isfinite(pixels).all(axis=0)
    share = float(valid.sum() / cut.size**2)
    found = Looked(most_valid=share, most_labelled=labelled)
    if share < cut.min_valid:
        return replace(found, invalid=1)
    if labelled < cut.min_labelled:
        return replace(found, unlabelled=1)
    return replace(found, kept=1, empty=int(share == 0))


def _write(scene: OpenScene, own: Sequence[tuple[Pixels, np.ndarray]], window: Window, part: _Part) -> None:
    place = place_of_tile(scene.place, window.top, window.left)
    for layer, (pixels, valid) in zip(scene.layers, own, strict=True):
        pixels, valid = _padded(layer, pixels, valid, part.cut)
        path = part.folder / layer.folder / f"{window.name}.tif"
        with writing(Path(layer.folder, path.name)):  # the folder has another name until all tiles are there
            write_tile(path, pixels, valid, layer.form, place)


def _padded(layer: Layer, pixels: Pixels, valid: np.ndarray, cut: Cut) -> tuple[Pixels, np.ndarray]:
    """Fill a tile up to its size: with the background in a mask, elsewhere with pixels without data."""
    missing = [(0, cut.size - side) for side in valid.shape]
    if not any(after for _, after in missing):
        return pixels, valid
    is_mask = layer.folder == MASKS
    fill = cut.background[0] if is_mask else layer.form.nodata or 0
    padded = np.pad(pixels, [(0, 0), *missing], constant_values=fill)
    return padded, np.pad(valid, missing, constant_values=is_mask)
