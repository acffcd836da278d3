"""Helpers: recorded curves of synthetic data sets, over a small space."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curves import drawn

from segtune.space.reader import load_space

SPACE = """
run: {model: unet, encoder: tu-mobilenetv3_small_050, image_size: 32, epochs: 9, workers: 0, device: cpu}
space:
  optimizer:
    adamw: {lr: {low: 1e-5, high: 1e-1, log: true}}
    sgd: {momentum: {low: 0.8, high: 0.98}}
  batch_size: [4, 8, 16]
baseline: {optimizer: adamw, lr: 1e-5, batch_size: 8}
"""
EPOCHS = 9
SETS = {"north": 0.9, "south": 0.7}  # the best score of each
CONFIGURATIONS = 30
REPEATED = 5  # every so many configurations has a second seed


def miou(settings: Mapping[str, Any], best: float = 0.9) -> float:
    """Return the score of a synthetic curve; the order of curves shows from the first epoch on."""
    lr = settings.get("lr", 1e-5)
    return best - 0.1 * abs(math.log10(lr / 3e-2)) - 0.05 * (settings["batch_size"] != 8)


def write_curves(folder: Path) -> None:
    """Write the space, and the curves of every data set."""
    (folder / "space.yaml").write_text(SPACE)
    space = load_space(folder / "space.yaml")
    columns = ["number", "seed", "status", *space.searched(), "miou", "seconds"]
    for name, best in SETS.items():
        with (folder / f"{name}.csv").open("w") as file:
            table = csv.DictWriter(file, columns, lineterminator="\n")
            table.writeheader()
            for number in range(CONFIGURATIONS):
                settings = drawn(space, 0, number)
                for again in range(2 if number % REPEATED == 0 else 1):
                    score = miou(settings, best)
                    scores = [score * (0.9 + epoch / (10 * EPOCHS)) + 0.002 * again for epoch in range(1, EPOCHS + 1)]
                    row = {"number": number, "seed": space.baseline.seed + again, "status": "finished", **settings}
                    row["miou"] = " ".join(f"{score:.5f}" for score in scores)
                    row["seconds"] = " ".join(f"{2.0 * epoch}" for epoch in range(1, EPOCHS + 1))
                    table.writerow(row)
