"""The names of architectures, losses and encoders, and their other spellings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

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

LOSSES = ("dice", "jaccard", "tversky", "lovasz", "mcc", "focal", "ce", "bce")  # in the order in which a sum is stored
BINARY_LOSSES = ("bce", "mcc")  # have no multi-class form in smp
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
    """Return a loss, or a sum of losses, in its canonical spelling; ValueError for an unknown loss."""
    given = [term.strip() for term in value.split("+")]
    terms = [term.lower() for term in given]
    for term in given:
        if term.lower() not in LOSSES:
            raise ValueError(
                f"unknown loss {term!r} (known: {', '.join(LOSSES)}, and sums such as dice+bce){meant(term, LOSSES)}"
            )
    if len(set(terms)) < len(terms):
        raise ValueError("the sum contains a loss twice")
    return "+".join(sorted(terms, key=LOSSES.index))  # the order in a sum has no meaning


def meant(value: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'ce'?"`` for a synonym of a known name or a similar word, or an empty string."""
    other = _OTHER_NAMES.get(value.lower())
    return f"; did you mean {other!r}?" if other else nearest(value, known)
