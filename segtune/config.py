"""RunConfig: everything that one training run needs, typed, strict and documented.

The field names are the only names: in YAML, in flags, in TensorBoard's hparams, in ``trials.csv``. The
descriptions are what ``--help`` and the README's table print.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from segtune.errors import InputError
from segtune.mistakes import explain
from segtune.vocabulary import BINARY_LOSSES, LOSSES, Architecture, architecture_name, encoder_name, loss_name

DEMO = "data/demo"  # a data set that is made where it is asked for

Alpha = Literal["auto", "mask", "band"]
# What a result is measured on or with stays fixed within a search, or its trials could not be compared.
NOT_SEARCHABLE = frozenset(
    {
        *("dataset", "images_dir", "masks_dir", "image_suffix", "mask_suffix", "classes", "ignore", "rgb", "nodata"),
        *("alpha", "val_dir", "add_val_dirs", "use_only_add_val", "adv_freq", "val_samples", "limit_tiles"),
        *("worst", "seed", "workers", "threads", "device", "cache_dir", "cache_gb"),
    }
)
# The settings that say what the data is; in a search space they stand at the top, beside `dataset`.
DATA_SETTINGS = (
    *("dataset", "images_dir", "masks_dir", "image_suffix", "mask_suffix", "val_dir", "add_val_dirs"),
    *("use_only_add_val", "classes", "ignore", "channels", "rgb", "nodata", "alpha"),
)
# What may change when a run goes on: how long it is, and what its numbers do not depend on, but for rounding on another
# device or with other threads. Where the data lies may change too; that it is the same data is seen by its fingerprint.
CHANGEABLE = frozenset(
    {
        *("epochs", "worst", "workers", "threads", "device", "cache_dir", "cache_gb"),
        *("dataset", "val_dir", "add_val_dirs"),
    }
)
MAX_CLASSES = 254  # targets are uint8; 0 is background and 255 is "ignored"


def _lower(value: object) -> object:
    """A word in any case: libraries and papers write Adam, Dice and ImageNet."""
    return value.lower() if isinstance(value, str) else value


def _any_case(value: object, check: ValidatorFunctionWrapHandler) -> object:
    """A value as it is listed, in any case; what is not listed is refused as it was written."""
    if isinstance(value, str):
        with suppress(ValidationError):
            return check(value.lower())
    return check(value)


def _distinct(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError("a value stands in the list twice")
    return values


def _folder_name(value: str, alternative: str = "not a path") -> str:
    if not value or "/" in value or "\\" in value or value in {".", ".."}:
        raise ValueError(f"must be the name of a folder inside each split, {alternative}")
    return value


def _split_folder(value: str) -> str:
    return value if value == "." else _folder_name(value, "or . for the split's own folder")


def _one_or_three(values: list[int]) -> list[int]:
    if len(values) not in (0, 1, 3):
        raise ValueError("must name three bands, or one that is shown grey")
    return _distinct(values)


def _given(value: str | None) -> str | None:
    return value or None  # "": a shell's variable that is not set


def _weights(value: str) -> str:
    if not value:
        raise ValueError("must be none, imagenet or a file")
    return value.lower() if value.lower() in ("none", "imagenet") else value


FolderName = Annotated[str, AfterValidator(_folder_name)]
SplitFolder = Annotated[str, AfterValidator(_split_folder)]
Label = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]  # what a mask can hold


class RunConfig(BaseModel):
    """One training run. Constructing it checks every value; `from_settings` gives one-line errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())

    dataset: str = Field("", description="folder with train/ and val/ (or train.txt and val.txt)")
    val_dir: Annotated[str | None, AfterValidator(_given)] = Field(
        None, description="folder, or list file, of the validation tiles; left out: the data set's own val"
    )
    add_val_dirs: list[str] = Field(
        [], description="more validation sets: folders, or a file that names one folder a line"
    )
    adv_freq: int = Field(1, ge=1, description="epochs from one evaluation of the added validation sets to the next")
    use_only_add_val: bool = Field(
        False, description="score on the added validation sets alone, all of them pooled, and not on val"
    )
    images_dir: SplitFolder = Field(
        "images", description="name of the folder of images in each split; . is the split's own folder"
    )
    masks_dir: SplitFolder = Field(
        "gt", description="name of the folder of masks in each split; . is the split's own folder"
    )
    image_suffix: str = Field("", description="what names of images end in before the extension, such as _sat")
    mask_suffix: str = Field("", description="what names of masks end in before the extension, such as _mask")
    classes: Annotated[list[Label], AfterValidator(_distinct)] = Field(
        [255], min_length=1, max_length=MAX_CLASSES, description="mask labels to learn; one label is binary"
    )
    ignore: Annotated[list[Label], AfterValidator(_distinct)] = Field(
        [], description="mask labels that count neither in the loss nor in a metric"
    )
    channels: Annotated[list[FolderName], AfterValidator(_distinct)] = Field(
        [], description="folders of one-channel images that follow the image's own bands, such as nir"
    )
    rgb: Annotated[list[Annotated[int, Field(ge=1)]], AfterValidator(_one_or_three)] = Field(
        [],
        description="the image's bands that are red, green and blue, counted from 1: they are shown, and augmented in "
        "colour; left out: the first three where there are three or more",
    )
    nodata: float | None = Field(
        None,
        allow_inf_nan=False,
        description="value of images and channels that stands for no data, besides what their files declare",
    )
    alpha: Alpha = Field(
        "auto",
        description="how to take the band that the images declare as alpha: as a mask whose zeros are no data, or as a "
        "band like the others, such as near infrared; auto decides by its values, and says so",
    )
    limit_tiles: int | None = Field(None, ge=1, description="use only so many tiles of each split, to try things out")

    model: Annotated[Architecture, BeforeValidator(architecture_name)] = Field(
        "deeplabv3plus", description="architecture of segmentation_models_pytorch"
    )
    encoder: Annotated[str, AfterValidator(encoder_name)] = Field(
        "efficientnet-b0", description="encoder of smp, or tu-NAME for one of timm's"
    )
    encoder_weights: Annotated[str, AfterValidator(_weights)] = Field(
        "none",
        description="where the encoder starts: none (random weights), imagenet (downloaded), or a file "
        "(safetensors, or a state dict of torch.save)",
    )
    normalization: Annotated[Literal["data", "encoder"], WrapValidator(_any_case)] = Field(
        "data",
        description="mean and standard deviation of the input: the training tiles' own, or, for the rgb bands, those "
        "that the encoder's weights were trained with",
    )
    image_size: Annotated[int, Field(ge=32, le=8192)] | None = Field(
        None,
        description="side in pixels of the square that the network sees; "
        "left out: the largest tile's, at most 512, as a multiple of 32",
    )
    fit: Annotated[Literal["resize", "crop", "pad"], WrapValidator(_any_case)] = Field(
        "resize",
        description="how a tile becomes that square: resized; cropped at random in training and in a sliding window "
        "in evaluation; or shrunk where it is larger, and padded",
    )
    batch_size: int = Field(6, ge=1, description="tiles per training step, and per step of evaluation")
    epochs: int = Field(50, ge=1, description="passes over the training tiles, in total")
    samples_per_epoch: int | None = Field(
        None, ge=1, description="tiles in an epoch; the next epoch goes on with others; left out: all training tiles"
    )
    val_samples: int | None = Field(
        None, ge=1, description="validate on so many tiles, the same ones always; left out: on all"
    )

    optimizer: Annotated[Literal["adam", "adamw", "sgd"], WrapValidator(_any_case)] = Field(
        "adamw", description="torch.optim's"
    )
    lr: float = Field(1e-3, gt=0, allow_inf_nan=False, description="learning rate at the end of the warm-up")
    encoder_lr_factor: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="the encoder's learning rate is lr times this"
    )
    freeze_encoder_epochs: int = Field(0, ge=0, description="epochs at the start in which the encoder stays as it is")
    weight_decay: float = Field(
        1e-4, ge=0, allow_inf_nan=False, description="decoupled for adamw, an L2 penalty for the others"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd (Nesterov)")
    lr_schedule: Annotated[Literal["cosine", "poly", "constant"], WrapValidator(_any_case)] = Field(
        "cosine", description="how the learning rate falls after the warm-up"
    )
    warmup_epochs: int = Field(0, ge=0, description="epochs over which the learning rate rises from zero")
    grad_clip: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="largest norm of the gradient; 0 does not clip"
    )

    loss: Annotated[str, AfterValidator(loss_name)] = Field(
        "dice", description=f"{', '.join(LOSSES)}, or a sum of them such as dice+bce"
    )
    augmentation: Annotated[Literal["none", "safe", "light", "medium", "hard"], WrapValidator(_any_case)] = Field(
        "hard", description="how much training tiles are changed; safe only flips and turns"
    )
    precision: Annotated[Literal["auto", "fp32", "fp16", "bf16"], WrapValidator(_any_case)] = Field(
        "auto", description="auto: bf16 where the GPU computes it natively, fp16 on older ones, fp32 on a CPU"
    )
    worst: int = Field(
        4, ge=0, le=64, description="number of validation tiles shown with the curves: those with the most wrong pixels"
    )
    seed: int = Field(42, ge=0, le=2**31 - 1, description="of weights, order and augmentation")
    workers: int = Field(1, ge=0, le=256, description="loader processes; 0 loads in the training process")
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="number of torch's threads; results depend on it; left out: torch's own number, in a search the "
        "cores of a trial",
    )
    device: Annotated[str, BeforeValidator(_lower)] = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto, cpu, cuda or cuda:N; auto prefers cuda",
    )
    cache_dir: Annotated[str | None, AfterValidator(_given)] = Field(
        None,
        description="folder on a local disk for decoded tiles, shared by all runs; none: decode again and again; "
        "left out: $SEGTUNE_CACHE_DIR, or segtune-cache-UID in $SLURM_TMPDIR, $TMPDIR or /var/tmp",
    )
    cache_gb: float = Field(
        100.0,
        ge=0,
        allow_inf_nan=False,
        description="most gigabytes of decoded tiles; the ones unused longest go first",
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
                other = {"bce": "ce is its multi-class form"}.get(
                    name, "it has no multi-class form, as dice and ce have"
                )
                raise ValueError(f"loss {name!r} is for a single class, and classes lists {len(self.classes)}; {other}")
        if self.precision == "fp16" and self.device == "cpu":
            raise ValueError("precision fp16 needs a GPU, and device is cpu")
        reserved = sorted({self.images_dir, self.masks_dir} & set(self.channels))
        if reserved:
            raise ValueError(f"channels lists {reserved[0]!r}, which is images_dir or masks_dir")
        if self.images_dir == self.masks_dir and self.image_suffix == self.mask_suffix:
            raise ValueError(
                f"images_dir and masks_dir are both {self.images_dir!r}; "
                f"then image_suffix and mask_suffix must tell images from masks"
            )
        if self.freeze_encoder_epochs >= self.epochs and self.freeze_encoder_epochs:
            raise ValueError(
                f"freeze_encoder_epochs must be below epochs, but got "
                f"(freeze_encoder_epochs={self.freeze_encoder_epochs}, epochs={self.epochs})"
            )
        if self.use_only_add_val and not self.add_val_dirs:
            raise ValueError("use_only_add_val needs add_val_dirs")
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
