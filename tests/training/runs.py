"""What the tests of training share: small runs, and what is compared of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.errors import InputError
from segtune.files.folders import RunFolder
from segtune.models.checkpoint import load_model
from segtune.training.result import EpochResult
from segtune.training.runlog import read_rows
from segtune.training.state import load_state
from segtune.training.train import train

DataSet = Callable[..., Path]
Curve = list[tuple[float, float]]
CPU = torch.device("cpu")
SLOW = pytest.mark.slow
TRAIN_STEPS, VAL_STEPS, EPOCHS = 3, 2, 3  # of `whole`: 5 of 7 tiles in batches of 2, and 3 tiles to validate
BATCHES = TRAIN_STEPS + VAL_STEPS  # of an epoch


def small_unet(dataset: Path, **others: Any) -> RunConfig:
    """Return the settings of a run that takes a second or two."""
    fast = {
        "dataset": str(dataset),
        "channels": ["nir"],
        "model": "unet",
        "encoder": "tu-mobilenetv3_small_050",
        "decoder_channels": 64,
        "encoder_weights": "none",
        "image_size": 32,
        "batch_size": 4,
        "epochs": 3,
        "workers": 0,
        "device": "cpu",
    }
    return RunConfig.from_settings(fast | others)


def small_pspnet(dataset: Path, **others: Any) -> RunConfig:
    """Return the settings of a run that takes a second, and draws no worst tiles."""
    fast = {
        "dataset": str(dataset),
        "model": "pspnet",
        "encoder": "tu-mobilenetv3_small_050",
        "encoder_weights": "none",
        "image_size": 32,
        "epochs": EPOCHS,
        "worst": 0,
        "workers": 0,
        "device": "cpu",
    }
    return RunConfig.from_settings(fast | others)


def other(config: RunConfig, **changes: Any) -> RunConfig:
    return RunConfig.from_settings(config.settings() | changes)


def run(config: RunConfig, folder: Path, epochs: int | None = None, **others: Any) -> list[EpochResult]:
    """Train, at most so many epochs, and close."""
    with closing(train(config, scan(config), RunFolder(folder), **others)) as generator:
        return list(islice(generator, epochs))


def steps_of(config: RunConfig, folder: Path) -> int:
    """Go on to the end; the training steps that this took."""
    steps: list[int] = []
    run(config, folder, go_on=True, on_batch=lambda done, total, loss: steps.append(done))
    return len(steps)


def curve(results: list[EpochResult]) -> Curve:
    return [(result.loss, result.scores.miou) for result in results]


def curve_of(folder: Path) -> Curve:
    """The curve that is on disk."""
    return [(float(row["loss"]), float(row["miou"])) for row in read_rows(RunFolder(folder))]


def same_model(first: Path, second: Path) -> bool:
    a, b = (load_file(folder / "best" / "model.safetensors") for folder in (first, second))
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def left(folder: Path) -> dict[str, Any]:
    """All that a run's numbers and weights are, of its files; not how long it took."""
    state = load_state(folder / "state.pt")
    for time in ("seconds", "latency"):
        state["progress"].pop(time)
    state.pop("spent")
    state["row"] = timeless(state["row"])
    best = yaml.safe_load((folder / "best" / "run.yaml").read_text(encoding="utf-8"))
    return {
        "rows": rows(folder),
        "state": plain(state),
        "best": plain(load_file(folder / "best" / "model.safetensors")) | {"metrics": best["metrics"]},
    }


def rows(folder: Path) -> list[dict[str, str]]:
    return [timeless(row) for row in read_rows(RunFolder(folder))]


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if "second" not in name and name != "waiting_share"}


def plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        data = value.contiguous().view(-1).view(torch.uint8) if value.numel() else torch.empty(0)
        return str(value.dtype), tuple(value.shape), hashlib.sha256(data.numpy().tobytes()).hexdigest()
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def nothing_else(folder: Path) -> bool:
    """Whether the folder holds what a run leaves, and nothing of a process that died."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events.out.tfevents")}
    return names == {".lock", "best", "metrics.csv", "run.yaml", "state.pt"} and {
        path.name for path in (folder / "best").iterdir()
    } == {"README.md", "config.json", "model.safetensors", "run.yaml"}


def best_epoch(folder: Path) -> int:
    """The epoch whose model is in best/."""
    return load_model(folder / "best", CPU)[1].metrics["epoch"]


def refusal(config: RunConfig, folder: Path) -> str:
    """Why a run cannot go on; nothing is changed by it."""
    before = contents(folder)
    with pytest.raises(InputError) as caught:
        run(config, folder, go_on=True)
    assert contents(folder) == before
    (mistake,) = caught.value.mistakes
    return mistake


@dataclass(frozen=True)
class Whole:
    """A run that was never stopped."""

    config: RunConfig
    folder: Path
    left: dict[str, Any]
