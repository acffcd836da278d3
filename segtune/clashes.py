"""Settings that do not go together: the checks of several settings that need more than a line."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from segtune.mistakes import clash
from segtune.roles import acts, listed
from segtune.vocabulary import CLASS_WEIGHTS, loss_terms


def check_used(config: BaseModel) -> None:
    """Check that settings that cannot act have their defaults: no two runs are then the same under other settings."""
    for name, needed in acts(type(config)).items():
        value = getattr(config, needed.name)
        default = type(config).model_fields[name].default
        if needed.elsewhere == "refused" and getattr(config, name) != default and not needed.at(value):
            text = f"{name} changes {listed(needed.values, 'and')} only, but {needed.name} is {value}"
            raise clash(text, name, needed.name)


def check_loss(loss: str, classes: Sequence[int], class_weights: str) -> None:
    """Check that a loss and the class weights suit the classes."""
    terms = {name for _, name in loss_terms(loss)}
    if "bce" in terms and len(classes) > 1:
        text = f"loss 'bce' is for a single class, but classes lists {len(classes)}; ce is its multi-class form"
        raise clash(text, "loss", "classes")
    numbers = 0 if class_weights in CLASS_WEIGHTS else len(class_weights.split(","))
    if numbers not in (0, len(classes)):
        text = f"class_weights needs a number for each class, but has {numbers} ({class_weights}), and classes lists"
        raise clash(f"{text} {len(classes)}", "class_weights", "classes")
