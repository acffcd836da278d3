"""The objective: the measure that best epochs are chosen, trials are stopped and winners are named by.

It is mIoU, another measure of quality, or a weighted mean of several: ``f1``, ``iou/3``, ``2*iou/1+iou/3``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segtune.errors import nearest, short
from segtune.vocabulary import number_text, weight_number

MIOU, F1, BOUNDARY_IOU = "miou", "f1", "boundary_iou"
MEASURES = (MIOU, F1, BOUNDARY_IOU)  # means over the classes; see docs/objectives.md
COSTS = ("parameters", "latency", "gpu_memory", "seconds")  # smaller is better
IOU = "iou/"  # before a label: the IoU of that class
_FORMS = "miou, f1, boundary_iou, iou/LABEL, or a weighted mean such as 2*iou/1+iou/3"


@dataclass(frozen=True)
class Objective:
    """The weighted mean of some measures, each from 0 to 1. Larger is better."""

    terms: tuple[tuple[float, str], ...]  # weight and measure

    @classmethod
    def of(cls, value: object) -> Objective:
        """Read ``f1``, ``2*iou/1+iou/3`` or ``{"iou/1": 2, "iou/3": 1}``; raise ValueError for anything else."""
        if isinstance(value, Mapping):
            terms = [(weight_number(weight, f"the weight of {name}"), _measure(name)) for name, weight in value.items()]
        elif isinstance(value, str):
            terms = [_term(text.strip()) for text in value.split("+")]
        else:
            raise ValueError(f"must be {_FORMS}, but got {short(value)}")
        if not terms:
            raise ValueError(f"names no measure; it must be {_FORMS}")
        names = [name for _, name in terms]
        if len(set(names)) < len(names):
            raise ValueError("the mean contains a measure twice")
        if len(terms) == 1:
            terms = [(1.0, names[0])]
        return cls(tuple(sorted(terms, key=lambda term: _order(term[1]))))

    @property
    def name(self) -> str:
        """The objective as settings and columns have it; each objective has one spelling."""
        return "+".join(name if weight == 1 else f"{number_text(weight)}*{name}" for weight, name in self.terms)

    @property
    def is_miou(self) -> bool:
        """Whether it is mIoU alone, as in all runs of earlier releases."""
        return self.name == MIOU

    @property
    def labels(self) -> tuple[int, ...]:
        """The labels of the classes that it names."""
        return tuple(int(name.removeprefix(IOU)) for _, name in self.terms if name.startswith(IOU))

    @property
    def needs_outlines(self) -> bool:
        """Whether pixels near outlines must be counted for it."""
        return any(name == BOUNDARY_IOU for _, name in self.terms)

    def unknown(self, classes: Sequence[int]) -> str | None:
        """Return what is wrong where it names labels that are no classes; None where it does not."""
        missing = [label for label in self.labels if label not in classes]
        if not missing:
            return None
        return f"{IOU}{missing[0]} is the IoU of label {missing[0]}, but classes is {list(classes)}"


def objective_name(value: object) -> str:
    """Return an objective in its one spelling; raise ValueError where it is none."""
    return Objective.of(value).name


def title(objective: str) -> str:
    """Return an objective as headings have it: mIoU, and every other one by its name."""
    return "mIoU" if objective == MIOU else objective


def _term(text: str) -> tuple[float, str]:
    weight, star, name = (part.strip() for part in text.rpartition("*"))
    return (weight_number(weight, f"the weight of {name}") if star else 1.0), _measure(name)


def _measure(name: object) -> str:
    text = str(name).strip().lower()
    label = text.removeprefix(IOU)
    if text in MEASURES:
        return text
    if text.startswith(IOU) and label.isdecimal():
        return f"{IOU}{int(label)}"
    if text.startswith(IOU):
        raise ValueError(f"{text!r}: after iou/ comes the label of a class, such as iou/1")
    raise ValueError(f"unknown measure {text!r}{nearest(text, MEASURES)} (known: {_FORMS})")


def _order(name: str) -> tuple[int, int]:
    return (MEASURES.index(name), 0) if name in MEASURES else (len(MEASURES), int(name.removeprefix(IOU)))
