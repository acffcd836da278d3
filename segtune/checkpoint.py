"""Exported models and training states on disk: written whole or not at all, read without executing anything."""

from __future__ import annotations

import errno
import io
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
import yaml
from safetensors import SafetensorError
from torch import nn

from segtune.config import RunConfig, settings_of
from segtune.errors import InputError, loader_died, one_line
from segtune.folders import (
    discard_folder,
    recover_folder,
    replace_folder,
    replaced_file,
    replaced_folder,
    write_text,
)
from segtune.machine import versions
from segtune.schema import Band, Labels
from segtune.yamlfile import read_yaml

MEMORY_FORMAT = "channels_last"
THRESHOLD = 0.5  # of the probability, for a single class
_MANIFEST = "run.yaml"


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
            data, evaluation = content["data"], content["evaluation"]
            return cls(
                config=RunConfig.from_settings(settings_of(content), f"{path}: "),
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
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not a run.yaml as segtune writes it ({error!r})") from None

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


def _labels(content: Mapping[str, Any]) -> Labels:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    return Labels(**values)


def save_model(folder: Path, model: nn.Module, manifest: Manifest) -> None:
    """Write a model's folder, replacing one that is there: smp's save_pretrained format and run.yaml."""
    # smp would download the encoder's first weights again, only to load others over them.
    model.config["encoder_weights"] = None  # type: ignore[index,operator,assignment]
    with _writing(folder), replaced_folder(folder) as temporary:
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
    try:
        with redirect_stdout(io.StringIO()):  # the hub's client prints that it loads from a folder
            model = smp.from_pretrained(str(folder))
    except Exception as error:
        # safetensors, json, torch and smp each raise errors of their own for a broken file.
        raise InputError(f"{folder}: the model cannot be loaded ({one_line(error)})") from None
    return model.eval().to(device, memory_format=torch.channels_last), manifest


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


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a training state: tensors, numbers, strings, and containers of them. OSError when that fails."""
    with _writing(path), replaced_file(path) as temporary:
        torch.save(dict(state), temporary)


def load_state(path: Path) -> dict[str, Any]:
    """Read a training state, on the CPU; InputError where it is damaged."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch, zipfile and pickle each raise errors of their own for a broken file.
        raise InputError(f"{path}: damaged, or not a state of a run ({type(error).__name__})") from None
    return state


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what torch and safetensors raise when the disk is full into an OSError that names the file."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # RuntimeErrors too, and not the disk's fault
    except (RuntimeError, SafetensorError) as error:
        if loader_died(error):
            raise
        raise OSError(errno.EIO, f"cannot be written; is the disk full? ({one_line(error)})", str(path)) from None
