"""python -m segtune.tools stats: bands and labels in numbers, which are those that a training computes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segtune.config import RunConfig
from segtune.data.balance import class_weights
from segtune.data.scan import scan
from tests.conftest import WriteDataSet, WriteImage
from tests.scripts import Ended, call


def stats(*arguments: object) -> Ended:
    """Type the command."""
    return call("segtune.tools.__main__", "stats", *arguments)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(*arguments: object) -> dict:
    ended = stats(*arguments, "--json", "all.json")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == "all numbers: all.json"
    return json.loads(Path("all.json").read_text())


def test_a_class_that_no_mask_holds_is_refused_with_those_that_exist(data_set: WriteDataSet) -> None:
    data_set(Path("set"), labels=(0, 1, 2))
    assert stats("set", "--classes", 1, 7).mistakes == ["--classes: no mask of train holds 7; they hold 0, 1, 2"]


def test_a_missing_file_of_a_channel_says_how_the_channel_is_left_out(data_set: WriteDataSet) -> None:
    data_set(Path("set"))
    next(Path("set/train/nir").iterdir()).unlink()
    (mistake,) = stats("set").mistakes
    assert "no partner in set/train/nir" in mistake
    assert mistake.endswith("(without this channel: --set channels=none)")
    assert stats("set", "--set", "channels=none").status == 0


def test_numbers_are_those_of_a_training(data_set: WriteDataSet) -> None:
    data_set(Path("set"), labels=(0, 1, 2), size=(40, 36))
    found = written("set", "--classes", "1,2")
    config = RunConfig(dataset="set", classes=[1, 2], channels=["nir"], cache_dir="none")
    info = scan(config)
    train = found["splits"]["train"]
    assert list(train["bands"]) == [band.name for band in info.bands]
    for band in info.bands:
        numbers = train["bands"][band.name]
        assert [numbers[name] for name in ("mean", "std", "min", "max")] == pytest.approx(
            [band.mean, band.std, band.low, band.high]
        )
    assert {int(label): row["pixels"] for label, row in train["labels"].items()} == info.pixels["train"]
    assert found["image_size"] == info.image_size()
    for setting in ("balanced", "effective"):
        assert found["class_weights"][setting] == pytest.approx(class_weights(setting, info))
    assert train["sizes"] == {"36x40": 6}
    assert found["channels"] == ["nir"]


def test_percentiles_are_those_of_the_valid_pixels(write_image: WriteImage) -> None:
    ramp = np.arange(100, dtype=np.float32).reshape(10, 10)
    image = np.where(ramp < 50, np.nan, ramp)
    for split in ("train", "val", "test"):
        write_image(Path(f"set/{split}/images/a.tif"), image)
        write_image(Path(f"set/{split}/gt/a.tif"), (ramp >= 75).astype(np.uint8))
    found = written("set")
    assert list(found["splits"]) == ["train", "val", "test"]
    for split in found["splits"].values():
        assert split["valid"] == 0.5
        (band,) = split["bands"].values()
        assert band["percentiles"]["50"] == pytest.approx(np.percentile(np.arange(50, 100), 50))
        assert band["percentiles"]["99"] == pytest.approx(np.percentile(np.arange(50, 100), 99))
        assert (band["min"], band["max"]) == (50, 99)


def test_the_tables_show_shares_without_ignored_labels(data_set: WriteDataSet) -> None:
    data_set(Path("set"), labels=(0, 1, 255))
    ended = stats("set", "--ignore", 255)
    assert (ended.status, ended.err) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in ended.out.splitlines() if line.strip()[:1].isdigit()}
    assert rows["255"] == ["ignored", "(6)", "ignored", "(4)"]
    shares = [float(rows[label][0].rstrip("%")) for label in ("0", "1")]
    assert sum(shares) == pytest.approx(100, abs=0.02)
    assert "class_weights: balanced stands for background " in ended.out
    assert "image_size: 32, unless it is set" in ended.out


def test_a_file_is_replaced_only_when_forced(data_set: WriteDataSet) -> None:
    data_set(Path("set"))
    Path("all.json").write_text("mine")
    assert stats("set", "--json", "all.json").mistakes == [
        "--json: all.json exists; name another file, or --force to replace it"
    ]
    assert Path("all.json").read_text() == "mine"
    assert stats("set", "--json", "all.json", "--force").status == 0
    assert json.loads(Path("all.json").read_text())["format"] == 1


def test_what_a_training_refuses_is_refused(data_set: WriteDataSet) -> None:
    assert stats("nowhere").mistakes == ["nowhere: no such data set folder (dataset, -d)"]
    data_set(Path("set"))
    Path("set/train/images/000.png").unlink()
    assert len(stats("set").mistakes) == 1
    assert stats("set", "--json", "set").mistakes == ["--json: set is a folder; name a file"]
