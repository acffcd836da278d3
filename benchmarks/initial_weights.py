"""What ImageNet weights in the encoder are worth on a data set: the same runs from them and from random weights.

    python benchmarks/initial_weights.py -d DATASET --set classes=1,2,3 ignore=0 channels=nir image_size=64 epochs=8

Both sides train unet with the encoder tu-tf_efficientnet_lite0 (its ImageNet weights come in a package, see
pretrained.py) on the same tiles, with the same settings and seeds. The majority class is what predicting the most
frequent one of the training masks everywhere would score.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
from machine import machine_line
from pretrained import TIMM_NAME, convert

from segtune.cli.assignments import parse_assignments
from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.data.labels import BACKGROUND
from segtune.data.scan import scan
from segtune.data.tiles import TRAIN, VAL
from segtune.evaluation.metrics import ConfusionMatrix, Scores
from segtune.files.folders import RunFolder
from segtune.machine import available_cpus
from segtune.training.train import train


def majority(info: DataInfo) -> tuple[int, Scores]:
    """The most frequent index of the training masks (0 is background), and the score of predicting it everywhere."""
    labels = info.labels
    share = _by_index(info, info.pixels[TRAIN])
    guess = max(share, key=lambda index: share[index])
    matrix = ConfusionMatrix(labels.classes)
    for index, pixels in _by_index(info, info.pixels[VAL]).items():
        matrix.counts[index, guess] = pixels
    return guess, matrix.scores()


def _by_index(info: DataInfo, pixels: Mapping[int, int]) -> dict[int, int]:
    found = dict.fromkeys(range(len(info.labels.classes) + 1), 0)
    for label, count in pixels.items():
        index = int(info.labels.to_indices(np.array([[label]]))[0, 0])
        if index in found:
            found[index] += count
    return found


def best(config: RunConfig, info: DataInfo, folder: Path, threads: int) -> float:
    """The best epoch's mIoU of a run."""
    with closing(train(config, info, RunFolder(folder), threads)) as epochs:
        return max(result.scores.miou for result in epochs if result.scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", "--dataset", required=True)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each side [3]")
    parser.add_argument("--threads", type=int, default=available_cpus(), help="torch threads [all]")
    parser.add_argument("--set", nargs="+", default=[], dest="assignments", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        file = convert(Path(temporary) / "weights.safetensors")
        settings = {"dataset": arguments.dataset, "model": "unet", "encoder": f"tu-{TIMM_NAME}"}
        settings |= parse_assignments(arguments.assignments)
        info = scan(RunConfig.from_settings(settings))
        print(machine_line())
        print(f"{arguments.dataset}: {', '.join(f'{n} {split}' for split, n in info.counts.items())} tiles; {settings}")
        guess, scores = majority(info)
        name = "background" if guess == BACKGROUND else f"class {info.labels.classes[guess - 1]}"
        print(f"{'majority class':20} miou {scores.miou:.4f}  ({name} everywhere)")
        for start, weights in (("random weights", "none"), ("ImageNet weights", str(file))):
            found = []
            for seed in range(arguments.seeds):
                config = RunConfig.from_settings(settings | {"encoder_weights": weights, "seed": seed})
                found.append(best(config, info, Path(temporary) / f"{start} {seed}", arguments.threads))
            each = " ".join(f"{value:.4f}" for value in found)
            print(f"{start:20} miou {statistics.mean(found):.4f}  (seeds: {each})", flush=True)


if __name__ == "__main__":
    main()
