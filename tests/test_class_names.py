"""Names of classes: given with the labels, kept beside them."""

from __future__ import annotations

from typing import Any

import pytest

from segtune.cli.assignments import parse_assignments, parse_values
from segtune.config import RunConfig
from segtune.data.labels import Labels
from segtune.errors import InputError


def named(given: dict[str, Any]) -> tuple[list[int], list[str]]:
    config = RunConfig.from_settings(given)
    return config.classes, config.class_names


def test_a_mapping_gives_labels_and_names() -> None:
    assert named({"classes": {1: "built-up", 2: " bare soil "}}) == ([1, 2], ["built-up", "bare soil"])
    assert named({"classes": [1, 2]}) == ([1, 2], [])
    stored = RunConfig.from_settings({"classes": {7: "water"}}).settings()
    assert named(stored) == ([7], ["water"])


@pytest.mark.parametrize(
    "text",
    ["1:built-up,2:bare soil", "1:built-up 2:bare soil", "{1: built-up, 2: bare soil}", "1: built-up, 2: bare soil"],
)
def test_names_on_the_command_line(text: str) -> None:
    wanted = {"classes": [1, 2], "class_names": ["built-up", "bare soil"]}
    assert parse_assignments([f"classes={text}"]) == wanted
    assert parse_values("classes", [text]) == {1: "built-up", 2: "bare soil"}
    assert parse_values("classes", ["1:built-up", "2:bare soil"]) == {1: "built-up", 2: "bare soil"}


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({1: "water", 2: None}, "classes: 2 has no name; name every class, or none"),
        ({1: "water", 2: ""}, "classes: 2 has no name; name every class, or none"),
        ({1: "water", 2: "water"}, "class_names: two classes have the name 'water'"),
        ({1: "  "}, "class_names: a name is empty"),
        ({1: "a,b"}, "class_names: the name 'a,b' contains a comma or a character that cannot be printed"),
        ({1: "a\nb"}, "class_names: the name 'a\\nb' contains a comma or a character that cannot be printed"),
        ({1: "w" * 61}, "class_names: the name 'wwwwwwwwwwwwwwwwwwww'... is longer than 60 characters"),
        ({1: 2021}, "classes: the name of 1 is not text, but 2021; write it in quotes"),
        ({"one": "water"}, "classes: must be a valid integer, but got 'one'"),
        ({"water": 1}, "classes: write label:name, such as 1:water, but got 'water:1'"),
    ],
)
def test_a_wrong_name_is_one_clear_line(classes: dict[Any, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        RunConfig.from_settings({"classes": classes})
    assert caught.value.mistakes == (message,) or list(caught.value.mistakes) == [message]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1:water,2", "classes: 2 has no name; name every class, or none"),
        ("tree:10", "classes: write label:name, such as 10:tree, but got 'tree:10'"),
        ("built-up:10,2:water", "classes: write label:name, such as 10:built-up, but got 'built-up:10'"),
        ("1:water,1:soil", "classes: the list contains a value twice"),
        ("1:water,2:water", "class_names: two classes have the name 'water'"),
    ],
)
def test_a_wrong_name_on_the_command_line_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_assignments([f"classes={text}"])
    assert list(caught.value.mistakes) == [message]


def test_names_are_given_once() -> None:
    for names in ({"class_names": ["b"]}, {"class_names": ["b", "c"]}):
        with pytest.raises(InputError, match=r"^classes: has names already; leave class_names out$"):
            RunConfig.from_settings({"classes": {1: "a"}, **names})
    with pytest.raises(InputError, match=r"^classes: has names already; leave class_names out$"):
        parse_assignments(["classes=1:a", "class_names=b"])


def test_names_and_labels_must_be_as_many() -> None:
    with pytest.raises(InputError, match="class_names has 1 names, but classes has 2 labels"):
        RunConfig.from_settings({"classes": [1, 2], "class_names": ["water"]})


def test_a_label_is_shown_with_its_name() -> None:
    labels = Labels((1, 20), (), True, 0, ("water", "soil"))
    assert [labels.text(label) for label in (1, "20", "background", 3)] == ["1 water", "20 soil", "background", "3"]
    assert Labels((1, 20), (), True, 0).text(20) == "20"
