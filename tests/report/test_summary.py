"""What is said of a search that ended: its winner, the gain, and how much of it chance may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import seeds

from segtune.report.tables import search_results
from segtune.report.text import has_winner, summary
from segtune.space.reader import load_space
from segtune.trials import Trial, seed_margin, wobble


def trial(number: int, miou: float | None, **others: Any) -> Trial:
    given: dict[str, Any] = {"status": "finished", "settings": {"epochs": 3}, "epochs_done": 3, "best_epoch": 3}
    return Trial(number, miou=miou, **(given | others))


@pytest.mark.parametrize(
    ("trials", "ended", "said"),
    [
        ([], True, "no trial reached a score"),
        ([trial(0, None)], True, "no trial reached a score"),
        ([trial(0, 0.5), trial(1, 0.4)], True, "nothing that was tried beats it"),
        ([trial(0, 0.5), trial(1, 0.4)], False, "it is the baseline; no other trial is better yet"),
        ([trial(0, 0.5), trial(1, None, status="pending")], False, "it is the baseline; no other trial has a score"),
        ([trial(0, 0.5)], True, "it is the baseline; no other trial has a score"),
        ([trial(0, 0.5, status="failed"), trial(1, 0.6, status="failed")], True, "no winner: every trial failed"),
        ([trial(0, 0.5, status="failed"), trial(1, 0.6, status="pending")], False, "best so far: trial #1"),
        ([trial(0, 0.0)], True, "no trial learnt anything: the best miou is 0.0000, of trial #0"),
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
def test_a_gain_that_another_seed_may_bring_is_told_of(best: float, waver: float | None, doubted: bool) -> None:
    line = summary([trial(0, 0.5, wobble=waver), trial(1, best, wobble=waver)])[-1]
    assert line.startswith(f"gain over the baseline: +{best - 0.5:.4f} (baseline 0.5000)")
    assert ("no more than another seed may bring" in line) == doubted


def test_wobble_is_that_of_the_second_half_and_ignores_a_rise() -> None:
    assert wobble([0.1, 0.9, 0.2, 0.5, 0.5, 0.5]) == 0
    assert wobble([0.0, 0.0, 0.0, 0.5, 0.52, 0.5]) == pytest.approx(0.02 / 2**0.5)
    assert wobble([0.0] * 6 + [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(0.1 / 2**0.5)
    assert wobble([0.5] * 5) is None
    assert seed_margin(trial(0, 0.5, wobble=0.03), trial(1, 0.5, wobble=0.04)) == pytest.approx(0.1)


def test_seeds_differ_by_less_than_the_margin_where_it_was_measured() -> None:
    recorded = seeds.pairs(Path(seeds.__file__).parent / "curves" / "s2india64.csv")
    assert (len(recorded), seeds.compared(recorded[:18]).endswith("17 of 18 within it")) == (37, True)
