"""validate.py reports each mistake in one line that names a file, and overwrites nobody's files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import rasterio
from rasterio.transform import Affine

from tests.evaluation.runs import DataSet, Run, Trained, errors, trained

pytestmark = pytest.mark.usefixtures("blank_charts")


def test_a_folder_without_a_model_is_named(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        assert run("-cd", folder, "-d", binary.val, "-o", tmp_path / "out") == 2
        (line,) = errors(capsys)
        assert str(folder) in line
    assert not (tmp_path / "out").exists()


def test_a_damaged_model_is_named(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(binary.folder / "best", tmp_path / "best")
    (tmp_path / "best" / "run.yaml").write_text("epochs: 3\n", encoding="utf-8")
    assert run("-cd", tmp_path / "best", "-d", binary.val) == 2
    (line,) = errors(capsys)
    assert "run.yaml" in line


def test_a_split_that_is_not_there_or_is_a_whole_data_set_is_named(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in (tmp_path / "nothing", binary.dataset):
        assert run("-cd", binary.folder, "-d", split, "-o", tmp_path / "out") == 2
        assert str(split) in errors(capsys)[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", ["."])
def test_a_path_near_a_split_suggests_the_split(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    split = binary.dataset / given
    assert run("-cd", binary.folder, "-d", split, "-o", tmp_path) == 2
    (line,) = errors(capsys)
    assert line.startswith(f"error: {split}: is ")
    assert line.endswith(f"did you mean {binary.val}?")


def test_tiles_that_a_list_leaves_out_do_not_count(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    split = Path(shutil.copytree(binary.val, tmp_path / "val"))
    names = sorted(path.stem for path in (split / "images").iterdir())
    (tmp_path / "exclude.txt").write_text(f"val/{names[0]} # clouds\ntrain/other\n", encoding="utf-8")
    assert run("-cd", binary.folder, "-d", split, "-o", tmp_path / "out") == 0
    assert f"1 tile is left out ({tmp_path / 'exclude.txt'})" in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert content["tiles"] == len(names) - 1


def test_odd_tiles_are_measured_with_a_warning(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    split = shutil.copytree(binary.val, tmp_path / "val")
    (split / "images" / "more.webp").touch()
    with rasterio.open(split / "gt" / "000.tif", "r+") as file:
        mask = file.read(1)
        mask[:3, :5] = 9
        file.write(mask, 1)
    assert run("-cd", binary.folder, "-d", split, "-o", tmp_path / "out", "--device", "cpu") == 0
    printed = capsys.readouterr().out
    assert f"warning: {split / 'images'}: not read: 1 .webp" in printed
    assert "labels that count as background, being neither in classes nor in ignore: 0 (" in printed
    assert " 9 (0.23%)" in printed


def test_masks_that_lie_elsewhere_are_refused_before_any_writing(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    split = shutil.copytree(binary.val, tmp_path / "val")
    with rasterio.open(split / "images" / "003.tif") as file:
        crs, transform = file.crs, file.transform
    with rasterio.open(split / "gt" / "003.tif", "r+") as file:
        file.crs, file.transform = crs, Affine(*transform[:2], transform.c + 10, *transform[3:6])
    assert run("-cd", binary.folder, "-d", split, "-o", tmp_path / "out", "--binary") == 2
    (line,) = errors(capsys)
    assert line.startswith(f"error: {split / 'gt' / '003.tif'}: does not lie where {split / 'images' / '003.tif'} does")
    assert "20 pixels to the right" in line
    assert not (tmp_path / "out" / "binary").exists()


def test_a_split_with_other_bands_is_refused_by_number(
    binary: Trained, tmp_path: Path, run: Run, data_set: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    other = data_set(tmp_path / "set", train=1, val=1, bands=1)
    assert run("-cd", binary.folder, "-d", other / "val", "-o", tmp_path / "out", "--binary") == 2
    (line,) = errors(capsys)
    assert str(other / "val") in line
    assert "2 bands" in line
    assert "on 4 (image:1, image:2, image:3, nir)" in line
    assert not (tmp_path / "out").exists()


def test_a_split_of_which_one_tile_has_other_bands_is_refused(
    binary: Trained, tmp_path: Path, run: Run, data_set: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(binary.val, tmp_path / "val")
    odd = data_set(tmp_path / "odd", train=1, val=1, bands=1, suffix=".tif") / "val"
    for path in odd.rglob("*.tif"):
        shutil.copy(path, tmp_path / "val" / path.relative_to(odd).parent / "zz.tif")
    assert run("-cd", binary.folder, "-d", tmp_path / "val", "-o", tmp_path / "out", "--binary") == 2
    (line,) = errors(capsys)
    assert str(tmp_path / "val" / "images" / "zz.tif") in line
    assert not (tmp_path / "out").exists()


def test_a_model_of_a_single_band_refuses_a_split_with_more(
    tmp_path: Path, run: Run, data_set: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = trained(data_set(tmp_path / "grey", bands=1, channels=()), tmp_path / "run", channels=[], epochs=1)
    colour = data_set(tmp_path / "colour", train=1, channels=()) / "val"
    assert run("-cd", grey.folder, "-d", colour) == 2
    (line,) = errors(capsys)
    assert "3 bands" in line
    assert "on 1 (image:1)" in line


def test_a_split_without_a_channel_is_refused_by_its_folder(
    binary: Trained, tmp_path: Path, run: Run, data_set: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    other = data_set(tmp_path / "set", train=1, val=1, channels=())
    assert run("-cd", binary.folder, "-d", other / "val") == 2
    line = errors(capsys)[0]
    assert str(other / "val" / "nir") in line
    assert "the model was trained with this channel" in line


def test_a_split_without_the_classes_is_refused(
    binary: Trained, tmp_path: Path, run: Run, data_set: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    other = data_set(tmp_path / "set", train=1, val=2, labels=(0, 9))
    assert run("-cd", binary.folder, "-d", other / "val", "-o", tmp_path / "out", "--binary") == 2
    (line,) = errors(capsys)
    assert str(other / "val" / "gt") in line
    assert "255" in line
    assert not (tmp_path / "out").exists()


def test_a_missing_flag_is_named(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-cd", "x") == 2
    (line,) = errors(capsys)
    assert line.startswith("error: -d: is missing")


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_does_not_exist_is_refused(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], device: str
) -> None:
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path / "out", "--device", device) == 2
    assert "device" in errors(capsys)[0]
    assert not (tmp_path / "out").exists()


def test_predictions_join_the_folder_but_never_the_split(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / "binary").mkdir(parents=True)
    (out / "binary" / "mine.txt").write_text("precious")
    assert run("-cd", binary.folder, "-d", binary.dataset / "val", "-o", out, "--binary") == 0
    assert (out / "binary" / "mine.txt").read_text() == "precious"
    assert len(list((out / "binary").iterdir())) == 1 + len(list((binary.dataset / "val" / "images").iterdir()))
    capsys.readouterr()
    assert run("-cd", binary.folder, "-d", binary.dataset / "val", "-o", binary.dataset / "val", "--binary") == 2
    (line,) = errors(capsys)
    assert line.startswith("error: -o: ")
    assert not (binary.dataset / "val" / "binary").exists()


def test_files_of_others_are_not_overwritten_by_results(
    binary: Trained, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "other" / "binary" / "001.tif"  # another data set's own masks
    labels.parent.mkdir(parents=True)
    labels.write_text("precious")
    table = tmp_path / "table" / "metrics.json"
    table.parent.mkdir()
    table.write_text('{"rows": 3}')
    for place in (labels.parent.parent, table.parent):
        before = {path: path.read_text() for path in place.rglob("*") if path.is_file()}
        assert run("-cd", binary.folder, "-d", binary.dataset / "val", "-o", place, "--binary") == 2
        (line,) = errors(capsys)
        assert line.startswith(f"error: -o: {place}/")
        assert {path: path.read_text() for path in place.rglob("*") if path.is_file()} == before
    for _ in range(2):  # its own it may
        assert run("-cd", binary.folder, "-d", binary.dataset / "val", "-o", tmp_path / "own", "--binary") == 0
