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

from segtune.mistakes import SettingsError, clash, explain
from segtune.roles import DATA, FIXED, MACHINE, SEARCHABLE, Change, Role
from segtune.vocabulary import BINARY_LOSSES, LOSSES, Architecture, architecture_name, encoder_name, loss_name

DEMO = "data/demo"  # a data set that is made where it is asked for

Alpha = Literal["auto", "mask", "band"]
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

    dataset: Annotated[str, Role(data=True, change=Change.MACHINE, path="folder")] = Field(
        "", description="folder with train/ and val/ (or train.txt and val.txt)"
    )
    val_dir: Annotated[
        str | None,
        AfterValidator(_given),
        Role(data=True, validation=True, change=Change.MACHINE, path="folder"),
    ] = Field(None, description="folder, or list file, of the validation tiles; left out: the data set's own val")
    add_val_dirs: Annotated[list[str], Role(data=True, validation=True, change=Change.MACHINE, path="folders")] = Field(
        [], description="more validation sets: folders, or a file that names one folder a line"
    )
    adv_freq: Annotated[int, FIXED] = Field(
        1, ge=1, description="epochs from one evaluation of the added validation sets to the next"
    )
    use_only_add_val: Annotated[bool, Role(data=True, validation=True)] = Field(
        False, description="score on the added validation sets alone, all of them pooled, and not on val"
    )
    images_dir: Annotated[SplitFolder, DATA] = Field(
        "images", description="name of the folder of images in each split; . is the split's own folder"
    )
    masks_dir: Annotated[SplitFolder, DATA] = Field(
        "gt", description="name of the folder of masks in each split; . is the split's own folder"
    )
    image_suffix: Annotated[str, DATA] = Field(
        "", description="what names of images end in before the extension, such as _sat"
    )
    mask_suffix: Annotated[str, DATA] = Field(
        "", description="what names of masks end in before the extension, such as _mask"
    )
    classes: Annotated[list[Label], AfterValidator(_distinct), DATA] = Field(
        [255], min_length=1, max_length=MAX_CLASSES, description="mask labels to learn; one label is binary"
    )
    ignore: Annotated[list[Label], AfterValidator(_distinct), DATA] = Field(
        [], description="mask labels that count neither in the loss nor in a metric"
    )
    channels: Annotated[list[FolderName], AfterValidator(_distinct), Role(data=True, searchable=True)] = Field(
        [], description="folders of one-channel images that follow the image's own bands, such as nir"
    )
    rgb: Annotated[list[Annotated[int, Field(ge=1)]], AfterValidator(_one_or_three), DATA] = Field(
        [],
        description="the image's bands that are red, green and blue, counted from 1: they are shown, and augmented in "
        "colour; left out: the first three where there are three or more",
    )
    nodata: Annotated[float | None, DATA] = Field(
        None,
        allow_inf_nan=False,
        description="value of images and channels that stands for no data, besides what their files declare",
    )
    alpha: Annotated[Alpha, DATA] = Field(
        "auto",
        description="how to take the band that the images declare as alpha: as a mask whose zeros are no data, or as a "
        "band like the others, such as near infrared; auto decides by its values, and says so",
    )
    limit_tiles: Annotated[int | None, FIXED] = Field(
        None, ge=1, description="use only so many tiles of each split, to try things out"
    )

    model: Annotated[Architecture, BeforeValidator(architecture_name), SEARCHABLE] = Field(
        "deeplabv3plus", description="architecture of segmentation_models_pytorch"
    )
    encoder: Annotated[str, AfterValidator(encoder_name), SEARCHABLE] = Field(
        "efficientnet-b0", description="encoder of smp, or tu-NAME for one of timm's"
    )
    encoder_weights: Annotated[str, AfterValidator(_weights), Role(searchable=True, path="file")] = Field(
        "none",
        description="where the encoder starts: none (random weights), imagenet (downloaded), or a file "
        "(safetensors, or a state dict of torch.save)",
    )
    normalization: Annotated[Literal["data", "encoder"], WrapValidator(_any_case), SEARCHABLE] = Field(
        "data",
        description="mean and standard deviation of the input: the training tiles' own, or, for the rgb bands, those "
        "that the encoder's weights were trained with",
    )
    image_size: Annotated[Annotated[int, Field(ge=32, le=8192)] | None, SEARCHABLE] = Field(
        None,
        description="side in pixels of the square that the network sees; "
        "left out: the largest tile's, at most 512, as a multiple of 32",
    )
    fit: Annotated[Literal["resize", "crop", "pad"], WrapValidator(_any_case), SEARCHABLE] = Field(
        "resize",
        description="how a tile becomes that square: resized; cropped at random in training and in a sliding window "
        "in evaluation; or shrunk where it is larger, and padded",
    )
    batch_size: Annotated[int, SEARCHABLE] = Field(
        6, ge=1, description="tiles per training step, and per step of evaluation"
    )
    epochs: Annotated[int, Role(searchable=True, change=Change.RUN)] = Field(
        50, ge=1, description="passes over the training tiles, in total"
    )
    samples_per_epoch: Annotated[int | None, SEARCHABLE] = Field(
        None, ge=1, description="tiles in an epoch; the next epoch goes on with others; left out: all training tiles"
    )
    val_samples: Annotated[int | None, FIXED] = Field(
        None, ge=1, description="validate on so many tiles, the same ones always; left out: on all"
    )

    optimizer: Annotated[Literal["adam", "adamw", "sgd"], WrapValidator(_any_case), SEARCHABLE] = Field(
        "adamw", description="torch.optim's"
    )
    lr: Annotated[float, SEARCHABLE] = Field(
        1e-3, gt=0, allow_inf_nan=False, description="learning rate at the end of the warm-up"
    )
    encoder_lr_factor: Annotated[float, SEARCHABLE] = Field(
        1.0, gt=0, allow_inf_nan=False, description="the encoder's learning rate is lr times this"
    )
    freeze_encoder_epochs: Annotated[int, SEARCHABLE] = Field(
        0, ge=0, description="epochs at the start in which the encoder stays as it is"
    )
    weight_decay: Annotated[float, SEARCHABLE] = Field(
        1e-4, ge=0, allow_inf_nan=False, description="decoupled for adamw, an L2 penalty for the others"
    )
    momentum: Annotated[float, SEARCHABLE] = Field(0.9, ge=0, lt=1, description="of sgd (Nesterov)")
    lr_schedule: Annotated[Literal["cosine", "poly", "constant"], WrapValidator(_any_case), SEARCHABLE] = Field(
        "cosine", description="how the learning rate falls after the warm-up"
    )
    warmup_epochs: Annotated[int, SEARCHABLE] = Field(
        0, ge=0, description="epochs over which the learning rate rises from zero"
    )
    grad_clip: Annotated[float, SEARCHABLE] = Field(
        1.0, ge=0, allow_inf_nan=False, description="largest norm of the gradient; 0 does not clip"
    )

    loss: Annotated[str, AfterValidator(loss_name), SEARCHABLE] = Field(
        "dice", description=f"{', '.join(LOSSES)}, or a sum of them such as dice+bce"
    )
    augmentation: Annotated[
        Literal["none", "safe", "light", "medium", "hard"], WrapValidator(_any_case), SEARCHABLE
    ] = Field("hard", description="how much training tiles are changed; safe only flips and turns")
    precision: Annotated[Literal["auto", "fp32", "fp16", "bf16"], WrapValidator(_any_case), SEARCHABLE] = Field(
        "auto", description="auto: bf16 where the GPU computes it natively, fp16 on older ones, fp32 on a CPU"
    )
    worst: Annotated[int, Role(change=Change.RUN, affects_score=False)] = Field(
        4, ge=0, le=64, description="number of validation tiles shown with the curves: those with the most wrong pixels"
    )
    seed: Annotated[int, Role(affects_score=False)] = Field(
        42, ge=0, le=2**31 - 1, description="of weights, order and augmentation"
    )
    workers: Annotated[int, MACHINE] = Field(
        1, ge=0, le=256, description="loader processes; 0 loads in the training process"
    )
    threads: Annotated[int | None, Role(change=Change.SEARCH)] = Field(
        None,
        ge=1,
        le=1024,
        description="number of torch's threads; results depend on it; left out: torch's own number, in a search the "
        "cores of a trial",
    )
    device: Annotated[str, BeforeValidator(_lower), MACHINE] = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto, cpu, cuda or cuda:N; auto prefers cuda",
    )
    cache_dir: Annotated[str | None, AfterValidator(_given), Role(change=Change.MACHINE, path="folder")] = Field(
        None,
        description="folder on a local disk for decoded tiles, shared by all runs; none: decode again and again; "
        "left out: $SEGTUNE_CACHE_DIR, or segtune-cache-UID in $SLURM_TMPDIR, $TMPDIR or /var/tmp",
    )
    cache_gb: Annotated[float, MACHINE] = Field(
        100.0,
        ge=0,
        allow_inf_nan=False,
        description="most gigabytes of decoded tiles; the ones unused longest go first",
    )

    @model_validator(mode="after")
    def _possible(self) -> RunConfig:
        both = sorted(set(self.classes) & set(self.ignore))
        if both:
            raise clash(f"classes and ignore both list {both[0]}", "classes", "ignore")
        if self.warmup_epochs >= self.epochs:
            got = f"(warmup_epochs={self.warmup_epochs}, epochs={self.epochs})"
            raise clash(f"warmup_epochs must be below epochs, but got {got}", "warmup_epochs", "epochs")
        for name in BINARY_LOSSES:
            if len(self.classes) > 1 and name in self.loss.split("+"):
                other = {"bce": "ce is its multi-class form"}.get(
                    name, "it has no multi-class form, as dice and ce have"
                )
                text = f"loss {name!r} is for a single class, and classes lists {len(self.classes)}; {other}"
                raise clash(text, "loss", "classes")
        if self.precision == "fp16" and self.device == "cpu":
            raise clash("precision fp16 needs a GPU, and device is cpu", "precision", "device")
        reserved = sorted({self.images_dir, self.masks_dir} & set(self.channels))
        if reserved:
            text = f"channels lists {reserved[0]!r}, which is images_dir or masks_dir"
            raise clash(text, "channels", "images_dir", "masks_dir")
        if self.images_dir == self.masks_dir and self.image_suffix == self.mask_suffix:
            raise clash(
                f"images_dir and masks_dir are both {self.images_dir!r}; "
                f"then image_suffix and mask_suffix must tell images from masks",
                *("images_dir", "masks_dir", "image_suffix", "mask_suffix"),
            )
        if self.freeze_encoder_epochs >= self.epochs and self.freeze_encoder_epochs:
            got = f"(freeze_encoder_epochs={self.freeze_encoder_epochs}, epochs={self.epochs})"
            text = f"freeze_encoder_epochs must be below epochs, but got {got}"
            raise clash(text, "freeze_encoder_epochs", "epochs")
        if self.use_only_add_val and not self.add_val_dirs:
            raise clash("use_only_add_val needs add_val_dirs", "use_only_add_val", "add_val_dirs")
        return self

    @classmethod
    def from_settings(cls, settings: Mapping[str, object], where: str = "") -> RunConfig:
        """Build a config from plain values; raise SettingsError with every mistake, each line prefixed by `where`."""
        try:
            return cls.model_validate(dict(settings))
        except ValidationError as error:
            raise SettingsError(explain(error, cls), where) from None

    def settings(self) -> dict[str, Any]:
        """Every setting as plain YAML/JSON values, in the order of the fields."""
        return self.model_dump(mode="json")
