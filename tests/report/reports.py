"""Make records of searches without a search, and read pages of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from segtune.data.labels import Labels
from segtune.evaluation.intervals import Interval
from segtune.pictures.quartet import colours_of, quartet
from segtune.report.record import ClassRow, Command, Curve, DataFigures, Effect, Example, Examples, Influence, Report
from segtune.trials import SearchState, Trial

EPOCHS = 12
_VOID = {"meta", "link", "img", "br", "input", "hr"}  # elements of HTML without an end


def trial(number: int, miou: float | None, **others: Any) -> Trial:
    searched = others.pop(
        "searched", {"encoder": "resnet18" if number % 2 else "mobilenet_v2", "lr": 1e-3 * (number + 1)}
    )
    given: dict[str, Any] = {
        "status": "finished",
        "settings": {"epochs": EPOCHS, "image_size": 64, **searched},
        "epochs_done": EPOCHS,
        "best_epoch": EPOCHS,
        "seconds": 60.0 + number,
        "spent": {"training": 50.0, "evaluation": 10.0},
        "searched": searched,
        "wobble": 0.001,
        "origin": "sampler" if number else "baseline",
    }
    return Trial(number, miou=miou, **(given | others))


def trials(count: int = 12) -> list[Trial]:
    """Return trials with rising scores; every third one was stopped after four epochs."""
    rest = {"status": "stopped", "epochs_done": 4, "best_epoch": 4}
    return [trial(number, 0.5 + number / 40, **(rest if number % 3 == 2 else {})) for number in range(count)]


def report(of: Sequence[Trial] | None = None, holder: str | None = None, **others: Any) -> Report:
    """Return the record of a search on one class; `holder` is the process that runs it."""
    found = list(trials() if of is None else of)
    curves = {
        one.number: Curve(tuple(range(1, one.epochs_done + 1)), tuple(np.linspace(0.1, one.miou, one.epochs_done)))
        for one in found
        if one.miou is not None
    }
    given: dict[str, Any] = {
        "name": "ponds",
        "state": SearchState(Path("ray_results/ponds"), found, len(found), 800.0, holder),
        "written": 1.8e9,
        "space": "space:\n  encoder: [resnet18, mobilenet_v2]\n",
        "searched": ("encoder", "lr"),
        "began": 1.8e9 - 900,
        "curves": curves,
        "ended_after": {one.number: 60.0 * (one.number + 1) for one in found},
        "influences": (Influence("encoder", 0.7, (effect("resnet18", 0.6), effect("mobilenet_v2", 0.5))),),
        "compared_after": 4,
        "classes": (ClassRow("class 255", 0.775, 0.5, Interval(0.775, 0.75, 0.8), 0.1), ClassRow("rare", None, None)),
        "examples": examples(),
        "no_examples": "",
        "data": DataFigures(
            "data/ponds", {"train": 64, "val": 24}, {}, ("pond",), (("red", 1, 2, 0, 255),), 64, None, "f"
        ),
        "versions": {"torch": "2.14"},
        "commands": (Command("repeat it", "python run_search.py --space ponds"),),
    }
    return Report(**(given | others))


def effect(value: str, mean: float) -> Effect:
    return Effect(value, 5, mean, (mean - 0.05, mean + 0.05), mean + 0.1)


def examples(name: str = "tile_1") -> Examples:
    labels = Labels((255,), (), True, 0)
    truth = np.zeros((32, 32), dtype=np.uint8)
    truth[8:20, 8:20] = 1
    picture = np.full((32, 32, 3), 90, dtype=np.uint8)
    drawn = quartet(picture, truth, np.roll(truth, 3, axis=1), labels)
    tile = Example("worst", name, 0.6, drawn)
    return Examples((tile,), tuple(colours_of(labels)), Interval(0.775, 0.75, 0.8), {}, {}, "data/ponds/val", 24)


@dataclass
class Parsed(HTMLParser):
    """A page: its elements, its text, and whether each element that begins also ends."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.opened.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.opened):
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def parsed(html: str) -> Parsed:
    """Return a page, all of whose elements end in order."""
    found = Parsed()
    found.feed(html)
    found.close()
    assert found.opened == []
    return found
