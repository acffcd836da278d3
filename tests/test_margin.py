"""The margin of a search in which most trials paused early."""

from __future__ import annotations

from pathlib import Path

from benchmarks.seeds import named, pairs
from segtune.margin import seed_deviation, seed_margin
from segtune.trials import Trial, ranked


def trial(number: int, miou: float, epochs_done: int = 27, wobble: float | None = 0.01) -> Trial:
    status = "finished" if epochs_done == 27 else "stopped"
    return Trial(number, status, {"epochs": 27}, epochs_done, miou, wobble=wobble)


def test_the_deviation_is_not_that_of_curves_which_still_rise() -> None:
    late = [trial(0, 0.80, wobble=0.01), trial(1, 0.81, wobble=0.012), trial(2, 0.79, 14, wobble=0.014)]
    early = [trial(number, 0.78, 9, wobble=0.05) for number in range(3, 12)]
    assert seed_deviation(ranked(late + early)) == 0.012
    assert seed_deviation(ranked(early)) == seed_deviation([trial(0, 0.8, wobble=None)])


def test_trials_that_might_have_gone_on_widen_the_margin() -> None:
    finished = [trial(0, 0.80), trial(1, 0.85)]
    good = [trial(number, 0.60, 3) for number in range(2, 12)]
    poor = [trial(number, 0.30, 3) for number in range(12, 30)]
    assert seed_margin(ranked(finished + good)) > 1.2 * seed_margin(finished)
    assert seed_margin(ranked(finished + good + poor)) == seed_margin(ranked(finished + good))
    assert seed_margin(ranked([*finished, trial(2, 0.1, 5), *good[1:]])) == seed_margin(ranked(finished + good[1:]))


def test_equal_trials_are_rarely_named_where_most_paused() -> None:
    assert 0 < named([0.8] * 30, 0.008, 300) <= 0.06
    assert named([0.8] * 25 + [0.83] * 5, 0.008, 300) >= 0.7


def test_all_pairs_of_seeds_are_compared_without_failed_runs(tmp_path: Path) -> None:
    rows = ["0,42,finished,0.1 0.2", "0,43,finished,0.1 0.3", "0,44,finished,0.4", "1,42,failed,", "1,43,finished,0.9"]
    (tmp_path / "curves.csv").write_text("\n".join(["number,seed,status,miou", *rows, "1,44,failed,0.1"]))
    assert [[max(curve) for curve in pair] for pair in pairs(tmp_path / "curves.csv")] == [
        [0.3, 0.4],
        [0.2, 0.4],
        [0.2, 0.3],
    ]
