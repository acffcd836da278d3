"""RunConfig: the settings of one training run, typed, checked and documented.

The field names are the names in YAML, flags, TensorBoard's hparams and trials.csv. The descriptions are printed by
``--help`` and in docs/settings.md. A new setting is one field here, with its role (see roles.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
    model_validator,
)

from segtune.clashes import check_loss, check_used
from segtune.class_names import split_classes
from segtune.decoders import ATTENTION, DROPOUT, WIDTH, Decoder
from segtune.errors import InputError
from segtune.mistakes import SettingsError, clash, explain
from segtune.objectives import MIOU, Objective, objective_name
from segtune.roles import DATA, FIXED, MACHINE, SEARCHABLE, Acts, Change, Role
from segtune.values import (
    MAX_CLASSES,
    Alpha,
    Channels,
    CheckedChannels,
    ClassName,
    CountOrAuto,
    FolderName,
    Label,
    NoneOrList,
    SplitFolder,
    Workers,
    any_case,
    augmentation_source,
    different_names,
    distinct,
    given,
    lower,
    one_or_three,
    weights_of_classes,
    weights_source,
)
from segtune.vocabulary import (
    LOSSES,
    MOMENTUM_OPTIMIZERS,
    PIXEL_LOSSES,
    SMOOTHED_LOSSES,
    Architecture,
    Optimizer,
    architecture_name,
    encoder_name,
    loss_name,
)

DEMO = "data/demo"  # a data set that is created when it is first used


class RunConfig(BaseModel):
    """The settings of one training run. The constructor checks all values; `from_settings` raises one-line errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())

    dataset: Annotated[str, Role(data=True, change=Change.MACHINE, path="folder")] = Field(
        "", description="folder that contains train/ and val/, or train.txt and val.txt"
    )
    val_dir: Annotated[
        str | None,
        AfterValidator(given),
        Role(data=True, validation=True, change=Change.MACHINE, path="folder"),
    ] = Field(None, description="folder, or list file, of the validation tiles; if not given: the data set's own val")
    add_val_dirs: Annotated[
        list[str], NoneOrList, Role(data=True, validation=True, change=Change.MACHINE, path="folders")
    ] = Field([], description="additional validation sets: folders, or a file that lists one folder per line")
    adv_freq: Annotated[int, FIXED, Acts("add_val_dirs", elsewhere="nothing")] = Field(
        1, ge=1, description="number of epochs from one evaluation of the additional validation sets to the next"
    )
    use_only_add_val: Annotated[bool, Role(data=True, validation=True)] = Field(
        False, description="compute the score on the additional validation sets alone, pooled, and not on val"
    )
    images_dir: Annotated[SplitFolder, DATA] = Field(
        "images", description="name of the image folder in each split; . means the split's own folder"
    )
    masks_dir: Annotated[SplitFolder, DATA] = Field(
        "gt", description="name of the mask folder in each split; . means the split's own folder"
    )
    image_suffix: Annotated[str, DATA] = Field(
        "", description="ending of image names before the extension, such as _sat"
    )
    mask_suffix: Annotated[str, DATA] = Field(
        "", description="ending of mask names before the extension, such as _mask"
    )
    classes: Annotated[list[Label], AfterValidator(distinct), DATA] = Field(
        [255],
        min_length=1,
        max_length=MAX_CLASSES,
        description="labels to learn, also with names, such as 1:water,2:forest; a single label gives a binary model",
    )
    class_names: Annotated[
        list[ClassName],
        NoneOrList,
        AfterValidator(different_names),
        Role(data=True, change=Change.SEARCH, affects_score=False),
    ] = Field([], description="names of the classes in tables, pictures and exports, in their order; see classes")
    ignore: Annotated[list[Label], NoneOrList, AfterValidator(distinct), DATA] = Field(
        [], description="mask labels that are left out of the loss and of all metrics"
    )
    channels: Annotated[list[FolderName], NoneOrList, AfterValidator(distinct), Role(data=True, searchable=True)] = (
        Field([], description="folders of one-channel images, such as nir; they are added after the image's own bands")
    )
    rgb: Annotated[list[Annotated[int, Field(ge=1)]], NoneOrList, AfterValidator(one_or_three), DATA] = Field(
        [],
        description="numbers, from 1, of the red, green and blue bands, which pictures show and colour "
        "augmentation changes; if not given: the first three, where there are three or more",
    )
    nodata: Annotated[float | None, DATA] = Field(
        None,
        allow_inf_nan=False,
        description="value that means no data in images and channels, in addition to what their files declare",
    )
    alpha: Annotated[Alpha, DATA] = Field(
        "auto",
        description="how to use the band that images declare as alpha: as a mask (its zeros mean no data) or as a "
        "band like the others, such as near infrared; auto decides by its values and reports the "
        "decision",
    )
    limit_tiles: Annotated[int | None, FIXED] = Field(
        None, ge=1, description="use at most this many tiles of each split, for quick tests"
    )

    model: Annotated[Architecture, BeforeValidator(architecture_name), SEARCHABLE] = Field(
        "deeplabv3plus", description="architecture from segmentation_models_pytorch"
    )
    encoder: Annotated[str, AfterValidator(encoder_name), SEARCHABLE] = Field(
        "efficientnet-b0", description="encoder from segmentation_models_pytorch, or tu-NAME for an encoder from timm"
    )
    encoder_weights: Annotated[str, AfterValidator(weights_source), Role(searchable=True, path="file")] = Field(
        "auto",
        description="initial weights of the encoder: none (random), imagenet (of $SEGTUNE_WEIGHTS, cached or "
        "downloaded), auto (imagenet where all encoders' weights can be had, else none), or a file (safetensors, or a "
        "state dict saved with torch.save)",
    )
    decoder_channels: Annotated[Channels, CheckedChannels, SEARCHABLE, Acts("model", tuple(WIDTH))] = Field(
        None, description="width of the decoder, or a list of five; if not given: the architecture's own"
    )
    decoder_attention: Annotated[
        Literal["none", "scse"], WrapValidator(any_case), SEARCHABLE, Acts("model", ATTENTION)
    ] = Field("none", description="attention in the decoder of unet and unetplusplus")
    dropout: Annotated[float | None, SEARCHABLE, Acts("model", tuple(DROPOUT))] = Field(
        None, ge=0, lt=1, description="dropout in the decoder of fpn, pspnet and deeplabv3(plus); if not given: its own"
    )
    drop_path: Annotated[float | None, SEARCHABLE] = Field(
        None, ge=0, lt=1, description="stochastic depth: largest rate in the encoder; if not given: the encoder's own"
    )
    normalization: Annotated[Literal["data", "encoder"], WrapValidator(any_case), SEARCHABLE] = Field(
        "data",
        description="mean and standard deviation that normalize the input: those of the training tiles (data), "
        "or, for the rgb bands, those that the encoder was pretrained with (encoder)",
    )
    image_size: Annotated[Annotated[int, Field(ge=32, le=8192)] | None, SEARCHABLE] = Field(
        None,
        description="side of the network's square input in pixels; if not given: the longest side of any tile, at "
        "most 512, rounded up to a multiple of 32",
    )
    fit: Annotated[Literal["resize", "crop", "pad"], WrapValidator(any_case), SEARCHABLE] = Field(
        "resize",
        description="how a tile is fitted to image_size: resize; crop (at random in training, with a sliding "
        "window in evaluation); or pad (a larger tile is shrunk first)",
    )
    batch_size: Annotated[int, SEARCHABLE] = Field(
        6, ge=1, description="number of tiles per training step, and per batch in evaluation"
    )
    epochs: Annotated[int, Role(searchable=True, change=Change.RUN)] = Field(
        50, ge=1, description="number of passes over the training tiles, in total"
    )
    samples_per_epoch: Annotated[int | None, SEARCHABLE] = Field(
        None,
        ge=1,
        description="number of tiles per epoch; the next epoch continues with other tiles; if not given: all "
        "training tiles",
    )
    val_samples: Annotated[int | None, FIXED] = Field(
        None, ge=1, description="number of validation tiles to use, the same ones every time; if not given: all"
    )
    objective: Annotated[str, BeforeValidator(objective_name), Role(single_run=True)] = Field(
        MIOU,
        description="what the best epoch is chosen by: miou, f1, boundary_iou, iou/LABEL, or a weighted mean such as "
        "2*iou/1+iou/3; in a search it is in objectives",
    )

    optimizer: Annotated[Optimizer, WrapValidator(any_case), SEARCHABLE] = Field(
        "adamw", description="optimizer from torch or timm"
    )
    lr: Annotated[float, SEARCHABLE] = Field(
        1e-3, gt=0, allow_inf_nan=False, description="learning rate after the warm-up"
    )
    encoder_lr_factor: Annotated[float, SEARCHABLE, Acts("encoder_weights", elsewhere="little")] = Field(
        1.0, gt=0, allow_inf_nan=False, description="factor by which the encoder's learning rate differs from lr"
    )
    freeze_encoder_epochs: Annotated[int, SEARCHABLE, Acts("encoder_weights", elsewhere="little")] = Field(
        0, ge=0, description="number of epochs at the start in which the encoder is not trained"
    )
    weight_decay: Annotated[float, SEARCHABLE] = Field(
        1e-4, ge=0, allow_inf_nan=False, description="weight decay: decoupled or an L2 penalty, as the optimizer has it"
    )
    momentum: Annotated[float, SEARCHABLE, Acts("optimizer", MOMENTUM_OPTIMIZERS, elsewhere="nothing")] = Field(
        0.9, ge=0, lt=1, description="momentum; used by sgd, sgdw (Nesterov's), rmsprop, lars, madgrad and muon"
    )
    lr_schedule: Annotated[
        Literal["cosine", "poly", "step", "onecycle", "plateau", "constant"], WrapValidator(any_case), SEARCHABLE
    ] = Field("cosine", description="how the learning rate changes after the warm-up")
    lr_decay: Annotated[float, SEARCHABLE, Acts("lr_schedule", ("step", "plateau"))] = Field(
        0.1, gt=0, lt=1, description="factor by which the schedules step and plateau lower the learning rate"
    )
    lr_patience: Annotated[int, SEARCHABLE, Acts("lr_schedule", ("plateau",))] = Field(
        5, ge=1, description="number of epochs without a better score after which plateau lowers the learning rate"
    )
    warmup_epochs: Annotated[int, SEARCHABLE] = Field(
        0,
        ge=0,
        description="number of epochs in which the learning rate rises from zero; for onecycle, 0 means 30% of them",
    )
    ema: Annotated[float, SEARCHABLE] = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of averaged weights, such as 0.999: these are then evaluated and kept; 0: no average",
    )
    early_stopping: Annotated[int, Role(change=Change.RUN, single_run=True)] = Field(
        0, ge=0, description="number of epochs without a better score after which a single run ends; 0: never"
    )
    grad_clip: Annotated[float, SEARCHABLE] = Field(
        1.0, ge=0, allow_inf_nan=False, description="maximum norm of the gradient; 0 turns clipping off"
    )

    loss: Annotated[str, AfterValidator(loss_name), SEARCHABLE] = Field(
        "dice", description=f"loss function: {', '.join(LOSSES)}, or a sum such as dice+bce or 0.7*dice+0.3*ce"
    )
    label_smoothing: Annotated[float, SEARCHABLE, Acts("loss", SMOOTHED_LOSSES)] = Field(
        0.0, ge=0, lt=1, description="share of each pixel's target that ce, bce and boundary_ce spread over all outputs"
    )
    class_weights: Annotated[str, BeforeValidator(weights_of_classes), SEARCHABLE, Acts("loss", PIXEL_LOSSES)] = Field(
        "none",
        description="weights of the classes in focal, ce, bce and boundary_ce: none, balanced or effective (from the "
        "training pixels), or a list with a number per class, such as 1,5,2; background then has 1",
    )
    oversample: Annotated[Literal["none", "rare"], WrapValidator(any_case), SEARCHABLE] = Field(
        "none", description="rare: draw training tiles with rare classes more often; an epoch has as many tiles"
    )
    augmentation: Annotated[str, AfterValidator(augmentation_source), Role(searchable=True, path="file")] = Field(
        "hard",
        description="how strongly training tiles are augmented: none, safe (only flips and 90-degree rotations), "
        "light, medium, hard, or a YAML or JSON file of albumentations transforms",
    )
    mix: Annotated[Literal["none", "cutmix", "copy_paste"], WrapValidator(any_case), SEARCHABLE] = Field(
        "none",
        description="whether training tiles get parts of other ones: a box (cutmix), or objects of the listed classes, "
        "rare ones most often (copy_paste)",
    )
    mix_probability: Annotated[float, SEARCHABLE, Acts("mix", ("cutmix", "copy_paste"))] = Field(
        0.5, gt=0, le=1, description="share of the training tiles that mix changes; used if mix is not none"
    )
    precision: Annotated[Literal["auto", "fp32", "fp16", "bf16"], WrapValidator(any_case), SEARCHABLE] = Field(
        "auto",
        description="numeric precision; auto: bf16 on GPUs that compute it natively, fp16 on older GPUs, fp32 on a CPU",
    )
    worst: Annotated[int, Role(change=Change.RUN, affects_score=False)] = Field(
        4,
        ge=0,
        le=64,
        description="number of validation tiles to show in TensorBoard: those with the most wrong pixels",
    )
    seed: Annotated[int, Role(affects_score=False)] = Field(
        42, ge=0, le=2**31 - 1, description="random seed for initial weights, sample order and augmentation"
    )
    workers: Annotated[Workers, CountOrAuto, MACHINE] = Field(
        "auto",
        description="number of processes that load data; 0 loads data in the training process; auto: as many as the "
        "cores and the cost of a tile call for; results do not depend on it",
    )
    threads: Annotated[int | None, Role(change=Change.SEARCH)] = Field(
        None,
        ge=1,
        le=1024,
        description="number of torch threads, on which results depend; if not given: torch's own number, or in a "
        "search the CPU cores of a trial",
    )
    device: Annotated[str, BeforeValidator(lower), MACHINE] = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="device to train on: auto, cpu, cuda or cuda:N; auto prefers cuda",
    )
    gpus: Annotated[int, MACHINE] = Field(
        1,
        ge=1,
        le=64,
        description="number of GPUs that train the run together, each on its part of every batch; in a search it is "
        "gpus_per_trial",
    )
    sync_batchnorm: Annotated[bool, FIXED] = Field(
        True,
        description="with several GPUs: let batch normalization see the tiles of all of them, as on one GPU; false is "
        "a little faster",
    )
    cache_dir: Annotated[str | None, AfterValidator(given), Role(change=Change.MACHINE, path="folder")] = Field(
        None,
        description="folder for decoded tiles, on a local disk and shared by all runs; none: no cache; if not "
        "given: $SEGTUNE_CACHE_DIR, or segtune-cache-UID in $SLURM_TMPDIR, $TMPDIR or /var/tmp",
    )
    cache_gb: Annotated[float, MACHINE] = Field(
        100.0,
        ge=0,
        allow_inf_nan=False,
        description="maximum size of the cache in gigabytes; entries that were unused for longest are deleted first",
    )

    @model_validator(mode="before")
    @classmethod
    def _named_classes(cls, settings: Any) -> Any:
        try:
            return split_classes(settings) if isinstance(settings, Mapping) else settings
        except InputError as error:
            raise clash(str(error), "classes") from None

    @model_validator(mode="after")
    def _possible(self) -> RunConfig:
        both = sorted(set(self.classes) & set(self.ignore))
        if both:
            raise clash(f"classes and ignore both contain {both[0]}", "classes", "ignore")
        if self.class_names and len(self.class_names) != len(self.classes):
            counts = f"{len(self.class_names)} names, but classes has {len(self.classes)} labels"
            raise clash(f"class_names has {counts}; name every class, or none", "class_names", "classes")
        if mistake := self.decoder.clash():
            raise mistake
        if self.image_size and (text := self.decoder.too_small(self.image_size)):
            raise clash(text, "image_size", "decoder_channels", "model")
        if self.warmup_epochs >= self.epochs:
            got = f"(warmup_epochs={self.warmup_epochs}, epochs={self.epochs})"
            raise clash(f"warmup_epochs must be below epochs, but got {got}", "warmup_epochs", "epochs")
        check_loss(self.loss, self.classes, self.class_weights)
        if unknown := Objective.of(self.objective).unknown(self.classes):
            raise clash(f"objective: {unknown}", "objective", "classes")
        check_used(self)
        if self.lr_schedule == "plateau" and 0 < self.early_stopping <= self.lr_patience:
            got = f"(early_stopping={self.early_stopping}, lr_patience={self.lr_patience})"
            text = f"early_stopping must be above lr_patience, or plateau never lowers the learning rate, but got {got}"
            raise clash(text, "early_stopping", "lr_patience", "lr_schedule")
        if self.precision == "fp16" and self.device == "cpu":
            raise clash("precision fp16 needs a GPU, but device is cpu", "precision", "device")
        if self.batch_size < self.gpus:
            got = f"(batch_size={self.batch_size}, gpus={self.gpus})"
            raise clash(f"batch_size must be at least gpus, a tile for each, but got {got}", "batch_size", "gpus")
        reserved = sorted({self.images_dir, self.masks_dir} & set(self.channels))
        if reserved:
            text = f"channels contains {reserved[0]!r}, which is images_dir or masks_dir"
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

    @property
    def decoder(self) -> Decoder:
        """The settings of the decoder."""
        return Decoder(self.model, self.decoder_channels, self.decoder_attention, self.dropout)

    @classmethod
    def from_settings(cls, settings: Mapping[str, object], where: str = "") -> RunConfig:
        """Build a config from plain values; raise SettingsError with every mistake, each line prefixed by `where`."""
        try:
            return cls.model_validate(dict(settings))
        except ValidationError as error:
            raise SettingsError(explain(error, cls), where) from None

    def settings(self) -> dict[str, Any]:
        """Return every setting as a plain YAML or JSON value, in the order of the fields."""
        return self.model_dump(mode="json")
