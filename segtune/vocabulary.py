"""The names of architectures, losses and encoders, and their other spellings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Literal, TypeGuard

from segtune.errors import nearest

Architecture = Literal[
    "unet",
    "unetplusplus",
    "manet",
    "linknet",
    "fpn",
    "pspnet",
    "deeplabv3",
    "deeplabv3plus",
    "pan",
    "upernet",
    "segformer",
    "dpt",
]
ARCHITECTURE_ALIASES = {"deeplabv3+": "deeplabv3plus", "unet+": "unetplusplus", "unet++": "unetplusplus"}

FEWEST_FOLDS, MOST_FOLDS = 2, 10

ExportKind = Literal["onnx", "deepness", "torchscript", "torch_export"]
EXPORT_FILES: dict[ExportKind, str] = {  # the names of the files
    "onnx": "model.onnx",
    "deepness": "model_deepness.onnx",
    "torchscript": "model.torchscript.pt",
    "torch_export": "model.pt2",
}

# Optimizers of torch and timm, by timm's names. Left out are other names and small variants of these, those that need
# more packages or second derivatives, and kron, whose steps draw random numbers of their own.
Optimizer = Literal[
    "adabelief",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "adan",
    "adopt",
    "cadamw",
    "lamb",
    "laprop",
    "lars",
    "lion",
    "madgrad",
    "mars",
    "muon",
    "nadam",
    "nadamw",
    "novograd",
    "radam",
    "rmsprop",
    "sgd",
    "sgdw",
]

# torch's and timm's optimizers that take a momentum. Elsewhere it may have any value, as in earlier releases.
MOMENTUM_OPTIMIZERS = ("sgd", "sgdw", "rmsprop", "lars", "madgrad", "muon")

LOSSES = (  # in the order in which a sum is stored
    *("dice", "jaccard", "tversky", "focal_tversky", "lovasz", "mcc"),  # over regions
    *("focal", "ce", "bce", "boundary_ce"),  # over pixels: these take class_weights
    "boundary",
)
PIXEL_LOSSES = ("focal", "ce", "bce", "boundary_ce")
BINARY_LOSSES = ("bce",)  # ce is its multi-class form
SMOOTHED_LOSSES = ("ce", "bce", "boundary_ce")  # take label_smoothing
CLASS_WEIGHTS = ("none", "balanced", "effective")
_PLUS = re.compile(r"(?<![\d.][eE])\+")  # not that of a number such as 1e+2
# smp's own encoders, listed here so that a name can be checked before smp is imported. timm's are called tu-NAME.
ENCODERS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d", "resnext101_32x16d"),
    *("resnext101_32x32d", "resnext101_32x48d"),
    *("dpn68", "dpn68b", "dpn92", "dpn98", "dpn107", "dpn131"),
    *("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
    *("senet154", "se_resnet50", "se_resnet101", "se_resnet152", "se_resnext50_32x4d", "se_resnext101_32x4d"),
    *("densenet121", "densenet169", "densenet201", "densenet161", "inceptionresnetv2", "inceptionv4"),
    *(f"efficientnet-b{size}" for size in range(8)),
    *("mobilenet_v2", "xception"),
    *(f"timm-efficientnet-b{size}" for size in range(9)),
    "timm-efficientnet-l2",
    *(f"timm-tf_efficientnet_lite{size}" for size in range(5)),
    *("timm-skresnet18", "timm-skresnet34", "timm-skresnext50_32x4d"),
    *(f"mit_b{size}" for size in range(6)),
    *(f"mobileone_s{size}" for size in range(5)),
)
LEVELS = ("none", "safe", "light", "medium", "hard")  # of augmentation
# Names in earlier releases of smp, and the present ones.
_EARLIER_ENCODERS = {
    **{f"timm-{family}": f"tu-{family}" for family in ("regnet", "res2", "resnest", "gernet")},
    "timm-mobilenetv3": "tu-tf_mobilenetv3",
}
# Common synonyms, and the names that are right here.
_OTHER_NAMES = {
    **dict.fromkeys(("cross_entropy", "crossentropy", "crossentropyloss"), "ce"),
    **dict.fromkeys(("iou", "iouloss"), "jaccard"),
}


def architecture_name(value: object) -> object:
    """Return the name of an architecture for any of its spellings; values of other types are returned unchanged."""
    return ARCHITECTURE_ALIASES.get(value.lower(), value.lower()) if isinstance(value, str) else value


def encoder_name(value: str) -> str:
    """Return an encoder's name in lower case, and its present name if smp has renamed it."""
    name = value.lower()
    for earlier, now in _EARLIER_ENCODERS.items():
        if name.startswith(earlier):
            return now + name.removeprefix(earlier)
    return name


def loss_name(value: str) -> str:
    """Return a loss, or a sum of losses with weights, in its canonical spelling; ValueError where it is none."""
    terms = loss_terms(value)
    names = [name for _, name in terms]
    if len(set(names)) < len(names):
        raise ValueError("the sum contains a loss twice")
    if names == ["boundary"]:
        # Where a class is absent, and near the borders, the loss is zero: alone, it collapses (Kervadec et al. 2019).
        raise ValueError("boundary trains only in a sum with another loss, such as dice+boundary")
    ordered = sorted(terms, key=lambda term: LOSSES.index(term[1]))  # the order in a sum has no meaning
    return "+".join(name if weight == 1 else f"{number_text(weight)}*{name}" for weight, name in ordered)


def loss_terms(value: str) -> list[tuple[float, str]]:
    """Return the weight and the name of each loss in a sum; ValueError for an unknown loss or a wrong weight."""
    return [_loss_term(term.strip()) for term in _PLUS.split(value)]


def is_loss(value: str) -> bool:
    """Return whether a text is a loss or a sum of losses."""
    try:
        loss_name(value)
    except ValueError:
        return False
    return True


def _loss_term(text: str) -> tuple[float, str]:
    weight, star, name = (part.strip() for part in text.rpartition("*"))
    if name.lower() in LOSSES:
        return (weight_number(weight, f"the weight of {name}") if star else 1.0), name.lower()
    if weight.lower() in LOSSES:
        raise ValueError(f"a weight stands before its loss: {name}*{weight}")
    raise ValueError(
        f"unknown loss {name!r} (known: {', '.join(LOSSES)}, and sums such as dice+bce or 0.7*dice+0.3*ce)"
        f"{meant(name, LOSSES)}"
    )


def weight_number(value: object, what: str) -> float:
    """Return a weight, given as a number or its text; ValueError, which names `what`, for any other value."""
    try:
        number = float("nan" if isinstance(value, bool) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if not 1e-6 <= number <= 1e6:
        raise ValueError(f"{what} must be a number above 0, from 1e-6 to 1e6, but got {value!r}")
    return number


def number_text(number: float) -> str:
    """Return a number in its shortest form without an exponent, so that each has one spelling."""
    return f"{Decimal(repr(number)).normalize():f}"


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def yaml_text(value: object) -> str:
    """Return a value of a setting on one line as YAML has it: ``null``, ``true``, ``[1, 2]``; words without quotes."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(yaml_text, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def meant(value: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'ce'?"`` for a synonym of a known name or a similar word, or an empty string."""
    other = _OTHER_NAMES.get(value.lower())
    return f"; did you mean {other!r}?" if other else nearest(value, known)
