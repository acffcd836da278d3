"""Fixtures: finished runs, and validate.py as a function."""

from __future__ import annotations

import functools

import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine

from tests.evaluation.runs import SIZE, DataSet, Run, Trained, trained
from tests.scripts import status_of


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Trained:
    """A run on GeoTIFFs with labels 0 and 255."""
    parent = tmp_path_factory.mktemp("binary")
    dataset = data_set(parent / "set", size=SIZE, suffix=".tif")
    for number, path in enumerate(sorted((dataset / "val" / "images").iterdir())):
        with rasterio.open(path, "r+") as file:
            file.crs = CRS.from_epsg(32632)
            file.transform = Affine(0.5, 0.0, 500_000 + 20 * number, 0.0, -0.5, 5_000_000)
    return trained(dataset, parent / "run")


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Trained:
    """A run on PNGs with two classes, a background and an ignored label."""
    parent = tmp_path_factory.mktemp("several")
    dataset = data_set(parent / "set", size=SIZE, labels=(0, 1, 300, 7))
    return trained(dataset, parent / "run", classes=[300, 1], ignore=[7], loss="dice+ce", epochs=2)


@pytest.fixture
def run() -> Run:
    """Run validate.py with these arguments; returns its exit status."""
    return functools.partial(status_of, "validate")
