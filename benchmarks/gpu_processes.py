"""Checks of processes: loaders beside CUDA, runs that are killed, and trials that share a GPU."""

from __future__ import annotations

import csv
import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
import yaml
from gpu_bench import PROCESS_S, SCRIPTS, Bench, Outcome, complaint, off, script
from torch import Tensor

from segtune.data.augment import Augmentation
from segtune.data.batches import Batches
from segtune.data.scan import scan
from segtune.data.tiles import TRAIN
from segtune.evaluation.validate import validate
from segtune.files.folders import RunFolder
from segtune.training.runlog import epochs_done, read_rows

SPACE = """
run: {{model: unet, encoder: resnet18, encoder_weights: none, image_size: 64, epochs: {epochs},
  samples_per_epoch: {samples}, workers: 1}}
space: {{lr: {{low: 1e-3, high: 1e-2, log: true}}}}
search: {{sampler: random, scheduler: none, trials: 2, max_concurrent: 2, cpus_per_trial: 1, gpus_per_trial: {gpus}}}
"""


def loaders(bench: Bench) -> Outcome:
    """Check that loader processes forked beside CUDA give the same tiles in pinned memory, and train with them."""
    config = bench.config()
    info = scan(config)
    augmentation = Augmentation("hard", info.input_bands(config.channels), info.uint8)

    def drawn(workers: int) -> list[Tensor]:
        store = info.store(TRAIN, config)
        with Batches(store, 4, 1, augmentation, workers=workers, pin_memory=bench.gpu) as batches:
            return [images for epoch in (1, 2) for images, _ in batches.epoch(epoch) if isinstance(images, Tensor)]

    alone, together = drawn(0), drawn(3)
    same = len(alone) == len(together) and all(map(torch.equal, alone, together))
    pinned = all(images.is_pinned() for images in together) if bench.gpu else None
    loss = bench.train("loaders", workers=3, epochs=2, precision="fp32")[-1].loss
    without = bench.train("no-loaders", workers=0, epochs=2, precision="fp32")[-1].loss
    ok = same and pinned is not False and off(loss, without) < 0.1
    text = f"{len(together)} batches the same: {same}, pinned: {pinned}; loss {loss:.4f}, without loaders {without:.4f}"
    return Outcome(ok, text, {"loss": loss, "loss_without": without})


def together(bench: Bench) -> Outcome:
    """Compare a run of two processes with one of a single process: losses, and the score that validation gives.

    With two GPUs each process has one, and they talk through NCCL; else both are on one, or on the CPU, and use gloo.
    On a CPU torch has no BatchNorm that processes share: each sees its own tiles, and losses are up to a hundredth off.
    There the network has no BatchNorm, so that all losses must be equal to rounding.
    """
    # The last batch of an epoch has one tile: fewer than there are processes.
    settings: dict[str, Any] = {"batch_size": 5, "samples_per_epoch": 11, "precision": "fp32", "epochs": 3}
    settings |= {"optimizer": "sgd", "lr": 0.02, "ema": 0.6, "freeze_encoder_epochs": 1}
    if bench.small:
        settings |= {"epochs": 2, "threads": 1}  # more threads of two processes wait for each other
    if not bench.gpu:
        settings |= {"model": "fpn", "dropout": 0.0, "encoder": "tu-convnext_atto"}
    found = {}
    for gpus, name in ((1, "one-process"), (2, "two-processes")):
        found[gpus] = bench.train(name, gpus=gpus, **settings)
        found[gpus] += bench.train(name, go_on=True, gpus=gpus, **settings | {"epochs": settings["epochs"] + 1})
    alone, losses = ([epoch.loss for epoch in found[gpus]] for gpus in (1, 2))
    validated = validate(bench.folder("two-processes").path, bench.demo / "val", str(bench.device)).scores.miou
    furthest = max(map(off, losses, alone))
    apart = abs(validated - (found[2][-1].best_miou or 0.0))
    # On a GPU, convolutions of other numbers of tiles round otherwise, and training enlarges that.
    ok = furthest < (0.01 if bench.gpu else 1e-4) and len(losses) == len(alone) == settings["epochs"] + 1
    ok = ok and apart < 1e-6
    cards = torch.cuda.device_count() if bench.gpu else 0
    where = "a GPU each, NCCL" if cards > 1 else "one GPU, gloo" if cards else "the CPU, gloo"
    text = (
        f"{where}: losses {', '.join(f'{loss:.5f}' for loss in losses)} (the last one resumed), at most {furthest:.1e} "
        f"off one process's; validated again {apart:.1e} off"
    )
    return Outcome(ok, text, {"losses": losses, "alone": alone, "cards": cards})


def interrupted(bench: Bench) -> Outcome:
    """Interrupt a run by kill -9 and by SIGTERM: each epoch counts once, and the result is that of whole runs."""
    epochs = 4 if bench.small else 8
    settings: dict[str, Any] = {"epochs": epochs, "samples_per_epoch": 16 if bench.small else 256}
    whole, again = (bench.train(name, **settings)[-1] for name in ("whole", "whole-again"))
    folder = bench.folder("interrupted")
    (bench.root / "run.yaml").write_text(yaml.safe_dump(bench.config(**settings).settings()))
    logs, name = str(folder.path.parent), folder.path.name
    command = ["run_single.py", "--config", str(bench.root / "run.yaml"), "--log-dir", logs, "--exp-name", name]
    killed = _end_after(command, folder, 1, signal.SIGKILL)
    done = epochs_done(folder)
    stopped = _end_after(command, folder, done + 1, signal.SIGTERM)
    between = epochs_done(folder)
    ended = script(command)
    rows = read_rows(folder)
    numbers = [int(row["epoch"]) for row in rows]
    miou = float(rows[-1]["best_miou"])
    usual, apart = (whole.best_miou or 0.0, abs((whole.best_miou or 0.0) - (again.best_miou or 0.0)))
    ok = (killed, stopped, ended.returncode) == (-signal.SIGKILL, 128 + signal.SIGTERM, 0)
    ok = ok and numbers == list(range(1, epochs + 1)) and abs(miou - usual) <= 0.05 + apart
    text = (
        f"killed after {done}, stopped after {between} of {epochs} epochs (status {killed}, {stopped}, "
        f"{ended.returncode}); miou {miou:.4f}, uninterrupted {usual:.4f}, again {apart:.1e} off"
    )
    return Outcome(ok, text + complaint(ended), {"miou": miou, "uninterrupted": usual, "apart": apart})


def _end_after(arguments: Sequence[str], folder: RunFolder, epochs: int, number: int) -> int:
    """Send a script a signal once its run has done so many epochs; return its exit status."""
    command = [sys.executable, str(SCRIPTS / arguments[0]), *arguments[1:]]
    limit = time.monotonic() + PROCESS_S
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None and time.monotonic() < limit and epochs_done(folder) < epochs:
                time.sleep(0.05)
            process.send_signal(number if time.monotonic() < limit else signal.SIGKILL)
            return process.wait(PROCESS_S)
        finally:
            process.kill()  # if it is still there: the time of all checks is up


def shared(bench: Bench) -> Outcome:
    """Run two trials at a time on one GPU through Ray; validate.py must give the winner's score."""
    if importlib.util.find_spec("ray") is None:
        return Outcome(None, "needs Ray")
    sizes = {"epochs": 2, "samples": 16} if bench.small else {"epochs": 16, "samples": 768}
    # Long enough that the second process, which starts when the first one has, is there before a trial ends.
    text = SPACE.format(gpus=0.5 if bench.gpu else 0, **sizes)
    (bench.root / "shared.yaml").write_text(f"dataset: {bench.demo}\nchannels: [nir]\n{text}")
    results, cache = str(bench.root / "searches"), str(bench.root / "cache")
    ended = script(
        ["run_search.py", "--space", str(bench.root / "shared.yaml"), "--results-dir", results, "--cache-dir", cache]
    )
    folder = bench.root / "searches" / "shared"
    if ended.returncode:
        return Outcome(False, f"status {ended.returncode}{complaint(ended)}")
    with (folder / "trials.csv").open() as file:
        trials = list(csv.DictReader(file))
    devices = {yaml.safe_load(path.read_text())["evaluation"]["device"] for path in folder.glob("trial_*/run.yaml")}
    spans = [_trained(RunFolder(path)) for path in folder.glob("trial_*")]
    overlap = max(min(a[1], b[1]) - max(a[0], b[0]) for a in spans for b in spans if a is not b)
    command = ["validate.py", "-cd", str(folder), "-d", str(bench.demo / "val"), "-o", str(bench.root / "validated")]
    again = script(command)
    best = max(float(trial["miou"]) for trial in trials)
    validated = json.loads((bench.root / "validated" / "metrics.json").read_text())["miou"]
    statuses = sorted({trial["status"] for trial in trials})
    plan = next((line for line in ended.stdout.splitlines() if "at a time" in line), "")
    ok = statuses == ["finished"] and again.returncode == 0 and abs(best - validated) <= 1e-6
    ok = ok and (overlap > 0 or bench.small)
    ok = ok and all(device.startswith(bench.device.type) for device in devices) and "2 trials at a time" in plan
    text = (
        f"{plan}; {len(trials)} trials {', '.join(statuses)} on {', '.join(devices)}, two at once for {overlap:.1f} s; "
        f"miou {best:.6f}, validate.py {validated:.6f}"
    )
    return Outcome(ok, text + complaint(again), {"miou": best, "validated": validated})


def _trained(folder: RunFolder) -> tuple[float, float]:
    """Return when a run began to train and when its last epoch was recorded."""
    end = folder.metrics_csv.stat().st_mtime
    return end - float(read_rows(folder)[-1]["seconds"]), end
