"""The page of a search: complete, self-contained, safe with any names, and true to the console."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segtune.evaluation.intervals import Interval
from segtune.report.page import page
from segtune.report.record import Candidate, ClassRow, Command, Confirmation, Curve, Influence, Report
from segtune.report.sentences import headline, sentences
from segtune.report.text import summary, training_line
from segtune.trials import SearchState, Seeds
from tests.report.reports import effect, examples, parsed, report, trial, trials

SECTIONS = [
    *("settings", "progress", "curves", "importance", "trials", "classes", "tiles"),
    *("seeds", "failures", "time", "data", "repeat"),
]
HOSTILE = "<script>alert('x')</script>\"&</style><img src=http://a.example/x>"
CASES: dict[str, Report] = {
    "finished": report(),
    "one trial": report([trial(0, 0.5)], influences=(), compared_after=None),
    "no trial": report([], influences=(), compared_after=None, classes=(), examples=None, data=None, began=None),
    "all failed": report([trial(n, None, status="failed", error="no memory", best_epoch=None) for n in range(3)]),
    "nothing learnt": report([trial(0, 0.0), trial(1, 0.0)]),
    "running": report([*trials(5), trial(5, None, status="running", seconds=None, best_epoch=None)], "process 1"),
    "by chance": report([trial(0, 0.5, wobble=0.1), trial(1, 0.51, wobble=0.1)]),
    "paused": report([trial(0, 0.5), trial(1, 0.6, status="paused", epochs_done=4)]),
    "bare": Report("bare", SearchState(Path("bare"), [trial(0, 0.5)], 1, 1.0, None), 1.8e9, "", ("encoder", "lr")),
}


@pytest.mark.parametrize("case", CASES)
def test_every_section_is_there_in_order(case: str) -> None:
    found = parsed(page(CASES[case]))
    assert [attributes["id"] for attributes in found.all("section")] == SECTIONS
    assert {attributes["href"] for attributes in found.all("a")} == {f"#{name}" for name in SECTIONS}
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert not re.search(r"\b(nan|inf|None|undefined)\b", found.text)


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_loaded_from_elsewhere(case: str) -> None:
    html = page(CASES[case])
    found = parsed(html)
    for _, attributes in found.elements:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            assert not attributes.get(name) or re.match(r"#|data:", attributes[name] or ""), attributes
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", html)
    assert "http://" not in html
    assert "https://" not in html


def test_the_page_opens_with_the_answer_in_three_sentences() -> None:
    found = report()
    assert len(sentences(found)) == 3
    html = parsed(page(found))
    first = html.text.split("Settings")[0]
    for sentence in (headline(found), *sentences(found)):
        assert sentence in first
        assert sentence.count(". ") == 0


@pytest.mark.parametrize("case", ["finished", "by chance", "running"])
def test_the_page_has_the_numbers_of_the_console(case: str) -> None:
    found = CASES[case]
    text = parsed(page(found)).text
    lines = [*summary(found.trials, found.state.over), training_line(found.trials) or ""]
    numbers = re.findall(r"\d\.\d{4}", " ".join(lines))
    assert numbers
    for number in numbers:
        assert number in text
    assert training_line(found.trials) in text


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("finished", "Winner: trial #11 (resnet18) with a mean IoU of 0.775"),
        ("by chance", "No winner: the best trial may be better than the baseline by chance"),
        ("all failed", "Every trial failed"),
        ("running", "Best so far: trial #4 (mobilenet_v2) with a mean IoU of 0.600"),
        ("nothing learnt", "it learnt nothing"),
        ("one trial", "nothing that was tried beats it"),
        ("no trial", "No trial has started yet."),
    ],
)
def test_the_answer_fits_what_happened(case: str, said: str) -> None:
    assert said in parsed(page(CASES[case])).text


def test_hostile_names_are_shown_as_text() -> None:
    searched = {"encoder": HOSTILE, "lr": 1e-3}
    hostile = report(
        [trial(0, 0.5), trial(1, 0.6, searched=searched), trial(2, None, status="failed", error=HOSTILE)],
        name=HOSTILE,
        space=HOSTILE,
        examples=examples(HOSTILE),
        classes=(ClassRow(HOSTILE, 0.5, 0.4),),
        influences=(Influence(HOSTILE, 0.7, (effect(HOSTILE, 0.6), effect("b", 0.5))),),
        commands=(Command(HOSTILE, HOSTILE),),
        versions={HOSTILE: HOSTILE},
        remarks=(HOSTILE,),
        confirmation=Confirmation(HOSTILE, (Candidate(HOSTILE, HOSTILE, None, (0.5,)),)),
    )
    html = page(hostile)
    found = parsed(html)
    assert len(found.all("script")) == len(parsed(page(report())).all("script")) == 2
    assert len(found.all("style")) == 1
    assert all((image["src"] or "").startswith("data:image/webp;base64,") for image in found.all("img"))
    assert found.text.count("<script>alert(") > 10
    tips = re.search(r'<script type="application/json" id="trials-json">(.*?)</script>', html, re.DOTALL)
    assert tips
    assert HOSTILE in json.loads(tips[1])["1"]


def test_a_baseline_that_wins_has_no_gain_over_itself() -> None:
    classes = (ClassRow("pond", 0.775, 0.775),)
    best = [trial(0, 0.9), *trials()[1:]]
    won, lost = (parsed(page(report(of, classes=classes))).text for of in (best, trials()))
    assert "pond 0.7750 0.7750 -" in won
    assert "The best trial is the baseline itself." in won
    assert "pond 0.7750 0.7750 +0.0000" in lost


def test_long_values_beside_axes_differ_where_they_are_shortened() -> None:
    names = [f"tu-tf_efficientnet_lite{number}" for number in range(3)]
    found = report([trial(n, 0.5 + n / 10, searched={"encoder": name, "lr": 1e-3}) for n, name in enumerate(names)])
    html = page(found)
    shown = [re.search(rf'title="{name}">([^<]*)</span>', html) for name in names]
    texts = {match[1] for match in shown if match}
    assert len(texts) == 3
    assert all(len(text) == 15 and text.startswith("tu-t…") for text in texts)


def test_a_band_of_one_value_has_no_deviation() -> None:
    data = report().data
    assert data
    bands = (("red", 100.0, 75.1, 0.0, 255.0), ("alpha", 255.0, 1.0, 255.0, 255.0))
    text = parsed(page(report(data=replace(data, bands=bands)))).text
    assert "red 100 75.1 0 255 alpha 255 constant 255 255" in text


def test_missing_and_odd_numbers_are_dashes() -> None:
    odd = report(
        [trial(0, 0.5, seconds=None, parameters=None, spent={}), trial(1, 0.6, searched={"encoder": "a"})],
        classes=(ClassRow("a", float("nan"), None, None, float("nan")),),
        curves={0: Curve((1, 2), (0.4, 0.5)), 1: Curve((), ())},
        ended_after={},
    )
    found = parsed(page(odd))
    assert "nan" not in found.text
    assert "-" in found.text


def test_the_charts_show_each_trial_once_and_unfinished_ones_grey() -> None:
    found = parsed(page(report()))
    dots = [(attributes["data-t"], attributes["class"]) for attributes in found.all("circle") if "data-t" in attributes]
    for number, one in enumerate(trials()):
        kinds = {kind for trial_number, kind in dots if trial_number == str(number)}
        unfinished = one.status == "stopped"
        assert len(kinds) == 1
        assert ("unfinished" in kinds) == (unfinished and number != 11)
    assert {kind for number, kind in dots if number == "0"} == {"baseline"}


def test_every_mark_lies_in_its_frame() -> None:
    found = parsed(page(report()))
    for line in found.all("polyline"):
        for point in str(line["points"]).split():
            assert all(-0.01 <= float(place) <= 100.01 for place in point.split(",")), point
    for dot in found.all("circle"):
        if "data-t" in dot:
            assert all(0 <= float(str(dot[name]).rstrip("%")) <= 100 for name in ("cx", "cy"))


def test_a_score_without_an_interval_has_the_reason_below_it() -> None:
    why = "only one tile holds class 3, so how sure its IoU is cannot be said"
    assert why in parsed(page(report(examples=replace(examples(), interval=None, unsure=why)))).text
    assert "95% over the tiles: 0.7500 to 0.8000" in parsed(page(report(examples=examples()))).text


def test_confirmed_candidates_replace_the_margin() -> None:
    confirmed = Confirmation(
        "resnet18 is better than the baseline by 0.021 (95%: 0.009 to 0.033).",
        (Candidate("trial #10", "encoder resnet18", 0.75, (0.7, 0.72, 0.74), Interval(0.021, 0.009, 0.033)),),
    )
    found = parsed(page(report(confirmation=confirmed))).text
    assert confirmed.sentence in found.split("Settings")[0]
    assert "0.7200" in found  # the mean over seeds
    assert "+0.0210 (+0.0090 to +0.0330)" in found
    assert "No candidate was trained again" not in found


def test_the_first_numbers_are_those_over_fresh_seeds() -> None:
    best, baseline = Seeds(0.62, "confirm_0001_s1", 0.63, True), Seeds(0.58, "confirm_0000_s1", 0.57, True)
    gain = Candidate("trial #1", "", 0.75, (0.62,), Interval(0.04, 0.01, 0.07))
    found = report([trial(0, 0.5, confirmed=baseline), trial(1, 0.75, confirmed=best)])
    found = replace(found, confirmation=Confirmation("It is better.", (gain,)))
    text = parsed(page(found)).text.split("Settings")[0]
    assert "0.6200 mean over fresh seeds; 0.7500 in the search" in text
    assert "0.5800 mean over fresh seeds; 0.5000 in the search" in text
    assert "+0.0400 95%: +0.0100 to +0.0700" in text


@pytest.mark.parametrize(("limit", "said"), [(100, "no trial; so the best of all is taken."), (10**9, "2 trials; the")])
def test_the_page_says_how_many_trials_keep_the_limits(limit: int, said: str) -> None:
    costs = [trial(number, 0.5, parameters=1000, fits=limit > 1000) for number in range(2)]
    state = SearchState(Path("ray_results/ponds"), costs, 2, 1.0, None, costs=("parameters",), prefer="parameters < 5k")
    text = parsed(page(report(costs, state=state))).text
    assert f"The limits of this search: prefer parameters < 5k: kept by {said}" in text


def test_pictures_are_bounded() -> None:
    whole, bare = (len(page(report(examples=seen))) for seen in (examples(), None))
    assert bare < 150_000
    assert whole - bare < 4 * 4 * 110_000 / 3


def test_a_report_without_the_new_fields_of_a_search_has_its_page(tmp_path: Path) -> None:
    plain: dict[str, Any] = {"curves": {}, "influences": (), "ended_after": {}, "classes": (), "examples": None}
    assert len(parsed(page(replace(report(), **plain))).all("section")) == len(SECTIONS)


def test_values_are_compared_only_where_there_are_several() -> None:
    one = Influence("encoder", None, (effect("resnet18", 0.6),))
    assert "What is better" not in parsed(page(report(influences=(one,)))).text
    assert "What is better" in parsed(page(report())).text


def test_the_axis_of_values_that_lie_close_has_two_ends() -> None:
    close = [replace(effect(value, mean), interval=None) for value, mean in (("a", 0.9313), ("b", 0.9347))]
    one = Influence("encoder", 0.7, tuple(close))
    found = re.search(r'class="ends"><span>(.*?)</span><span>(.*?)</span>', page(report(influences=(one,))))
    assert found
    low, high = map(float, found.groups())
    assert low < high
