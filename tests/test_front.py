"""Costs of trials: which trials are not beaten, and which ones keep limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segtune.report.answer import Verdict, answer
from segtune.report.costs import cost_text, front_lines
from segtune.report.record import Report
from segtune.report.sentences import sentences
from segtune.report.text import summary
from segtune.space.prefer import Preference
from segtune.trials import SearchState, Trial, front, ranked


def trial(number: int, miou: float | None, latency: float | None = 10.0, **others: Any) -> Trial:
    given: dict[str, Any] = {"status": "finished", "settings": {"epochs": 4}, "epochs_done": 4, "seconds": 60.0}
    return Trial(number, miou=miou, latency=latency, **(given | others))


TRIALS = [
    trial(0, 0.9, 20.0, parameters=5),
    trial(1, 0.8, 10.0, parameters=9),
    trial(2, 0.7, 15.0, parameters=4),  # beaten by 1, unless parameters count
    trial(3, 0.9, 20.0, parameters=5),  # as good as 0
    trial(4, 0.6, 9.0, parameters=9),
    trial(5, 0.95, 5.0, parameters=1, status="stopped", epochs_done=2),  # used half of its budget
    trial(6, 0.99, None),  # of a former release
    trial(7, None, 1.0),
]


def numbers(trials: list[Trial]) -> list[int]:
    return [each.number for each in trials]


def test_a_front_holds_what_nothing_of_the_same_share_beats() -> None:
    assert numbers(front(TRIALS, ["latency"])) == [0, 3, 1, 4]
    assert numbers(front(TRIALS, ["latency", "parameters"])) == [0, 3, 1, 2, 4]
    assert numbers(front(TRIALS, ["parameters"])) == [0, 3, 2]
    assert front([], ["latency"]) == []


def test_while_none_finished_those_that_got_furthest_are_compared() -> None:
    begun = [trial(n, 0.5 + n / 10, 9.0 + n, status="paused", epochs_done=1 + (n > 0)) for n in range(3)]
    assert numbers(front(begun, ["latency"])) == [2, 1]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("miou, latency < 20ms", "miou, latency < 20ms"),
        ("latency<=0.02 s", "latency < 20ms"),
        ("2*iou/1+f1, parameters < 5M, gpu_memory < 800MB", "f1+2*iou/1, parameters < 5M, gpu_memory < 0.8GB"),
        ("seconds < 7200, parameters<1500000", "seconds < 2h, parameters < 1.5M"),
        ("seconds < 90, parameters < 442113", "seconds < 90s, parameters < 442113"),
    ],
)
def test_limits_have_the_unit_that_makes_them_short(given: str, text: str) -> None:
    assert Preference.of(given).text == text == Preference.of(text).text


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("miou", "'miou' has no limit"),
        ("", "must be limits of costs"),
        ("latency > 20ms", "a cost is limited from above"),
        ("latenci < 20ms", "'latenci' is no cost; did you mean 'latency'"),
        ("latency < fast", "is no limit"),
        ("latency < 20GB", "the units of latency are ms, s, but got 'GB'"),
        ("latency < 20ms, latency < 10ms", "limits a cost twice"),
        ("miou, f1, latency < 2ms", "names 2 measures"),
        ("speed, latency < 2ms", "unknown measure 'speed'"),
    ],
)
def test_what_is_no_limit_is_refused_with_a_reason(given: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Preference.of(given)


def limited(text: str) -> list[Trial]:
    preference = Preference.of(text)
    return [
        trial(each.number, each.miou, each.latency, fits=preference.kept_by(each.costs), epochs_done=each.epochs_done)
        for each in TRIALS
    ]


def test_the_best_within_limits_wins_and_an_unknown_cost_keeps_none() -> None:
    assert numbers(ranked(limited("latency < 12ms"))) == [5, 1, 4, 6, 0, 3, 2]
    assert numbers(ranked(limited("latency < 1ms"))) == [6, 5, 0, 3, 1, 2, 4]  # none keeps them


def test_a_winner_may_be_worse_than_a_baseline_over_the_limits() -> None:
    trials = [each for each in limited("latency < 12ms") if each.number in (0, 1, 2)]
    found = answer(trials, ended=True)
    assert (found.verdict, found.best) == (Verdict.WINNER, trials[1])
    lines = summary(trials)
    assert lines[0].startswith("winner: trial #1, miou 0.8000")
    assert lines[-1] == "gain over the baseline: -0.1000 (baseline 0.9000, which costs more than the limits allow)"


def test_a_baseline_that_wins_within_the_limits_alone_is_called_so() -> None:
    trials = [trial(0, 0.6, 10.0, best_epoch=4), trial(1, 0.7, 20.0, fits=False)]
    assert answer(trials, ended=True).over
    assert summary(trials)[-1].startswith(
        "the baseline itself is the best: nothing that was tried within the limits of"
    )
    state = SearchState(Path("x"), trials, 2, 9.0, None, prefer="miou, latency < 12ms")
    first, second, _ = sentences(Report("x", state, 1.8e9, "", ()))
    assert first.startswith(
        "The best of 2 configurations within the limits of costs (latency < 12ms) is the baseline: "
    )
    assert second.endswith("nothing that was tried within the limits beats it.")
    assert not answer([replace(each, fits=True) for each in trials], ended=True).over


def test_lines_say_what_is_on_the_front_and_who_keeps_the_limits() -> None:
    assert list(front_lines(TRIALS, ["latency"], None)) == [
        "front by miou, latency (*), among trials with all epochs: #0, #3, #1, #4",
        "latency is of one image, measured once in each trial; trials that ran beside it on the device may have made "
        "it longer (max_concurrent: 1 avoids that)",
    ]
    assert not any("latency is" in line for line in front_lines(TRIALS, ["parameters"], None))
    two = list(front_lines(limited("latency < 12ms"), ["latency"], "latency < 12ms"))
    assert two[2] == "prefer latency < 12ms: kept by 3 trials; the winner is the best of them"
    none = list(front_lines(limited("latency < 1ms"), ["latency"], "latency < 1ms"))
    assert none[2] == "prefer latency < 1ms: kept by no trial; so the best of all is taken"
    assert list(front_lines(TRIALS, [], None)) == []
    costs = {"latency": 12.345, "parameters": 4_210_000, "gpu_memory": 3.51, "seconds": 90.0}
    texts = [cost_text(name, value) for name, value in costs.items()]
    assert texts == ["12.3 ms", "4.2 M", "3.51 GB", "1 min 30 s"]
    assert [cost_text("latency", value) for value in (8.2, 15.0, 0.5, 123.4, 1234.5)] == [
        *("8.20 ms", "15.0 ms", "0.500 ms", "123 ms", "1234 ms")
    ]
    assert cost_text("latency", None) == ""
