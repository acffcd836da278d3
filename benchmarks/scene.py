"""Predict a large scene: peak memory, speed, and how far windows differ from the whole image at once.

    python benchmarks/scene.py
    python benchmarks/scene.py --side 2000

A small model is trained on the demo data. The scene is a mosaic of demo tiles, written tile by tile. `validate.py`
predicts it in a process of its own, whose largest memory (RSS) is read from the system. Differences are measured on a
scene that also fits into the network as a whole, with two networks: one that sees 6 pixels around each, and the trained
one, whose encoder averages over the whole image in each block.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from machine import largest_memory, machine_line
from rasterio.transform import Affine
from torch import nn

from segtune.data.demo import write_demo
from segtune.data.demo_scene import draw_tile
from segtune.evaluation.blending import Grid
from segtune.evaluation.predict import most_likely
from segtune.evaluation.predictor import Predictor
from segtune.evaluation.scene import predicted_rows, scene_grid
from segtune.evaluation.scene_scale import scene_scale
from segtune.evaluation.scene_source import find_scene, opened_scene
from segtune.models.checkpoint import load_model
from segtune.values import OVERLAP

ROOT = Path(__file__).resolve().parent.parent
TILE, TILES, EPOCHS = 256, 24, 8
SMALL = 1024  # pixels, side of the scene that is also predicted as a whole
REACH = 6  # pixels that the small network sees in each direction
OUTPUTS = {
    "labels": ["--binary"],
    "all": ["--binary", "--raw", "--cog", "--min-area", "50", "--polygons"],
}


@dataclass(frozen=True)
class Cost:
    """What the prediction of a scene took."""

    seconds: float  # of the process, with its start
    peak: float  # MB


def parse() -> Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=8000, help="of the large scene, in pixels [8000]")
    return parser.parse_args()


def write_mosaic(path: Path, side: int) -> None:
    """Write a georeferenced scene of three bands, `side` x `side` pixels, as a mosaic of demo tiles."""
    random = np.random.default_rng(0)
    tiles = [draw_tile(TILE, random)[0][..., :3] for _ in range(TILES)]
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": side, "width": side, "compress": "deflate"}
    layout = {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "crs": "EPSG:32643"}
    place = Affine(1, 0, 712_000, 0, -1, 1_433_000)
    with rasterio.open(path, "w", **profile, **layout, transform=place) as file:
        for top in range(0, side, TILE):
            for left in range(0, side, TILE):
                tile = np.rot90(tiles[random.integers(TILES)], int(random.integers(4)))[: side - top, : side - left]
                span = (top, top + tile.shape[0]), (left, left + tile.shape[1])
                file.write(tile.transpose(2, 0, 1), window=span)


def train(folder: Path) -> Path:
    """Train a small model on the demo data; return its folder."""
    write_demo(folder / "demo", TILES, 4, TILE)
    settings = ["encoder=tu-mobilenetv3_small_050", "encoder_weights=none", f"image_size={TILE}", f"epochs={EPOCHS}"]
    settings += ["lr=5e-3", "batch_size=4", "device=cpu"]
    command = [sys.executable, ROOT / "run_single.py", "-d", folder / "demo", "-log", folder, "--exp-name", "run"]
    subprocess.run([*map(str, command), "--set", *settings], check=True, capture_output=True)
    return folder / "run" / "best"


def predict(model: Path, scene: Path, out: Path, flags: list[str]) -> Cost:
    """Predict a scene with validate.py in a process of its own."""
    flags = [*flags, str(out.with_suffix(".gpkg"))] if flags[-1] == "--polygons" else flags
    command = [sys.executable, ROOT / "validate.py", "-c", model, "-d", scene, "-o", out, "--cpu", *flags]
    peak, started = 0.0, time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, largest_memory(process.pid))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"validate.py ended with status {process.returncode}")
    return Cost(time.perf_counter() - started, peak)


class SmallReach(nn.Module):
    """A network that sees `REACH` pixels in each direction."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2), nn.ReLU()]
        self._layers = nn.Sequential(*layers, nn.Conv2d(8, 1, 5, padding=2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self._layers(images)
        return found


def far_from_edges(starts: tuple[int, ...], side: int, length: int) -> npt.NDArray[np.bool_]:
    """Return the rows or columns of a scene that no window sees within `REACH` of an edge of its own."""
    far = np.ones(length, bool)
    for start in starts:
        far[start : start + REACH] &= start == 0
        far[start + side - REACH : start + side] &= start + side == length
    return far


def compare(predictor: Predictor, scene: Path) -> tuple[float, float, float]:
    """Return the largest difference of logits far from the edges of windows, and everywhere, and of how many labels.

    The latter is a share of the pixels.
    """
    manifest = predictor.manifest
    with opened_scene(find_scene([scene], manifest), manifest) as source:
        grid: Grid = scene_grid(source, scene_scale(manifest, source), OVERLAP)
        blended = torch.cat([rows.logits.clone() for rows in predicted_rows(predictor, source, grid)], dim=1)
    with rasterio.open(scene) as file:
        image = torch.from_numpy(np.ascontiguousarray(file.read().transpose(1, 2, 0)))
    whole = predictor.logits(image[None])[0].cpu()
    apart = (blended - whole).abs().amax(dim=0).numpy()
    far = np.ix_(*(far_from_edges(starts, grid.side, SMALL) for starts in (grid.tops, grid.lefts)))
    labels = [most_likely(logits, manifest.labels, manifest.threshold) for logits in (blended, whole)]
    return float(apart[far].max()), float(apart.max()), float((labels[0] != labels[1]).float().mean())


def main() -> None:
    """Measure and print."""
    side = parse().side
    print(machine_line(f"rasterio {rasterio.__version__}", f"GDAL {rasterio.__gdal_version__}"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = train(folder)
        print(f"\n{'scene':>14}  {'written':8}{'seconds':>9}{'megapixels/s':>14}{'peak memory':>13}")
        for length in (SMALL, side):
            write_mosaic(folder / f"{length}.tif", length)
            for written, flags in OUTPUTS.items():
                cost = predict(model, folder / f"{length}.tif", folder / f"{length}{written}", flags)
                speed = length**2 / 1e6 / cost.seconds
                print(f"{length:>6} x {length:<5}  {written:8}{cost.seconds:9.1f}{speed:14.2f}{cost.peak:10.0f} MB")
        network, manifest = load_model(model, torch.device("cpu"))
        print(f"\n{SMALL} x {SMALL} pixels, windows of {TILE} against the whole image at once")
        print(f"{'largest difference of logits':30}{'far from edges':>16}{'everywhere':>12}  labels that differ")
        for title, own in (("sees 6 pixels", SmallReach()), ("trained, MobileNetV3", network)):
            inside, anywhere, labels = compare(Predictor(own, manifest, torch.device("cpu")), folder / f"{SMALL}.tif")
            print(f"{title:30}{inside:16.1e}{anywhere:12.1e}  {labels:.3%}")


if __name__ == "__main__":
    main()
