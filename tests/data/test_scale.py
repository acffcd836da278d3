"""Splits whose values have different scales: a run stops before it trains, with the line of `check`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from segtune.data.reading import read_image, read_tile
from tests.conftest import WriteDataSet, WriteImage
from tests.data.stores import mistakes, scanned
from tests.tools.sets import found

Pixels = npt.NDArray[Any]


@pytest.fixture
def floats(tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage) -> Path:
    """A data set of float32."""
    data_set(tmp_path / "set", suffix=".tif")
    for folder in ("images", "nir"):
        rescale(tmp_path / "set", write_image, "train", folder, lambda pixels: pixels.astype(np.float32))
        rescale(tmp_path / "set", write_image, "val", folder, lambda pixels: pixels.astype(np.float32))
    return tmp_path / "set"


def rescale(root: Path, write_image: WriteImage, split: str, folder: str, how: Callable[[Pixels], Pixels]) -> None:
    for path in (root / split / folder).iterdir():
        write_image(path, how(read_image(path)[0]))


@pytest.mark.parametrize(
    ("folder", "factor", "bands"), [("images", 1 / 255, ["image:1", "image:2", "image:3"]), ("nir", 100, ["nir"])]
)
def test_another_scale_of_val_stops_as_check_says(
    floats: Path, write_image: WriteImage, folder: str, factor: float, bands: list[str]
) -> None:
    rescale(floats, write_image, "val", folder, lambda pixels: (pixels * factor).astype(np.float32))
    (mistake,) = mistakes(floats, channels=["nir"])
    (finding,) = [one for one in found(floats)[1] if one["kind"] == "scale"]
    assert mistake == f"{finding['what']}; {finding['do']}"
    assert mistake.startswith("val: values have another scale than in train: ")
    assert all(f"{band} (" in mistake for band in bands)


def test_a_darker_val_and_an_empty_channel_do_not_stop(floats: Path, write_image: WriteImage) -> None:
    rescale(floats, write_image, "val", "images", lambda pixels: pixels / 4)
    rescale(floats, write_image, "train", "nir", np.zeros_like)  # as roads, where few tiles hold any
    assert scanned(floats, channels=["nir"]).counts == {"train": 6, "val": 4}


def test_the_scale_is_known_without_decoding_again(
    floats: Path, write_image: WriteImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []

    def read(*arguments: Any, **keywords: Any) -> Any:
        decoded.append(arguments[0].name)
        return read_tile(*arguments, **keywords)

    monkeypatch.setattr("segtune.data.findings.read_tile", read)
    rescale(floats, write_image, "val", "images", lambda pixels: pixels / 255)
    first = mistakes(floats)
    assert len(decoded) == 10
    assert (mistakes(floats), len(decoded)) == (first, 10)


def test_a_fill_value_in_train_alone_does_not_stop(floats: Path, write_image: WriteImage) -> None:
    def filled(pixels: Pixels) -> Pixels:
        pixels[:4] = -9999
        return pixels

    rescale(floats, write_image, "train", "images", filled)
    assert scanned(floats).counts == {"train": 6, "val": 4}
    assert "scale" not in {one["kind"] for one in found(floats)[1]}
