"""The types of settings' values, each with the checks that a value passes on its own."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidatorFunctionWrapHandler

from segtune.errors import InputError, nearest
from segtune.vocabulary import CLASS_WEIGHTS, LEVELS, number_text, weight_number

Alpha = Literal["auto", "mask", "band"]
# Steps of a prediction; they stand in run.yaml.
SHRINK, ENLARGE = "INTER_AREA", "INTER_LINEAR"  # OpenCV's names of how images are resized
LOGITS = "bilinear"  # torch's name of how logits are brought to a tile's size
OVERLAP = 0.25  # of neighbouring windows, as a share of their side
_MOST_OVERLAP = 0.9
TILE_WEIGHTS, SCENE_WEIGHTS = "equal", "hann"  # of windows that overlap
AUTO = "auto"
WEIGHTS_WORDS = (AUTO, "none", "imagenet")  # values of encoder_weights that are not a file
MAX_LOADERS = 256
_STAGES = 5  # of a decoder like that of U-Net
_LEAST_WIDTH, _MOST_CHANNELS = 16, 4096  # of a decoder
_TRANSFORMS = (".yaml", ".yml", ".json")  # endings of files of albumentations transforms
_LONGEST_NAME = 60  # characters of the name of a class
MAX_CLASSES = 254  # targets are uint8; 0 is background and 255 is "ignored"


def check_overlap(share: float) -> None:
    """Raise InputError where neighbouring windows cannot share this part of their side."""
    if not 0 <= share <= _MOST_OVERLAP:
        raise InputError(f"--overlap: must be from 0 to {_MOST_OVERLAP}, but got {share:g}")


def resolution_number(resolution: float | str | None) -> float | None:
    """Return the metres per pixel that somebody wants; None for ``auto``, that of the training, and for none."""
    if resolution is None or resolution == AUTO:
        return None
    try:
        number = float(resolution)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise InputError(f"--resolution: must be auto or metres per pixel above 0, but got {resolution!r}")
    return number


def lower(value: object) -> object:
    """Return a word in lower case: libraries and papers write Adam, Dice and ImageNet."""
    return value.lower() if isinstance(value, str) else value


def any_case(value: object, check: ValidatorFunctionWrapHandler) -> object:
    """Accept a listed value in any case; an error repeats the value as it was written."""
    if isinstance(value, str):
        with suppress(ValidationError):
            return check(value.lower())
    return check(value)


def distinct(values: list[Any]) -> list[Any]:
    """Return the list; ValueError where it contains a value twice."""
    if len(set(values)) < len(values):
        raise ValueError("the list contains a value twice")
    return values


def _folder_name(value: str, alternative: str = "not a path") -> str:
    if not value or "/" in value or "\\" in value or value in {".", ".."}:
        raise ValueError(f"must be the name of a folder inside each split, {alternative}")
    return value


def _split_folder(value: str) -> str:
    return value if value == "." else _folder_name(value, "or . for the split's own folder")


def one_or_three(values: list[int]) -> list[int]:
    """Return the list of bands; ValueError unless it has none, one or three different ones."""
    if len(values) not in (0, 1, 3):
        raise ValueError("must contain three bands, or one band that is shown in grey")
    return distinct(values)


def _class_name(value: str) -> str:
    name = value.strip()
    if not name:
        raise ValueError("a name is empty")
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"the name {name[:20]!r}... is longer than {_LONGEST_NAME} characters")
    if "," in name or not name.isprintable():
        raise ValueError(f"the name {name!r} contains a comma or a character that cannot be printed")
    return name


def different_names(names: list[str]) -> list[str]:
    """Return the names of classes; ValueError if two of them are equal."""
    again = [name for position, name in enumerate(names) if name in names[:position]]
    if again:
        raise ValueError(f"two classes have the name {again[0]!r}")
    return names


def _empty(value: object) -> object:
    """Return an empty list for the word none, as flags write it, and others as they are."""
    return [] if lower(value) == "none" else value


def given(value: str | None) -> str | None:
    """Return the text, or None for an empty one: a shell variable that is not set gives ""."""
    return value or None


def _channels(value: object) -> object:
    """Return the channels of a decoder: its width, or those of five stages."""
    numbers, least = [value], _LEAST_WIDTH
    if isinstance(value, list) and len(value) == _STAGES:
        numbers, least = value, 1
    if value is None or all(type(number) is int and least <= number <= _MOST_CHANNELS for number in numbers):
        return value
    raise ValueError(
        f"must be a whole number from {_LEAST_WIDTH} to {_MOST_CHANNELS}, or a list of {_STAGES} numbers such as "
        f"[256, 128, 64, 32, 16], but got {value!r}"
    )


def weights_source(value: str) -> str:
    """Return a source of initial weights: a word in lower case, or the name of a file."""
    if not value:
        raise ValueError("must be auto, none, imagenet or the name of a file")
    return value.lower() if value.lower() in WEIGHTS_WORDS else value


def _count_or_auto(value: object) -> object:
    word = lower(value)
    if word == AUTO or (type(word) is int and 0 <= word <= MAX_LOADERS):
        return word
    raise ValueError(f"must be auto or a whole number from 0 to {MAX_LOADERS}, but got {value!r}")


def weights_of_classes(value: object) -> str:
    """Return a way of weighting the classes, or the text of a list of weights: ``1,5,2.5`` for ``[1, 5, 2.5]``."""
    if isinstance(value, str):
        if value.lower() in CLASS_WEIGHTS:
            return value.lower()
        value = value.strip().removeprefix("[").removesuffix("]").split(",")
    numbers = value if isinstance(value, list) else [value]
    if not numbers:
        raise ValueError(f"must be {', '.join(CLASS_WEIGHTS)} or a list with a number for each class, but got []")
    for number in numbers:
        if isinstance(number, str) and (hint := nearest(number, CLASS_WEIGHTS)):
            raise ValueError(f"{number!r} is not one of {', '.join(CLASS_WEIGHTS)}{hint}")
    what = f"must be {', '.join(CLASS_WEIGHTS)} or a list with a number for each class; each"
    return ",".join(number_text(weight_number(number, what)) for number in numbers)


def augmentation_file(setting: str) -> Path | None:
    """Return the file that `augmentation` names; None if it is a level."""
    return Path(setting) if setting.lower().endswith(_TRANSFORMS) else None


def augmentation_source(value: str) -> str:
    """Return a level of augmentation in lower case, or the name of a file of transforms; ValueError for others."""
    if value.lower() in LEVELS or augmentation_file(value):
        return value.lower() if value.lower() in LEVELS else value
    raise ValueError(
        f"{value!r} is not one of {', '.join(LEVELS)}, nor a file whose name ends in .yaml, .yml or .json"
        f"{nearest(value, LEVELS)}"
    )


ClassName = Annotated[str, AfterValidator(_class_name)]
FolderName = Annotated[str, AfterValidator(_folder_name)]
SplitFolder = Annotated[str, AfterValidator(_split_folder)]
Channels = int | list[int] | None
CheckedChannels = BeforeValidator(_channels)
Workers = Annotated[int, Field(ge=0, le=MAX_LOADERS)] | Literal["auto"]
CountOrAuto = BeforeValidator(_count_or_auto)  # a union of its own would report every member's mistake
NoneOrList = BeforeValidator(_empty)
Label = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]  # what a mask can hold
