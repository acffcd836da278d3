"""What benchmarks/gpu.py checks: that a run does on a GPU what it does on a CPU, and survives what happens there."""

from __future__ import annotations

import csv
import gc
import importlib.util
import json
import math
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from rasterio.errors import NotGeoreferencedWarning
from torch import Tensor

from segtune.config import RunConfig
from segtune.data.augment import Augmentation
from segtune.data.batches import Batches
from segtune.data.labels import IGNORED, Labels
from segtune.data.scan import scan
from segtune.data.tiles import TRAIN
from segtune.errors import DeviceMemoryError, NonFiniteLossError
from segtune.evaluation.validate import validate
from segtune.files.folders import RunFolder
from segtune.models.build import build_model
from segtune.training.losses import SegmentationLoss
from segtune.training.result import EpochResult
from segtune.training.state import load_state
from segtune.training.train import train
from segtune.vocabulary import BINARY_LOSSES, LOSSES

SCRIPTS = Path(__file__).absolute().parent.parent
CPU = torch.device("cpu")
MB = 1e6
_KEPT = 160 * MB  # that libraries may keep of a GPU's memory for their own use
_GROWTH = 16 * MB  # by which what is kept may differ from trial to trial
_PROCESS_S = 150  # that a script may take

# An architecture each, and encoders of other kinds.
PAIRS = (
    *(("unet", encoder) for encoder in ("efficientnet-b0", "mobilenet_v2", "mit_b0", "tu-mobilenetv3_small_100")),
    *((model, "resnet18") for model in ("unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3")),
    *((model, "resnet18") for model in ("deeplabv3plus", "pan", "upernet", "segformer")),
    ("dpt", "tu-vit_tiny_patch16_224"),
)
SPACE = """
run: {{model: unet, encoder: resnet18, image_size: 64, epochs: {epochs}, samples_per_epoch: {samples}, workers: 1}}
space: {{lr: {{low: 1e-3, high: 1e-2, log: true}}}}
search: {{sampler: random, scheduler: none, trials: 2, max_concurrent: 2, cpus_per_trial: 1, gpus_per_trial: {gpus}}}
"""


@dataclass(frozen=True)
class Outcome:
    """What a check found; `ok` is None where it cannot be made here."""

    ok: bool | None
    text: str
    figures: dict[str, Any] = field(default_factory=dict)


NEEDS_GPU = Outcome(None, "needs a GPU")


@dataclass
class Bench:
    """What the checks share: a folder with demo tiles, the device, and the runs that several of them look at."""

    root: Path
    device: torch.device
    small: bool  # as little as shows that the script runs
    done: dict[str, list[EpochResult]] = field(default_factory=dict)

    @property
    def gpu(self) -> bool:
        """Whether there is one."""
        return self.device.type == "cuda"

    @property
    def demo(self) -> Path:
        """The data set."""
        return self.root / "demo"

    @property
    def epochs(self) -> int:
        """Of a run that is to have learnt something."""
        return 2 if self.small else 6

    def config(self, **settings: Any) -> RunConfig:
        """A run on the demo tiles."""
        usual: dict[str, Any] = {"dataset": str(self.demo), "cache_dir": str(self.root / "cache"), "channels": ["nir"]}
        usual |= {"model": "unet", "encoder": "resnet18", "image_size": 64, "batch_size": 4, "lr": 3e-3, "seed": 1}
        usual |= {"augmentation": "safe", "workers": 0, "worst": 0, "epochs": self.epochs, "device": str(self.device)}
        return RunConfig.from_settings(usual | settings)

    def folder(self, name: str) -> RunFolder:
        """A run's."""
        return RunFolder(self.root / "runs" / name)

    def train(self, name: str, go_on: bool = False, **settings: Any) -> list[EpochResult]:
        """Train a run to its end."""
        config = self.config(**settings)
        with closing(train(config, scan(config), self.folder(name), go_on=go_on)) as epochs:
            return list(epochs)

    def learnt(self, name: str, **settings: Any) -> list[EpochResult]:
        """The same, once for all who ask."""
        if name not in self.done:
            self.done[name] = self.train(name, **settings)
        return self.done[name]


def off(value: float, reference: float) -> float:
    """Relative difference."""
    return abs(value - reference) / max(abs(reference), 1e-12)


# The numbers.


def like_the_cpu(bench: Bench, precision: str, tolerance: float) -> Outcome:
    """A precision on the device against fp32 on the CPU: the loss of two steps, what is learnt, and validate.py."""
    # SGD, since Adam's first step is the sign of a gradient, which rounding turns where it is nearly zero.
    steps: dict[str, Any] = {"optimizer": "sgd", "lr": 0.05, "samples_per_epoch": 8, "epochs": 1}
    loss = bench.train(f"{precision}-steps", precision=precision, **steps)[0].loss
    reference = bench.learnt("cpu-steps", precision="fp32", device="cpu", **steps)[0].loss
    best = bench.learnt(precision, precision=precision)[-1].best_miou or 0.0
    cpu = bench.learnt("cpu", precision="fp32", device="cpu")[-1].best_miou or 0.0
    again = validate(bench.folder(precision).path, bench.demo / "val", str(bench.device)).scores.miou
    there = validate(bench.folder("cpu").path, bench.demo / "val", str(bench.device)).scores.miou
    figures = {"loss": loss, "cpu_loss": reference, "miou": best, "cpu_miou": cpu, "validated": again}
    figures["cpu_model_here"] = there
    ok = off(loss, reference) < tolerance and best > cpu - 0.1 and abs(again - best) < 1e-6 and abs(there - cpu) < 5e-3
    text = (
        f"loss of two steps {loss:.5f} (CPU {reference:.5f}), "
        f"miou after {bench.epochs} epochs {best:.4f} (CPU {cpu:.4f}), "
        f"validated again {abs(again - best):.1e} off; the CPU's model here {there:.4f}"
    )
    return Outcome(ok, text, figures)


def fp32(bench: Bench) -> Outcome:
    """Convolutions are computed in TF32 where the GPU has it: torch's default."""
    return like_the_cpu(bench, "fp32", 0.005)


def bf16(bench: Bench) -> Outcome:
    return like_the_cpu(bench, "bf16", 0.02)


def fp16(bench: Bench) -> Outcome:
    """With the state of its GradScaler, and going on from it."""
    if not bench.gpu:
        return NEEDS_GPU
    found = like_the_cpu(bench, "fp16", 0.01)
    scale = float(load_state(bench.folder("fp16").state)["scaler"]["scale"])
    more = bench.train("fp16", go_on=True, precision="fp16", epochs=bench.epochs + 1)
    ok = bool(found.ok) and 1 <= scale < 2**24 and len(more) == 1 and math.isfinite(more[0].loss)
    return Outcome(ok, f"{found.text}; scale {scale:g}; goes on", found.figures | {"scale": scale})


def ignored(bench: Bench) -> Outcome:
    """Every loss as on the CPU, with no pixel ignored, some, and all; and a run with a label that is ignored."""
    furthest, where = 0.0, ""
    generator = torch.Generator().manual_seed(1)
    for labels in (Labels.from_masks([1], [9], [0, 1, 9]), Labels.from_masks([1, 2, 3], [9], [0, 1, 2, 3, 9])):
        for name in LOSSES:
            if not labels.binary and name in BINARY_LOSSES:
                continue
            for share in (0.0, 0.3, 1.0):
                logits = torch.randn(4, labels.outputs, 48, 48, generator=generator)
                targets = torch.randint(0, len(labels.classes) + 1, (4, 48, 48), generator=generator).to(torch.uint8)
                targets[torch.rand(4, 48, 48, generator=generator) < share] = IGNORED
                loss_of = SegmentationLoss(name, labels)
                here, there = (_loss_and_gradient(loss_of, logits, targets, place) for place in (bench.device, CPU))
                difference = max(float((a - b).norm() / max(b.norm(), 1e-6)) for a, b in zip(here, there, strict=True))
                if not difference <= furthest:
                    furthest, where = difference, f"{name}, {share:.0%} ignored"
    data: dict[str, Any] = {
        "masks_dir": "gt_classes",
        "classes": [1, 2, 3],
        "ignore": [0],
        "epochs": 1,
        "samples_per_epoch": 8,
    }
    steps: dict[str, Any] = {"optimizer": "sgd", "lr": 0.05, "precision": "fp32", "loss": "dice+ce"}
    loss = bench.train("ignored", **data, **steps)[0].loss
    cpu = bench.train("ignored-cpu", device="cpu", **data, **steps)[0].loss
    text = f"losses and gradients at most {furthest:.1e} off ({where}); a run's loss {loss:.5f} (CPU {cpu:.5f})"
    ok = furthest < 1e-3 and off(loss, cpu) < 0.005
    return Outcome(ok, text, {"furthest": furthest, "loss": loss, "cpu_loss": cpu})


def _loss_and_gradient(loss_of: SegmentationLoss, logits: Tensor, targets: Tensor, place: torch.device) -> list[Tensor]:
    moved = logits.to(place).requires_grad_()
    loss = loss_of(moved, targets.to(place))
    (gradient,) = torch.autograd.grad(loss, moved)
    return [loss.detach().cpu(), gradient.cpu()]


def windows(bench: Bench) -> Outcome:
    """Crops in training, a sliding window in evaluation, against the CPU's evaluation of the same model."""
    best = bench.train("windows", fit="crop", precision="fp32", epochs=2)[-1].best_miou or 0.0
    cpu = validate(bench.folder("windows").path, bench.demo / "val", "cpu").scores.miou
    return Outcome(abs(best - cpu) < 5e-3, f"miou {best:.4f} (on the CPU {cpu:.4f})", {"miou": best, "cpu_miou": cpu})


def architectures(bench: Bench) -> Outcome:
    """A step and an evaluation of each architecture, and of encoders of every kind."""
    failed = []
    tiny: dict[str, Any] = {"epochs": 1, "samples_per_epoch": 4, "val_samples": 2, "image_size": 128}
    for model, encoder in PAIRS[:2] if bench.small else PAIRS:
        try:
            bench.train(f"{model}-{encoder}", model=model, encoder=encoder, **tiny)
        except Exception as error:
            failed.append(f"{model} with {encoder}: {' '.join(str(error).split())[:150]}")
    return Outcome(not failed, "; ".join(failed) or f"{len(PAIRS)} models trained and evaluated")


# Loader processes, interruptions.


def loaders(bench: Bench) -> Outcome:
    """Loader processes that are forked beside CUDA give the same tiles, in pinned memory; and a run with them."""
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


def interrupted(bench: Bench) -> Outcome:
    """kill -9, then SIGTERM, then to the end: every epoch once, and a result as of runs that nothing interrupted."""
    epochs = 4 if bench.small else 8
    settings: dict[str, Any] = {"epochs": epochs, "samples_per_epoch": 16 if bench.small else 256}
    whole, again = (bench.train(name, **settings)[-1] for name in ("whole", "whole-again"))
    folder = bench.folder("interrupted")
    (bench.root / "run.yaml").write_text(yaml.safe_dump(bench.config(**settings).settings()))
    logs, name = str(folder.path.parent), folder.path.name
    command = ["run_single.py", "--config", str(bench.root / "run.yaml"), "--log-dir", logs, "--exp-name", name]
    killed = _end_after(command, folder, 1, signal.SIGKILL)
    done = folder.epochs_done
    stopped = _end_after(command, folder, done + 1, signal.SIGTERM)
    between = folder.epochs_done
    ended = _script(command)
    rows = folder.metrics()
    numbers = [int(row["epoch"]) for row in rows]
    miou = float(rows[-1]["best_miou"])
    usual, apart = (whole.best_miou or 0.0, abs((whole.best_miou or 0.0) - (again.best_miou or 0.0)))
    ok = (killed, stopped, ended.returncode) == (-signal.SIGKILL, 128 + signal.SIGTERM, 0)
    ok = ok and numbers == list(range(1, epochs + 1)) and abs(miou - usual) <= 0.05 + apart
    text = (
        f"killed after {done}, stopped after {between} of {epochs} epochs (status {killed}, {stopped}, "
        f"{ended.returncode}); miou {miou:.4f}, uninterrupted {usual:.4f}, again {apart:.1e} off"
    )
    return Outcome(ok, text + _complaint(ended), {"miou": miou, "uninterrupted": usual, "apart": apart})


def _script(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / arguments[0]), *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=_PROCESS_S, check=False)


def _complaint(ended: subprocess.CompletedProcess[str]) -> str:
    """What a script that failed said last."""
    return "" if ended.returncode == 0 else f"; {' '.join(ended.stderr.split())[-300:]}"


def _end_after(arguments: Sequence[str], folder: RunFolder, epochs: int, number: int) -> int:
    """Send a script a signal as soon as its run has done so many epochs; its exit status."""
    command = [sys.executable, str(SCRIPTS / arguments[0]), *arguments[1:]]
    limit = time.monotonic() + _PROCESS_S
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and time.monotonic() < limit and folder.epochs_done < epochs:
            time.sleep(0.05)
        process.send_signal(number if time.monotonic() < limit else signal.SIGKILL)
        return process.wait()


# Memory.


@contextmanager
def room(device: torch.device, left: float) -> Iterator[None]:
    """Take all memory of the device but so many bytes."""
    gc.collect()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    block = torch.empty(max(0, free - int(left)), dtype=torch.uint8, device=device)
    try:
        yield
    finally:
        del block
        torch.cuda.empty_cache()


@contextmanager
def most_reserved(device: torch.device) -> Iterator[list[int]]:
    """The most bytes that the block had reserved at a time, in the list when it has ended."""
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    found: list[int] = []
    yield found
    found.append(torch.cuda.max_memory_reserved(device) - before)


def out_of_memory(bench: Bench) -> Outcome:
    """Memory that is really taken: a run, and a validation, go on in smaller parts; and where nothing helps, say so."""
    if not bench.gpu:
        return NEEDS_GPU
    large: dict[str, Any] = {"encoder": "resnet34", "image_size": 256, "batch_size": 16, "epochs": 1}
    large |= {"samples_per_epoch": 64, "precision": "fp32"}
    with most_reserved(bench.device) as needed:
        usual = bench.train("roomy", **large)[0]
    with room(bench.device, 0.45 * needed[0]):
        tight = bench.train("tight", **large)[0]
    more = bench.train("tight", go_on=True, **large | {"epochs": 2})[0]
    split, model = bench.demo / "val", bench.folder("roomy").path
    with most_reserved(bench.device) as evaluation:
        miou = validate(model, split).scores.miou
    weights = 110 * MB  # of a resnet34 Unet, which no smaller batch makes smaller
    with room(bench.device, weights + 0.5 * (evaluation[0] - weights)):
        validated = validate(model, split)
    refused = ""
    try:
        with room(bench.device, 0.5 * weights):
            bench.train("nothing", **large)
    except DeviceMemoryError as error:
        refused = str(error)
    size = validated.manifest.evaluation_batch_size
    ok = tight.micro_batch < 16 == usual.micro_batch and more.micro_batch == tight.micro_batch and size < 16
    ok = ok and off(tight.loss, usual.loss) < 0.1 and abs(validated.scores.miou - miou) < 1e-3
    ok = ok and refused.startswith("out of memory")
    text = (
        f"a run that reserves {needed[0] / MB:.0f} MB, in 45 % of it: {tight.micro_batch} of 16 tiles at a time, loss "
        f"{tight.loss:.4f} (all: {usual.loss:.4f}); validation {size} of 16, "
        f"{abs(validated.scores.miou - miou):.1e} off; no room at all: {refused[:40] or 'no error'}"
    )
    return Outcome(ok, text, {"needed_mb": needed[0] / MB, "micro_batch": tight.micro_batch})


def full_gpu(bench: Bench) -> Outcome:
    """A process that begins when others hold the GPU's memory: a line, and no traceback."""
    if not bench.gpu:
        return NEEDS_GPU
    (bench.root / "full.yaml").write_text(yaml.safe_dump(bench.config(epochs=1).settings()))
    found, ok = [], True
    for left in (100, 700):
        name = f"full-{left}"
        command = ["run_single.py", "--config", str(bench.root / "full.yaml"), "--exp-name", name]
        with room(bench.device, left * MB):
            ended = _script([*command, "--log-dir", str(bench.root / "runs")])
        lines = ended.stderr.strip().splitlines()
        ok = ok and "Traceback" not in ended.stderr and (ended.returncode == 0 or "memory" in (lines or [""])[-1])
        found.append(f"{left} MB left: status {ended.returncode} {' '.join(lines)[-200:]}")
    return Outcome(ok, "; ".join(found))


def given_back(bench: Bench) -> Outcome:
    """Memory that a process holds after trials that finished, were stopped, and failed; and NaN is noticed."""
    if not bench.gpu:
        return NEEDS_GPU
    bench.train("first", epochs=1)
    gc.collect()
    held = {"first": _held(bench)}
    bench.train("second", epochs=1)
    held["finished"] = _held(bench)
    config = bench.config(epochs=3)
    with closing(train(config, scan(config), bench.folder("stopped"))) as epochs:
        next(epochs)
    held["stopped"] = _held(bench)
    failed = False
    try:
        bench.train("nan", optimizer="sgd", lr=1e30, grad_clip=0.0)
    except NonFiniteLossError:
        failed = True
    gc.collect()  # as a search does: only now, without the error, is what its traceback held free
    torch.cuda.empty_cache()
    held["failed"] = _held(bench)
    try:
        with room(bench.device, 20 * MB):
            bench.train("memory", epochs=1)
    except DeviceMemoryError:
        held["out of memory"] = _held(bench)
    ok = failed and "out of memory" in held
    most = held["first"][1] + _GROWTH
    ok = ok and all(kept[1] <= most and kept[0] < _KEPT for kept in held.values())
    shown = ", ".join(f"{name} {kept[0] / MB:.0f}/{kept[1] / MB:.0f}" for name, kept in held.items())
    return Outcome(ok, f"MB allocated/reserved after: {shown}", held)


def _held(bench: Bench) -> tuple[int, int]:
    return torch.cuda.memory_allocated(bench.device), torch.cuda.memory_reserved(bench.device)


def given_back_model(bench: Bench) -> Outcome:
    """The check above can fail: a model that is held is seen."""
    if not bench.gpu:
        return NEEDS_GPU
    before = _held(bench)[0]
    model = build_model(bench.config(encoder="resnet34"), 4, 1).to(bench.device)
    more = _held(bench)[0] - before
    del model
    return Outcome(more > _GROWTH, f"a model that is held is seen: {more / MB:.0f} MB")


# A search.


def shared(bench: Bench) -> Outcome:
    """Two trials at a time on one GPU through Ray, and validate.py on the winner: the search's number."""
    if importlib.util.find_spec("ray") is None:
        return Outcome(None, "needs Ray")
    sizes = {"epochs": 2, "samples": 16} if bench.small else {"epochs": 16, "samples": 768}
    # Long enough that the second process, which starts when the first one has, is there before a trial ends.
    text = SPACE.format(gpus=0.5 if bench.gpu else 0, **sizes)
    (bench.root / "shared.yaml").write_text(f"dataset: {bench.demo}\nchannels: [nir]\n{text}")
    results, cache = str(bench.root / "searches"), str(bench.root / "cache")
    ended = _script(
        ["run_search.py", "--space", str(bench.root / "shared.yaml"), "--results-dir", results, "--cache-dir", cache]
    )
    folder = bench.root / "searches" / "shared"
    if ended.returncode:
        return Outcome(False, f"status {ended.returncode}{_complaint(ended)}")
    with (folder / "trials.csv").open() as file:
        trials = list(csv.DictReader(file))
    devices = {yaml.safe_load(path.read_text())["evaluation"]["device"] for path in folder.glob("trial_*/run.yaml")}
    spans = [_trained(RunFolder(path)) for path in folder.glob("trial_*")]
    overlap = max(min(a[1], b[1]) - max(a[0], b[0]) for a in spans for b in spans if a is not b)
    command = ["validate.py", "-cd", str(folder), "-d", str(bench.demo / "val"), "-o", str(bench.root / "validated")]
    again = _script(command)
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
    return Outcome(ok, text + _complaint(again), {"miou": best, "validated": validated})


def _trained(folder: RunFolder) -> tuple[float, float]:
    """When a run began to train, and when its last epoch was recorded."""
    end = folder.metrics_csv.stat().st_mtime
    return end - float(folder.metrics()[-1]["seconds"]), end


@contextmanager
def noted_warnings() -> Iterator[list[str]]:
    """The distinct warnings of the block, one line each."""
    lines: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", DeprecationWarning)  # of libraries, for those who write them
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # the stand-in tiles are not
        yield lines
    lines += dict.fromkeys(
        f"{entry.category.__name__}: {' '.join(str(entry.message).split())[:160]}" for entry in caught
    )


CHECKS: dict[str, Callable[[Bench], Outcome]] = {
    "fp32": fp32,
    "bf16": bf16,
    "fp16": fp16,
    "ignored": ignored,
    "windows": windows,
    "architectures": architectures,
    "loaders": loaders,
    "given_back": given_back,
    "given_back_model": given_back_model,
    "out_of_memory": out_of_memory,
    "full_gpu": full_gpu,
    "interrupted": interrupted,
    "shared": shared,
}
