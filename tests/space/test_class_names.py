"""Names of classes in a space file."""

from __future__ import annotations

import yaml

from segtune.space.jsonschema import space_schema
from segtune.space.reader import load_space

SPACE = "classes: {1: built-up, 2: water}\nspace:\n  batch_size: [2, 4]\n"
PLAIN = "classes: [1, 2]\nspace:\n  batch_size: [2, 4]\n"


def test_a_mapping_names_the_classes_of_all_runs(space_of, tmp_path) -> None:
    space = space_of(SPACE)
    assert (space.baseline.classes, space.baseline.class_names) == ([1, 2], ["built-up", "water"])
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(space.dump(), sort_keys=False), encoding="utf-8")
    assert load_space(tmp_path / "again.yaml") == space


def test_other_classes_on_the_command_line_drop_the_names_of_the_file(space_of) -> None:
    assert space_of(SPACE, overrides={"classes": [5]}).baseline.class_names == []
    assert space_of(SPACE, overrides={"classes": [1, 2]}).baseline.class_names == ["built-up", "water"]
    given = {"classes": [5], "class_names": ["road"]}
    assert space_of(SPACE, overrides=given).baseline.class_names == ["road"]


def test_names_may_change_when_a_search_is_resumed(space_of) -> None:
    assert space_of(SPACE).changes_from(space_of(PLAIN)) == []
    assert space_of(PLAIN).changes_from(space_of(SPACE)) == []


def test_a_wrong_name_is_reported_with_its_line(mistakes_of) -> None:
    (mistake,) = mistakes_of("run: {epochs: 3}\nclasses: {1: built-up, 2: }\nspace:\n  batch_size: [2, 4]\n")
    assert mistake.endswith(":2: classes: 2 has no name; name every class, or none")
    (mistake,) = mistakes_of("classes: {1: a, 2: a}\nspace:\n  batch_size: [2, 4]\n")
    assert mistake.endswith(":1: classes: two classes have the name 'a'")


def test_names_are_given_once(mistakes_of) -> None:
    (mistake,) = mistakes_of("class_names: [a]\nclasses: {1: a}\nspace:\n  batch_size: [2, 4]\n")
    assert mistake.endswith(":2: classes: has names already; leave class_names out")


def test_the_schema_takes_a_list_and_a_mapping() -> None:
    forms = space_schema()["definitions"]["value.classes"]["anyOf"]
    assert [form["type"] for form in forms] == ["array", "object"]
