"""validate.py replaces and deletes the files that it wrote, and no others; each run can be repeated."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from segtune.cli import validation
from segtune.models.checkpoint import save_model
from tests.evaluation.scenes import BINARY, manifest, network, picture, write_scene
from tests.scripts import Ended, call


@functools.cache
def weights() -> nn.Module:
    return network(manifest(BINARY))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", weights(), manifest(BINARY))
    return tmp_path / "model"


def split(folder: Path, *names: str) -> Path:
    for name in names:
        write_scene(folder / "images" / f"{name}.tif", picture(64, 64))
        write_scene(folder / "gt" / f"{name}.tif", np.full((64, 64, 1), 255, np.uint8))
    return folder


def images(folder: Path, *names: str) -> Path:
    for name in names:
        write_scene(folder / f"{name}.tif", picture(64, 64))
    return folder


def ran(*arguments: object) -> None:
    ended = call("validate", *arguments)
    assert ended.status == 0, ended


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


SLOW = pytest.mark.slow


@pytest.mark.parametrize("flag", ["--only-plots", *(pytest.param(flag, marks=SLOW) for flag in ("--raw", "--com"))])
def test_the_same_command_runs_twice(tmp_path: Path, model: Path, flag: str) -> None:
    for _ in range(2):
        ran("-cd", model, "-d", split(tmp_path / "val", "a", "b"), "-o", tmp_path / "out", flag)


@SLOW
def test_plots_with_other_scores_replace_the_earlier_ones(tmp_path: Path, model: Path) -> None:
    flags = ["-cd", model, "-d", split(tmp_path / "val", "a", "b"), "-o", tmp_path / "out", "--only-plots"]
    ran(*flags)
    (tmp_path / "out" / "plots" / "0.500_mine.png").write_bytes(b"precious")
    first = files(tmp_path / "out" / "plots")
    ran(*flags, "-t", "0.9")
    second = files(tmp_path / "out" / "plots")
    assert len(first) == len(second) == 3
    assert set(first) & set(second) == {"0.500_mine.png"}


@SLOW
def test_a_validation_that_was_interrupted_is_repeated(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    flags = ["-cd", model, "-d", split(tmp_path / "val", "a", "b"), "-o", tmp_path / "out", "--binary"]
    with monkeypatch.context() as patch:
        patch.setattr(validation, "grouped_intervals", interrupted)
        assert call("validate", *flags).status == 130
    assert files(tmp_path / "out" / "binary") == ["a.tif", "b.tif"]
    ran(*flags)


def test_a_prediction_that_was_interrupted_is_repeated(tmp_path: Path, model: Path) -> None:
    folder = images(tmp_path / "images", "a", "b", "c")
    flags = ["-cd", model, "-d", folder, "-o", tmp_path / "out", "--polygons", tmp_path / "a.gpkg"]
    whole = (folder / "b.tif").read_bytes()
    (folder / "b.tif").write_bytes(whole[: len(whole) * 2 // 3])
    assert call("validate", *flags[:-2]).status == 2
    assert files(tmp_path / "out" / "binary") == ["a.tif"]
    (folder / "b.tif").write_bytes(whole)
    ran(*flags[:-2])
    assert files(tmp_path / "out" / "binary") == ["a.tif", "b.tif", "c.tif"]
    (folder / "d.tif").write_bytes(whole)
    (tmp_path / "out" / "binary" / "d.tif").write_bytes(b"precious")
    (line,) = call("validate", *flags[:-2]).mistakes
    assert line.startswith(f"-o: {tmp_path / 'out' / 'binary' / 'd.tif'} exists, and was not written by an earlier run")


def refused(model: Path, polygons: Path, out: Path, *data: Path) -> str:
    ended: Ended = call("validate", "-cd", model, "-d", *data, "-o", out, "--polygons", polygons)
    (line,) = ended.mistakes
    assert not out.exists()
    return line


def test_polygons_replace_only_their_own_file(tmp_path: Path, model: Path) -> None:
    pytest.importorskip("pyogrio")
    scene = images(tmp_path / "images", "a") / "a.tif"
    mine = tmp_path / "mine.gpkg"
    mine.write_bytes(b"precious")
    (tmp_path / "folder.gpkg").mkdir()
    assert refused(model, mine, tmp_path / "x", scene).startswith(f"--polygons: {mine} exists, and was not written")
    assert mine.read_bytes() == b"precious"
    assert "is a folder" in refused(model, tmp_path / "folder.gpkg", tmp_path / "x", scene)
    assert "ends in .gpkg" in refused(model, tmp_path / "a.shp", tmp_path / "x", scene)
    assert refused(model, mine / "a.gpkg", tmp_path / "x", scene).startswith("--polygons: ")
    more = images(tmp_path / "more", "b")
    assert "2 predictions" in refused(model, tmp_path / "a.gpkg", tmp_path / "x", scene, more)
    for _ in range(2):
        ran("-cd", model, "-d", scene, "-o", tmp_path / "out", "--polygons", tmp_path / "own.gpkg")


def test_polygons_are_checked_before_anything_is_measured(tmp_path: Path, model: Path) -> None:
    (tmp_path / "mine.gpkg").write_bytes(b"precious")
    data = split(tmp_path / "val", "a"), images(tmp_path / "images", "a")
    assert "mine.gpkg" in refused(model, tmp_path / "mine.gpkg", tmp_path / "x", *data)


@SLOW
@pytest.mark.parametrize("named", [True, False])
def test_masks_of_other_tiles_do_not_stay_beside_new_scores(tmp_path: Path, model: Path, named: bool) -> None:
    out = tmp_path / "out" if named else model / "validation" / "val"
    flags = ["-cd", model, *(["-o", out] if named else [])]
    ran(*flags, "-d", split(tmp_path / "A" / "val", "a", "b"), "--binary", "--raw", "--plots")
    (out / "binary" / "mine.tif").write_bytes(b"precious")
    ran(*flags, "-d", split(tmp_path / "B" / "val", "b", "c"), "--binary")
    assert files(out / "binary") == ["b.tif", "c.tif", "mine.tif"]
    assert files(out / "raw") == files(out / "plots") == []
    ran(*flags, "-d", tmp_path / "B" / "val", "--raw")
    assert files(out / "binary") == ["b.tif", "c.tif", "mine.tif"]
    for name in ("images", "gt"):
        (tmp_path / "B" / "val" / name / "c.tif").unlink()
    ran(*flags, "-d", tmp_path / "B" / "val", "--binary")
    assert files(out / "binary") == ["b.tif", "mine.tif"]


@SLOW
def test_predictions_are_collected_where_o_says(tmp_path: Path, model: Path) -> None:
    folder = images(tmp_path / "images", "a", "b")
    flags = ["-cd", model, "-o", tmp_path / "out", "--no-plots", "-d"]
    ran(*flags, split(tmp_path / "val", "t"), "--binary")
    ran(*flags, folder / "a.tif")
    ran(*flags, folder / "b.tif")
    assert files(tmp_path / "out" / "binary") == ["a.tif", "b.tif", "t.tif"]
    ran(*flags, folder / "a.tif")
    assert files(tmp_path / "out" / "binary") == ["a.tif", "b.tif", "t.tif"]
    assert (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.parametrize("name", ["metrics.csv", "confusion.png", "worst.png", "calibration.png"])
def test_pictures_of_others_are_not_overwritten(tmp_path: Path, model: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"precious")
    (line,) = call("validate", "-cd", model, "-d", split(tmp_path / "val", "a"), "-o", tmp_path / "out").mistakes
    assert line.startswith(f"-o: {tmp_path / 'out' / name} exists, and was not written by an earlier run")
    assert (tmp_path / "out" / name).read_bytes() == b"precious"


def test_the_record_of_a_stranger_deletes_nothing_elsewhere(tmp_path: Path, model: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "mine.txt").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("precious")
    (tmp_path / "out" / "raw").symlink_to(tmp_path / "folder")
    names = ["../mine.txt", str(tmp_path / "mine.txt"), "raw/mine.txt", "binary/../../mine.txt", "..", "", "raw/.."]
    record = {"validate.py": {"measured": {"model": "a", "data": ["b"], "files": names}}}
    (tmp_path / "out" / ".segtune.json").write_text(json.dumps(record))
    flags = ["-cd", model, "-d", split(tmp_path / "val", "a"), "-o", tmp_path / "out", "--com"]
    ran(*flags)
    assert (tmp_path / "mine.txt").exists()
    assert (tmp_path / "folder" / "mine.txt").exists()
    for damaged in ('{"validate.py": 3}', '{"validate.py": {"measured": [1]}}', "{}", "x"):
        (tmp_path / "out" / ".segtune.json").write_text(damaged)
        assert ".segtune.json" in call("validate", *flags).mistakes[0]
