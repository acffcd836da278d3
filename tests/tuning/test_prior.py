"""Trials around a prior: the first one after the baseline, then a share that falls where the prior is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial

from segtune.config import RunConfig
from segtune.files.folders import SearchFolder
from segtune.space.reader import load_space
from segtune.tuning.prior import trust
from segtune.tuning.proposals import Proposals
from segtune.tuning.sampler import build_sampler
from segtune.tuning.study import ORIGIN
from tests.tuning.bench import Bench

SPACE = """
run: {epochs: 3, model: unet, batch_size: 4}
space:
  encoder: [resnet18, mobilenet_v2, resnet34, resnet50]
  optimizer:
    adamw: {lr: {low: 1e-5, high: 1e-1, log: true}, weight_decay: {low: 1e-6, high: 1e-1, log: true}}
    sgd: {lr: {low: 1e-5, high: 1e-1, log: true}, momentum: {low: 0.8, high: 0.99}}
prior: PRIOR
search: {trials: 60, sampler: SAMPLER}
"""
BOTH = "{encoder: {value: resnet34, confidence: high}, lr: {value: 1e-3, confidence: high}}"


def searched(
    folder: Path,
    score: Callable[[RunConfig], float],
    sampler: str = "tpe",
    prior: str = BOTH,
    trials: int = 60,
    starts: int = 1,
) -> list[FrozenTrial]:
    """Return trials with the scores of their settings, tried one after another; the search starts several times."""
    (folder / "s.yaml").write_text(SPACE.replace("SAMPLER", sampler).replace("PRIOR", prior))
    space, study = load_space(folder / "s.yaml"), optuna.create_study(direction="maximize")
    for _ in range(starts):
        study.sampler = build_sampler(space)
        proposals = Proposals(study, space, SearchFolder(folder), lambda config: config)
        for _ in range(trials // starts):
            trial = proposals.next(lambda: False)
            assert trial
            study.tell(trial.number, score(proposals.start(trial).config))
    return study.get_trials()


def origins(trials: Sequence[FrozenTrial]) -> list[str]:
    return [trial.user_attrs[ORIGIN] for trial in trials]


def right(config: RunConfig) -> float:
    return 0.5 + 0.2 * (config.encoder == "resnet34") + 0.2 * (3e-4 < config.lr < 3e-3)


def wrong(config: RunConfig) -> float:
    return 0.9 - 0.2 * (config.encoder == "resnet34") - 0.1 * abs(math.log10(config.lr) + 1.5)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_expected_values_come_right_after_the_baseline(tmp_path: Path, sampler: str) -> None:
    trials = searched(tmp_path, right, sampler)
    assert trials[1].user_attrs["settings"].items() >= {"encoder": "resnet34", "lr": 1e-3}.items()
    assert origins(trials)[:2] == ["baseline", "prior"]


def test_a_share_of_the_trials_is_around_a_prior_that_is_right(tmp_path: Path) -> None:
    trials = searched(tmp_path, right, "random")[2:]
    around = [trial for trial in trials if trial.user_attrs[ORIGIN] == "prior"]
    others = [trial for trial in trials if trial.user_attrs[ORIGIN] == "sampler"]
    assert 30 <= len(around) <= 55
    assert sum(trial.params["encoder"] == "resnet34" for trial in around) > 0.6 * len(around)
    assert sum(trial.params["encoder"] == "resnet34" for trial in others) < 0.6 * len(others)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_wrong_prior_is_left_soon(tmp_path: Path, sampler: str) -> None:
    found = origins(searched(tmp_path, wrong, sampler))
    assert found[:20].count("prior") <= 12
    assert found[20:].count("prior") <= 15  # of 40; 30 are around one that is right


def test_a_resumed_search_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    whole, resumed = (searched(tmp_path, right, trials=24, starts=starts) for starts in (1, 4))
    assert [trial.params for trial in resumed] == [trial.params for trial in whole]
    assert origins(resumed) == origins(whole)


def test_a_prior_of_one_branch_leaves_the_other_to_the_sampler(tmp_path: Path) -> None:
    found: dict[str, set[str]] = {"adamw": set(), "sgd": set()}
    for trial in searched(tmp_path, right, "random", prior="{momentum: 0.9}")[2:]:
        found[trial.params["optimizer"]].add(trial.user_attrs[ORIGIN])
    assert found == {"adamw": {"sampler"}, "sgd": {"prior", "sampler"}}


def test_a_point_that_cannot_be_run_is_not_tried(tmp_path: Path) -> None:
    text = """
run: {model: unet}
space: {epochs: [2, 9], warmup_epochs: [5, 1], lr: {low: 1e-4, high: 1e-2}}
baseline: {epochs: 9, warmup_epochs: 5}
prior: {epochs: 2}
"""
    (tmp_path / "s.yaml").write_text(text)
    space = load_space(tmp_path / "s.yaml")
    study = optuna.create_study(sampler=build_sampler(space, Bench.clash))
    proposals = Proposals(study, space, SearchFolder(tmp_path), lambda config: config)
    found = set()
    for _ in range(6):
        trial = proposals.next(lambda: False)
        assert trial
        config = proposals.start(trial).config
        found.add((config.epochs, config.warmup_epochs))
    assert (2, 1) in found


@pytest.mark.parametrize(
    ("around", "factor"),
    [((), 1.0), ((0, 1, 2), 1.0), ((0, 4, 8), 1.0), ((6, 7, 8), 0.25), ((0, 6, 7, 8, 5, 4), 4 / 9)],
    ids=["none", "best", "as the others", "worst", "one in six"],
)
def test_trust_falls_with_the_share_of_the_best(around: tuple[int, ...], factor: float) -> None:
    scores = {number: 0.9 - 0.1 * number for number in range(9)}
    assert trust(scores, around) == pytest.approx(factor)
    assert trust({}, around) == 1.0
