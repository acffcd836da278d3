"""Read and write run.yaml: everything that a model needs besides its weights."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segtune.config import RunConfig
from segtune.data.bands import Band, check_order, image_bands
from segtune.data.labels import Labels
from segtune.data.tiles import Layout, ReadSettings
from segtune.errors import InputError, one_line, requirement
from segtune.files.atomic import write_text
from segtune.files.transforms_file import TransformsFile
from segtune.files.yamlfile import read_yaml, yaml_of
from segtune.machine import versions
from segtune.models.run_yaml import settings_of
from segtune.roles import Role, declared
from segtune.values import ENLARGE, LOGITS, OVERLAP, SCENE_WEIGHTS, SHRINK, TILE_WEIGHTS

MEMORY_FORMAT = "channels_last"
THRESHOLD = 0.5  # default of the probability above which a pixel belongs to a single class
_MOST_THREADS = 4096
_WIDTH = 120  # of run.yaml's lines
_Count = Annotated[int, Field(ge=1)]
_Number = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    """A section of run.yaml. The fields named here must have these types; others are ignored."""

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
    class_weights: dict[str, _Number] = {}
    tile_size: _Count | None = None  # older releases did not write these two
    resolution: Annotated[_Number, Field(gt=0)] | None = None


class _BandPart(_Part):
    name: str
    mean: _Number
    std: Annotated[_Number, Field(gt=0)]
    low: _Number
    high: _Number


class _EvaluationPart(_Part):
    batch_size: _Count
    micro_batch: _Count | None = None  # older releases did not write it
    precision: Literal["fp32", "fp16", "bf16"]
    device: str
    threads: Annotated[int, Field(ge=1, le=_MOST_THREADS)] | None


class _CostsPart(_Part):
    latency: _Number | None = None
    gpu_memory: _Number | None = None


class _FilePart(_Part):
    text: str


class _Sections(_Part):
    """The sections that a run adds to its settings in run.yaml."""

    data: _DataPart
    costs: _CostsPart | None = None  # older releases did not measure them
    bands: Annotated[list[_BandPart], Field(min_length=1)]
    evaluation: _EvaluationPart
    threshold: Annotated[_Number, Field(gt=0, lt=1)] = THRESHOLD
    min_area: Annotated[int, Field(ge=0)] = 0
    parameters: int
    metrics: dict[str, int | float | None]
    augmentation_file: _FilePart | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything that a model needs besides its weights, and where it comes from."""

    config: RunConfig  # image_size is a number
    labels: Labels
    bands: tuple[Band, ...]  # in the order of the network's input
    uint8: bool
    precision: str  # in evaluation: fp32, fp16 or bf16
    device: str
    fingerprint: str
    parameters: int
    micro_batch: int  # tiles at a time in training; less than batch_size if memory was not enough
    evaluation_batch_size: int  # tiles, or windows, at a time in evaluation
    tiles: Mapping[str, int] = field(default_factory=dict)  # number of tiles used, by split
    left_out: Mapping[str, int] = field(default_factory=dict)  # not used because of limit_tiles or val_samples
    metrics: Mapping[str, Any] = field(default_factory=dict)
    class_weights: Mapping[str, float] = field(default_factory=dict)  # in the loss, by class; empty for none
    threads: int | None = None
    workers: int | None = None  # loader processes in training; None in a manifest that was read
    tile_size: int | None = None  # side in pixels of the largest training tile
    resolution: float | None = None  # metres per pixel of the training tiles; None where their place is not known
    threshold: float = THRESHOLD  # probability above which a pixel belongs to a single class
    min_area: int = 0  # pixels; smaller objects are removed from predictions
    latency: float | None = None  # of a forward pass of one image, in milliseconds; None where it was not measured
    gpu_memory: float | None = None  # the most that training took, in gigabytes; None on a CPU
    transforms: TransformsFile | None = None  # what the file that `augmentation` names held when the run began
    order: tuple[int, ...] = ()  # bands of the image files to read, from 1; empty for all. Not part of run.yaml

    @property
    def image_bands(self) -> int:
        """The number of bands that belong to the image; the others are extra channels."""
        return image_bands([band.name for band in self.bands])

    @property
    def channel_files(self) -> tuple[str, ...]:
        """The extra channels that are read from files of their own: none if the image files hold them."""
        return () if len(self.order) > self.image_bands else tuple(self.config.channels)

    @property
    def layout(self) -> Layout:
        """Where the files of a tile lie in a split."""
        return Layout.of(self.config, self.channel_files)

    @property
    def read_settings(self) -> ReadSettings:
        """How image files are read."""
        return ReadSettings(self.config.nodata, bands=self.image_bands, order=self.order)

    @property
    def score(self) -> float | None:
        """The score of the model in training, by the objective of its run; None where it is not known."""
        found: float | None = self.metrics.get(self.config.objective)
        return found

    def with_order(self, order: tuple[int, ...]) -> Manifest:
        """Return a copy that reads these bands of the image files; with one per input band, extra channels too.

        Raises InputError for another number of bands than the model has.
        """
        if order:
            check_order(order, [band.name for band in self.bands])
        return replace(self, order=order)

    def with_metrics(self, metrics: Mapping[str, Any]) -> Manifest:
        """Return a copy with the metrics that the model reached."""
        return replace(self, metrics=dict(metrics))

    def write(self, path: Path) -> None:
        """Write the settings first, so that `--config` can read them, then one section per subject."""
        write_text(path, yaml_of(self._plain(), _WIDTH))

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read what `write` wrote; raise InputError if the file is missing or unusable."""
        return cls.of(read_yaml(path), path)

    @classmethod
    def of(cls, content: Any, path: Path) -> Manifest:
        """Return the manifest that the content of a file is; raise InputError, naming the file, if it is none."""
        try:
            sections = _Sections.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            reason = f"{place}: {requirement(one_line(first['msg']))}" if place else one_line(first["msg"])
            raise InputError(f"{path}: not a run.yaml as segtune writes it ({reason})") from None
        data, stored, evaluation = sections.data, sections.data.labels, sections.evaluation
        config = _config(content, sections, path)
        labels = Labels(tuple(stored.classes), tuple(stored.ignore), stored.background, stored.background_label)
        return cls(
            config=config,
            labels=replace(labels, names=tuple(config.class_names)),
            bands=tuple(Band(**band.model_dump()) for band in sections.bands),
            uint8=data.uint8,
            precision=evaluation.precision,
            device=evaluation.device,
            threads=evaluation.threads,
            fingerprint=data.fingerprint,
            parameters=sections.parameters,
            micro_batch=evaluation.micro_batch or evaluation.batch_size,
            evaluation_batch_size=evaluation.batch_size,
            tiles=data.tiles,
            left_out=data.left_out,
            class_weights=data.class_weights,
            tile_size=data.tile_size,
            resolution=data.resolution,
            threshold=sections.threshold,
            min_area=sections.min_area,
            metrics=sections.metrics,
            latency=sections.costs.latency if sections.costs else None,
            gpu_memory=sections.costs.gpu_memory if sections.costs else None,
            transforms=_transforms(config, sections),
        )

    @staticmethod
    def store_threshold(path: Path, threshold: float, min_area: int) -> None:
        """Change threshold and smallest area in a run.yaml, and nothing else."""
        content = read_yaml(path) | {"threshold": threshold, "min_area": min_area}
        write_text(path, yaml_of(content, _WIDTH))

    @staticmethod
    def hide_machine(path: Path) -> None:
        """Remove the machine from a run.yaml that others will read: names of host and process, and folders of paths."""
        content = {name: value for name, value in read_yaml(path).items() if name != "machine"}
        held = {
            name: content[name] for name, role in declared(RunConfig, Role).items() if role.path and name in content
        }
        for name, value in held.items():
            content[name] = [_file_name(one) for one in value] if isinstance(value, list) else _file_name(value)
        write_text(path, yaml_of(content, _WIDTH))

    def _plain(self) -> dict[str, Any]:
        labels = _LabelsPart.model_validate(self.labels, from_attributes=True, strict=False).model_dump()
        return self.config.settings() | {
            "data": {
                "fingerprint": self.fingerprint,
                "uint8": self.uint8,
                "labels": labels,
                "tiles": dict(self.tiles),
                "left_out": dict(self.left_out),
                **({"class_weights": dict(self.class_weights)} if self.class_weights else {}),
                "tile_size": self.tile_size,
                "resolution": self.resolution,
            },
            "bands": [asdict(band) for band in self.bands],
            "threshold": self.threshold,
            "min_area": self.min_area,
            "prediction": {
                "shrink": SHRINK,
                "enlarge": ENLARGE,
                "rounding": "in the type of each file",
                "logits": LOGITS,
                "overlap": OVERLAP,
                "tile_weights": TILE_WEIGHTS,
                "scene_weights": SCENE_WEIGHTS,
            },
            "evaluation": {
                "batch_size": self.evaluation_batch_size,
                "micro_batch": self.micro_batch,
                "precision": self.precision,
                "memory_format": MEMORY_FORMAT,
                "device": self.device,
                "threads": self.threads,
            },
            "parameters": self.parameters,
            "costs": {"latency": self.latency, "gpu_memory": self.gpu_memory},
            "metrics": dict(self.metrics),
            "machine": {
                "host": platform.node(),
                "process": os.getpid(),
                "workers": self.workers,
                "node": os.environ.get("RAY_NODE_ID"),  # of the search's Ray cluster; one host can run two
                "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
            },
            "versions": versions(),
            **_file_part(self.transforms),
        }


def _file_name(path: Any) -> Any:
    """Return the last part of a path, or what is no path as it is."""
    return Path(path).name or "tiles" if isinstance(path, str) else path


def _file_part(file: TransformsFile | None) -> dict[str, Any]:
    return {"augmentation_file": {"sha256": file.digest, "text": file.text}} if file else {}


def _transforms(config: RunConfig, sections: _Sections) -> TransformsFile | None:
    part = sections.augmentation_file
    return TransformsFile(config.augmentation, part.text) if part else None


def _config(content: Mapping[str, Any], sections: _Sections, path: Path) -> RunConfig:
    """Return the settings in a run.yaml; raise InputError if its other sections contradict them."""
    config = RunConfig.from_settings(settings_of(content), f"{path}: ")
    if config.image_size is None:
        raise InputError(f"{path}: image_size: is missing; write the size that the model was trained with")
    for name in ("classes", "ignore"):
        found, own = getattr(sections.data.labels, name), getattr(config, name)
        if found != own:
            raise InputError(f"{path}: data.labels.{name} is {found}, but {name} is {own}")
    extra = [band.name for band in sections.bands[len(sections.bands) - len(config.channels) :]]
    if config.channels and extra != config.channels:
        raise InputError(f"{path}: the last bands are {extra}, but channels is {config.channels}")
    return config
