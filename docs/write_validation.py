"""Write the pictures of docs/validation.md and docs/predictions.md: what is drawn of a small model on the demo data.

    python docs/write_validation.py

Trains the model first, in a few minutes on a CPU. The pictures are made smaller where necessary and written as JPEG.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import rasterio
import torch

from segtune.data.batches import Batches
from segtune.data.demo_scene import draw_tile
from segtune.data.fitting import Fit
from segtune.data.pairs import find_tiles
from segtune.data.store import DecodedTiles
from segtune.data.tiles import Layout
from segtune.evaluation.calibration import CalibrationCounts
from segtune.evaluation.evaluate import evaluate
from segtune.evaluation.predict import TilePrediction, probabilities
from segtune.evaluation.predictor import Predictor
from segtune.evaluation.thresholds import ThresholdCounts
from segtune.evaluation.worst import Worst
from segtune.files.folders import find_model
from segtune.models.checkpoint import load_model
from segtune.pictures.charts import confusion_chart, reliability_chart, threshold_chart
from segtune.pictures.gallery import tile_panels, worst_picture
from segtune.pictures.panels import panels
from segtune.pictures.png import jpeg_within
from segtune.pictures.render import Picture

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "validation"
MOST_BYTES = 100_000
SCENE = 448, 640  # pixels, height and width
SETTINGS = ["encoder=tu-mobilenetv3_small_050", "encoder_weights=none", "image_size=128", "epochs=10", "lr=2e-3"]


def trained(scratch: Path) -> Path:
    """Train a small model on the demo data; return its folder."""
    run = [sys.executable, str(ROOT / "run_single.py"), "-d", "data/demo", "--channels", "nir", "--exp-name", "demo"]
    subprocess.run([*run, "--set", *SETTINGS], cwd=scratch, check=True)
    return find_model(scratch / "logs" / "demo")


def drawn(folder: Path, split: Path) -> dict[str, Picture]:
    """Measure a model on a split; return what is drawn of it, by name."""
    device = torch.device("cpu")
    model, manifest = load_model(folder, device)
    config, labels = manifest.config, manifest.labels
    tiles = find_tiles(split, Layout.of(config, config.channels))
    sources = range(1 + len(config.channels))
    store = DecodedTiles(tiles, labels, manifest.bands, sources, Fit.of(config), manifest.uint8, None, config.nodata)
    calibration, thresholds = CalibrationCounts(labels), ThresholdCounts(labels, manifest.threshold)
    worst, found = Worst(3), {}

    def note(index: int, tile: TilePrediction) -> None:
        likely = probabilities(tile.logits, labels).cpu().numpy()
        calibration.update(tile.truth, likely)
        thresholds.update(tile.truth, likely)
        worst.note(index, tile.indices, tile.truth)
        found[index] = tile

    with Batches(store, manifest.evaluation_batch_size, workers=0) as batches:
        matrix = evaluate(Predictor(model, manifest, device), batches, note).matrix
    shown = worst.tiles()[0].index
    tile = tile_panels(store.name(shown), store.image(shown), manifest, found[shown])
    of = f"{split.name}, {len(tiles)} tiles"
    return {
        "panels": panels(tile, labels, manifest.threshold),
        "worst": worst_picture(store, manifest, worst.tiles(), f"Worst tiles of {of}"),
        "confusion": confusion_chart(matrix.counts, labels, f"Confusion matrix: {of}"),
        "calibration": reliability_chart(calibration.result(), f"Calibration: {of}"),
        "thresholds": threshold_chart(thresholds.result(), labels, manifest.threshold, f"Thresholds: {of}"),
    }


def drawn_scene(folder: Path, scratch: Path) -> Picture:
    """Predict a scene with validate.py; return its picture."""
    image = draw_tile(max(SCENE), np.random.default_rng(0))[0][: SCENE[0], : SCENE[1]].transpose(2, 0, 1)
    for name, bands in (("scene.tif", image[:3]), ("scene_nir.tif", image[3:])):
        shape = {"count": len(bands), "height": SCENE[0], "width": SCENE[1]}
        with rasterio.open(scratch / name, "w", driver="GTiff", dtype="uint8", **shape) as file:
            file.write(bands)
    command = [sys.executable, str(ROOT / "validate.py"), "-cd", str(folder), "-d", "scene.tif", "-o", "out"]
    subprocess.run(command, cwd=scratch, check=True)
    return cv2.cvtColor(cv2.imread(str(scratch / "out/plots/scene.png")), cv2.COLOR_BGR2RGB)


def main() -> None:
    """Write all pictures."""
    PAGE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = trained(Path(scratch))
        pictures = drawn(folder, Path(scratch) / "data/demo/val")
        pictures["scene"] = drawn_scene(folder, Path(scratch))
    for name, picture in pictures.items():
        (PAGE / f"{name}.jpg").write_bytes(jpeg_within(MOST_BYTES, picture)[0])


if __name__ == "__main__":
    main()
