"""What the tests share: small data sets on disk, and when the slow tests run."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import create_autospec

# Before albumentations is imported: it asks the package registry for a newer release.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
# Before the hub's client is imported, and for processes that tests start: no server is asked for weights, and caches of
# this machine hold none. So `encoder_weights: auto` is none, on every machine.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_CACHE"] = os.environ["TORCH_HOME"] = str(Path(__file__).parent / "no_cache")  # does not exist
os.environ["SEGTUNE_WEIGHTS"] = ""
# Before torch is imported: tests share the cores, and threads that wait for each other must not take them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's and SciPy's algebra; Gaussian processes of benchmarks

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import torch

_USUAL_RANGE = {
    "uint8": (20, 230),
    "uint16": (200, 9000),
    "int16": (-1500, 7000),
    "float32": (0.05, 0.9),
    "float64": (0.05, 0.9),
}


def pytest_configure(config: pytest.Config) -> None:
    # pytest resets the filter that segtune sets.
    config.addinivalue_line("filterwarnings", "ignore::rasterio.errors.NotGeoreferencedWarning")


def pytest_sessionstart(session: pytest.Session) -> None:
    # As in an activated environment: what is printed to be typed next says `python`, and not where that lies.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    torch.set_num_threads(1)


def pytest_collection_finish(session: pytest.Session) -> None:
    # As a trial's process does: train() collects garbage when it ends, and what the imports made, a million objects,
    # need not be looked through each time.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded tiles of a file's tests go where their files go: each scan looks at all that is in the cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGTUNE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Let files of this process be written without waiting for the disk: none must outlive a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slow" in config.option.markexpr:
        return
    skip = pytest.mark.skip(reason="slow; runs with -m slow")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray runtime with four cores and two GPUs that nobody has."""
    import ray

    from segtune.tuning.cluster import ENVIRONMENT
    from segtune.tuning.ray_session import authentication_put_back

    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with authentication_put_back():  # another test's Ray, later in this process, chooses for itself
        # "local": not a cluster that something else runs on this machine.
        ray.init(
            address="local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory, data_set: WriteDataSet) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "tiles", train=8, val=4)


@pytest.fixture(scope="module")
def blank_charts() -> Iterator[None]:
    """Let validate.py write blank charts: to draw them is half of its work on a few tiles, and nobody looks at them.

    Tests of charts have real ones, and so have those of the script.
    """
    from segtune.cli import validation

    blank = np.full((8, 8, 3), 255, np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("confusion_chart", "reliability_chart", "threshold_chart"):
            patch.setattr(validation, name, create_autospec(getattr(validation, name), return_value=blank))
        yield


class WriteImage(Protocol):
    """Writes an array, (H, W) or (H, W, bands), to a file; its suffix says in which format."""

    def __call__(self, path: Path, array: npt.NDArray[Any], **profile: object) -> Path: ...


class WriteDataSet(Protocol):
    """Writes a learnable data set: the same arguments give the same files.

    Each tile holds every label: the first one everywhere, the others in blobs. Each label has a brightness of its
    own, the first one's the lowest.

    Parameters
    ----------
    path: the folder that gets train/ and val/.
    train, val: tiles of each split, named 000, 001, ...
    size: side of the tiles, or (height, width).
    labels: labels in the masks, the first one around the others' blobs.
    channels: extra one-band folders.
    bands: bands of the images.
    dtype: type of the images' and the channels' pixels: uint8, uint16, int16, float32 or float64.
    suffix: of all files; masks beside .jpg are .png, since they must keep their labels.
    """

    def __call__(
        self,
        path: Path,
        train: int = 6,
        val: int = 4,
        size: int | tuple[int, int] = 32,
        labels: Sequence[int] = (0, 255),
        channels: Sequence[str] = ("nir",),
        bands: int = 3,
        dtype: str = "uint8",
        suffix: str = ".png",
    ) -> Path: ...


@pytest.fixture(scope="session")
def write_image() -> WriteImage:
    return _write_image


@pytest.fixture(scope="session")
def data_set() -> WriteDataSet:
    return write_data_set


def _write_image(path: Path, array: npt.NDArray[Any], **profile: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".tif", ".tiff"):
        layers = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        bands, height, width = layers.shape
        settings: dict[str, Any] = {"count": bands, "height": height, "width": width, "dtype": layers.dtype.name}
        # Left to itself, GDAL makes the fourth of four uint8 bands transparency.
        settings |= {"photometric": "minisblack"} | profile
        with rasterio.open(path, "w", driver="GTiff", **settings) as target:
            target.write(layers)
        return path
    assert not profile, "a profile is for GeoTIFF"
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}  # OpenCV's blue comes first
    pixels = array[..., order[array.shape[2]]] if array.ndim == 3 and array.shape[2] > 1 else array
    done, data = cv2.imencode(path.suffix.lower(), pixels)
    assert done
    path.write_bytes(data.tobytes())
    return path


def write_data_set(
    path: Path,
    train: int = 6,
    val: int = 4,
    size: int | tuple[int, int] = 32,
    labels: Sequence[int] = (0, 255),
    channels: Sequence[str] = ("nir",),
    bands: int = 3,
    dtype: str = "uint8",
    suffix: str = ".png",
) -> Path:
    height, width = (size, size) if isinstance(size, int) else size
    mask_type = np.result_type(np.uint8, *map(np.min_scalar_type, labels))
    mask_suffix = ".png" if suffix in (".jpg", ".jpeg") else suffix
    for split, count in enumerate((train, val)):
        folder = path / ("train", "val")[split]
        for tile in range(count):
            random = np.random.default_rng((split, tile))
            indices = _blobs(random, height, width, len(labels))
            mask = np.array(labels, dtype=mask_type)[indices]
            _write_image(folder / "gt" / f"{tile:03d}{mask_suffix}", mask)
            image = _paint(random, indices, len(labels), bands, dtype)
            _write_image(folder / "images" / f"{tile:03d}{suffix}", image)
            for channel in channels:
                _write_image(
                    folder / channel / f"{tile:03d}{suffix}", _paint(random, indices, len(labels), 1, dtype)[..., 0]
                )
    return path


def _blobs(random: np.random.Generator, height: int, width: int, labels: int) -> npt.NDArray[np.uint8]:
    """Positions in the list of labels: 0, and an ellipse of each of the others, in a strip of its own."""
    indices = np.zeros((height, width), dtype=np.uint8)
    rows, columns = np.mgrid[:height, :width]
    strip = width / max(labels - 1, 1)
    for index, place in zip(range(1, labels), random.permutation(labels - 1), strict=True):
        row, column = random.uniform(0.35, 0.65) * height, (place + random.uniform(0.4, 0.6)) * strip
        high, wide = random.uniform(0.2, 0.35) * height, random.uniform(0.25, 0.4) * strip
        indices[((rows - row) / high) ** 2 + ((columns - column) / wide) ** 2 <= 1] = index
    return indices


def _paint(
    random: np.random.Generator, indices: npt.NDArray[np.uint8], labels: int, bands: int, dtype: str
) -> npt.NDArray[Any]:
    """An image, (H, W, bands): each label's brightness, and noise."""
    low, high = _USUAL_RANGE[dtype]
    levels = np.linspace(0.2, 0.8, labels)[indices][..., None]
    pixels = low + (high - low) * np.clip(levels + random.normal(0, 0.05, (*indices.shape, bands)), 0, 1)
    return pixels.astype(dtype)
