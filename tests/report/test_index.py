"""index.html: all searches of a folder in one table."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from segtune.confirmed import Confirmation, Confirmed, Repeated, chosen
from segtune.evaluation.intervals import Interval
from segtune.files.folders import SearchFolder
from segtune.report.index import INDEX, is_own, write_index
from segtune.trials import write_trials
from tests.epochs import epoch_result, write_results
from tests.report.reports import parsed, trial, trials


def search(folder: Path, changed: float, content: str | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "search.yaml").write_text("space: {}\n")
    if content is None:
        write_trials(folder / "trials.csv", trials())
    else:
        (folder / "trials.csv").write_text(content)
    os.utime(folder / "trials.csv", (changed, changed))
    return folder


def index_of(folder: Path) -> str:
    write_index(folder)
    return (folder / INDEX).read_text(encoding="utf-8")


def test_searches_stand_newest_first_with_their_best(tmp_path: Path) -> None:
    search(tmp_path / "older", 1e9)
    (search(tmp_path / "a <b> & c", 2e9) / "report.html").write_text("")
    (tmp_path / "no_search").mkdir()
    html = index_of(tmp_path)
    found = parsed(html)
    assert found.text.index("a <b> & c") < found.text.index("older")
    assert [link["href"] for link in found.all("a")] == ["a%20%3Cb%3E%20%26%20c/report.html"]
    for said in ("2 searches", "12 of 12", "0.7750", "0.5000", "+0.2750"):
        assert said in found.text
    assert "no_search" not in found.text


def test_damaged_tables_have_a_row_that_says_so(tmp_path: Path) -> None:
    search(tmp_path / "damaged", 1e9, "trial,status\n1,finished\n")
    search(tmp_path / "empty", 1e9, "")
    (search(tmp_path / "begun", 1e9) / "trials.csv").unlink()
    text = parsed(index_of(tmp_path)).text
    assert "trials.csv cannot be read" in text
    assert "no trial has ended an epoch yet" in text
    assert "0 of 0" in text


def test_a_folder_without_searches_has_an_empty_table(tmp_path: Path) -> None:
    assert "0 searches" in parsed(index_of(tmp_path)).text


def test_a_trial_that_was_repeated_counts_once(tmp_path: Path) -> None:
    rows = ("0,finished,0.5,1,baseline", "1,finished,0.6,1,sampler", "0,finished,0.9,1,confirm")
    table = "\n".join(("trial,status,miou,seconds,origin", *rows))
    search(tmp_path / "confirmed", 1e9, table)
    text = parsed(index_of(tmp_path)).text
    assert "2 of 2" in text
    assert "+0.1000" in text


def test_a_confirmed_search_shows_its_winner_over_fresh_seeds(tmp_path: Path) -> None:
    folder = search(tmp_path / "confirmed", 1e9)
    numbers = chosen(trials(), 2)
    means = (0.55, 0.45, 0.65)  # of the baseline, of the search's best trial, and of its second best
    repeated = [
        Repeated(number, {}, 0.7, (1, 2), (mean, mean), mean, 0.0, 1.0, f"confirm_{number}")
        for number, mean in zip(numbers, means, strict=True)
    ]
    found = Confirmed((repeated[2], repeated[0], repeated[1]), 9, None)
    path = folder / "confirmation.json"
    Confirmation(2, 2, tuple(numbers), 2, result=found).write(path)
    text = parsed(index_of(tmp_path)).text
    for said in ("0.6500", "0.5500", "+0.1000"):
        assert said in text
    path.write_text("damaged")
    assert "0.7750" in parsed(index_of(tmp_path)).text


@pytest.mark.parametrize(
    ("prefer", "best", "gain", "said"),
    [
        ("latency < 20ms", "0.6000", "+0.1000", "prefer latency < 20ms"),
        ("latency < 1ms", "0.7750", "+0.2750", "prefer latency < 1ms: kept by no trial"),
    ],
)
def test_limits_of_costs_choose_the_winner_of_a_search(
    tmp_path: Path, prefer: str, best: str, gain: str, said: str
) -> None:
    folder = search(tmp_path / "limited", 1e9)
    (folder / "search.yaml").write_text(f"search: {{prefer: {prefer}}}\n")
    slower = [replace(trial, latency=16.0 + trial.number) for trial in trials()]
    settings = {**slower[4].settings, "encoder": "the_fast_one"}
    slower[4] = replace(slower[4], settings=settings)
    write_trials(folder / "trials.csv", slower)
    text = parsed(index_of(tmp_path)).text
    encoder = "the_fast_one" if best == "0.6000" else "resnet18"
    assert f"{best} 0.5000 {gain} {encoder} {said}" in text


def test_a_damaged_search_yaml_is_named_in_its_row(tmp_path: Path) -> None:
    (search(tmp_path / "damaged", 1e9) / "search.yaml").write_text("search: [\n")
    assert "damaged/search.yaml" in parsed(index_of(tmp_path)).text


def test_a_page_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    index = tmp_path / "index.html"
    index.write_text("<!doctype html><title>my results</title>")
    assert not is_own(index)
    write_index(tmp_path)
    assert "my results" in index.read_text()
    index.unlink()
    for _ in range(2):  # the second replaces the first
        assert is_own(index)
        write_index(tmp_path)


def test_a_trial_that_collapsed_does_not_hide_the_winner_over_fresh_seeds(tmp_path: Path) -> None:
    folder = search(tmp_path / "confirmed", 1e9)
    found = [*trials(), replace(trials()[1], number=12, miou=0.99, collapsed=True)]
    write_trials(folder / "trials.csv", found)
    numbers = chosen(found, 1)
    assert 12 not in numbers
    repeated = [Repeated(number, {}, 0.7, (1,), (0.654,), 0.654, 0.0, 1.0, f"confirm_{number}") for number in numbers]
    confirmed = Confirmed((repeated[1], repeated[0]), 9, None)
    Confirmation(1, 2, tuple(numbers), 2, result=confirmed).write(folder / "confirmation.json")
    assert "0.6540" in parsed(index_of(tmp_path)).text


def test_wrong_limits_are_named_in_their_row(tmp_path: Path) -> None:
    (search(tmp_path / "wrong", 1e9) / "search.yaml").write_text("search: {prefer: 'speed < 3'}\n")
    assert "wrong/search.yaml: search.prefer: " in parsed(index_of(tmp_path)).text


def test_a_gain_that_may_be_chance_is_marked_as_on_its_page(tmp_path: Path) -> None:
    small, large = (tmp_path / name for name in ("small", "large"))
    for folder, scores in ((small, (0.7, 0.705)), (large, (0.5, 0.7))):
        folder.mkdir()
        (folder / "search.yaml").write_text("space: {}\n")
        write_trials(folder / "trials.csv", [trial(number, score) for number, score in enumerate(scores)])
    text = parsed(index_of(tmp_path)).text
    assert "0.7050 0.7000 +0.0050 may be chance" in text
    assert text.count("may be chance") == 1 + 1  # and in the words above the table
    # A curve that varies much makes a larger gain one that chance may bring.
    for number in (0, 1):
        SearchFolder(large).trial(number).path.mkdir()
        varied = [epoch_result(epoch, 0.3 + 0.4 * (epoch % 2)) for epoch in range(1, 10)]
        write_results(SearchFolder(large).trial(number), varied)
    assert "0.7000 0.5000 +0.2000 may be chance" in parsed(index_of(tmp_path)).text


@pytest.mark.parametrize("sure", [True, False])
def test_a_confirmed_gain_is_marked_where_it_is_not_distinguishable(tmp_path: Path, sure: bool) -> None:
    folder = search(tmp_path / "confirmed", 1e9)
    numbers = chosen(trials(), 1)
    lead = Interval(0.1, 0.02 if sure else -0.02, 0.2)
    best, base = (
        Repeated(number, {}, 0.7, (1, 2), (mean, mean), mean, 0.0, 1.0, f"confirm_{number}", None if number else lead)
        for number, mean in ((numbers[1], 0.65), (0, 0.55))
    )
    Confirmation(1, 2, tuple(numbers), 2, result=Confirmed((best, base), 9, None)).write(folder / "confirmation.json")
    text = parsed(index_of(tmp_path)).text
    assert "0.6500 mean over seeds 0.5500 +0.1000" in text
    assert ("+0.1000 not distinguishable" in text) is not sure
