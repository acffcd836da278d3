"""Settings on the command line."""

from __future__ import annotations

import pytest

from segtune.cli.assignments import parse_assignments, parse_value
from segtune.errors import InputError


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lr", "1e-5", 1e-5),
        ("lr", "1", 1.0),
        ("encoder", "18", "18"),
        ("encoder", "null", "null"),
        ("augmentation", "none", "none"),
        ("model", "unet++", "unetplusplus"),
        ("image_size", "null", None),
        ("image_size", "64", 64),
        ("classes", "1,2, 3", [1, 2, 3]),
        ("classes", "[1, 2]", [1, 2]),
        ("classes", "7", [7]),
        ("ignore", "", []),
        ("channels", "nir", ["nir"]),
        ("channels", "2021,2022", ["2021", "2022"]),
    ],
)
def test_parse_value(name, text, value):
    parsed = parse_value(name, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("encodr", "x", "unknown setting 'encodr'; did you mean 'encoder'?"),
        ("start", "none", "start: is a setting of a search and not of its runs; it stands under search: in the space"),
        ("lr", "fast", "lr: must be a valid number, but got 'fast'"),
        ("lr", ".inf", "lr: must be a finite number, but got inf"),
        ("batch_size", "8.5", "batch_size: must be a valid integer, but got 8.5"),
        ("model", "unett", "model: 'unett' is not one of"),
        ("classes", "[1, 2", "classes: cannot read '[1, 2': expected ',' or ']'"),
        ("channels", "a,a", "channels: the list contains a value twice"),
    ],
)
def test_parse_value_refuses(name, text, message):
    with pytest.raises(InputError) as caught:
        parse_value(name, text)
    assert str(caught.value).startswith(message)


def test_parse_assignments():
    assert parse_assignments(["lr=1e-3", "encoder=a=b", "classes=1,2", "lr=1e-4"]) == {
        "lr": 1e-4,
        "encoder": "a=b",
        "classes": [1, 2],
    }
    with pytest.raises(InputError) as caught:
        parse_assignments(["lr", "epochs=0", "x=1"])
    assert [mistake[:6] for mistake in caught.value.mistakes] == ["--set:", "epochs", "unknow"]


@pytest.mark.parametrize("text", [f"classes={'[' * 3000}", f"epochs={'9' * 400}"])
def test_a_huge_value_on_the_command_line_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"nested too deeply|too large a number"):
        parse_assignments([text])
