"""Settings that do not go together: the checks of several settings that need more than a line."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from segtune.mistakes import clash
from segtune.vocabulary import CLASS_WEIGHTS, PIXEL_LOSSES, SMOOTHED_LOSSES, loss_terms

# Settings that act with some values of another setting only. `momentum` is none of them: it may have any value with
# optimizers that have no momentum, as in earlier releases.
_USED_WITH = {
    "lr_decay": ("lr_schedule", ("step", "plateau")),
    "lr_patience": ("lr_schedule", ("plateau",)),
    "mix_probability": ("mix", ("cutmix", "copy_paste")),
}


def check_used(config: BaseModel) -> None:
    """Check that settings that cannot act have their defaults: no two runs are then the same under other settings."""
    for name, (other, values) in _USED_WITH.items():
        value = getattr(config, other)
        if value not in values and getattr(config, name) != type(config).model_fields[name].default:
            raise clash(_unused(name, values, f"{other} is {value}"), name, other)


def check_loss(loss: str, classes: Sequence[int], label_smoothing: float, class_weights: str) -> None:
    """Check that a loss suits the classes, and that label smoothing and class weights have a loss that uses them."""
    terms = {name for _, name in loss_terms(loss)}
    if "bce" in terms and len(classes) > 1:
        text = f"loss 'bce' is for a single class, but classes lists {len(classes)}; ce is its multi-class form"
        raise clash(text, "loss", "classes")
    if label_smoothing and terms.isdisjoint(SMOOTHED_LOSSES):
        raise clash(_unused("label_smoothing", SMOOTHED_LOSSES, f"loss is {loss}"), "label_smoothing", "loss")
    if class_weights == "none":
        return
    if terms.isdisjoint(PIXEL_LOSSES):
        raise clash(_unused("class_weights", PIXEL_LOSSES, f"loss is {loss}"), "class_weights", "loss")
    numbers = 0 if class_weights in CLASS_WEIGHTS else len(class_weights.split(","))
    if numbers not in (0, len(classes)):
        text = f"class_weights needs a number for each class, but has {numbers} ({class_weights}), and classes lists"
        raise clash(f"{text} {len(classes)}", "class_weights", "classes")


def _unused(setting: str, users: Sequence[str], present: str) -> str:
    *most, last = users
    return f"{setting} changes {' and '.join([', '.join(most), last] if most else [last])} only, but {present}"
