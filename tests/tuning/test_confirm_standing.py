"""A confirmation that is half done, or no longer counts: the console and the page say so, and --resume goes on."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from segtune.cli.searching import show_outcome
from segtune.confirmed import Look
from segtune.evaluation.intervals import Interval
from segtune.report.gather import gather
from segtune.report.page import page
from segtune.report.tables import state_of
from segtune.trials import ranked
from segtune.tuning.confirm import Asked
from segtune.tuning.search import Outcome
from tests.report.reports import parsed
from tests.scripts import call
from tests.tuning.bench import manifest
from tests.tuning.confirming import MEDIAN, SKILLS, VALUES, Searched, Trains
from tests.tuning.searched import state

ALONE = Asked(alone=True)
LOOK = Look("DATASET/test", 3, 1, 0.8, Interval(0.8, 0.7, 0.9), 0.6, None)
NEVER = "No candidate was trained again"


def printed(search: Searched) -> str:
    """What the console says at the end of a start, on one line."""
    text = io.StringIO()
    results = search.bench.results()
    found = Outcome(results.trials(), search.bench.folder, None, None, results.confirmation)
    search.bench.folder.search_yaml.write_text(search.bench.space_text)
    show_outcome(Console(file=text, width=500), found, search.bench.space, "")
    return " ".join(text.getvalue().split())


def shown(search: Searched) -> str:
    """What the page says of other seeds."""
    search.bench.folder.search_yaml.write_text(search.bench.space_text)
    text = parsed(page(gather(search.bench.folder, with_examples=False))).text
    return " ".join(text.split("Other seeds")[-1].split("Failures")[0].split())


def command(search: Searched) -> str:
    return f"run_search.py --confirm {search.bench.folder.path}"


@pytest.mark.parametrize("looks", [0, 2])
def test_a_line_says_that_other_trials_are_the_best_now(tmp_path: Path, looks: int) -> None:
    search = Searched(tmp_path / "s", VALUES, "confirm: none")
    search.confirm(Trains(SKILLS), ALONE)
    replace(search.confirmation, tests=tuple(replace(LOOK, look=n + 1) for n in range(looks))).write(
        search.bench.folder.confirmation
    )
    search.add([0.95])
    resumed = Trains({})
    search.confirm(resumed)
    assert resumed.trained == []
    line = (
        "he confirmation of the baseline, #2, #1 and #3 no longer counts, since the best trials are now the baseline, "
        f"#4, #2 and #1; {command(search)} confirms again, and 9 of the 12 runs for that are done"
    )
    for said in (printed(search), shown(search)):
        assert line in said
        assert NEVER not in said
        twice = "est (DATASET/test, 3 tiles), looked at 2 times: trial #1, the winner then, 0.8000"
        assert (twice in said) == (looks == 2)
    assert any(line in str(found) for found in state_of(state(search.bench), 0.0))
    again = Trains(SKILLS | {4: 0.5})
    search.confirm(again, ALONE)
    assert again.trained == ["confirm_0004_s1", "confirm_0004_s2", "confirm_0004_s3"]
    assert "no longer counts" not in printed(search)


def test_limits_that_no_trial_keeps_change_nothing(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES, "confirm: none")
    search.confirm(Trains(SKILLS), ALONE)
    before = search.confirmation.result
    assert before
    limited = search.bench.space_text.replace("confirm: none", "confirm: none, prefer: 'parameters < 1'")
    for name in ("space.yaml", "search.yaml"):
        (search.bench.folder.path / name).write_text(limited)
    search.bench.space_text = limited
    assert ranked(state(search.bench).trials)[0].confirmed
    assert before.sentence[1:] in shown(search)


def test_other_limits_are_compared_without_training(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES, "prefer: 'parameters < 2k', confirm: none")
    search.confirm(Trains(SKILLS), ALONE)
    assert ranked(search.results.trials())[0].number == 3
    replace(manifest(), parameters=5000).write(search.bench.folder.trial(0).run_yaml)  # as if the limits had changed
    line = "no longer counts, since the limits of costs leave others of them"
    assert line in printed(search)
    assert line in shown(search)
    resumed = Trains({})
    search.confirm(resumed)
    assert resumed.trained == []
    assert line not in printed(search)
    result = search.confirmation.result
    assert result
    assert [(one.trial, one.fits) for one in result.configurations] == [(3, True), (1, True), (2, True), (0, False)]


def test_resume_goes_on_with_an_interrupted_confirm_of_the_user(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES, "confirm: none")
    assert search.confirm(Trains(SKILLS, interrupt_after=5), ALONE).early
    line = f"onfirmation: 5 of 12 runs with fresh seeds done; {command(search)} goes on"
    for said in (printed(search), shown(search)):
        assert line in said
        assert NEVER not in said
    resumed = Trains(SKILLS)
    search.confirm(resumed)
    assert len(resumed.trained) == 7
    assert search.confirmation.result
    assert ranked(search.results.trials())[0].number == 3


def test_a_look_for_an_earlier_winner_names_it(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.confirm(Trains(SKILLS))
    assert search.model == MEDIAN
    replace(search.confirmation, tests=(LOOK,)).write(search.bench.folder.confirmation)
    first = "est (DATASET/test, 3 tiles), looked at once"
    assert f"{first}, after everything else: winner 0.8000" in printed(search)
    replace(search.confirmation, tests=(replace(LOOK, winner=2),)).write(search.bench.folder.confirmation)
    for said in (printed(search), shown(search)):
        assert f"{first}: trial #2, the winner then, 0.8000" in said


@pytest.mark.parametrize("setting", ["none", "{top: 2, seeds: 2}"])
def test_numbers_of_flags_hold_until_flags_give_others(tmp_path: Path, setting: str) -> None:
    search = Searched(tmp_path / "s", VALUES, f"confirm: {setting}")
    backend = Trains(SKILLS, interrupt_after=3)
    assert search.confirm(backend, Asked(alone=True, top=1, seeds=3)).early
    for asked in (ALONE, Asked()):
        backend = Trains(SKILLS)
        search.confirm(backend, asked)
        assert (search.confirmation.top, search.confirmation.wanted) == (1, 3)
    search.confirm(backend, Asked(alone=True, seeds=4))
    assert backend.trained == ["confirm_0000_s4", "confirm_0002_s4"]
    assert search.confirmation.result
    assert [len(one.seeds) for one in search.confirmation.result.configurations] == [4, 4]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--confirm", "x", "--seeds", "1"), "--seeds: must be at least 2, but got 1"),
        (("--confirm", "x", "--top", "0"), "--top: must be at least 1, but got 0"),
        (("--resume", "x", "--seeds", "3"), "argument --seeds: needs --confirm NAME"),
        (("--space", "x", "--top", "3"), "argument --top: needs --confirm NAME"),
        (("--resume", "x", "--test-again"), "argument --test-again: needs --confirm NAME"),
    ],
)
def test_wrong_numbers_of_a_confirmation_are_one_line(arguments: tuple[str, ...], said: str) -> None:
    ended = call("run_search", *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith(f"error: {said}")


def test_a_number_of_a_confirmation_is_no_setting(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.bench.folder.search_yaml.write_text(search.bench.space_text)
    ended = call("run_search", "--confirm", search.bench.folder.path, "--set", "seeds=3")
    assert ended.status == 2
    flag = "there is a flag for it: --seeds N, of run_single.py and run_search.py --confirm"
    assert f"unknown setting 'seeds'; {flag}" in ended.err
