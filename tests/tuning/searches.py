"""Helpers of the tests of whole searches: a small run, and reading trials.csv."""

from __future__ import annotations

import csv
from pathlib import Path

RUN = """
run:
  {model: unet, encoder: tu-mobilenetv3_small_050, decoder_channels: 64, image_size: 32, epochs: 3,
   augmentation: safe, workers: 0}
"""


def rows(folder: Path) -> list[dict[str, str]]:
    """Read the rows of trials.csv."""
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))
