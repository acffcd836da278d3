"""The settings of a search."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from segtune.errors import InputError
from segtune.files.folders import SearchFolder
from segtune.roles import declared
from segtune.space.confirm import Confirm
from segtune.space.reader import load_space
from segtune.space.settings import CHANGEABLE, KEPT, AtResume, SearchSettings


@pytest.mark.parametrize("name", ["time_budget", "max_trial_time", "hang_time"])
@pytest.mark.parametrize(
    ("given", "seconds"),
    [("3600", 3600), ("1.5", 1.5), (" 90 ", 90), (90, 90), (0.5, 0.5), ("8h", 28800), ("1h30m", 5400), ("45s", 45)],
)
def test_durations_in_the_file_and_on_the_command_line(space_of, name: str, given: object, seconds: float) -> None:
    text = "space: {lr: [1e-3, 1e-2]}\nsearch: {%s}\n"
    assert getattr(space_of(text % f"{name}: {given}").search, name) == seconds
    assert getattr(space_of(text % "", search_overrides={name: given}).search, name) == seconds


@pytest.mark.parametrize("given", ["0", "-5", "8 apples", "h", "nan", "inf", "1e400", "8:00", ""])
def test_a_wrong_duration_is_refused_with_examples(space_of, given: str) -> None:
    with pytest.raises(InputError, match=r"time_budget: (must be a duration such as 8h, .* seconds|.*greater than 0)"):
        space_of("space: {lr: [1e-3, 1e-2]}\n", search_overrides={"time_budget": given})


@pytest.mark.parametrize(
    ("given", "confirm"),
    [
        ("confirm: none", None),
        ("confirm: none, time_budget: 8h", None),
        ("time_budget: 8h", Confirm(3, 3)),
        ("confirm: {top: 1}", Confirm(1, 3)),
        (r"confirm: {seeds: 5, group: 'scene_(\d+)'}", Confirm(3, 5, r"scene_(\d+)")),
        ("trials: 9", None),
    ],
)
def test_the_confirmation_is_on_where_there_is_a_time_budget(space_of, given: str, confirm: Confirm | None) -> None:
    space = space_of(f"space: {{lr: [1e-3, 1e-2]}}\nsearch: {{{given}}}\n")
    assert space.search.confirms() == confirm
    assert SearchSettings.model_validate(space.dump()["search"]) == space.search


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("3", "must be auto, none or a mapping such as {top: 3, seeds: 3}, but got 3"),
        ("yes_please", "must be auto, none or a mapping such as {top: 3, seeds: 3}, but got 'yes_please'"),
        ("{top: 0}", "top must be a whole number of at least 1, but got 0"),
        ("{seeds: 1}", "seeds must be a whole number of at least 2, but got 1"),
        ("{seed: 3}", "unknown key 'seed'; did you mean 'seeds'?"),
        ("{group: scene}", "group must be a regular expression with parentheses"),
        ("{group: '('}", "is not a regular expression"),
    ],
)
def test_a_wrong_confirmation_is_refused(mistakes_of, given: str, said: str) -> None:
    (mistake,) = mistakes_of(f"space: {{lr: [1e-3, 1e-2]}}\nsearch: {{confirm: {given}}}\n")
    assert mistake.startswith("s.yaml:2: search.confirm: ")
    assert said in mistake


def test_every_search_setting_declares_what_happens_at_resume() -> None:
    assert tuple(declared(SearchSettings, AtResume)) == tuple(SearchSettings.model_fields)


def test_a_search_setting_that_declares_nothing_is_refused() -> None:
    class More(SearchSettings):
        portfolio: int = Field(0, description="number of first trials from a list")

    with pytest.raises(TypeError, match=r"More\.portfolio must declare one AtResume, but declares 0"):
        declared(More, AtResume)


def test_a_resumed_search_may_change_budget_machine_and_limits() -> None:
    budget, machine = {"trials", "time_budget", "patience", "disk_gb"}, {"gpus_per_trial", "cpus_per_trial"}
    assert set(KEPT) == {*budget, *machine, "max_concurrent", "prefer"}
    assert set(CHANGEABLE) == {*KEPT, "confirm", "keep", "retries", "hang_time", "log_to"}


FORMER = "space: {lr: [1e-3, 1e-2]}\nsearch: {trials: 3, teach: complete}\n"


def test_a_search_yaml_of_the_former_release_is_read(tmp_path: Path) -> None:
    path = SearchFolder(tmp_path).search_yaml
    path.write_text(FORMER)
    assert load_space(path).search == SearchSettings(trials=3)


def test_a_setting_of_the_former_release_is_unknown_in_a_new_file(mistakes_of) -> None:
    assert mistakes_of(FORMER) == ["s.yaml:2: search.teach: unknown setting 'teach'"]
