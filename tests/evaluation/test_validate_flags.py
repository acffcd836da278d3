"""The flags of validate.py: what is written, measured and refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from sklearn.metrics import jaccard_score, precision_recall_fscore_support

from tests.evaluation.runs import SIZE, Run, Trained, errors, pixels

pytestmark = pytest.mark.usefixtures("blank_charts")

Capsys = pytest.CaptureFixture[str]


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def validated(run: Run, case: Trained, out: Path, *flags: object) -> dict[str, Any]:
    assert run("-cd", case.folder, "-d", case.val, "-o", out, *flags) == 0
    return metrics(out)


@pytest.mark.parametrize(
    ("flags", "folders"),
    [
        ([], {"plots"}),
        (["--com"], set()),
        (["--no-plots"], set()),
        (["--binary"], {"binary"}),
        (["--raw"], {"raw"}),
        (["--plots", "--binary", "--raw"], {"plots", "binary", "raw"}),
    ],
)
def test_outputs_are_those_that_were_asked_for(
    binary: Trained, tmp_path: Path, run: Run, flags: list[str], folders: set[str]
) -> None:
    validated(run, binary, tmp_path / "out", *flags)
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == folders
    for name in folders:
        assert len([path for path in (tmp_path / "out" / name).iterdir() if path.suffix != ".xml"]) == 4


def test_only_plots_computes_no_metrics(binary: Trained, tmp_path: Path, run: Run) -> None:
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path / "out", "--only-plots") == 0
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name[0] != "."] == ["plots"]


def test_measures_equal_scikit_learn_on_the_written_masks(several: Trained, tmp_path: Path, run: Run) -> None:
    found = validated(run, several, tmp_path, "--binary")
    names = sorted(path.name for path in (several.val / "gt").iterdir())
    truth = np.stack([pixels(several.val / "gt" / name) for name in names]).ravel()
    predicted = np.stack([pixels(tmp_path / "binary" / name) for name in names]).ravel()
    counted = truth != 7
    args = {"labels": [300, 1], "average": None, "zero_division": 0}
    columns = precision_recall_fscore_support(truth[counted], predicted[counted], **args)
    for label, *values in zip(("300", "1"), *columns, strict=True):
        own = found["per_class"][label]
        assert [own["precision"], own["recall"], own["f1"], own["support"]] == pytest.approx(values, abs=1e-6)
    assert found["miou"] == pytest.approx(jaccard_score(truth[counted], predicted[counted], **args).mean(), abs=1e-6)
    low, high = found["intervals"]["miou"]["low"], found["intervals"]["miou"]["high"]
    assert low <= found["miou"] <= high
    with (tmp_path / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["tile"] for row in rows] == [*(Path(name).stem for name in names), "total"]
    assert float(rows[-1]["miou"]) == found["miou"]
    assert sum(int(row["pixels"]) for row in rows[:-1]) == int(rows[-1]["pixels"]) == int(counted.sum())


def test_probabilities_are_those_that_the_threshold_cuts(binary: Trained, tmp_path: Path, run: Run) -> None:
    validated(run, binary, tmp_path, "--raw", "--binary", "-t", "0.3")
    for path in (tmp_path / "raw").iterdir():
        with rasterio.open(path) as file:
            assert (file.count, file.dtypes, file.crs.to_epsg()) == (1, ("float32",), 32632)
            assert np.array_equal(file.read(1) > np.float32(0.3), pixels(tmp_path / "binary" / path.name) == 255)


def test_settings_of_the_prediction_change_it_and_are_noted(binary: Trained, tmp_path: Path, run: Run) -> None:
    flags = ["--com", "-t", "0.4", "--min-area", "5", "--tta", "d4", "--tile-size", "64", "--cpu"]
    found = validated(run, binary, tmp_path, *flags)
    noted = {"threshold": 0.4, "min_area": 5, "tta": "d4", "image_size": 64, "device": "cpu"}
    assert {name: found[name] for name in noted} == noted


def test_the_best_threshold_is_stored_and_used_from_then_on(binary: Trained, tmp_path: Path, run: Run) -> None:
    folder = Path(shutil.copytree(binary.folder, tmp_path / "run"))
    case = Trained(folder, binary.dataset, binary.results)
    found = validated(run, case, tmp_path / "first", "--com", "--store-threshold")
    best = found["min_areas"]["best"]
    assert best["miou"] >= found["miou"]
    again = validated(run, case, tmp_path / "second", "--com")
    assert (again["threshold"], again["min_area"]) == (best["threshold"], best["min_area"])
    assert again["miou"] == pytest.approx(best["miou"], abs=1e-9)
    card = (folder / "best" / "README.md").read_text(encoding="utf-8")
    assert f"above {best['threshold']:g}" in card
    assert ("pixels are removed" in card) == (best["min_area"] > 0)


def test_a_threshold_is_not_chosen_on_tiles_of_the_training(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    assert run("-cd", binary.folder, "-d", binary.dataset / "train", "-o", tmp_path / "x", "--store-threshold") == 2
    assert "choose on validation tiles" in errors(capsys)[0]


def test_a_model_equals_itself(binary: Trained, tmp_path: Path, run: Run, capsys: Capsys) -> None:
    shutil.copytree(binary.folder, tmp_path / "copy")
    validated(run, binary, tmp_path / "out", "--com", "--compare", tmp_path / "copy")
    assert "No difference can be shown" in " ".join(capsys.readouterr().out.split())
    assert metrics(tmp_path / "out")["comparison"]["miou"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_min_area_removes_small_objects_from_the_written_masks(binary: Trained, tmp_path: Path, run: Run) -> None:
    def areas(out: Path) -> list[int]:
        """The areas of all objects in the masks."""
        found = []
        for path in sorted((out / "binary").iterdir()):
            stats = cv2.connectedComponentsWithStats((pixels(path) == 255).astype(np.uint8), connectivity=8)[2]
            found += stats[1:, cv2.CC_STAT_AREA].tolist()
        return sorted(found)

    command = ["-cd", binary.folder, "-d", binary.val / "images", "--binary", "--thres", "0.62"]
    assert run(*command, "-o", tmp_path / "all") == 0
    every = areas(tmp_path / "all")
    limit = every[len(every) // 2]
    assert every[0] < limit
    assert run(*command, "-o", tmp_path / "large", "--min-area", limit) == 0
    assert areas(tmp_path / "large") == [area for area in every if area >= limit]


def test_a_sweep_holds_the_scores_at_the_models_own_threshold(binary: Trained, tmp_path: Path, run: Run) -> None:
    found = validated(run, binary, tmp_path, "--com", "--sweep-threshold")
    sweep, own = found["thresholds"], found["per_class"]["255"]
    curve, at, best = (sweep["curves"]["255"], *map(sweep["thresholds"].index, (0.5, sweep["best"]["255"])))
    for name in ("iou", "precision", "recall"):
        assert curve[name][at] == pytest.approx(own[name], abs=1e-9)
    assert curve["iou"][best] == max(curve["iou"]) >= own["iou"]
    assert (tmp_path / "thresholds.png").is_file()


def test_tiles_are_drawn_in_the_groups_of_their_names(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    split = tmp_path / "val"
    for path in binary.val.rglob("*.tif"):
        place = split / path.relative_to(binary.val).parent
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / f"scene{int(path.stem) // 2}_{path.stem}.tif")
    assert run("-cd", binary.folder, "-d", split, "-o", tmp_path / "x", "--com", "--group", r"scene(\d)_") == 0
    assert "warning: 2 groups are few" in capsys.readouterr().out
    intervals = metrics(tmp_path / "x")["intervals"]
    assert (intervals["tiles"], intervals["groups"]) == (4, 2)
    assert run("-cd", binary.folder, "-d", split, "-o", tmp_path / "y", "--com", "--group", "place") == 2
    assert errors(capsys)[0].startswith("error: --group: ")
    assert not (tmp_path / "y").exists()


def test_tiles_are_drawn_with_their_neighbours_on_the_ground(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    shutil.copytree(binary.val, tmp_path / "val")
    for path in (tmp_path / "val").rglob("*.tif"):
        number = int(path.stem)
        with rasterio.open(path, "r+") as file:
            file.crs = CRS.from_epsg(32632)
            file.transform = Affine(0.5, 0, 500_000 + 20 * (number % 2) + 500 * (number // 2), 0, -0.5, 5_000_000)
    assert run("-cd", binary.folder, "-d", tmp_path / "val", "-o", tmp_path / "x", "--com") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "tiles of 2 places (neighbours on the ground) are drawn together: the interval is" in said
    assert "warning: 2 groups are few" in said
    found = metrics(tmp_path / "x")["intervals"]
    assert (found["tiles"], found["groups"], found["grouped_by"]) == (4, 2, "places")
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path / "y", "--com") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "all tiles are neighbours on the ground" in said
    found = metrics(tmp_path / "y")["intervals"]
    assert (found["tiles"], found["groups"], found["grouped_by"]) == (4, None, None)


def test_the_sheet_of_the_worst_tiles_has_a_row_for_each(binary: Trained, tmp_path: Path, run: Run) -> None:
    validated(run, binary, tmp_path, "--com", "--worst", 4)
    whole = cv2.imread(str(tmp_path / "worst.png")).shape[0]
    validated(run, binary, tmp_path, "--com", "--worst", 1)
    assert 2 * cv2.imread(str(tmp_path / "worst.png")).shape[0] < whole
    validated(run, binary, tmp_path, "--com", "--worst", 0)
    assert not (tmp_path / "worst.png").exists()


def test_the_plot_of_the_first_tile_is_shown(
    binary: Trained, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("segtune.pictures.window.check_screen", lambda: None)
    monkeypatch.setattr("segtune.pictures.window.show", lambda picture, title: shown.append(picture))
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path, "--vis", "--only-plots") == 0
    (plot,) = (tmp_path / "plots").glob("*_000.png")
    assert np.array_equal(shown, [cv2.imread(str(plot))[..., ::-1]])


def test_two_models_of_different_classes_are_not_compared(
    binary: Trained, several: Trained, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path / "x", "--compare", several.folder) == 2
    said = "the two models have different classes, [255] and [300, 1]; name a model with the same classes"
    assert errors(capsys) == [f"error: --compare: {said}"]
    assert not (tmp_path / "x").exists()


def test_several_splits_are_measured_in_folders_of_their_own(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    splits = binary.val, binary.dataset / "train"
    assert run("-cd", binary.folder, "-d", *splits, "-o", tmp_path, "--com") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"val", "train"}
    assert "mIoU by model and data" in capsys.readouterr().out


def test_a_model_is_found_by_its_folder_and_by_its_weights(binary: Trained, tmp_path: Path, run: Run) -> None:
    for number, path in enumerate((binary.folder / "best", binary.folder / "best" / "model.safetensors")):
        assert run("-c", path, "-d", binary.val, "-o", tmp_path / str(number), "--com") == 0
        assert metrics(tmp_path / str(number))["model"] == str(binary.folder / "best")


def test_images_without_masks_are_predicted(binary: Trained, tmp_path: Path, run: Run, capsys: Capsys) -> None:
    images = binary.val / "images"
    assert run("-cd", binary.folder, "-d", images / "000.tif", "-o", tmp_path / "one", "--binary") == 0
    assert "has no masks: predicting 1 image" in capsys.readouterr().out
    with rasterio.open(tmp_path / "one" / "binary" / "000.tif") as mask, rasterio.open(images / "000.tif") as tile:
        assert (mask.shape, mask.crs, mask.transform) == ((SIZE, SIZE), tile.crs, tile.transform)
    split = Path(shutil.copytree(binary.val, tmp_path / "new"))
    shutil.rmtree(split / "gt")
    assert run("-cd", binary.folder, "-d", split, "-o", tmp_path / "all") == 0
    for name in ("binary", "plots"):
        assert len(list((tmp_path / "all" / name).glob("*.[tp][in][fg]"))) == 4
    assert set(json.loads((tmp_path / "all" / "prediction.json").read_text())["images"]) == {"000", "001", "002", "003"}


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("-t 1.5", "-t: must be between 0 and 1, but got 1.5"),
        ("--com --binary", "--com: computes the metrics alone, and --binary asks for more; leave one out"),
        ("--no-plots --only-plots", "--no-plots: contradicts --only-plots; leave one out"),
        ("--tta d8", "--tta: must be one of none, flips, d4, but got 'd8'"),
        ("--overlap 1", "--overlap: must be from 0 to 0.9, but got 1"),
        ("--simplify -5", "--simplify: must be a number of metres, at least 0, but got -5"),
        ("--simplify nan", "--simplify: must be a number of metres, at least 0, but got nan"),
        ("--simplify inf", "--simplify: must be a number of metres, at least 0, but got inf"),
        ("--resolution fine", "--resolution: must be auto or metres per pixel above 0, but got 'fine'"),
        ("--resolution 0", "--resolution: must be auto or metres per pixel above 0, but got '0'"),
        ("--min-area -1", "--min-area: must be at least 0, but got -1"),
        ("--trial 3", "--trial: is for a search, and"),
        ("--top 2", "--top: is for a search, and"),
        ("--cpu --device cuda", "--device: --cpu and --device cuda contradict each other; leave one out"),
        ("--vis", "--vis: there is no screen"),
        ("--tile-size 0", "--tile-size: "),
    ],
)
def test_a_wrong_flag_is_one_line(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys, monkeypatch: pytest.MonkeyPatch, flags: str, line: str
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path / "out", *flags.split()) == 2
    (found,) = errors(capsys)
    assert found.startswith(f"error: {line}")
    assert not (tmp_path / "out").exists()


def test_a_pickle_is_refused(binary: Trained, tmp_path: Path, run: Run, capsys: Capsys) -> None:
    (tmp_path / "model.pth").write_bytes(b"\x80\x04.")
    assert run("-c", tmp_path / "model.pth", "-d", binary.val) == 2
    assert "is a pickle, and loading one can run code" in errors(capsys)[0]
