"""Models that smp's save_pretrained wrote without run.yaml: somebody says what they were trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from segtune.config import RunConfig
from segtune.data.bands import IMAGE, Band
from segtune.data.labels import Labels
from segtune.errors import InputError, counted, one_line, short
from segtune.files.atomic import CONFIG, MANIFEST
from segtune.models.manifest import Manifest
from segtune.vocabulary import Architecture

_MOST_BYTES = 1 << 20  # that are read of config.json, which is far smaller
_SIDE = 512  # pixels of a window, unless somebody says otherwise
_BATCH = 8  # windows at a time
_SPREAD = 2  # standard deviations about the mean within which most values lie
_UINT8_MAX = 255.0
# Of the red, green and blue of 8-bit photographs, in examples.
_EXAMPLES = ((123.7, 58.4), (116.3, 57.1), (103.5, 57.4))


@dataclass(frozen=True)
class Described:
    """What somebody says of a model without run.yaml; mean and std are in units of the pixel values, by band."""

    classes: tuple[int, ...] = ()  # the labels of the masks, in the order of the network's outputs
    names: tuple[str, ...] = ()
    ignore: tuple[int, ...] = ()
    channels: tuple[str, ...] = ()  # folders of the extra channels, after the image's own bands
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    image_size: int | None = None  # side of the square that the network sees

    @property
    def given(self) -> list[str]:
        """The flags that say it."""
        names = ("classes", "ignore", "channels", "mean", "std")
        return [f"--{name}" for name in names if getattr(self, name)]


def has_manifest(folder: Path) -> bool:
    """Return whether a model's folder has a run.yaml, which says what it was trained on."""
    return (folder / MANIFEST).exists()


def manifest_of(folder: Path, described: Described | None = None) -> Manifest:
    """Return the manifest of a model: that of its run.yaml, or of what somebody says if it has none.

    Raises InputError where run.yaml is unusable, or where what is said is not enough or does not suit config.json.
    """
    if has_manifest(folder):
        return Manifest.read(folder / MANIFEST)
    content, said = read_config(folder / CONFIG), described or Described()
    bands, outputs = (_number(folder / CONFIG, content, name) for name in ("in_channels", "classes"))
    _check_complete(folder, said, bands, outputs)
    return Manifest(
        config=_settings(folder / CONFIG, content, said),
        labels=_labels(folder, said, outputs),
        bands=_bands(folder, said, bands),
        uint8=False,  # pixels of any type are taken
        precision="fp32",
        device="cpu",
        fingerprint="",
        parameters=0,
        micro_batch=_BATCH,
        evaluation_batch_size=_BATCH,
    )


def read_config(path: Path) -> dict[str, Any]:
    """Return the content of a config.json; raise InputError if smp's save_pretrained did not write it."""
    if not path.is_file():
        raise InputError(f"{path}: is missing, or not a regular file; smp's save_pretrained writes it")
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({one_line(error)})") from None
    if not isinstance(content, dict) or "_model_class" not in content:
        raise InputError(f"{path}: not a config.json as smp's save_pretrained writes it: it has no _model_class")
    return content


def architecture_in(path: Path, content: Mapping[str, Any]) -> str:
    """Return the architecture that a config.json names; raise InputError if smp has none of that name."""
    found, known = str(content["_model_class"]), get_args(Architecture)
    if found.lower() not in known:
        raise InputError(
            f"{path}: _model_class: smp has no architecture {short(found)}, or not one that is supported here "
            f"({', '.join(known)})"
        )
    return found.lower()


def _number(path: Path, content: Mapping[str, Any], name: str) -> int:
    found = content.get(name)
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise InputError(f"{path}: {name}: must be a number from 1, but is {short(found)}")
    return found


def _check_complete(folder: Path, said: Described, bands: int, outputs: int) -> None:
    """Raise InputError, with an example that suits the network, where something is not said that has to be."""
    missing = [f"--{name}" for name in ("classes", "mean", "std") if not getattr(said, name)]
    if not missing:
        return
    pairs = [_EXAMPLES[i % len(_EXAMPLES)] for i in range(min(bands, 12))]
    labels = ",".join(str(label) for label in range(1, min(outputs, 12) + 1))
    mean, std = (",".join(f"{pair[i]:g}" for pair in pairs) for i in range(2))
    are = f"{' and '.join([', '.join(missing[:-1]), missing[-1]] if missing[1:] else missing)}"
    raise InputError(
        f"{folder}: has no run.yaml, so flags say what the model was trained on; missing: {are}; an example for its "
        f"{counted(outputs, 'output')} and {counted(bands, 'band')}, in pixel values: --classes {labels} --mean {mean} "
        f"--std {std}"
    )


def _settings(path: Path, content: Mapping[str, Any], said: Described) -> RunConfig:
    """Return the settings of a run that such a model could come from: windows of the pixels as they are."""
    size = content.get("img_size")
    own = size if isinstance(size, int) and not isinstance(size, bool) else _SIDE
    settings = {
        "model": architecture_in(path, content),
        "encoder": str(content.get("encoder_name")),
        "encoder_weights": "none",
        "classes": list(said.classes),
        "class_names": list(said.names),
        "ignore": list(said.ignore),
        "channels": list(said.channels),
        "image_size": said.image_size or own,
        "fit": "crop",
    }
    try:
        return RunConfig.from_settings(settings)
    except InputError as error:
        raise InputError(line.replace("image_size", "--tile-size", 1) for line in error.mistakes) from None


def _labels(folder: Path, said: Described, outputs: int) -> Labels:
    """Return the labels of a network's outputs; background is the first one if there is one more than classes."""
    count, found = len(said.classes), [*said.classes, *said.ignore]
    background = outputs == count + 1 and count > 1
    if outputs != count and not background:
        few = " (one class with a background of its own is two classes)" if (count, outputs) == (1, 2) else ""
        fewer = f", or {outputs - 1} if the first output is background" if outputs > 2 else ""
        raise InputError(
            f"--classes: {folder} has {counted(outputs, 'output')}, which are {counted(outputs, 'label')}{fewer}; but "
            f"got {count}{few}"
        )
    unused = next(label for label in range(len(found) + 1) if label not in found)
    others = [unused] if background or count == 1 else []
    return Labels.from_masks(said.classes, said.ignore, others, said.names)


def _bands(folder: Path, said: Described, bands: int) -> tuple[Band, ...]:
    own = bands - len(said.channels)
    if own < 1:
        raise InputError(f"--channels: lists {len(said.channels)}, but {folder} takes {counted(bands, 'band')} in all")
    for name in ("mean", "std"):
        if (count := len(getattr(said, name))) != bands:
            raise InputError(f"--{name}: needs a value for each band that {folder} takes, {bands}, but got {count}")
    names = [*(f"{IMAGE}:{number}" for number in range(1, own + 1)), *said.channels]
    values = zip(names, said.mean, said.std, strict=True)
    return tuple(Band(name, mean, std, *_range(mean, std)) for name, mean, std in values)


def _range(mean: float, std: float) -> tuple[float, float]:
    """Return about the lowest and highest value that a band had in training; those of 8 bits where it can be."""
    low, high = mean - _SPREAD * std, mean + _SPREAD * std
    return (max(0.0, low), min(_UINT8_MAX, high)) if 0 <= mean <= _UINT8_MAX else (low, high)


def scaled_line(said: Described, dtype: str, place: object) -> str | None:
    """Return why mean and std are not in units of the pixel values; None where they can be.

    Many programs divide 8-bit pixels by 255 before they normalize, and so give statistics from 0 to 1.
    """
    if not said.mean or dtype.startswith("float") or max(map(abs, said.mean)) > 1 or max(said.std) >= 1:
        return None
    if dtype != "uint8":
        return (
            f"--mean: {_listed(said.mean)} and --std {_listed(said.std)} are of pixels from 0 to 1, but those of "
            f"{place} are {dtype}: give both in units of the pixel values, times what the training divided by"
        )
    mean, std = ([round(_UINT8_MAX * value, 3) for value in values] for values in (said.mean, said.std))
    return (
        f"--mean: {_listed(said.mean)} and --std {_listed(said.std)} are of pixels from 0 to 1, but those of {place} "
        f"are uint8: give both times 255, --mean {_listed(mean)} --std {_listed(std)}"
    )


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
