"""Portfolios: how they are chosen, written and read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segtune.errors import InputError
from segtune.planning.portfolio import (
    Entry,
    Portfolio,
    choose,
    merge,
    portfolio_of,
    read_portfolio,
    regrets,
    shipped_portfolio,
)
from segtune.space.reader import load_space

NAN = float("nan")


def test_regret_is_the_share_of_the_distance_from_best_to_median() -> None:
    scores = np.array([[0.9, 0.30], [0.8, NAN], [0.7, 0.20], [0.5, 0.10], [0.1, 0.20]])
    expected = [[0, 0], [0.5, NAN], [1, 1], [1, 1], [1, 1]]
    assert regrets(scores) == pytest.approx(np.array(expected), nan_ok=True)


def test_a_data_set_with_two_scores_tells_nothing() -> None:
    assert np.isnan(regrets(np.array([[0.9, 0.1], [0.1, 0.2], [NAN, 0.3]]))[:, 0]).all()


def test_data_sets_whose_scores_are_all_equal_have_no_regret() -> None:
    assert regrets(np.full((3, 1), 0.5)).tolist() == [[0], [0], [0]]


def test_the_first_is_best_on_average_and_the_next_ones_complete_it() -> None:
    losses = np.array(
        [
            [0.0, 1.0, 1.0],  # good on one set alone
            [0.3, 0.3, 0.3],  # good everywhere
            [0.2, 0.2, 0.9],
            [1.0, 1.0, 0.0],  # what the second one lacks most
        ]
    )
    assert choose(losses, 3) == [1, 0, 3]
    assert choose(losses, 9) == [1, 0, 3, 2]


def test_what_is_no_good_is_not_chosen() -> None:
    assert choose(np.array([[0.1, 0.1], [0.4, 0.5], [0.7, 0.6]]), 9) == [0, 1]


def test_what_was_not_tried_counts_as_bad() -> None:
    assert choose(np.array([[0.4, NAN], [0.5, 0.5]]), 1) == [1]


def test_of_equal_ones_the_cheaper_comes_first_then_the_lower_number() -> None:
    losses = np.array([[0.5], [0.5], [0.5]])
    assert choose(losses, 3, np.array([2.0, 1.0, 1.0])) == [1, 2, 0]
    assert choose(losses, 3) == [0, 1, 2]


def test_cost_prefers_what_improves_most_per_second() -> None:
    losses, seconds = np.array([[0.1], [0.2]]), np.array([10.0, 1.0])
    assert choose(losses, 1, seconds) == [0]
    assert choose(losses, 1, seconds, cost=True) == [1]


def test_a_merged_order_keeps_the_order_of_each_part() -> None:
    losses = np.array([[0.5, 0.5], [0.0, 0.9], [0.9, 0.1], [0.8, 0.0]])
    assert merge([[1, 0], [2, 3]], losses) == [1, 2, 3, 0]


def test_a_portfolio_is_read_as_it_was_written(tmp_path: Path) -> None:
    entry = Entry({"encoder": "resnet18", "lr": 1e-5, "batch_size": 4, "loss": "dice+ce"}, ("demo", "tiles"))
    portfolio = Portfolio((entry,), {"written": "2026-01-02"})
    path = tmp_path / "own.yaml"
    path.write_text(portfolio.text())
    assert read_portfolio(path) == portfolio_of(str(path)) == portfolio


def test_no_portfolio_is_none() -> None:
    assert portfolio_of("none") is None


def test_the_shipped_portfolio_is_for_pretrained_and_for_random_weights() -> None:
    portfolio = shipped_portfolio()
    assert portfolio == portfolio_of("portfolio")
    assert {"none", "imagenet"} == {entry.settings["encoder_weights"] for entry in portfolio.entries}
    assert portfolio.about.keys() >= {"written", "from", "rebuild", "versions"}
    assert len({repr(entry.settings) for entry in portfolio.entries}) == len(portfolio.entries)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("entries: 3", "own.yaml: is no portfolio"),
        ("space: {}", "own.yaml: is no portfolio"),
        ("entries: []", "own.yaml: its list of entries: is empty"),
        ("entries:\n- settings: {lr: 1e-3}\n- settings: {lrr: 1}", "own.yaml:3: entry 2: unknown setting 'lrr'"),
        ("entries:\n- settings:\n    lr: 1e-3\n    loss: dise", "own.yaml:4: entry 1: loss: unknown loss 'dise'"),
        ("entries:\n- lr: 1e-3", "own.yaml:2: entry 1: expected settings:"),
        ("entries:\n- {settings: {lr: 1}, lr: 2}", "own.yaml:2: entry 1: unknown key 'lr'"),
        ("entries:\n- settings: {device: cpu}", "own.yaml:2: entry 1: device: is the same in all runs"),
    ],
)
def test_a_wrong_file_is_refused_with_file_and_entry(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        read_portfolio(path)
    assert len(refused.value.mistakes) == 1
    assert complaint in refused.value.mistakes[0]


@pytest.mark.parametrize(
    ("search", "complaint"),
    [
        ("{start: best}", "'best' is neither portfolio nor none, nor a file whose name ends in .yaml or .yml"),
        ("{start: own.yaml, sampler: grid}", "start: a grid is tried in its own order"),
    ],
)
def test_a_wrong_start_is_refused_with_its_line(tmp_path: Path, search: str, complaint: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(f"space: {{encoder: [resnet18, resnet34]}}\nsearch: {search}\n")
    with pytest.raises(InputError, match=r"space\.yaml:2: ") as refused:
        load_space(path)
    assert complaint in str(refused.value)
