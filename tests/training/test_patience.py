"""What follows from epochs without a better score: a lower learning rate, and the end of a single run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.evaluation.metrics import ConfusionMatrix, Scores
from segtune.files.folders import RunFolder
from segtune.report.text import how_it_ended, stopped_early
from segtune.training.result import EpochResult
from segtune.training.state import load_state
from tests.training.processes import FORKED, line, script
from tests.training.runs import SLOW, left, other, run, same_model, small_pspnet

pytestmark = FORKED
Scripted = Callable[[Iterable[float]], None]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Give the epochs of the runs that follow these scores."""

    def script_scores(mious: Iterable[float]) -> None:
        following = iter(mious)
        monkeypatch.setattr(ConfusionMatrix, "scores", lambda matrix: Scores(next(following), {"255": 0.0}, None))

    return script_scores


def quick(tiles: Path, **others: Any) -> RunConfig:
    """An epoch is one step."""
    return small_pspnet(tiles, **{"batch_size": 2, "samples_per_epoch": 2, "lr": 0.01, **others})


def lrs(results: list[EpochResult]) -> list[float]:
    assert [result.first_lr for result in results] == [result.lr for result in results]
    return [result.lr for result in results]


def test_plateau_lowers_the_rate_when_scores_do_not_rise(tiles: Path, tmp_path: Path, scripted: Scripted) -> None:
    scripted((0.3, 0.2, 0.3, 0.4, 0.1, 0.1, 0.1, 0.1, 0.5))
    config = quick(tiles, lr_schedule="plateau", lr_patience=2, epochs=9)
    # Epochs 2 and 3 are the first two; 4 is better, and the count begins again; 5 and 6, then 7 and 8.
    expected = [1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5]
    assert lrs(run(config, tmp_path / "whole")) == pytest.approx(expected)
    scripted((0.3, 0.2, 0.2, 0.2))
    config = quick(tiles, lr_schedule="plateau", lr_patience=1, lr_decay=0.5, warmup_epochs=2, epochs=4)
    results = run(config, tmp_path / "warm")
    assert [result.lr for result in results] == pytest.approx([5e-3, 1e-2, 1e-2, 5e-3])  # epoch 2 is of the warm-up


def test_plateau_waits_in_epochs_that_have_no_score(tiles: Path, tmp_path: Path, scripted: Scripted) -> None:
    scripted((0.3, 0.3, 0.2, 0.2, 0.2, 0.2))  # of the added set, and pooled
    config = quick(
        tiles,
        lr_schedule="plateau",
        lr_patience=1,
        epochs=6,
        use_only_add_val=True,
        add_val_dirs=[str(tiles / "val")],
        adv_freq=2,
    )
    results = run(config, tmp_path)
    assert [result.scores is not None for result in results] == [False, True] * 3
    assert [result.lr for result in results] == pytest.approx([1e-2] * 4 + [1e-3] * 2)


@SLOW
def test_a_plateaus_memory_survives_every_stop(tiles: Path, tmp_path: Path, scripted: Scripted) -> None:
    mious = (0.3, 0.2, 0.3, 0.4, 0.1, 0.1, 0.1)
    config = quick(tiles, lr_schedule="plateau", lr_patience=2, epochs=len(mious))
    scripted(mious)
    run(config, tmp_path / "whole")
    scripted(mious)
    for _ in mious:
        run(config, tmp_path / "parts", epochs=1, go_on=True)
    assert left(tmp_path / "parts") == left(tmp_path / "whole")
    scripted(mious)
    run(other(config, epochs=4), tmp_path / "longer")  # the rate of plateau does not depend on the number of epochs
    run(config, tmp_path / "longer", go_on=True)
    assert left(tmp_path / "longer") == left(tmp_path / "whole")
    assert same_model(tmp_path / "longer", tmp_path / "whole")


def test_a_run_ends_after_so_many_epochs_without_a_better_score(
    tiles: Path, tmp_path: Path, scripted: Scripted
) -> None:
    mious = (0.3, 0.2, 0.4, 0.4, 0.3, 0.5, 0.1, 0.1)
    config, folder = quick(tiles, early_stopping=2, epochs=8, lr_schedule="constant"), RunFolder(tmp_path / "run")
    scripted(mious)
    assert len(run(config, folder.path)) == 5
    said = stopped_early(folder, config)
    assert said is not None
    assert said.startswith("stopped early after 5 of 8 epochs, 2 of them without a better score; a larger --early-stop")
    assert how_it_ended(folder, config) == said
    assert load_state(folder.state)["progress"]["best_epoch"] == 3
    assert run(config, folder.path, go_on=True) == []
    assert run(other(config, epochs=9), folder.path, go_on=True) == []  # more epochs alone do not go on
    more = run(other(config, early_stopping=3), folder.path, go_on=True)
    assert [result.epoch for result in more] == [6, 7, 8]
    assert stopped_early(folder, other(config, early_stopping=3)) is None
    assert str(how_it_ended(folder, other(config, early_stopping=3))).startswith("8 epochs; a larger --epochs")
    scripted(mious)
    run(other(config, early_stopping=0), tmp_path / "whole")
    assert left(folder.path) == left(tmp_path / "whole")


def test_a_run_that_ended_early_and_lost_its_best_model_goes_on(
    tiles: Path, tmp_path: Path, scripted: Scripted
) -> None:
    scripted((0.4, 0.3, 0.2, 0.1))
    config, folder = quick(tiles, early_stopping=1, epochs=8), RunFolder(tmp_path)
    assert len(run(config, tmp_path)) == 2
    shutil.rmtree(folder.best)
    assert [result.epoch for result in run(config, tmp_path, go_on=True)] == [3, 4]
    assert load_state(folder.state)["progress"]["best_epoch"] == 3


def test_a_run_that_stops_in_its_last_epoch_is_one_that_is_done(
    tiles: Path, tmp_path: Path, scripted: Scripted
) -> None:
    scripted((0.3, 0.2, 0.2))
    config = quick(tiles, early_stopping=2, epochs=3)
    assert len(run(config, tmp_path)) == 3
    assert stopped_early(RunFolder(tmp_path), config) is None


def test_the_script_says_that_a_run_stopped_early(tiles: Path, tmp_path: Path) -> None:
    # A rate this small changes nothing: the first epoch stays the best one.
    config = quick(tiles, early_stopping=2, epochs=6, lr=1e-12)
    said = script(*line(config, tmp_path), where=tmp_path)
    assert (said.status, said.err) == (0, [])
    ends = [text for text in said.out if text.startswith("stopped early after ")]
    assert len(ends) == 1
    assert said.out[-1].strip().startswith("tensorboard")
    done = len([text for text in said.out if text.startswith("epoch ")])
    assert done < 6
    typed = ["--exp-name", "run", "--log-dir", tmp_path]
    again = script(*typed, where=tmp_path)
    assert (again.status, again.err) == (0, [])
    assert again.out[0] == f"{tmp_path / 'run'} is finished: {ends[0]}"
    longer = script(*typed, "--early-stopping", 0, where=tmp_path)
    assert (longer.status, longer.err) == (0, [])
    assert longer.out[0].startswith(f"going on with {tmp_path / 'run'} after {done} of 6 epochs")
    assert len([text for text in longer.out if text.startswith("epoch ")]) == 6 - done
    shutil.rmtree(tmp_path / "run")


def test_a_run_that_would_end_before_plateau_acts_is_refused() -> None:
    settings: dict[str, Any] = {"lr_schedule": "plateau", "lr_patience": 5}
    for patience in (1, 5):
        with pytest.raises(InputError, match=f"above lr_patience.*early_stopping={patience}, lr_patience=5"):
            RunConfig.from_settings(settings | {"early_stopping": patience})
    for patience in (0, 6):
        RunConfig.from_settings(settings | {"early_stopping": patience})
