"""Added validation sets: when they are measured, and what counts."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segtune.files.folders import RunFolder
from segtune.training.runlog import read_rows
from tests.cli.runs import (
    DataSet,
    Masks,
    best_miou,
    measured,
    measures_the_same,
    next_command,
    read_masks,
    score,
    train_in,
)
from tests.scripts import call

pytestmark = pytest.mark.usefixtures("blank_charts")


@dataclass(frozen=True)
class Sets:
    """Training tiles without a val beside them, and validation sets elsewhere; a file names three of these."""

    dataset: Path
    val: Path
    east: Path
    west: Path
    file: Path


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Sets:
    parent = tmp_path_factory.mktemp("sets")
    places = {}
    for name, tiles, size, labels in (("val", 3, 32, (0, 255)), ("восток", 2, 48, (0, 255)), ("west", 5, 32, (0, 255))):
        part = data_set(parent / f"of {name}", val=tiles, size=size, labels=labels, channels=())
        places[name] = parent / "elsewhere" / name
        shutil.copytree(part / "val", places[name])
    shutil.copytree(data_set(parent / "of none", labels=(0, 9), channels=()) / "val", parent / "elsewhere" / "none")
    dataset = data_set(parent / "set", channels=())
    shutil.rmtree(dataset / "val")
    file = parent / "elsewhere" / "sets.txt"
    file.write_text("восток\nwest\n\nnone\n", encoding="utf-8")
    return Sets(dataset, places["val"], places["восток"], places["west"], file)


def test_added_sets_are_measured_at_adv_freq_and_do_not_count(sets: Sets, tmp_path: Path) -> None:
    flags = ["-val", sets.val, "--add-val-dirs", sets.file, "--adv-freq", 2, "-e", 3]
    ended = train_in(sets.dataset, tmp_path, *flags)
    assert (ended.status, ended.err) == (0, "")
    folder = RunFolder(tmp_path / "run")
    rows = read_rows(folder)
    for name in ("восток", "west"):
        assert [bool(row[f"add_val/{name}/miou"]) for row in rows] == [False, True, True]
    assert [row["add_val/none/miou"] for row in rows] == ["", "", ""]  # none of the classes is there
    assert all(row["miou"] for row in rows)
    assert max(float(row["miou"]) for row in rows) == best_miou(folder)
    measures_the_same(folder, sets.val, tmp_path / "out")
    curves = EventAccumulator(str(folder.path)).Reload()
    assert [point.step for point in curves.Scalars("miou/add_val/west")] == [2, 3]
    assert Path(next_command(ended.out)[-1]) == sets.val


def test_with_added_sets_alone_their_pixels_are_pooled(sets: Sets, tmp_path: Path) -> None:
    places = f"[{sets.east}, {sets.west}]"
    ended = train_in(sets.dataset, tmp_path, "--add-val-dirs", places, "--use-only-add-val", "--adv-freq", 2, "-e", 3)
    assert (ended.status, ended.err) == (0, "")
    assert "validation tiles)" not in ended.out
    assert "6 train, 2 add_val/восток, 5 add_val/west tiles" in ended.out
    folder = RunFolder(tmp_path / "run")
    rows = read_rows(folder)
    assert [bool(row["miou"]) for row in rows] == [False, True, True]
    assert [bool(row["best_miou"]) for row in rows] == [False, True, True]
    best = rows[int(rows[-1]["best_epoch"]) - 1]
    truth: Masks = {}
    predicted: Masks = {}
    for place in (sets.east, sets.west):
        miou, masks = measured(folder.path, place, tmp_path / place.name)
        assert miou == float(best[f"add_val/{place.name}/miou"])
        predicted |= {f"{place.name}/{name}": mask for name, mask in masks.items()}
        truth |= {f"{place.name}/{name}": mask for name, mask in read_masks(place / "gt").items()}
    assert score(truth, predicted, [255]) == pytest.approx(best_miou(folder), abs=1e-12)
    mean = np.mean([float(best[f"add_val/{place.name}/miou"]) for place in (sets.east, sets.west)])
    assert abs(mean - best_miou(folder)) > 1e-9
    assert call("validate", *next_command(ended.out)).status == 0


def test_with_added_sets_alone_the_number_of_their_tiles_is_shown(sets: Sets, tmp_path: Path) -> None:
    places = f"[{sets.east}, {sets.west}]"
    ended = train_in(sets.dataset, tmp_path, "--add-val-dirs", places, "--use-only-add-val", "--val-samples", 2)
    assert "(on 4 of 7 validation tiles)" in ended.out
