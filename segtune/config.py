"""RunConfig: everything that one training run needs, typed, strict and documented.

The field names are the only names: in YAML, in flags, in TensorBoard's hparams, in ``trials.csv``. The
descriptions are what ``--help`` and the README's table print.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from segtune.errors import InputError, nearest

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
_ARCHITECTURE_ALIASES = {"deeplabv3+": "deeplabv3plus", "unet+": "unetplusplus", "unet++": "unetplusplus"}

LOSSES = ("ce", "bce", "dice", "jaccard", "tversky", "focal", "lovasz", "mcc")
BINARY_LOSSES = ("bce", "mcc")  # have no multi-class form in smp

# What a result is measured on or with stays fixed within a search, or its trials could not be compared.
NOT_SEARCHABLE = frozenset({"dataset", "images_dir", "masks_dir", "classes", "ignore", "seed", "device", "workers"})
# The settings that say what the data is; in a search space they stand at the top, beside `dataset`.
DATA_SETTINGS = ("dataset", "images_dir", "masks_dir", "classes", "ignore", "channels")
MAX_CLASSES = 254  # targets are uint8; 0 is background and 255 is "ignored"


def _architecture(value: object) -> object:
    name = value.lower() if isinstance(value, str) else value
    return _ARCHITECTURE_ALIASES.get(name, name) if isinstance(name, str) else name


def _loss(value: str) -> str:
    terms = [term.strip() for term in value.split("+")]
    for term in terms:
        if term not in LOSSES:
            raise ValueError(
                f"unknown loss {term!r} (known: {', '.join(LOSSES)}, and sums such as dice+bce){nearest(term, LOSSES)}"
            )
    if len(set(terms)) < len(terms):
        raise ValueError("a loss stands in the sum twice")
    return "+".join(terms)


def _distinct(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError("a value stands in the list twice")
    return values


def _plain_folder(value: str) -> str:
    if not value or "/" in value or "\\" in value or value in {".", ".."}:
        raise ValueError("must be the name of a folder inside each split, not a path")
    return value


FolderName = Annotated[str, AfterValidator(_plain_folder)]
Label = Annotated[int, Field(ge=0, le=65535)]


class RunConfig(BaseModel):
    """One training run. Constructing it checks every value; `from_settings` gives one-line errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())

    dataset: str = Field("data/demo", description="folder with train/ and val/, each with images/ and gt/")
    images_dir: FolderName = Field("images", description="name of the folder of images in each split")
    masks_dir: FolderName = Field("gt", description="name of the folder of masks in each split")
    classes: Annotated[list[Label], AfterValidator(_distinct)] = Field(
        [255], min_length=1, max_length=MAX_CLASSES, description="mask labels to learn; one label is binary"
    )
    ignore: Annotated[list[Label], AfterValidator(_distinct)] = Field(
        [], description="mask labels that count neither in the loss nor in a metric"
    )
    channels: Annotated[list[FolderName], AfterValidator(_distinct)] = Field(
        [], description="folders of one-channel images that follow the image's own bands, such as nir"
    )

    model: Annotated[Architecture, BeforeValidator(_architecture)] = Field(
        "deeplabv3plus", description="architecture of segmentation_models_pytorch"
    )
    encoder: str = Field("efficientnet-b0", description="encoder of smp, or tu-NAME for one of timm's")
    encoder_weights: Literal["none", "imagenet"] = Field(
        "none", description="where the encoder starts: random weights, or downloaded ImageNet weights"
    )
    image_size: Annotated[int, Field(ge=32, le=8192)] | None = Field(
        None,
        description="side in pixels of the square that the network sees; "
        "left out: the largest tile's, at most 512, as a multiple of 32",
    )
    batch_size: int = Field(6, ge=1, description="tiles per training step, and per step of evaluation")
    epochs: int = Field(50, ge=1, description="passes over the training tiles")

    optimizer: Literal["adam", "adamw", "sgd"] = Field("adamw", description="torch.optim's")
    lr: float = Field(1e-3, gt=0, allow_inf_nan=False, description="learning rate at the end of the warm-up")
    weight_decay: float = Field(
        1e-4, ge=0, allow_inf_nan=False, description="decoupled for adamw, an L2 penalty for the others"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd (Nesterov)")
    lr_schedule: Literal["cosine", "poly", "constant"] = Field(
        "cosine", description="how the learning rate falls after the warm-up"
    )
    warmup_epochs: int = Field(0, ge=0, description="epochs over which the learning rate rises from zero")
    grad_clip: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="largest norm of the gradient; 0 does not clip"
    )

    loss: Annotated[str, AfterValidator(_loss)] = Field(
        "dice", description=f"{', '.join(LOSSES)}, or a sum of them such as dice+bce"
    )
    augmentation: Literal["none", "safe", "light", "medium", "hard"] = Field(
        "hard", description="how much training tiles are changed; safe only flips and turns"
    )
    precision: Literal["auto", "fp32", "fp16", "bf16"] = Field(
        "auto", description="auto: bf16 where the GPU computes it natively, fp16 on older ones, fp32 on a CPU"
    )
    seed: int = Field(42, ge=0, le=2**31 - 1, description="of weights, order and augmentation")
    workers: int = Field(1, ge=0, le=256, description="loader processes; 0 loads in the training process")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto, cpu, cuda or cuda:N; auto prefers cuda",
    )

    # The messages name the settings that clash: a search space looks there for the line to point at.
    @model_validator(mode="after")
    def _possible(self) -> RunConfig:
        both = sorted(set(self.classes) & set(self.ignore))
        if both:
            raise ValueError(f"classes and ignore both list {both[0]}")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs must be below epochs, but got "
                f"(warmup_epochs={self.warmup_epochs}, epochs={self.epochs})"
            )
        for name in BINARY_LOSSES:
            if len(self.classes) > 1 and name in self.loss.split("+"):
                raise ValueError(
                    f"loss {name!r} is for a single class, and classes lists "
                    f"{len(self.classes)}; ce is its multi-class form"
                )
        if self.precision == "fp16" and self.device == "cpu":
            raise ValueError("precision fp16 needs a GPU, and device is cpu")
        reserved = sorted({self.images_dir, self.masks_dir} & set(self.channels))
        if reserved:
            raise ValueError(f"channels lists {reserved[0]!r}, which is images_dir or masks_dir")
        return self

    @classmethod
    def from_settings(cls, settings: Mapping[str, object], where: str = "") -> RunConfig:
        """Build a config from plain values; raise InputError with every mistake, each prefixed by `where`."""
        try:
            return cls.model_validate(dict(settings))
        except ValidationError as error:
            raise InputError([where + message for _, message in explain(error, cls)]) from None

    def settings(self) -> dict[str, Any]:
        """Every setting as plain YAML/JSON values, in the order of the fields."""
        return self.model_dump(mode="json")


def explain(error: ValidationError, model: type[BaseModel]) -> list[tuple[str | None, str]]:
    """pydantic's findings as (setting, one-line message); the setting is None for a combination."""
    found = []
    for item in error.errors():
        name = str(item["loc"][0]) if item["loc"] else None
        found.append((name, _message(name, item, model.model_fields)))
    return found


def check_setting(name: str, value: object) -> tuple[object, str | None]:
    """Check one value of one setting alone: (the value as RunConfig keeps it, None) or (value, mistake)."""
    if name not in RunConfig.model_fields:
        return value, f"unknown setting {name!r}{nearest(name, RunConfig.model_fields)}"
    try:
        return _adapter(name).validate_python(value, strict=True), None
    except ValidationError as error:
        return value, _message(name, error.errors()[0], RunConfig.model_fields)


def base_type(name: str) -> type:
    """The plain type behind a setting: int, float, str or list."""
    hint = typing.get_type_hints(RunConfig)[name]
    while get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if get_origin(hint) is Literal:
        return str
    return get_origin(hint) or hint


def choices(name: str) -> tuple[str, ...]:
    """The values that a setting can take where they are listed, else nothing."""
    hint = typing.get_type_hints(RunConfig)[name]
    return get_args(hint) if get_origin(hint) is Literal else ()


@functools.cache
def _adapter(name: str) -> TypeAdapter[Any]:
    field = RunConfig.model_fields[name]
    parts = (field.annotation, *field.metadata)
    return TypeAdapter(Annotated[parts] if len(parts) > 1 else parts[0])  # type: ignore[arg-type]


def _message(name: str | None, item: Any, fields: Mapping[str, object]) -> str:
    kind, value = item["type"], item.get("input")
    if kind == "extra_forbidden":
        return f"unknown setting {name!r}{nearest(str(name), fields)}"
    text = item["msg"].removeprefix("Value error, ")
    if name is None:
        return text
    if kind == "literal_error":
        known = choices(name) if name in RunConfig.model_fields else ()
        expected = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return f"{name}: {value!r} is not one of {expected}{nearest(str(value), known)}"
    if kind == "string_pattern_mismatch":
        return f"{name}: {value!r} is not one of auto, cpu, cuda, cuda:N"  # the only setting with a pattern
    if kind == "finite_number":
        return f"{name}: must be a finite number, but got {value!r}"
    if kind == "value_error":
        return f"{name}: {text}"
    return f"{name}: {text[0].lower()}{text[1:]}, but got {value!r}"
