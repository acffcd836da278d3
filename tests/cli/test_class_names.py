"""Names of classes from the command line to tables, files and predicted masks."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import rasterio

from segtune.models.manifest import Manifest
from tests.cli.runs import DataSet, pixels, train_in
from tests.scripts import call

pytestmark = pytest.mark.usefixtures("blank_charts")


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_names_reach_the_table_the_metrics_and_the_masks(tmp_path: Path, data_set: DataSet, suffix: str) -> None:
    dataset = data_set(tmp_path / "data", labels=(0, 1, 2), suffix=suffix)
    ended = train_in(dataset, tmp_path, "-e", "1", "--classes", "1:bare soil", "2:water")
    assert (ended.status, ended.err) == (0, "")
    assert Manifest.read(tmp_path / "run" / "best" / "run.yaml").config.class_names == ["bare soil", "water"]
    card = (tmp_path / "run" / "best" / "README.md").read_text(encoding="utf-8")
    assert "- `1 bare soil`: IoU" in card
    ended = call("validate", "-cd", tmp_path / "run", "-d", dataset / "val", "-o", tmp_path / "out", "--binary")
    assert (ended.status, ended.err) == (0, "")
    assert next(line.split()[:2] for line in ended.out.splitlines() if "water" in line) == ["2", "water"]
    assert "the mean over 1 bare soil, 2 water" in " ".join(ended.out.split())
    found = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert (found["class_names"], list(found["iou"])) == (["bare soil", "water"], ["1", "2", "background"])
    mask = next((tmp_path / "out" / "binary").glob(f"*{suffix}"))
    band = ElementTree.parse(f"{mask}.aux.xml").getroot().find("PAMRasterBand")
    assert band is not None
    assert [name.text for name in band.iter("Category")] == ["background", "bare soil", "water"]
    assert set(pixels(mask).ravel()) <= {0, 1, 2}
    if suffix == ".tif":
        with rasterio.open(mask) as file:
            assert file.colormap(1)[1] == (230, 159, 0, 255)


def test_a_run_continues_with_other_names_but_not_with_other_labels(tmp_path: Path, data_set: DataSet) -> None:
    dataset = data_set(tmp_path / "data", labels=(0, 1, 2))
    assert train_in(dataset, tmp_path, "-e", "1", "--classes", "1,2").status == 0
    assert train_in(dataset, tmp_path, "-e", "2", "--classes", "1:soil,2:water").status == 0
    assert Manifest.read(tmp_path / "run" / "run.yaml").config.class_names == ["soil", "water"]
    refused = train_in(dataset, tmp_path, "-e", "3", "--classes", "1:soil,3:water")
    assert refused.status == 2
    assert "classes ([1, 2] -> [1, 3])" in refused.err
