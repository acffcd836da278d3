"""Searches whose trials are scored by folds: the mean over parts of train and val, each predicted by the others."""

from __future__ import annotations

import csv
import json
import math
import shutil
import signal
import statistics
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from segtune.config import RunConfig
from segtune.confirmed import Confirmation
from segtune.data.folds import FoldTiles
from segtune.errors import InputError
from segtune.evaluation.metrics import Scores
from segtune.evaluation.tile_counts import read_tiles
from segtune.files.folders import RunFolder, SearchFolder
from segtune.models.manifest import Manifest
from segtune.planning.feasibility import check_space, scan_data
from segtune.planning.resources import Plan
from segtune.planning.rungs import rungs
from segtune.report.dry_run import estimate_lines
from segtune.space.reader import load_space
from segtune.training.resolve import resolve
from segtune.training.result import EpochResult
from segtune.training.runlog import read_rows
from segtune.trials import wobble
from segtune.tuning.fold_rows import joined
from segtune.tuning.results import Results, wobble_of
from segtune.tuning.retention import Retention
from segtune.tuning.status import search_state
from segtune.tuning.stopping import without_improvement
from segtune.tuning.study import expected_value, read_study
from segtune.tuning.warm_start import check_earlier
from tests.conftest import WriteDataSet
from tests.tools.sets import moved, sound
from tests.tuning.searches import rows
from tests.tuning.test_in_process import Heard, searched, space_of

SPACE = "space: {lr: [1e-9, 5e-3], batch_size: [2]}\nbaseline: {lr: 5e-3, batch_size: 2}\n"
SEARCH = "search: {sampler: grid, gpus_per_trial: 0, folds: 2, scheduler: "
ALL = f"{SPACE}{SEARCH}none}}\n"


def epoch_of(number: int, epochs: int, score: float, best: float, best_epoch: int) -> EpochResult:
    return EpochResult(
        number,
        epochs,
        0.5,
        Scores(score, {"iou/1": score}, None),
        {},
        best,
        best_epoch,
        1e-3,
        2,
        0,
        1,
        1,
        0,
        0,
        0,
        number,
        {},
    )


def best_of(fold: RunFolder) -> float:
    return max(float(row["miou"]) for row in read_rows(fold))


def test_the_score_so_far_rises_to_the_mean_over_the_folds() -> None:
    first = [epoch_of(1, 2, 0.4, 0.4, 1), epoch_of(2, 2, 0.3, 0.4, 1)]
    second = [epoch_of(1, 2, 0.2, 0.2, 1), epoch_of(2, 2, 0.8, 0.8, 2)]
    found = joined([first, second], 2)
    assert [one.epoch for one in found] == [1, 2, 3, 4]
    assert [one.best_miou for one in found] == pytest.approx([0.2, 0.2, 0.3, 0.6])
    assert [one.best_epoch for one in found] == [1, 1, 3, 4]
    assert [one.seconds for one in found] == [1, 2, 3, 4]
    assert {one.epochs for one in found} == {4}
    assert [one.score for one in found] == [0.4, 0.3, 0.2, 0.8]


def test_trials_are_compared_in_their_first_fold_only(tiles: Path, tmp_path: Path) -> None:
    text = "space: {lr: [1e-9, 5e-3]}\nsearch: {gpus_per_trial: 0, folds: 5, grace_period: 1}\n"
    assert rungs(space_of(tmp_path, tiles, text)) == [1, 3, 15]
    assert rungs(space_of(tmp_path, tiles, text.replace("grace_period: 1", "scheduler: none"))) == [15]


def test_a_trial_has_the_mean_of_its_folds_and_the_winner_a_model(tiles: Path, tmp_path: Path) -> None:
    space, folder = space_of(tmp_path, tiles, ALL), SearchFolder(tmp_path / "s")
    outcome = searched(space, folder.path, Heard())
    assert [trial.status for trial in outcome.trials] == ["finished", "finished"]
    for trial in outcome.trials:
        run = folder.trial(trial.number)
        assert trial.miou == pytest.approx(statistics.fmean(map(best_of, run.folds())))
        assert [row["fold"] for row in read_rows(run)] == ["1", "1", "1", "2", "2", "2"]
        assert (trial.epochs_done, trial.folds_done) == (6, 2)
        for fold in run.folds():  # models of folds are measured, and not kept
            assert fold.tiles.is_file()
            assert not fold.best.exists()
            assert not fold.state.exists()
    names = [name for fold in folder.trial(0).folds() for name in read_tiles(fold.tiles)[0]]
    assert sorted(name.split("/", 1)[1] for name in names) == sorted(
        f"{split}/{path.stem}" for split in ("train", "val") for path in (tiles / split / "images").iterdir()
    )
    assert [(row["folds"], row["epochs"]) for row in rows(folder.path)] == [("2", "6"), ("2", "6")]
    winner = max(outcome.trials, key=lambda trial: trial.miou)
    assert (folder.best / "model.safetensors").read_bytes() == (
        folder.final(winner.number).best / "model.safetensors"
    ).read_bytes()
    assert len(read_rows(folder.final(winner.number))) == 3  # one training, on train


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [1, 3, 4, 6])
def test_an_interrupted_trial_goes_on_in_its_fold(epochs: int, tiles: Path, tmp_path: Path) -> None:
    whole = SearchFolder(tmp_path / "whole")
    one = ALL.replace("lr: [1e-9, 5e-3]", "lr: [5e-3]")
    space = space_of(tmp_path, tiles, one)
    searched(space, whole.path, Heard())
    folder = SearchFolder(tmp_path / "s")
    assert searched(space, folder.path, Heard(signal_after=epochs)).signal == signal.SIGINT
    if epochs < 6:  # killed after an epoch of a fold was written, and before the trial's table was
        folder.trial(0).metrics_csv.unlink()
    if epochs == 3:  # killed after the state of the last epoch of a fold was saved, and before its row was written
        rows = folder.trial(0).fold(1).metrics_csv
        rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))
    searched(space, folder.path, Heard(), resume=True)
    assert curve(folder) == curve(whole)
    assert (folder.best / "model.safetensors").read_bytes() == (whole.best / "model.safetensors").read_bytes()


def curve(folder: SearchFolder) -> list[tuple[str, ...]]:
    names = ("epoch", "fold", "loss", "miou", "best_miou")
    return [tuple(row[name] for name in names) for row in read_rows(folder.trial(0))]


@pytest.mark.slow
def test_a_fold_without_its_state_starts_the_trial_again(tiles: Path, tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path / "s")
    space = space_of(tmp_path, tiles, ALL.replace("lr: [1e-9, 5e-3]", "lr: [5e-3]"))
    searched(space, folder.path, Heard(signal_after=4))
    folder.trial(0).fold(2).state.unlink()
    outcome = searched(space, folder.path, Heard(), resume=True)
    assert [trial.status for trial in outcome.trials] == ["finished"]
    assert (tmp_path / "s" / "lost_trial_0000_1" / "fold_2").is_dir()


@pytest.mark.slow
def test_only_the_best_of_the_first_fold_train_the_others(tiles: Path, tmp_path: Path) -> None:
    text = "space: {lr: [1e-9, 5e-3, 2e-9], batch_size: [2]}\nbaseline: {lr: 5e-3, batch_size: 2}\n"
    space = space_of(tmp_path, tiles, f"{text}{SEARCH}asha, grace_period: 3, keep: 1}}\n")
    folder = SearchFolder(tmp_path / "s")
    outcome = searched(space, folder.path, Heard())
    assert sorted(trial.folds_done for trial in outcome.trials) == [1, 2, 2]  # the baseline, and the better one
    stopped = next(trial for trial in outcome.trials if trial.status == "stopped")
    assert stopped.miou == pytest.approx(best_of(folder.trial(stopped.number).fold(1)) / 2)
    fold = folder.trial(stopped.number).fold(1)
    assert not fold.state.exists()
    assert not fold.best.exists()


@pytest.mark.slow
def test_fresh_seeds_are_compared_on_all_tiles_by_folds(tiles: Path, tmp_path: Path) -> None:
    space = space_of(tmp_path, tiles, ALL.replace("none}", "none, confirm: {top: 1, seeds: 2}}"))
    folder = SearchFolder(tmp_path / "s")
    outcome = searched(space, folder.path, Heard())
    confirmation = Confirmation.read(folder.confirmation)
    assert confirmation
    assert confirmation.result
    assert confirmation.result.tiles == len(scan_data(space).folds[0].picked["train"]) + len(
        scan_data(space).folds[0].picked["val"]
    )
    winner = confirmation.result.winner
    assert winner.run == f"final_{winner.trial:04d}"
    assert winner.optimism is None  # the search's number is a mean over folds, this one is of all tiles together
    assert outcome.confirmation == confirmation
    assert (folder.best / "model.safetensors").read_bytes() == (
        folder.path / winner.run / "best" / "model.safetensors"
    ).read_bytes()
    with (folder.path / "trials.csv").open(newline="") as file:
        assert [row["folds"] for row in csv.DictReader(file)] == ["2"] * 6
    assert json.loads(folder.confirmation.read_text())["result"]["tiles"] == confirmation.result.tiles


def test_a_search_without_folds_is_no_teacher(tiles: Path, tmp_path: Path) -> None:
    plain = "space: {lr: [1e-3, 3e-3]}\nsearch: {trials: 1, gpus_per_trial: 0}\n"
    space = space_of(tmp_path, tiles, plain)
    searched(space, tmp_path / "s", Heard())
    fingerprint = str(read_study(SearchFolder(tmp_path / "s")).user_attrs["fingerprint"])
    check_earlier([tmp_path / "s"], space, fingerprint, anyway=False)
    folded = space_of(tmp_path, tiles, plain.replace("trials: 1", "trials: 1, folds: 2"))
    with pytest.raises(InputError, match="was scored by no folds, and this search by 2; their scores differ"):
        check_earlier([tmp_path / "s"], folded, fingerprint, anyway=False)


@pytest.mark.slow
def test_a_larger_search_has_the_model_of_its_new_winner(tiles: Path, tmp_path: Path) -> None:
    one, two = (ALL.replace("2, scheduler", f"2, trials: {trials}, scheduler") for trials in (1, 2))
    worse = "baseline: {lr: 1e-9, batch_size: 2}\n"
    one, two = (text.replace("baseline: {lr: 5e-3, batch_size: 2}\n", worse) for text in (one, two))
    folder = SearchFolder(tmp_path / "s")
    searched(space_of(tmp_path, tiles, one), folder.path, Heard())
    outcome = searched(space_of(tmp_path, tiles, two), folder.path, Heard(), resume=True)
    winner = max(outcome.trials, key=lambda trial: trial.miou)
    assert winner.number == 1
    assert [run.path.name for run in folder.finals()] == ["final_0000", "final_0001"]
    assert [run.best.exists() for run in folder.finals()] == [False, True]  # a former winner's model is deleted
    assert Manifest.read(folder.best / "run.yaml").config.lr == 5e-3


def test_an_unfinished_last_training_leaves_no_model_and_waits(tiles: Path, tmp_path: Path) -> None:
    space = space_of(tmp_path, tiles, ALL.replace("2, scheduler", "2, trials: 1, scheduler"))
    folder = SearchFolder(tmp_path / "s")
    searched(space, folder.path, Heard())
    folder.final(0).tiles.unlink()  # killed before the model was measured
    shutil.rmtree(folder.best)
    assert not search_state(folder).over
    results = Results(read_study(folder), folder, space, "")
    Retention(results, folder, space.search).update()
    assert not folder.best.exists()
    searched(space, folder.path, Heard(), resume=True)
    assert (folder.best / "model.safetensors").is_file()
    assert search_state(folder).over


def test_tiles_cannot_be_dealt_to_other_folds_later(tiles: Path, tmp_path: Path) -> None:
    group = "search: {trials: 1, folds: 2, gpus_per_trial: 0, confirm: {top: 1, seeds: 2, group: '(\\d\\d)$'}}\n"
    text = f"space: {{lr: [1e-9, 5e-3]}}\n{group}"
    folder = tmp_path / "s"
    searched(space_of(tmp_path, tiles, text), folder, Heard(signal_after=1))
    with pytest.raises(InputError, match="deals the tiles to other folds"):
        searched(
            space_of(tmp_path, tiles, text.replace(r"(\d\d)$", r"^(\d\d[0-3]|\d\d)")), folder, Heard(), resume=True
        )


def test_a_stopped_trial_teaches_what_its_folds_promise() -> None:
    def trial(**attrs: Any) -> FrozenTrial:
        return create_trial(state=TrialState.PRUNED, value=0.1, intermediate_values={3: 0.1, 4: 0.16}, user_attrs=attrs)

    settings = {"epochs": 4}
    assert expected_value(trial(settings=settings)) == 0.16
    assert expected_value(trial(settings=settings, folds=5)) == pytest.approx(0.8)  # one of five folds


def test_patience_compares_trials_after_as_many_epochs() -> None:
    def trial(values: dict[int, float], number: int, **attrs: Any) -> FrozenTrial:
        state = TrialState.COMPLETE if max(values) == 10 else TrialState.PRUNED
        made = create_trial(state=state, value=values[max(values)], intermediate_values=values, user_attrs=attrs)
        made.datetime_complete = datetime(2026, 1, 1) + timedelta(hours=number)
        return made

    whole, better = {5: 0.3, 10: 0.6}, {5: 0.4}
    assert without_improvement([trial(whole, 0, folds=2), trial(better, 1, folds=2)]) == 0
    assert without_improvement([trial(whole, 0, folds=2), trial({5: 0.2}, 1, folds=2)]) == 1
    assert without_improvement([trial(whole, 0), trial(better, 1)]) == 1


def test_asha_with_folds_needs_one_number_of_epochs(tiles: Path, tmp_path: Path) -> None:
    text = "space: {epochs: [2, 4]}\nsearch: {gpus_per_trial: 0, folds: 2}\n"
    run = f"dataset: {tiles}\nrun: {{encoder: tu-mobilenetv3_small_050, image_size: 32}}\n"
    (tmp_path / "s.yaml").write_text(run + text)
    with pytest.raises(InputError, match="asha compares trials in their first fold"):
        check_space(load_space(tmp_path / "s.yaml"))


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (1, "search.folds: must be greater than or equal to 2"),
        (10, "10 folds need as many tiles, but there are 6"),
    ],
)
def test_folds_that_cannot_be_are_one_line(folds: int, message: str, data_set: WriteDataSet, tmp_path: Path) -> None:
    tiles = data_set(tmp_path / "tiles", train=4, val=2)
    with pytest.raises(InputError) as caught:
        scan_data(space_of(tmp_path, tiles, f"space: {{lr: [1e-3, 3e-3]}}\nsearch: {{folds: {folds}}}\n"))
    assert message in str(caught.value)
    assert len(caught.value.mistakes) == 1


def test_a_search_by_folds_does_not_warn_of_what_train_and_val_share(tmp_path: Path) -> None:
    tiles = sound(tmp_path / "tiles")
    moved(tiles, "val/images/t05.tif", 6.7, 0)  # overlaps a tile of train
    said: dict[str, list[str]] = {}
    for search in ("{folds: 3}", "{}"):
        space = space_of(tmp_path, tiles, f"classes: [1]\nspace: {{lr: [1e-3, 3e-3]}}\nsearch: {search}\n")
        lines = said.setdefault(search, [])
        scan_data(space, say=lines.append)
    assert not [line for line in said["{folds: 3}"] if "warning" in line]
    assert "tiles of 21 places (neighbours on the ground) stay together" in said["{folds: 3}"]
    assert [line for line in said["{}"] if line.startswith("warning: overlap on the ground between train and val")]


def test_folds_need_the_tiles_of_val(data_set: WriteDataSet, tmp_path: Path) -> None:
    tiles = data_set(tmp_path / "tiles", train=4, val=2)
    space = space_of(tmp_path, tiles, "space: {lr: [1e-3, 3e-3]}\nsearch: {folds: 2}\n")
    other = RunConfig.from_settings(
        space.baseline.settings() | {"add_val_dirs": [str(tiles / "val")], "use_only_add_val": True}
    )
    with pytest.raises(InputError, match="use_only_add_val: folds are scored on the tiles of train and val"):
        FoldTiles(other)


def test_a_mean_over_folds_varies_less_than_each_of_them() -> None:
    def curve(steps: list[float], first: int) -> list[EpochResult]:
        return [epoch_of(first + at, 12, score, score, first + at) for at, score in enumerate(steps)]

    restless, calm = [0.1, 0.2, 0.3, 0.30, 0.36, 0.30], [0.5, 0.5, 0.5, 0.50, 0.53, 0.50]
    one, other = wobble(restless), wobble(calm)
    assert one
    assert other
    assert wobble_of(curve(restless, 1), 2) == pytest.approx(one)
    both = wobble_of(curve(restless, 1) + curve(calm, 7), 2)
    assert both == pytest.approx(math.sqrt(one**2 + other**2) / 2)


def test_a_dry_run_counts_all_folds_and_the_last_training(tiles: Path, tmp_path: Path) -> None:
    space = space_of(tmp_path, tiles, ALL)
    info = scan_data(space)
    run = resolve(space.baseline, info)
    lines = "\n".join(estimate_lines(space, info, {"baseline": run}, Plan(1, 0, 1, 0.0, 1)))
    assert "3 epochs of 2 folds in about" in lines
    assert "then the winner trains once more on train, to have a model: about" in lines
