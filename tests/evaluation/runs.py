"""Helpers: a finished run, and what validate.py printed and wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.files.folders import RunFolder
from segtune.training.result import EpochResult
from segtune.training.train import train

DataSet = Callable[..., Path]
SIZE = 40  # of the tiles; the network sees 32


@dataclass(frozen=True)
class Trained:
    """A finished run and its data."""

    folder: Path
    dataset: Path
    results: list[EpochResult]

    @property
    def val(self) -> Path:
        return self.dataset / "val"


def trained(dataset: Path, folder: Path, **others: object) -> Trained:
    settings = {
        "dataset": str(dataset),
        "channels": ["nir"],
        "model": "unet",
        "encoder": "tu-mobilenetv3_small_050",
        "decoder_channels": 64,
        "image_size": 32,
        "batch_size": 3,
        "epochs": 4,
        "lr": 1e-2,
        "workers": 0,
        "augmentation": "safe",
        "device": "cpu",
    }
    config = RunConfig.from_settings(settings | others)
    return Trained(folder, dataset, list(train(config, scan(config), RunFolder(folder), threads=1)))


Run = Callable[..., int]


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines on stderr; each of them must report a mistake."""
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("error: ") for line in lines), lines
    return lines


def pixels(path: Path) -> NDArray[np.integer]:
    with rasterio.open(path) as file:
        assert file.count == 1
        return file.read(1)
