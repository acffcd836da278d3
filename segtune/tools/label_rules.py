"""What the values or colours of masks become: the rules that are typed for `relabel`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from segtune.errors import InputError, short

_HEX, _RGB = re.compile(r"#([0-9a-fA-F]{6})"), re.compile(r"([0-9]{1,3}),([0-9]{1,3}),([0-9]{1,3})")
_WHOLE = re.compile(r"[-+]?[0-9]{1,10}")
_LOWEST, _HIGHEST = -(2**31) + 1, 2**31 - 1  # labels; the lowest int32 stands for a pixel without a label
OTHER, NODATA = "other", "nodata"

Kind = Literal["labels", "colours", "thresholds"]


@dataclass(frozen=True)
class LabelRules:
    """What becomes of the pixels of masks.

    A code is a label, a colour as the number 0xRRGGBB, or the number of thresholds that a grey value reaches.
    """

    kind: Kind
    labels: Mapping[int, int]  # new label by code
    other: int | None = None  # new label of codes that are not listed; None refuses them
    nodata: int | None = None  # new label of pixels without data; None refuses them
    thresholds: tuple[float, ...] = ()
    tolerance: int = 0  # a code counts as a listed one that differs by at most so much, in each of the colours

    def named(self, code: int) -> str:
        """Return a code as it is typed."""
        return colour_text(code) if self.kind == "colours" else str(code)

    @property
    def written(self) -> set[int]:
        """All labels that can be written."""
        return {*self.labels.values(), *(label for label in (self.other, self.nodata) if label is not None)}


def colour_text(code: int) -> str:
    """Return a colour, 0xRRGGBB, as it is typed: ``255,0,0``."""
    return f"{code >> 16},{code >> 8 & 255},{code & 255}"


def parse_rules(words: Sequence[str], thresholds: Sequence[str] = (), tolerance: int = 0) -> LabelRules:
    """Return the rules that words such as ``255:1``, ``255,0,0:1``, ``other:0`` and ``nodata:255`` state.

    Raises InputError with every mistake: what is no rule, what is listed twice, and labels beside colours.
    """
    mistakes: list[str] = []
    special: dict[str, int] = {}
    labels: dict[int, int] = {}
    colours: dict[int, int] = {}
    for word in words:
        key, _, value = word.rpartition(":")
        try:
            label = _label(value)
            code, found = _code(key)
        except ValueError as error:
            mistakes.append(f"--labels: {short(word)}: {error}")
            continue
        kinds: dict[str, dict[int, int]] = {"labels": labels, "colours": colours}
        if key in special or (found and code in kinds[found]):
            mistakes.append(f"--labels: {key} is listed twice")
        elif found:
            kinds[found][code] = label
        else:
            special[key] = label
    if labels and colours:
        mistakes.append("--labels: has labels and colours; masks hold one of them, so list one kind")
    cuts, wrong = _thresholds(thresholds)
    mistakes += wrong
    if cuts and colours:
        mistakes.append("--threshold: is for grey masks, and --labels lists colours; leave one of them out")
    if not words and not thresholds:
        mistakes.append("--labels VALUE:LABEL ... or --threshold VALUE is required, such as --labels 255:1 0:0")
    if not 0 <= tolerance <= 255:
        mistakes.append(f"--tolerance: must be between 0 and 255, but got {tolerance}")
    if tolerance and cuts:
        mistakes.append("--tolerance: has no effect beside --threshold; leave one of them out")
    if mistakes:
        raise InputError(mistakes)
    if cuts and not labels:  # the steps themselves are the labels
        labels = {step: step for step in range(len(cuts) + 1)}
    kind: Kind = "thresholds" if cuts else "colours" if colours else "labels"
    return LabelRules(kind, labels or colours, special.get(OTHER), special.get(NODATA), cuts, tolerance)


def _label(text: str) -> int:
    if not _WHOLE.fullmatch(text) or not _LOWEST <= int(text) <= _HIGHEST:
        raise ValueError("a rule is VALUE:LABEL with a whole number as label, such as 255:1")
    return int(text)


def _code(key: str) -> tuple[int, str]:
    """Return a code and its kind; the kind is empty for the words that stand for other values and missing data."""
    if key in (OTHER, NODATA):
        return 0, ""
    if found := _HEX.fullmatch(key):
        return int(found[1], 16), "colours"
    if found := _RGB.fullmatch(key):
        parts = [int(part) for part in found.groups()]
        if max(parts) > 255:
            raise ValueError("a colour has three numbers from 0 to 255: red, green, blue")
        return parts[0] << 16 | parts[1] << 8 | parts[2], "colours"
    if _WHOLE.fullmatch(key) and _LOWEST <= int(key) <= _HIGHEST:
        return int(key), "labels"
    raise ValueError(f"a value is a label (255), a colour (255,0,0 or '#ff0000'), {OTHER} or {NODATA}")


def _thresholds(words: Sequence[str]) -> tuple[tuple[float, ...], list[str]]:
    """Return thresholds, and what is wrong with them."""
    cuts = []
    for word in words:
        try:
            cuts.append(float(word))
        except ValueError:
            return (), [f"--threshold: {short(word)} is no number"]
    if not all(map(isfinite, cuts)) or sorted(set(cuts)) != cuts:
        return (), ["--threshold: thresholds are finite numbers that rise, such as --threshold 64 128"]
    return tuple(cuts), []
