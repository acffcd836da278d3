"""One trial: train() inside a Ray actor that serves many trials, one after another."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import torch
from ray import tune

from segtune.config import RunConfig
from segtune.data.scan import DataInfo
from segtune.errors import SegtuneError
from segtune.folders import RunFolder, write_text
from segtune.runlog import read_metrics
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
            reported = False
            for result in epochs:
                tune.report(_report(result.row(), run.epochs))
                reported = True
        if not reported:  # a driver that was killed did not learn of the last epoch
            tune.report(_report(read_metrics(folder)[-1], run.epochs))
        return
    except Exception as error:
        write_text(_made(folder).error, traceback.format_exc())
        message = _one_line(error)
    # Only here, without the exception, is what its traceback held free.
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    tune.report({"error": message})


def _report(row: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """A row of metrics.csv as Ray and the study get it."""
    return {
        "epoch": int(row["epoch"]),
        "epochs": epochs,
        "best_miou": float(row["best_miou"]),
        "best_epoch": int(row["best_epoch"]),
        "seconds": float(row["seconds"]),
    }


def _made(folder: RunFolder) -> RunFolder:
    folder.path.mkdir(parents=True, exist_ok=True)
    return folder


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    if isinstance(error, SegtuneError) and text:
        return text[:300]
    return f"{name}: {text}"[:300] if text else name
