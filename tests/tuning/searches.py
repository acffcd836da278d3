"""What tests of whole searches share: small runs, and the table that a search writes."""

from __future__ import annotations

import csv
from pathlib import Path

RUN = """
run: {model: unet, encoder: tu-mobilenetv3_small_050, image_size: 32, epochs: 3, augmentation: safe, workers: 0}
"""


def rows(folder: Path) -> list[dict[str, str]]:
    """trials.csv."""
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))
