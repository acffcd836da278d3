"""python -m segtune.tools check: a sound set has no finding, errors come first, and a list of tiles mends a set."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from segtune.data.demo import write_demo
from segtune.data.exclusion import FILE, read_exclusion
from tests.scripts import call
from tests.tools.sets import (
    change,
    check,
    cut_short,
    found,
    image,
    mask,
    moved,
    smooth,
    twin,
)

REAL_DATA = os.environ.get("SEGTUNE_DATA")


def test_a_sound_set_has_no_finding(clean: Path, tmp_path: Path) -> None:
    ended = check(clean)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == f"{clean}: 14 train, 8 val tiles; nothing is wrong"
    assert "Findings" not in ended.out
    rows = [line.split() for line in ended.out.splitlines()]
    assert [row[2] for row in rows if row[:1] == ["1"]] == ["(14)"]  # all training tiles hold the label 1


def test_the_demo_set_has_no_finding(tmp_path: Path) -> None:
    write_demo(tmp_path / "demo")
    assert found(tmp_path / "demo") == (0, [])
    assert found(tmp_path / "demo", "--classes", "255", "--channels", "nir") == (0, [])


def test_smooth_masks_name_a_threshold_that_mends_them(root: Path) -> None:
    smooth(root)
    _, (finding,) = found(root)
    assert "--threshold 128 --labels 0:0 1:255" in finding["do"]
    flags = ["--threshold", "128", "--labels", "0:0", "1:255", "--beside", "mended"]
    assert call("segtune.tools.__main__", "relabel", root / "train/gt", root / "val/gt", *flags).status == 0
    assert found(root, "--set", "masks_dir=mended", "--channels", "nir")[1] == []


def test_classes_that_are_asked_for_are_looked_for(root: Path) -> None:
    status, findings = found(root, "--classes", "1", "9")
    assert status == 1
    kinds = {(finding["severity"], finding["kind"]) for finding in findings}
    assert kinds == {("error", "class_absent"), ("warning", "class_absent")}
    change(root / mask(3), lambda p: np.where(p == 1, 7, p))
    assert ("note", "background") in [(f["severity"], f["kind"]) for f in found(root, "--classes", "1")[1]]
    assert found(root, "--classes", "1", "--ignore", "7") == (0, [])


def test_all_faults_are_told_at_once_and_errors_first(root: Path) -> None:
    (root / mask(2)).unlink()
    cut_short(root / image(5))
    moved(root, image(5, "val"), 9, 0)
    ended = check(root)
    assert ended.status == 1
    assert ended.err == f"error: {root}: 2 errors in the data set, told above\n"
    places = [ended.out.index(kind) for kind in ("unpaired", "unreadable", "same_place")]
    assert places == sorted(places)
    assert ended.out.splitlines()[-1].endswith("14 train, 8 val tiles; 2 errors, 1 warning".replace("14", "13"))


def test_a_list_of_tiles_to_leave_out_mends_the_set(root: Path) -> None:
    (root / mask(2)).unlink()
    cut_short(root / image(5))
    twin(root, image(3), image(7, "val"))
    ended = check(root, "--exclude-file", root / FILE)
    assert f"{root / FILE}: 3 tiles added; look at the list: training leaves them out" in ended.out
    assert read_exclusion(root / FILE) == {
        "train": {"t02": "unpaired", "t03": "duplicate val/t07", "t05": "unreadable"}
    }
    again = check(root, "--exclude-file", root / FILE)
    assert (again.status, again.err) == (0, "")
    assert f"3 tiles are left out ({root / FILE})" in again.out
    assert f"{root / FILE}: no tile to add" in again.out


def test_an_earlier_list_is_kept(root: Path) -> None:
    (root / FILE).write_text("val/t00 # clouds")
    (root / mask(2)).unlink()
    check(root, "--exclude-file", root / FILE)
    assert read_exclusion(root / FILE) == {"train": {"t02": "unpaired"}, "val": {"t00": "clouds"}}


def test_many_tiles_are_read_in_processes_with_the_same_result(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_short(root / image(5))
    moved(root, image(5, "val"), 9, 0)
    in_threads = found(root)
    monkeypatch.setattr("segtune.tools.looks._MANY", 2)
    monkeypatch.setattr("segtune.tools.looks.readable_at_once", lambda tiles: 2)
    assert found(root) == in_threads


def test_nothing_is_written_that_was_not_asked_for(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    check(root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_the_test_split_and_other_sets_are_looked_at_too(root: Path) -> None:
    shutil.copytree(root / "val", root / "test")
    shutil.copytree(root / "train", root.parent / "more")
    _, findings = found(root, "--set", f"add_val_dirs=[{root.parent / 'more'}]", "classes=1")
    pairs = {
        (finding["kind"], finding["pairs"][0][0].split("/t")[0], finding["pairs"][0][1].rpartition("/")[0])
        for finding in findings
    }
    assert pairs == {("duplicate", "val", "test"), ("duplicate", "train", "add_val/more")}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: no such data set folder"),
        (["."], ".: has neither train/ nor val/"),
        ([], "the following arguments are required: DATASET"),
        (["set", "--classes", "x"], "classes"),
        (["set", "--set", "nonsense=1"], "nonsense"),
        (["set", "--json", "set"], "--json: set is a folder"),
        (["set", "--jsn", "x"], "unknown flag '--jsn'"),
    ],
)
def test_mistakes_are_one_line(root: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str) -> None:
    monkeypatch.chdir(root.parent)
    (mistake,) = call("segtune.tools.__main__", "check", *arguments).mistakes
    assert said in mistake


@pytest.mark.skipif(not REAL_DATA, reason="SEGTUNE_DATA names no folder with real data sets")
@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("landcover", {"same_place", "overlap", "neighbours"}),
        ("magtile", {"near_duplicate", "sizes"}),
        ("nuclei", {"sizes"}),
        ("s2india", {"near_duplicate"}),
    ],
)
def test_real_sets_have_true_findings_only(name: str, kinds: set[str], tmp_path: Path) -> None:
    root = Path(str(REAL_DATA), name)
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    ended = check(root, "--json", tmp_path / "found.json")
    assert (ended.status, ended.err) == (0, "")
    findings = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["findings"]
    assert {finding["kind"] for finding in findings} == kinds
