"""What is said of a search that ended: its winner, the gain, and how much of it chance may be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import seeds

from segtune.margin import seed_deviation, seed_margin
from segtune.report.answer import has_winner
from segtune.report.tables import search_results
from segtune.report.text import summary, training_line
from segtune.space.reader import load_space
from segtune.trials import Trial, ranked, wobble


def trial(number: int, miou: float | None, **others: Any) -> Trial:
    given: dict[str, Any] = {"status": "finished", "settings": {"epochs": 3}, "epochs_done": 3, "best_epoch": 3}
    return Trial(number, miou=miou, **(given | others))


@pytest.mark.parametrize(
    ("trials", "ended", "said"),
    [
        ([], True, "no trial reached a score"),
        ([trial(0, None)], True, "no trial reached a score"),
        ([trial(0, 0.5), trial(1, 0.4)], True, "nothing that was tried beats it; keep its settings, or search others"),
        ([trial(0, 0.5), trial(1, 0.4)], False, "it is the baseline; no other trial is better yet"),
        ([trial(0, 0.5), trial(1, None, status="pending")], False, "it is the baseline; no other trial has a score"),
        ([trial(0, 0.5)], True, "it is the baseline; no other trial has a score"),
        ([trial(0, 0.5, status="failed"), trial(1, 0.6, status="failed")], True, "no winner: every trial failed"),
        ([trial(0, 0.5, status="failed"), trial(1, 0.6, status="pending")], False, "best so far: trial #1"),
        ([trial(0, 0.0)], True, "no trial learnt anything: the best miou is 0.0000, of trial #0"),
        ([trial(0, None, status="failed"), trial(1, 0.6)], True, "the gain over the baseline is unknown: it failed"),
        ([trial(0, None, status="running"), trial(1, 0.6)], False, "is unknown: it has no score yet"),
        ([trial(1, 0.6, status="stopped")], True, "winner: trial #1"),
        (
            [trial(0, 0.5, status="failed", epochs_done=1), trial(1, 0.51)],
            True,
            "gain over the baseline: +0.0100 (baseline 0.5000 after 1 of 3 epochs: not comparable)",
        ),
        ([trial(0, 0.17, collapsed=True), trial(1, 0.18)], True, "+0.0100 (baseline 0.1700, which learnt nothing)"),
        ([trial(0, 0.17, collapsed=True)], False, "no trial learnt anything yet: the best miou is 0.1700"),
    ],
)
def test_the_last_words_fit_what_happened(trials: list[Trial], ended: bool, said: str) -> None:
    text = "\n".join(summary(trials, ended))
    assert said in text
    assert ("nothing that was tried" in text) == ("nothing that was tried" in said)
    assert text.startswith("winner: ") == (ended and "in epoch" in text)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, "in epoch 3"),
        ({"limit_tiles": None, "val_samples": None}, "in epoch 3"),
        ({"limit_tiles": 10}, "in epoch 3 (on at most 10 tiles of each validation set)"),
        ({"limit_tiles": 10, "val_samples": 4}, "in epoch 3 (on at most 4 tiles of each validation set)"),
    ],
)
@pytest.mark.parametrize("ended", [True, False])
def test_a_score_on_part_of_the_validation_tiles_is_named_as_such(
    limits: dict[str, Any], said: str, ended: bool
) -> None:
    assert summary([trial(0, 0.5, settings={"epochs": 3, **limits})], ended)[0].endswith(said)


@pytest.mark.parametrize("status", ["finished", "failed"])
def test_a_search_whose_trials_all_failed_has_no_winner(status: Any, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("space: {lr: [1e-3]}", encoding="utf-8")
    trials = [trial(0, 0.5, status="failed", epochs_done=1), trial(1, 0.4, status=status)]
    assert has_winner(trials) == (status == "finished")
    words = [str(part) for part in search_results(trials, load_space(tmp_path / "s.yaml"), True)]
    assert any("winner: trial #0" in line for line in words) == has_winner(trials)


@pytest.mark.parametrize(
    ("best", "waver", "doubted"), [(0.51, 0.01, True), (0.56, 0.01, False), (0.52, None, True), (0.53, None, False)]
)
def test_a_trial_that_is_the_best_by_chance_is_no_winner(best: float, waver: float | None, doubted: bool) -> None:
    trials = [trial(0, 0.5, wobble=waver, searched={"lr": 0.1}), trial(1, best, wobble=waver, searched={"lr": 0.2})]
    lines, margin = summary(trials), 0.0277 if waver else 0.0249
    if doubted:
        assert lines == [
            f"no winner: trial #1 is {best - 0.5:.4f} better than the baseline, "
            f"and other seeds alone may bring {margin}",
            f"best: trial #1, miou {best:.4f} in epoch 3",
            "  lr 0.2",
            "keep the settings of the baseline, or search others; to be sure, train both again with other seeds",
        ]
    else:
        assert lines == [
            f"winner: trial #1, miou {best:.4f} in epoch 3",
            "  lr 0.2",
            f"gain over the baseline: +{best - 0.5:.4f} (baseline 0.5000); other seeds alone may bring {margin}",
        ]
    so_far = summary(trials, ended=False)
    assert so_far[0].startswith("best so far: trial #1")
    assert so_far[-1].startswith(f"gain over the baseline: +{best - 0.5:.4f}")


def of_equals(scores: Sequence[float], noise: float) -> list[Trial]:
    return [trial(number, score, wobble=noise) for number, score in enumerate(scores)]


def test_the_margin_is_that_of_dunnetts_test() -> None:
    """One-sided 2.5% points of the largest of k standardized gains, from Dunnett's table for known deviations."""
    for k, point in ((1, 1.96), (2, 2.21), (5, 2.51), (9, 2.69)):
        margin = seed_margin(ranked(of_equals([0.5] * (k + 1), 0.01)))
        assert margin == pytest.approx(point * 0.01 * 2**0.5, rel=0.003)


def test_only_trials_that_might_have_been_the_best_widen_the_margin() -> None:
    poor = of_equals([0.5, 0.53, *[0.2] * 28], 0.01)
    assert seed_margin(ranked(poor)) == seed_margin(ranked(poor[:2]))
    assert seed_margin(ranked(of_equals([0.5, *[0.53] * 29], 0.01))) > 1.4 * seed_margin(ranked(poor))


def test_the_deviation_is_the_median_of_the_better_trials() -> None:
    trials = [trial(n, 0.9 - n / 10, wobble=w) for n, w in enumerate([0.01, 0.5, 0.01, 0.02, 0.3, None])]
    assert seed_deviation(trials) == 0.01
    assert seed_deviation([trial(0, 0.5, wobble=0.03), trial(1, 0.4, wobble=0.04)]) == pytest.approx(0.035)
    assert seed_deviation([trial(0, 0.5), trial(1, 0.4)]) == 0.009


def test_equal_trials_are_rarely_named_and_real_gains_mostly() -> None:
    """The noise is that of good configurations in benchmarks/README.md."""
    random = np.random.default_rng(0)

    def better(gains: Sequence[float]) -> float:
        """The share of 600 searches that call a trial better than the baseline; `gains` are the true ones."""
        scores = 0.8 + np.array([0.0, *gains]) + random.normal(0, 0.008, (600, 30))
        last = [summary(of_equals(search.tolist(), 0.008))[-1] for search in scores]
        return sum(line.startswith("gain over the baseline: +") for line in last) / 600

    assert better([0.0] * 29) <= 0.05
    assert better([0.0] * 19 + [0.03] * 10) >= 0.85
    assert better([0.0] * 28 + [0.06]) >= 0.95


def test_wobble_is_that_of_the_second_half_and_ignores_a_rise() -> None:
    assert wobble([0.1, 0.9, 0.2, 0.5, 0.5, 0.5]) == 0
    assert wobble([0.0, 0.0, 0.0, 0.5, 0.52, 0.5]) == pytest.approx(0.02 / 2**0.5)
    assert wobble([0.0] * 6 + [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(0)
    assert wobble([0.5] * 5) is None


def test_seeds_differ_by_less_than_the_margin_where_it_was_measured() -> None:
    recorded = seeds.pairs(Path(seeds.__file__).parent / "curves" / "s2india64.csv")
    assert (len(recorded), seeds.compared(recorded[:18]).endswith("17 of 18 within it")) == (37, True)


def test_searches_of_equal_curves_rarely_name_a_winner() -> None:
    assert seeds.named([0.8] * 30, 0.008, 150) <= 0.06
    assert seeds.named([0.8] * 15 + [0.83] * 15, 0.008, 100) >= 0.85


def test_the_time_of_trials_that_did_not_finish_has_its_share() -> None:
    done = [trial(0, 0.5, seconds=6000.0), trial(1, 0.6, seconds=600.0)]
    stopped = [trial(n, 0.4, status="stopped", seconds=1800.0) for n in (2, 3)]
    others = [trial(4, None, status="failed", seconds=300.0), trial(5, None, status="failed")]
    assert (
        training_line([*done, *stopped, *others])
        == "training time: 2 h 55 min; 34% in 2 stopped trials, 3% in 1 failed"
    )
    paused = trial(6, 0.5, status="paused", seconds=3600.0)
    assert training_line([done[0], stopped[0], paused]) == (
        "training time: 3 h 10 min; 16% in 1 stopped trial, 32% in 1 paused"
    )
    assert training_line(done) == "training time: 1 h 50 min"
    assert training_line(others[1:]) is None
