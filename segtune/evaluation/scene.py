"""Predict a whole scene, of any size: window by window, from the top to the bottom."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import rasterio
import torch
from torch import Tensor

from segtune.data.fitting import Fit
from segtune.data.labels import BACKGROUND, Labels
from segtune.data.raster import alone
from segtune.data.reading import Valid
from segtune.data.store import Array
from segtune.data.threads import reading_threads
from segtune.evaluation.areas import SmallObjects
from segtune.evaluation.blending import Blend, Grid
from segtune.evaluation.polygons import check_packages, polygon_writer
from segtune.evaluation.predict import most_likely, resized
from segtune.evaluation.predictor import Predictor
from segtune.evaluation.scene_output import BLOCK, Rows, SceneOutputs, scene_writer
from segtune.evaluation.scene_scale import Scale, scene_scale
from segtune.evaluation.scene_source import SceneSource, network_input
from segtune.models.device import within_memory
from segtune.models.manifest import Manifest
from segtune.remarks import Say, unheard
from segtune.values import OVERLAP

_LEAST_CACHE = 64  # MB of decoded blocks that GDAL keeps
_Item = TypeVar("_Item")
_Read = TypeVar("_Read")
_Batch = Sequence[tuple[int, int]]  # row and column of windows, all of one row
OnWindow = Callable[[int, int], object]  # the numbers of windows that are done, and of all


@dataclass(frozen=True)
class SceneResult:
    """What a prediction of a scene was made of, and what it found."""

    height: int
    width: int
    window: int  # pixels of the scene along a side
    windows: int
    pixels: dict[int, int]  # by label of the data set: how many pixels were predicted so
    without_data: int  # pixels
    objects: int | None  # outlines that were written; None without polygons


class _Window(NamedTuple):
    image: Array | None  # what the network sees; None for a window without data
    valid: Valid


def predict_scene(
    predictor: Predictor,
    source: SceneSource,
    outputs: SceneOutputs,
    overlap: float = OVERLAP,
    on_window: OnWindow | None = None,
    resolution: float | str | None = None,
    say: Say = unheard,
) -> SceneResult:
    """Predict a scene and write it, without holding all of it in memory.

    Parameters
    ----------
    predictor: the model.
    source: the open scene.
    outputs: the files to write.
    overlap: share of their side by which neighbouring windows overlap at least, from 0 to 0.9.
    on_window: called with the numbers of windows that are done and of all.
    resolution: metres per pixel to which the scene is resampled for the model; `auto` is that of the training. The
        outputs have the scene's own pixels.
    say: called with one line about each thing that is odd, before the first window.

    Memory depends on the window and on the width of the scene, not on its height. Raises InputError where a setting is
    wrong or a file cannot be read, OSError where the disk is full, and DeviceMemoryError where memory is not enough for
    one window at a time.
    """
    labels = predictor.manifest.labels
    scale = scene_scale(predictor.manifest, source, resolution)
    grid = scene_grid(source, scale, overlap)
    if outputs.polygons:
        check_packages()
    for remark in scale.remarks.values():
        say(remark)
    counts = np.zeros(len(labels.classes) + 1, np.int64)
    with ExitStack() as stack:
        write = stack.enter_context(scene_writer(outputs, source, labels))
        polygons = None
        if outputs.polygons:
            polygons = stack.enter_context(polygon_writer(outputs.polygons, source, labels, outputs.simplify))
        for rows in predicted_rows(predictor, source, grid, on_window):
            write(rows)
            if polygons:
                polygons.write(rows)
            counts += np.bincount(rows.indices[rows.valid], minlength=len(counts))
        if polygons:
            polygons.close()
    return SceneResult(
        height=source.height,
        width=source.width,
        window=scale.side,
        windows=len(grid),
        pixels=_by_label(counts, labels),
        without_data=source.height * source.width - int(counts.sum()),
        objects=polygons.written if polygons else None,
    )


def _by_label(counts: np.ndarray[tuple[int], np.dtype[np.int64]], labels: Labels) -> dict[int, int]:
    """Return the numbers of pixels by label, from those by index."""
    own = dict(zip((labels.background_label, *labels.classes), counts.tolist(), strict=True))
    if not labels.predicts_background:
        del own[labels.background_label]
    return own


def scene_grid(source: SceneSource, scale: Scale, overlap: float) -> Grid:
    """Return the windows over a scene; InputError where the overlap is not from 0 to 0.9."""
    return Grid.over(source.height, source.width, scale.side, overlap, scale.as_tile)


def _inner_size(shape: tuple[int, ...], grid: Grid, fit: Fit) -> tuple[int, int]:
    """Return the size, (h, w), to which a window of this shape, (H, W), is resized."""
    height, width = shape
    if grid.as_tile:
        return fit.inner(height, width)
    return max(1, round(height * fit.size / grid.side)), max(1, round(width * fit.size / grid.side))


def predicted_rows(
    predictor: Predictor, source: SceneSource, grid: Grid, on_window: OnWindow | None = None
) -> Iterator[Rows]:
    """Yield what is predicted for a scene, some rows at a time; they are valid until the next ones are asked for.

    Small objects are removed as `remove_small` would from the whole scene.
    """
    found = _predicted(predictor, source, grid, on_window)
    return _without_small(found, predictor.manifest, grid) if predictor.manifest.min_area > 1 else found


def _without_small(found: Iterator[Rows], manifest: Manifest, grid: Grid) -> Iterator[Rows]:
    """Yield rows without objects that are small, a few blocks late: see `SmallObjects`."""
    objects, waiting = SmallObjects(grid.width, manifest.min_area, manifest.labels.predicts_background), deque[Rows]()
    for rows in found:
        waiting.append(replace(rows, logits=rows.logits.clone(), valid=rows.valid.copy()))
        with_data = np.where(rows.valid, rows.indices, np.uint8(BACKGROUND))
        for indices in objects.add(with_data, last=rows.top + len(rows.indices) == grid.height):
            yield replace(waiting.popleft(), indices=indices)


def _predicted(predictor: Predictor, source: SceneSource, grid: Grid, on_window: OnWindow | None) -> Iterator[Rows]:
    """Yield what the network finds in a scene, some rows at a time."""
    manifest = predictor.manifest
    blend, at_once, done = Blend(manifest.labels.outputs, grid, BLOCK), manifest.evaluation_batch_size, 0
    batches = [
        [(row, column) for column in range(len(grid.lefts))[first : first + at_once]]
        for row in range(len(grid.tops))
        for first in range(0, len(grid.lefts), at_once)
    ]
    with rasterio.Env(GDAL_CACHEMAX=_cache(source, grid, len(manifest.bands))):
        for batch, windows in _ahead(partial(_read, predictor, source, grid), batches):
            logits, at_once = within_memory(partial(_infer, predictor, windows, grid), at_once)
            for (row, column), window, found in zip(batch, windows, logits, strict=True):
                blend.add(row, column, found, torch.from_numpy(window.valid))
                done += 1
                if on_window:
                    on_window(done, len(grid))
            if column + 1 == len(grid.lefts):
                for top, finished, valid in blend.finished(row):
                    indices = most_likely(finished, manifest.labels, manifest.threshold).numpy()
                    yield Rows(top, indices, finished, valid.numpy())


def _cache(source: SceneSource, grid: Grid, bands: int) -> int:
    """Return the MB that hold a row of windows, so that no part of a file is decoded twice for it.

    By default GDAL takes a share of the machine's memory.
    """
    return max(_LEAST_CACHE, 2 * source.width * grid.side * bands * 4 // 2**20)


def _ahead(read: Callable[[_Item], _Read], items: Sequence[_Item]) -> Iterator[tuple[_Item, _Read]]:
    """Yield each item with what is read for it, while the next one is read in another thread."""

    def alone_read(item: _Item) -> _Read:
        with alone():  # settings of GDAL belong to a thread
            return read(item)

    with reading_threads(1) as pool:
        following = pool.submit(alone_read, items[0])
        for item, after in zip(items, [*items[1:], None], strict=True):
            found = following.result()
            if after is not None:
                following = pool.submit(alone_read, after)
            yield item, found


def _read(predictor: Predictor, source: SceneSource, grid: Grid, batch: _Batch) -> list[_Window]:
    found = []
    fit, uint8 = predictor.fit, predictor.manifest.uint8
    for row, column in batch:
        sources, valid = source.read(grid.span(row, column))
        size = _inner_size(valid.shape, grid, fit)
        image = network_input(sources, valid, size, fit, uint8) if valid.any() else None
        found.append(_Window(image, valid))
    return found


def _infer(predictor: Predictor, windows: Sequence[_Window], grid: Grid, at_once: int) -> list[Tensor | None]:
    """Return each window's logits, (outputs, H, W), at the scene's own pixels, on the CPU."""
    images = [window.image for window in windows if window.image is not None]
    shape = windows[0].valid.shape  # all windows of a scene have one
    height, width = _inner_size(shape, grid, predictor.fit)
    found = [
        resized(logits[:, :height, :width], shape).cpu()
        for first in range(0, len(images), at_once)
        for logits in predictor.logits(torch.from_numpy(np.stack(images[first : first + at_once])))
    ]
    following = iter(found)
    return [None if window.image is None else next(following) for window in windows]
