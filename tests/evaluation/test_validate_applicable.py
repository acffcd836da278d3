"""A flag of validate.py that cannot apply to the data or the model is refused before anything is predicted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.evaluation.runs import DataSet, Run, errors
from tests.evaluation.scenes import picture, saved_model, write_scene

Capsys = pytest.CaptureFixture[str]
PREDICTED = "images without masks, and PLACE has masks; -d PLACE/images predicts its images"
MEASURED = "masks to compare with, and PLACE has none"
NOTHING = "data, which -d names; a model is exported and uploaded with its own settings"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("model") / "best")


@pytest.fixture(scope="module")
def val(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "set", val=2, channels=(), size=64, suffix=".tif") / "val"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", picture(70, 70))


@pytest.mark.parametrize(
    ("data", "flags", "line"),
    [
        ("val", "--cog --polygons o.gpkg", f"--cog, --polygons: need {PREDICTED}"),
        ("val", "--polygons o.gpkg --simplify 2", f"--polygons, --simplify: need {PREDICTED}"),
        ("val", "--resolution auto", f"--resolution: needs {PREDICTED}"),
        ("scene", "--vis --worst 3", f"--vis, --worst: need {MEASURED}"),
        ("scene", "--sweep-threshold --group (.)", f"--group, --sweep-threshold: need {MEASURED}"),
        ("scene", "--store-threshold", f"--store-threshold: needs {MEASURED}"),
        ("scene", "--compare MODEL", f"--compare: needs {MEASURED}"),
        ("scene", "--simplify 2", "--simplify: is for the outlines that --polygons writes; add it"),
        (
            "val",
            "--only-plots --worst 2",
            "--worst: is for the sheet of the worst tiles, which --only-plots leaves out; ",
        ),
        ("none", "--export onnx -t 0.3 --tta d4", f"-t, --tta: need {NOTHING}"),
        ("none", "--export onnx --tile-size 96 --com", f"--com, --tile-size: need {NOTHING}"),
        (
            "none",
            "--push-to-hub user/x",
            "-o: is for what is measured, predicted or exported, and -d and --export are ",
        ),
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(
    model: Path, val: Path, scene: Path, tmp_path: Path, run: Run, capsys: Capsys, data: str, flags: str, line: str
) -> None:
    place = {"val": val, "scene": scene}.get(data)
    words = flags.replace("MODEL", str(model)).split()
    assert run("-c", model, *(["-d", place] if place else []), "-o", tmp_path / "out", *words) == 2
    (found,) = errors(capsys)
    assert found.startswith(f"error: {line.replace('PLACE', str(place))}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag", ["--trial", "--top"])
def test_a_trial_is_not_chosen_from_one_model(model: Path, scene: Path, run: Run, capsys: Capsys, flag: str) -> None:
    assert run("-c", model, "-d", scene, flag, "1") == 2
    assert errors(capsys) == [
        f"error: {flag}: chooses among the trials of a search, which -cd names; -c names one model"
    ]


def test_outlines_of_two_predictions_do_not_share_a_file(
    model: Path, scene: Path, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    for name in ("a", "b"):
        write_scene(tmp_path / name / "x.tif", picture(70, 70))
    file = tmp_path / "o.gpkg"
    assert run("-c", model, "-d", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", "--polygons", file) == 2
    assert errors(capsys)[0].startswith("error: --polygons: writes one file, but there are 2 predictions")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_flag_applies_if_some_of_the_data_is_of_its_kind(
    model: Path, val: Path, scene: Path, tmp_path: Path, run: Run
) -> None:
    assert run("-c", model, "-d", val, scene, "-o", tmp_path, "--cog", "--sweep-threshold", "--no-plots") == 0


@pytest.mark.slow
def test_overlap_of_tiles_that_are_seen_whole_gets_a_note(val: Path, tmp_path: Path, run: Run, capsys: Capsys) -> None:
    model = saved_model(tmp_path / "model", fit="resize")
    assert run("-c", model, "-d", val, "-o", tmp_path / "out", "--com", "--overlap", "0.5") == 0
    note = "note: --overlap changes nothing: a model with fit resize sees each tile of a split as a whole"
    assert note in " ".join(capsys.readouterr().out.split())


def test_a_threshold_is_stored_for_one_split_as_it_will_be_used(
    model: Path, val: Path, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    other = shutil.copytree(val, tmp_path / "north")
    own = Path(shutil.copytree(model, tmp_path / "model"))
    before = (own / "run.yaml").read_text()
    for data, flags, line in (
        ([val, other], [], "a model has one threshold, but -d names several splits; name one"),
        ([val], ["--tta", "flips"], "what it stores is used later without --tta, and would not be the best then"),
        ([val], ["--tile-size", "96"], "what it stores is used later without --tile-size, and would not"),
        ([val], ["--overlap", "0"], "what it stores is used later without --overlap, and would not"),
    ):
        assert run("-c", own, "-d", *data, "-o", tmp_path / "out", "--com", "--store-threshold", *flags) == 2
        (found,) = errors(capsys)
        assert found.startswith(f"error: --store-threshold: {line}")
    assert (own / "run.yaml").read_text() == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["Test", "TRAIN", "pond"])
def test_no_threshold_is_chosen_on_test_or_training_tiles_by_any_name(
    val: Path, tmp_path: Path, run: Run, capsys: Capsys, name: str
) -> None:
    """`pond` is a link to the tiles of the training, whose data set has that other name."""
    split = tmp_path / name
    shutil.copytree(val, tmp_path / "set" / "train")
    if name == "pond":
        split.symlink_to(tmp_path / "set" / "train")
    else:
        shutil.copytree(val, split)
    model = saved_model(tmp_path / "model", dataset=str(tmp_path / "set"))
    assert run("-c", model, "-d", split, "-o", tmp_path / "out", "--store-threshold") == 2
    assert errors(capsys)[0].startswith(f"error: --store-threshold: choose on validation tiles, not on {split}: ")
