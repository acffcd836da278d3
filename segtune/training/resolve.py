"""The settings of a run: completed, and checked before anything starts."""

from __future__ import annotations

from pathlib import Path

from segtune.config import RunConfig
from segtune.data.bands import rgb_positions
from segtune.data.dataset import DataInfo
from segtune.data.splits import absolute_places
from segtune.data.tiles import TRAIN, VAL
from segtune.data.transforms import check_transforms
from segtune.errors import InputError
from segtune.fields import FOLDER_LISTS, FOLDERS
from segtune.files.transforms_file import TransformsFile
from segtune.models.auto_weights import decide_weights
from segtune.models.build import check_weights, initial_file
from segtune.models.compatibility import check_network
from segtune.models.device import check_gpus, resolve_device, resolve_precision
from segtune.models.normalization import input_statistics
from segtune.models.weights import weights_file
from segtune.objectives import Objective
from segtune.remarks import Say, unheard
from segtune.values import AUTO, augmentation_file


def check_run(config: RunConfig, begins: bool = True, say: Say = unheard) -> RunConfig:
    """Check what can be checked before the data is read: network, device, precision and initial weights.

    `begins` says whether the model starts from `encoder_weights`; a run that is resumed has its weights already.
    Returns the config with `encoder_weights: auto` decided, if the model starts from them; `say` gets a line where the
    user should know. Raises InputError with every mistake.
    """
    check_network(config)
    resolve_precision(config, resolve_device(config.device))
    check_gpus(config)
    if not begins:
        return config
    check_weights([(config.model, config.encoder, config.encoder_weights)], image_size=config.image_size)
    return with_weights_decided(config, say)


def with_weights_decided(config: RunConfig, say: Say = unheard) -> RunConfig:
    """Return the config with `encoder_weights: auto` decided; see `decide_weights`."""
    if config.encoder_weights != AUTO:
        return config
    decided = decide_weights([(config.model, config.encoder)])
    for line in decided.remarks:
        say(line)
    return config.model_copy(update={"encoder_weights": decided.weights})


def check_input(
    config: RunConfig, info: DataInfo, begins: bool = True, transforms: TransformsFile | None = None
) -> None:
    """Check what depends on the data, before anything is trained; `check_run` comes before it.

    `transforms` is the file that `augmentation` names. Raises InputError with every mistake.
    """
    resolved = resolve(config, info)
    check_network(resolved)
    check_objective(config, info)
    bands = input_statistics(config, info.input_bands(config.channels), info.uint8)
    rgb_positions(config.rgb, bands)
    if transforms:
        check_augmentation(config, info, transforms)
    if begins:
        _check_names(config, info)
    if begins and initial_file(config.encoder, config.encoder_weights):
        check_weights([(config.model, config.encoder, config.encoder_weights)], len(bands), resolved.image_size)


def check_objective(config: RunConfig, info: DataInfo) -> None:
    """Raise InputError where no mask that the run is scored on holds a class whose IoU is part of its objective."""
    splits = [split for split in info.counts if split == VAL or (config.use_only_add_val and split != TRAIN)]
    for label in Objective.of(config.objective).labels:
        if not any(info.pixels[split].get(label) for split in splits):
            where = "the masks of the validation tiles"
            raise InputError(f"the objective {config.objective} cannot be measured: label {label} is not in {where}")


def _check_names(config: RunConfig, info: DataInfo) -> None:
    """Raise InputError where a class is named background and pixels of no class are learnt as background, too."""
    named = next((name for name in config.class_names if name.lower() == "background"), None)
    if named and info.labels.predicts_background:
        label = config.classes[config.class_names.index(named)]
        reason = "pixels that classes and ignore do not list are background already"
        raise InputError(f"class_names: label {label} is named {named!r}, but {reason}; give it another name")


def check_augmentation(config: RunConfig, info: DataInfo, file: TransformsFile) -> None:
    """Try a file of transforms on tiles like those of a run; raise InputError with every mistake in it."""
    bands = info.input_bands(config.channels)
    size = resolve(config, info).image_size
    assert size
    check_transforms(file, bands, info.uint8, rgb_positions(config.rgb, bands), info.labels, size)


def anchored(config: RunConfig) -> RunConfig:
    """Return the config with absolute paths, so that it is valid in any working folder."""
    weights, transforms = weights_file(config.encoder_weights), augmentation_file(config.augmentation)
    return config.model_copy(
        update={
            **{name: _absolute(getattr(config, name)) for name in FOLDERS},
            **{name: absolute_places(getattr(config, name)) for name in FOLDER_LISTS},
            **({"cache_dir": "none"} if config.cache_dir == "none" else {}),
            "encoder_weights": str(weights.absolute()) if weights else config.encoder_weights,
            "augmentation": str(transforms.absolute()) if transforms else config.augmentation,
        }
    )


def resolve(config: RunConfig, info: DataInfo) -> RunConfig:
    """Return the config with absolute paths and with the image size that follows from the data."""
    return anchored(config).model_copy(update={"image_size": config.image_size or info.image_size()})


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())
