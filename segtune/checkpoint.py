"""Exported models and training states on disk: written whole or not at all, read without executing anything."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
import yaml
from torch import nn

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.folders import recover_folder, replaced_file, replaced_folder, write_text
from segtune.machine import versions
from segtune.schema import Band, Labels
from segtune.yamlfile import read_yaml

MEMORY_FORMAT = "channels_last"
THRESHOLD = 0.5  # of the probability, for a single class
_WEIGHTS = "model.safetensors"
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
                bands=tuple(Band(**band) for band in content["normalization"]),
                uint8=data["uint8"],
                precision=evaluation["precision"],
                device=evaluation["device"],
                threads=evaluation["threads"],
                fingerprint=data["fingerprint"],
                parameters=content["parameters"],
                metrics=content["metrics"],
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not a run.yaml as segtune writes it ({error!r})") from None

    def _plain(self) -> dict[str, Any]:
        labels = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self.labels).items()
        }
        return self.config.settings() | {
            "data": {"fingerprint": self.fingerprint, "uint8": self.uint8, "labels": labels},
            "normalization": [asdict(band) for band in self.bands],
            "threshold": THRESHOLD,
            "evaluation": {
                "batch_size": self.config.batch_size,
                "precision": self.precision,
                "memory_format": MEMORY_FORMAT,
                "device": self.device,
                "threads": self.threads,
            },
            "parameters": self.parameters,
            "metrics": dict(self.metrics),
            "machine": {"cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES")},
            "versions": versions(),
        }


def _labels(content: Mapping[str, Any]) -> Labels:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    return Labels(**values)


SECTIONS = (
    "data",
    "normalization",
    "threshold",
    "evaluation",
    "parameters",
    "metrics",
    "machine",
    "versions",
)


def settings_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a run.yaml, without the sections that a run adds."""
    return {name: value for name, value in content.items() if name not in SECTIONS}


def save_model(folder: Path, model: nn.Module, manifest: Manifest) -> None:
    """Write a model's folder, replacing one that is there: smp's save_pretrained format and run.yaml."""
    # smp would download the encoder's first weights again, only to load others over them.
    model.config["encoder_weights"] = None  # type: ignore[index,operator,assignment]
    with replaced_folder(folder) as temporary:
        model.save_pretrained(temporary)  # type: ignore[operator]
        manifest.write(temporary / _MANIFEST)


def load_model(folder: Path, device: torch.device) -> tuple[nn.Module, Manifest]:
    """A model as `save_model` wrote it, ready to evaluate; InputError where the folder holds none."""
    manifest = Manifest.read(folder / _MANIFEST)
    try:
        with redirect_stdout(io.StringIO()):  # the hub's client prints that it loads from a folder
            model = smp.from_pretrained(str(folder))
    except Exception as error:
        # safetensors, json, torch and smp each raise errors of their own for a broken file.
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: the model cannot be loaded ({reason})") from None
    return model.eval().to(device, memory_format=torch.channels_last), manifest


def find_model(folder: Path) -> Path:
    """The model's folder in a search's, a run's or its own folder; InputError where there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder (-cd takes a search, a run or a model)")
    recover_folder(folder / "best")
    for candidate in (folder / "best", folder):
        if (candidate / _WEIGHTS).is_file():
            return candidate
    raise InputError(f"{folder}: holds no model, neither best/{_WEIGHTS} nor {_WEIGHTS}")


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a training state: tensors, numbers, strings, and containers of them."""
    with replaced_file(path) as temporary:
        torch.save(dict(state), temporary)


def load_state(path: Path) -> dict[str, Any]:
    """Read a training state, on the CPU."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
