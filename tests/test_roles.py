"""What each setting is: declared once, on its field."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from segtune import fields
from segtune.config import RunConfig
from segtune.roles import FIXED, SEARCHABLE, Change, Role, declared


def test_every_setting_declares_its_role() -> None:
    assert tuple(declared(RunConfig, Role)) == tuple(RunConfig.model_fields)


def test_a_setting_without_a_role_is_refused() -> None:
    class More(RunConfig):
        dropout: float = Field(0.0, description="share of features that are dropped")

    with pytest.raises(TypeError, match=r"More\.dropout must declare one Role, but declares 0"):
        declared(More, Role)


def test_a_setting_with_two_roles_is_refused() -> None:
    class More(RunConfig):
        dropout: Annotated[float, SEARCHABLE, FIXED] = Field(0.0, description="share of features that are dropped")

    with pytest.raises(TypeError, match=r"More\.dropout must declare one Role, but declares 2"):
        declared(More, Role)


def test_a_role_changes_nothing_about_a_settings_values() -> None:
    class With(RunConfig):
        dropout: Annotated[float | None, SEARCHABLE] = Field(0.0, ge=0, description="share")

    class Without(RunConfig):
        dropout: float | None = Field(0.0, ge=0, description="share")

    with_role, without = (model.model_json_schema()["properties"]["dropout"] for model in (With, Without))
    assert with_role == without


def test_what_is_measured_on_is_the_same_in_all_trials() -> None:
    searched = {name for name, role in fields.ROLES.items() if role.searchable}
    assert searched.isdisjoint(fields.VALIDATION_SETTINGS)
    assert searched.isdisjoint(fields.OF_THE_MACHINE)
    assert searched & set(fields.DATA_SETTINGS) == {"channels"}


def test_what_a_search_may_change_on_resume_a_run_may_change_too() -> None:
    assert set(fields.OF_THE_MACHINE) < fields.CHANGEABLE_IN_SEARCH < fields.CHANGEABLE_IN_RUN
    assert fields.CHANGEABLE_IN_SEARCH - set(fields.OF_THE_MACHINE) == {"threads", "class_names"}
    assert {"epochs", "worst", "early_stopping"} == fields.CHANGEABLE_IN_RUN - fields.CHANGEABLE_IN_SEARCH
    assert list(Change) == sorted(Change)


def test_a_seed_affects_a_score_by_chance_alone() -> None:
    assert {*fields.OF_THE_MACHINE, "seed", "worst", "class_names"} == fields.SCORE_NEUTRAL


def test_settings_that_name_places_on_disk() -> None:
    assert fields.DATA_PLACES == ("dataset", "val_dir", "add_val_dirs")
    assert {*fields.FOLDERS, *fields.FOLDER_LISTS} == {*fields.DATA_PLACES, "cache_dir"}
