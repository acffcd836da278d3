"""What is known of a data set: the size that runs take, their channels, and what is sent to trials."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from segtune.config import RunConfig
from segtune.data.scan import scan
from tests.conftest import WriteDataSet
from tests.data.stores import scanned


@pytest.mark.parametrize(
    ("size", "expected"),
    [(32, 32), (33, 64), ((40, 20), 64), ((20, 70), 96), (128, 128), ((600, 32), 512), ((512, 16), 512)],
)
def test_image_size_is_the_longest_side_as_a_multiple_of_32_up_to_512(
    tmp_path: Path, data_set: WriteDataSet, size: int | tuple[int, int], expected: int
) -> None:
    data_set(tmp_path, train=1, val=1, size=size, channels=())
    assert scanned(tmp_path).image_size() == expected


def test_image_size_follows_the_largest_training_tile(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path / "small", train=3, val=2, size=32, channels=())
    data_set(tmp_path / "large", train=1, val=1, size=(50, 90), channels=())
    for folder in ("images", "gt"):
        shutil.copy(tmp_path / "large" / "val" / folder / "000.png", tmp_path / "small" / "val" / folder / "large.png")
    assert scanned(tmp_path / "small").image_size() == 32
    for folder in ("images", "gt"):
        shutil.copy(
            tmp_path / "large" / "train" / folder / "000.png", tmp_path / "small" / "train" / folder / "large.png"
        )
    assert scanned(tmp_path / "small").image_size() == 96


def test_a_scan_with_more_channels_than_a_run_uses(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path, channels=["nir", "dem", "sar"])
    info = scan(RunConfig(dataset=str(tmp_path), channels=["dem"]), ["nir", "dem", "sar"])
    image = ["image:1", "image:2", "image:3"]
    assert [path.parent.name for path in info.tiles["train"][0].channels] == ["nir", "dem", "sar"]
    for channels, sources in {
        (): [0],
        ("nir",): [0, 1],
        ("sar",): [0, 3],
        ("dem", "nir"): [0, 2, 1],
        ("nir", "dem", "sar"): [0, 1, 2, 3],
    }.items():
        assert info.sources(channels) == sources
        assert [band.name for band in info.input_bands(channels)] == [*image, *channels]


@pytest.mark.parametrize(
    ("image", "channel", "expected"),
    [("uint8", "uint8", True), ("uint16", "uint8", False), ("uint8", "float32", False)],
)
def test_batches_are_uint8_only_where_all_sources_are(
    tmp_path: Path, data_set: WriteDataSet, image: str, channel: str, expected: bool
) -> None:
    data_set(tmp_path, dtype=image, suffix=".tif")
    data_set(tmp_path / "other", dtype=channel, suffix=".tif")
    for split in ("train", "val"):
        shutil.copytree(tmp_path / "other" / split / "nir", tmp_path / split / "nir", dirs_exist_ok=True)
    assert scanned(tmp_path, channels=["nir"]).uint8 is expected


def test_tiles_are_sent_along_unless_the_cache_has_all_that_is_wanted(tmp_path: Path, data_set: WriteDataSet) -> None:
    config = RunConfig(dataset=str(data_set(tmp_path / "set")), cache_dir=str(tmp_path / "cache"), image_size=32)
    assert scan(config).light(with_holders=False).tiles == {}
    full = config.model_copy(update={"cache_gb": 1e-9})
    info = scan(full, wanted=[("resize", 32), ("resize", 64)]).light(with_holders=False)
    assert len(info.store("train", config.model_copy(update={"image_size": 64}))) == 6
    assert info.store("train", config).decoded
