"""Runs from the command line in tests, and what they leave."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from sklearn.metrics import jaccard_score

from segtune.config import RunConfig
from segtune.files.folders import RunFolder
from segtune.models.manifest import Manifest
from segtune.training.runlog import read_rows
from segtune.training.state import load_state
from tests.scripts import Ended, call

DataSet = Callable[..., Path]
WriteImage = Callable[..., Path]
Masks = dict[str, NDArray[Any]]  # by tile

# Flags of a run that takes a second.
SMALL = ("-m", "unet", "--encoder", "tu-mobilenetv3_small_050", "--decoder-channels", "64", "--image-size", "32")
FAST = (*SMALL, "-b", "3", "-e", "2", "-w", "0", "--device", "cpu")
# Flags of such a run that learns something.
LEARNS = (*SMALL, "-b", "3", "-e", "2", "-w", "0", "--cpu", "-lr", "1e-2", "-a", "safe")

Run = Callable[..., int]
ConfigOf = Callable[..., RunConfig]
Typed = Callable[..., tuple[int, list[str]]]


def train_in(dataset: Path, logs: Path, *flags: object, name: str = "run") -> Ended:
    """run_single.py on a data set."""
    return call("run_single", "-d", dataset, *LEARNS, "-log", logs, "--exp-name", name, *flags)


def trained(dataset: Path, logs: Path, *flags: object, name: str = "run") -> RunFolder:
    ended = train_in(dataset, logs, *flags, name=name)
    assert (ended.status, ended.err) == (0, ""), ended
    return RunFolder(logs / name)


def best_miou(folder: RunFolder) -> float:
    """The score that a run ended with. It is above zero: equal scores shall mean something."""
    value = float(read_rows(folder)[-1]["best_miou"])
    assert 0 < value <= 1
    return value


def measured(folder: Path, split: Path, out: Path) -> tuple[float, Masks]:
    """What validate.py gives: the score, and the masks that it writes, by their names."""
    ended = call("validate", "-cd", folder, "-d", split, "-o", out, "--binary", "--device", "cpu")
    assert (ended.status, ended.err) == (0, ""), ended
    found = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    masks = read_masks(out / "binary")
    assert found["tiles"] == len(masks)
    return found["miou"], masks


def measures_the_same(folder: RunFolder, split: Path, out: Path) -> Masks:
    """Check that validate.py gives a run's own score; the masks that it writes."""
    miou, masks = measured(folder.path, split, out)
    assert miou == best_miou(folder)
    return masks


def pixels(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as file:
        array: NDArray[Any] = file.read()
    return array


def read_masks(folder: Path) -> Masks:
    return {path.stem: pixels(path)[0] for path in sorted(folder.iterdir())}


def score(truth: Masks, predicted: Masks, classes: Sequence[int], counted: Masks | None = None) -> float:
    """mIoU over all pixels at once, as scikit-learn has it."""
    assert truth.keys() == predicted.keys()
    assert all(truth[name].shape == predicted[name].shape for name in truth)
    there = [counted[name] if counted else np.ones(mask.shape, bool) for name, mask in truth.items()]
    wanted = np.concatenate([mask[valid] for mask, valid in zip(truth.values(), there, strict=True)])
    given = np.concatenate([predicted[name][valid] for name, valid in zip(truth, there, strict=True)])
    return float(jaccard_score(wanted, given, labels=list(classes), average=None).mean())


def steps(folder: RunFolder) -> int:
    """Steps of training that a run has done."""
    return int(load_state(folder.state)["schedule"]["last_epoch"])


def copy_tiles(split: Path, names: Sequence[str], target: Path) -> Path:
    """A split of some of another one's tiles."""
    for folder in split.iterdir():
        (target / folder.name).mkdir(parents=True)
        for path in folder.iterdir():
            if path.stem in names:
                shutil.copy(path, target / folder.name)
    return target


@dataclass(frozen=True)
class Plain:
    """A run like any other, and its data: 6 and 4 tiles with labels 0 and 255, 3 bands, 8-bit PNG."""

    dataset: Path
    folder: RunFolder
    out: str


def lists(dataset: Path) -> list[str]:
    """All tiles in one place, and a list for each split."""
    for split in ("train", "val"):
        names = sorted(path.stem for path in (dataset / split / "images").iterdir())
        listed = "".join(f"{split}{name}.jpg\n" for name in names)
        (dataset / f"{split}.txt").write_text(listed, encoding="utf-8")
        for folder in ("images", "gt"):
            (dataset / folder).mkdir(exist_ok=True)
            for path in (dataset / split / folder).iterdir():
                path.rename(dataset / folder / f"{split}{path.name}")
        shutil.rmtree(dataset / split)
    return []


def next_command(out: str) -> list[str]:
    """The arguments of the validation that a run tells to do next."""
    (line,) = [line for line in out.splitlines() if line.startswith("  python validate.py ")]
    return shlex.split(line)[2:]


def settings(folder: RunFolder) -> Mapping[str, Any]:
    return Manifest.read(folder.run_yaml).config.settings()


def refused(dataset: Path, logs: Path, *flags: object) -> list[str]:
    """What a wrong call says; it writes nothing."""
    lines = train_in(dataset, logs, *flags).mistakes
    assert not logs.exists()
    return lines


def refusal(run: Run, capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    """What a wrong call says, line by line; and nothing is written."""
    capsys.readouterr()
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("error: ") for line in lines), lines
    assert list(Path.cwd().iterdir()) == []
    return [line.removeprefix("error: ") for line in lines]
