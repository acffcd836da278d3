"""Exported models and training states on disk: written whole or not at all, read without executing anything."""

from __future__ import annotations

import errno
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import load_model as load_tensors
from torch import Tensor, nn

from segtune.config import RunConfig, settings_of
from segtune.data.bands import Band
from segtune.data.labels import Labels
from segtune.errors import InputError, loader_died, one_line
from segtune.files.atomic import (
    WEIGHTS,
    discard_folder,
    recover_folder,
    replace_folder,
    replaced_folder,
    write_text,
)
from segtune.files.yamlfile import read_yaml
from segtune.machine import versions
from segtune.models.build import blank_model, impossible, unknown_encoder
from segtune.models.pretrained import sides, unfit, unusable

MEMORY_FORMAT = "channels_last"
THRESHOLD = 0.5  # of the probability, for a single class
_MANIFEST, _CONFIG = "run.yaml", "config.json"
_MOST_BYTES = 1 << 20  # of config.json, which stays far below
_MOST_THREADS = 4096

_Count = Annotated[int, Field(ge=1)]
_Number = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    """A section of run.yaml, of which what is here must be of its type."""

    model_config = ConfigDict(strict=True)


class _LabelsPart(_Part):
    classes: list[int]
    ignore: list[int]
    background: bool
    background_label: int


class _DataPart(_Part):
    fingerprint: str
    uint8: bool
    labels: _LabelsPart
    tiles: dict[str, int] = {}
    left_out: dict[str, int] = {}


class _BandPart(_Part):
    name: str
    mean: _Number
    std: Annotated[_Number, Field(gt=0)]
    low: _Number
    high: _Number


class _EvaluationPart(_Part):
    batch_size: _Count
    micro_batch: _Count = 1
    precision: Literal["fp32", "fp16", "bf16"]
    device: str
    threads: Annotated[int, Field(ge=1, le=_MOST_THREADS)] | None


class _Found(_Part):
    """What a run adds to its settings in run.yaml."""

    data: _DataPart
    bands: Annotated[list[_BandPart], Field(min_length=1)]
    evaluation: _EvaluationPart
    parameters: int
    metrics: dict[str, int | float | None]


@dataclass(frozen=True)
class Manifest:
    """Everything besides its weights that a model needs to be used, and where it comes from."""

    config: RunConfig  # with a number for image_size
    labels: Labels
    bands: tuple[Band, ...]  # of the network's input, in its order
    uint8: bool
    precision: str  # that of evaluation: fp32, fp16 or bf16
    device: str
    fingerprint: str
    parameters: int
    micro_batch: int  # tiles at a time in training; below batch_size where memory was not enough
    evaluation_batch_size: int  # tiles, or windows, at a time in evaluation
    tiles: Mapping[str, int] = field(default_factory=dict)  # trained or measured on, by split
    left_out: Mapping[str, int] = field(default_factory=dict)  # the split's others, for limit_tiles or val_samples
    metrics: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None

    def with_metrics(self, metrics: Mapping[str, Any]) -> Manifest:
        """The same with the figures that the model reached."""
        return replace(self, metrics=dict(metrics))

    def write(self, path: Path) -> None:
        """Write as YAML: the settings first, so that `--config` reads them, then one section per subject."""
        write_text(path, yaml.safe_dump(self._plain(), sort_keys=False, allow_unicode=True, width=120))

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read what `write` wrote; InputError where it is missing or was changed beyond use."""
        content = read_yaml(path)
        try:
            _Found.model_validate(content)
            data, evaluation = content["data"], content["evaluation"]
            return cls(
                config=_config(content, path),
                labels=_labels(data["labels"]),
                bands=tuple(Band(**band) for band in content["bands"]),
                uint8=data["uint8"],
                precision=evaluation["precision"],
                device=evaluation["device"],
                threads=evaluation["threads"],
                fingerprint=data["fingerprint"],
                parameters=content["parameters"],
                micro_batch=evaluation.get("micro_batch", evaluation["batch_size"]),
                evaluation_batch_size=evaluation["batch_size"],
                tiles=data.get("tiles", {}),
                left_out=data.get("left_out", {}),
                metrics=content["metrics"],
            )
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            reason = f"{place}: {one_line(first['msg'])}" if place else one_line(first["msg"])
            raise InputError(f"{path}: not a run.yaml as segtune writes it ({reason})") from None
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not a run.yaml as segtune writes it ({one_line(repr(error))})") from None

    def _plain(self) -> dict[str, Any]:
        labels = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self.labels).items()
        }
        return self.config.settings() | {
            "data": {
                "fingerprint": self.fingerprint,
                "uint8": self.uint8,
                "labels": labels,
                "tiles": dict(self.tiles),
                "left_out": dict(self.left_out),
            },
            "bands": [asdict(band) for band in self.bands],
            "threshold": THRESHOLD,
            "evaluation": {
                "batch_size": self.evaluation_batch_size,
                "micro_batch": self.micro_batch,
                "precision": self.precision,
                "memory_format": MEMORY_FORMAT,
                "device": self.device,
                "threads": self.threads,
            },
            "parameters": self.parameters,
            "metrics": dict(self.metrics),
            "machine": {
                "host": platform.node(),
                "process": os.getpid(),
                "node": os.environ.get("RAY_NODE_ID"),  # of a search's cluster; two may be on one host
                "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
            },
            "versions": versions(),
        }


def _config(content: Mapping[str, Any], path: Path) -> RunConfig:
    """The settings in a run.yaml; InputError where what the run found out contradicts them."""
    config, labels = RunConfig.from_settings(settings_of(content), f"{path}: "), content["data"]["labels"]
    if config.image_size is None:
        raise InputError(f"{path}: image_size: is missing; it is the number that the model was trained with")
    for name in ("classes", "ignore"):
        if labels[name] != getattr(config, name):
            raise InputError(f"{path}: data.labels.{name} is {labels[name]}, and {name} is {getattr(config, name)}")
    extra = [band["name"] for band in content["bands"][len(content["bands"]) - len(config.channels) :]]
    if config.channels and extra != config.channels:
        raise InputError(f"{path}: the last bands are {extra}, and channels is {config.channels}")
    return config


def _labels(content: Mapping[str, Any]) -> Labels:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    return Labels(**values)


def save_model(folder: Path, model: nn.Module, manifest: Manifest) -> None:
    """Write a model's folder, replacing one that is there: smp's save_pretrained format and run.yaml."""
    # smp would download the encoder's first weights again, only to load others over them.
    model.config["encoder_weights"] = None  # type: ignore[index,operator,assignment]
    with disk_errors(folder), replaced_folder(folder) as temporary:
        model.save_pretrained(temporary)  # type: ignore[operator]
        manifest.write(temporary / _MANIFEST)
        write_text(temporary / "README.md", _card(manifest))  # in place of the hub's template


def _card(manifest: Manifest) -> str:
    """The page that a model's folder opens with, in Markdown."""
    config, miou = manifest.config, manifest.metrics.get("miou")
    classes = [f"- {label}: IoU {_score(manifest.metrics.get(f'iou/{label}'))}" for label in config.classes]
    size = f"{config.image_size} x {config.image_size} pixels"
    return "\n".join(
        [
            "# A segmentation model",
            "",
            f"{config.model} with the encoder {config.encoder}, {manifest.parameters:,} parameters, made by segtune.",
            f"Its mIoU on the validation tiles is {_score(miou)}. The classes, by their labels in the masks:",
            "",
            *classes,
            "",
            f"- data: {config.dataset}",
            f"- input: {len(manifest.bands)} bands ({', '.join(band.name for band in manifest.bands)}), {size}",
            "",
            "```python",
            "import segmentation_models_pytorch as smp",
            "",
            'model = smp.from_pretrained("FOLDER")',
            "```",
            "",
            "run.yaml has the normalisation of the bands, the threshold, and every setting of the training.",
            "`python validate.py -cd FOLDER -d SPLIT` measures the model on other tiles.",
            "",
        ]
    )


def _score(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def load_model(folder: Path, device: torch.device) -> tuple[nn.Module, Manifest]:
    """A model as `save_model` wrote it, ready to evaluate; InputError where the folder holds none."""
    manifest = Manifest.read(folder / _MANIFEST)
    config = manifest.config
    mistake = unknown_encoder(config.encoder) or impossible(config.model, config.encoder, config.image_size)
    if mistake:
        raise InputError(f"{folder / _MANIFEST}: {mistake}")
    # Built from run.yaml, which was checked. smp's from_pretrained builds whatever config.json names: an encoder of the
    # hub, say, with weights to download.
    model = blank_model(config, len(manifest.bands), manifest.labels.outputs)
    _check_same_network(folder / _CONFIG, model)
    weights = folder / WEIGHTS
    try:
        _check_tensors(load_file(weights), model)
        load_tensors(model, weights)
    except Exception as error:
        # safetensors, torch and the file system each raise errors of their own for a broken file.
        raise InputError(f"{folder}: the model cannot be loaded ({one_line(error)})") from None
    return model.eval().to(device).to(memory_format=torch.channels_last), manifest


def _check_same_network(path: Path, model: nn.Module) -> None:
    """InputError where a config.json, by which smp alone would read the model, says that it is another one."""
    if not path.is_file():
        raise InputError(f"{path}: is missing, or no regular file")
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({one_line(error)})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a config.json as smp writes it")
    own: Any = model.config
    expected = json.loads(json.dumps({**own, "_model_class": type(model).__name__}))
    for name, value in expected.items():
        if name != "encoder_weights" and content.get(name, value) != value:
            raise InputError(f"{path}: {name} is {one_line(repr(content[name]))}, but {value!r} by {_MANIFEST}")


def _check_tensors(tensors: Mapping[str, Tensor], model: nn.Module) -> None:
    own = model.state_dict()
    for name, tensor in tensors.items():
        if name in own and (reason := unusable(tensor) or unfit(tensor, own[name])):
            raise ValueError(f"{name} {reason}")
        if name in own and tensor.shape != own[name].shape:  # smp would print a warning of many lines
            raise ValueError(f"{name} is {sides(tensor)} instead of {sides(own[name])}")


def settle_model(folder: Path, candidate: Path, epoch: int) -> bool:
    """Leave the model of this epoch in its folder, and no other; whether there is one.

    A run writes a better model than the one that it has beside that one, then the state that knows of it, and lets it
    take the other's place only then: a run that goes on finds the model of its state, whenever it was killed.
    """
    recover_folder(folder)
    for place in (candidate, folder):
        if place.exists() and Manifest.read(place / _MANIFEST).metrics.get("epoch") != epoch:
            discard_folder(place)
    if candidate.exists():
        replace_folder(candidate, folder)
    return folder.exists()


def model_score(folder: Path) -> float | None:
    """The mIoU that the model in a folder reached in training; None where there is no model, or none that tells."""
    try:
        return Manifest.read(folder / _MANIFEST).metrics.get("miou") if folder.is_dir() else None
    except InputError:
        return None


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what torch and safetensors raise when the disk is full into an OSError that names the file."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # RuntimeErrors too, and not the disk's fault
    except (RuntimeError, SafetensorError) as error:
        if loader_died(error):
            raise
        raise OSError(errno.EIO, f"cannot be written; is the disk full? ({one_line(error)})", str(path)) from None
