"""One trial: train() inside a Ray actor that serves many trials, one after another."""

from __future__ import annotations

import gc
import traceback
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
from ray import tune

from segtune.config import RunConfig
from segtune.data.scan import DataInfo
from segtune.errors import SegtuneError
from segtune.folders import RunFolder, write_text
from segtune.train import train


def run_trial(config: dict[str, Any], info: DataInfo, threads: int) -> None:
    """Train and report each epoch to Ray Tune.

    `config` has the trial's number, whether it is the baseline, its settings and its folder. A failure is
    reported as a result with an `error`, not raised: Ray would throw the process away, with five seconds of
    imports in it.
    """
    folder = RunFolder(Path(config["folder"]))
    # Left at its default, OpenCV would use all cores of the machine beside torch's threads.
    cv2.setNumThreads(0)
    if not gc.get_freeze_count():
        # train() collects garbage when it ends. What the imports made, a million objects, need not be looked
        # through after every trial.
        gc.freeze()
    try:
        run = RunConfig.from_settings(config["settings"])
        # When the scheduler stops a trial, report() raises SystemExit here; closing frees what train() holds.
        with closing(train(run, info, folder, threads=threads, go_on=True)) as epochs:
            for result in epochs:
                tune.report(
                    {
                        "epoch": result.epoch,
                        "epochs": result.epochs,
                        "best_miou": result.best_miou,
                        "best_epoch": result.best_epoch,
                        "seconds": result.seconds,
                    }
                )
    except Exception as error:
        write_text(_made(folder).error, traceback.format_exc())
        tune.report({"error": _one_line(error)})


def _made(folder: RunFolder) -> RunFolder:
    folder.path.mkdir(parents=True, exist_ok=True)
    return folder


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    if isinstance(error, SegtuneError) and text:
        return text[:300]
    return f"{name}: {text}"[:300] if text else name
