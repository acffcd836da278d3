"""Speed of training on a GPU: this project's loop, its step alone, and the loop of most scripts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from cache import write_tiles
from gpu_bench import MB, Bench, Outcome
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segtune.config import RunConfig
from segtune.data.augment import Augmentation
from segtune.data.bands import Band
from segtune.data.batches import Batches
from segtune.data.dataset import DataInfo
from segtune.data.scan import scan
from segtune.data.tiles import TRAIN, VAL
from segtune.errors import SegtuneError
from segtune.files.folders import RunFolder
from segtune.machine import available_cpus
from segtune.models.build import build_model
from segtune.models.device import resolve_precision
from segtune.models.normalization import Normalization
from segtune.planning.cost import probe
from segtune.training.losses import SegmentationLoss
from segtune.training.optim import build_optimizer
from segtune.training.result import EpochResult
from segtune.training.step import TrainingStep
from segtune.training.train import train

LOOP_AIM, TODAY_AIM = 0.9, 4.0  # our loop by its step alone, with augmentation safe; and by today's loop
_MOST_LOADERS = 12
_EPOCH_S = 3.0  # that an epoch of our loop would take at the speed of its step
_TODAY_S = 8.0  # for which today's loop is measured, at most
_WAITING, _LAUNCHING = 0.1, 0.9  # shares of a step's time from which on this is what limits
_SIDE = 512  # of the tiles, in pixels


@dataclass(frozen=True)
class Step:
    """Run a training step on a batch that lies on the device."""

    seconds: float
    enqueued: float  # seconds of it until Python has told the device all that there is to do
    watched: float  # seconds where the loss is looked at after each step, as a progress bar does


def settings(bench: Bench, size: int, augmentation: str, workers: int, **more: Any) -> RunConfig:
    """Return the configuration of a Unet with resnet34 on stand-in tiles."""
    root, batch = bench.root / "tiles", 4 if bench.small else 16
    usual: dict[str, Any] = {
        "dataset": str(root),
        "cache_dir": str(root / "cache"),
        "model": "unet",
        "encoder": "resnet34",
    }
    usual |= {"image_size": size, "batch_size": batch, "augmentation": augmentation, "workers": workers}
    return RunConfig.from_settings(usual | {"epochs": 3, "seed": 1, "device": str(bench.device)} | more)


def loaders() -> int:
    """Return the number of loader processes: the cores beside the training process."""
    return max(1, min(_MOST_LOADERS, available_cpus() - 2))


def time_steps(step: Callable[[], Tensor], device: torch.device, number: int, watched: bool = False) -> float:
    """Return the seconds of a step: the median of three rows of so many steps."""
    taken = []
    for _ in range(3):
        _wait(device)
        started = time.perf_counter()
        for _ in range(number):
            loss = step()
            if watched:
                loss.item()
        _wait(device)
        taken.append((time.perf_counter() - started) / number)
    return statistics.median(taken)


def step_alone(config: RunConfig, info: DataInfo, device: torch.device, number: int) -> Step:
    """Return the step of `train` on one batch; its targets lie in the memory of the host."""
    bands = info.input_bands([])
    precision = resolve_precision(config, device)
    model = build_model(config, len(bands), info.labels.outputs).to(device).train()
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    loss, optimizer = SegmentationLoss(config.loss, info.labels), build_optimizer(config, model)
    normalize = Normalization(bands, device)
    step = TrainingStep(model, loss, optimizer, scaler, normalize, device, precision, config.grad_clip)
    with Batches(info.store(TRAIN, config), config.batch_size, 1, pin_memory=device.type == "cuda") as batches:
        images, targets = next(batches.epoch(1))
    assert isinstance(images, Tensor)
    assert isinstance(targets, Tensor)
    there = images.to(device)

    def once() -> Tensor:
        return step(there, targets, config.batch_size)[0]

    time_steps(once, device, max(1, number // 4))
    enqueued = []
    for _ in range(3):
        _wait(device)
        started = time.perf_counter()
        once()
        enqueued.append(time.perf_counter() - started)
    return Step(
        time_steps(once, device, number), statistics.median(enqueued), time_steps(once, device, number, watched=True)
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def our_loop(config: RunConfig, info: DataInfo, folder: Path, tiles: int) -> tuple[EpochResult, float]:
    """Return the last of three epochs of `train`, and the peak of MB allocated on the device."""
    config = config.model_copy(update={"samples_per_epoch": tiles})
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with closing(train(config, info, RunFolder(folder))) as epochs:
        last = list(epochs)[-1]
    return last, torch.cuda.max_memory_allocated() / MB if torch.cuda.is_available() else 0.0


class TilesOfToday(Dataset[tuple[Tensor, Tensor]]):
    """Tiles as most scripts load them: decoded, augmented at full size, resized and normalized each time."""

    def __init__(self, folder: Path, augmentation: Augmentation, bands: tuple[Band, ...], size: int) -> None:
        self._images = sorted((folder / "images").iterdir())
        self._augmentation, self._size = augmentation, size
        self._mean = np.array([band.mean for band in bands], np.float32)
        self._std = np.array([band.std for band in bands], np.float32)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        path = self._images[index]
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        mask = cv2.imread(str(path.parent.parent / "gt" / path.name), cv2.IMREAD_GRAYSCALE)
        assert mask is not None
        number = int(torch.randint(1 << 30, ()).item())
        image, mask = self._augmentation(np.asarray(image, np.uint8), np.asarray(mask, np.uint8), 1, 1, number)
        image = cv2.resize(image, (self._size, self._size), interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, (self._size, self._size), interpolation=cv2.INTER_NEAREST)
        normalized = (image.astype(np.float32) - self._mean) / self._std
        return torch.from_numpy(normalized.transpose(2, 0, 1).copy()), torch.from_numpy((mask > 0).astype(np.float32))


def todays_loop(config: RunConfig, info: DataInfo, device: torch.device, seconds: float) -> float:
    """Return tiles per second of the loop of most scripts: fp32, contiguous, one loader process, IoU per batch."""
    bands = info.input_bands([])
    model = build_model(config, len(bands), 1).to(memory_format=torch.contiguous_format).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr)
    criterion = smp.losses.DiceLoss("binary")
    tiles = TilesOfToday(
        Path(config.dataset) / TRAIN, Augmentation(config.augmentation, bands, True, (0, 1, 2)), bands, _side(config)
    )
    data = DataLoader(tiles, config.batch_size, shuffle=True, num_workers=1, drop_last=True)
    drawn, started = 0, 0.0
    for number, (images, masks) in enumerate(_endless(data)):
        if number == 2:  # the first batches wait for the loader, and for what the device sets up
            drawn, started = 0, time.perf_counter()
        images, masks = images.to(device), masks.to(device)
        optimizer.zero_grad()
        logits = model(images)
        loss = criterion(logits, masks[:, None])
        loss.backward()
        optimizer.step()
        loss.item()
        counts = smp.metrics.get_stats(logits.sigmoid() > 0.5, masks[:, None].long(), mode="binary")
        smp.metrics.iou_score(*counts, reduction="micro").item()
        drawn += len(images)
        if number > 3 and time.perf_counter() - started > seconds:
            break
    return drawn / (time.perf_counter() - started)


def _side(config: RunConfig) -> int:
    assert config.image_size is not None
    return config.image_size


def _endless(data: DataLoader[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from data


def prepare(bench: Bench) -> None:
    """Write the tiles, a tenth of them for validation."""
    if not (bench.root / "tiles").exists():
        write_tiles(bench.root / "tiles", 40 if bench.small else 640, 64 if bench.small else _SIDE)


def case(bench: Bench, size: int, augmentation: str) -> Outcome:
    """Measure one row of the table."""
    prepare(bench)
    size = size // 8 if bench.small else size
    config = settings(bench, size, augmentation, loaders())
    info, batch = scan(config), config.batch_size
    alone = step_alone(config, info, bench.device, 2 if bench.small else 20)
    fast = batch / alone.seconds
    tiles = batch * max(4, round((0.2 if bench.small else _EPOCH_S) * fast / batch))
    folder = bench.root / "runs" / f"speed-{size}-{augmentation}"
    last, peak = our_loop(config, info, folder, tiles)
    ours = tiles / last.train_seconds
    single = config.model_copy(update={"workers": 1, "epochs": 2})
    few = batch * max(4, tiles // batch // 5)
    one_loader = few / our_loop(single, info, folder.with_name(f"{folder.name}-1"), few)[0].train_seconds
    today = todays_loop(config, info, bench.device, 0.5 if bench.small else _TODAY_S)
    waiting = last.data_seconds / last.train_seconds
    limit = _limit(waiting, alone)
    evaluated = info.counts[VAL] / last.eval_seconds
    figures = {
        "size": size,
        "augmentation": augmentation,
        "batch_size": batch,
        "loaders": config.workers,
        "ours": ours,
        "step": fast,
        "today": today,
        "ours_by_step": ours / fast,
        "ours_by_today": ours / today,
        "one_loader": one_loader,
        "peak_mb": peak,
        "waiting": waiting,
        "step_ms": alone.seconds * 1e3,
        "enqueued_ms": alone.enqueued * 1e3,
        "watched_ms": alone.watched * 1e3,
        "limit": limit,
        "evaluated": evaluated,
        "checkpoint_s": last.checkpoint_seconds,
        "report_s": last.report_seconds,
        "train_s": last.train_seconds,
    }
    ok = ours / today >= TODAY_AIM and (augmentation != "safe" or ours / fast >= LOOP_AIM)
    text = (
        f"{ours:.0f} tiles/s with {config.workers} loaders ({one_loader:.0f} with 1); step alone {fast:.0f} "
        f"(a/b {ours / fast:.2f}), today's loop {today:.0f} (a/c {ours / today:.1f}); peak {peak:.0f} MB; "
        f"limit: {limit}; step {alone.seconds * 1e3:.1f} ms, enqueued in {alone.enqueued * 1e3:.1f}, "
        f"watched {alone.watched * 1e3:.1f}; evaluation {evaluated:.0f} tiles/s, "
        f"checkpoint {last.checkpoint_seconds:.2f} s an epoch"
    )
    return Outcome(ok if bench.gpu else None, text, figures)


def _limit(waiting: float, step: Step) -> str:
    if waiting > _WAITING:
        return f"loading ({waiting:.0%} of the time waiting for tiles)"
    if step.enqueued > _LAUNCHING * step.seconds:
        return "Python, which enqueues no faster"
    return "the device's arithmetic and memory"


def estimate(bench: Bench) -> Outcome:
    """Compare what --dry-run predicts of an epoch with the time that it takes."""
    prepare(bench)
    config = settings(bench, 32 if bench.small else 256, "safe", loaders(), epochs=2)
    info = scan(config)
    try:
        found = probe(config, info)
    except SegtuneError as error:
        return Outcome(False, str(error))
    last, peak = our_loop(config, info, bench.root / "runs" / "estimate", info.counts[TRAIN])
    took = last.train_seconds + last.eval_seconds
    ratio, memory = found.epoch_seconds / took, (found.peak_bytes or 0) / MB
    ok = 0.5 < ratio < 2 and 0.8 < memory / max(peak, 1.0) < 1.25
    text = f"{found.epoch_seconds:.2f} s an epoch (took {took:.2f}), {memory:.0f} MB (took {peak:.0f})"
    return Outcome(ok if bench.gpu else None, text, {"ratio": ratio, "memory_mb": memory, "peak_mb": peak})


SPEED: dict[str, Callable[[Bench], Outcome]] = {
    "estimate": estimate,
    "speed_256_safe": lambda bench: case(bench, 256, "safe"),
    "speed_256_hard": lambda bench: case(bench, 256, "hard"),
    "speed_512_safe": lambda bench: case(bench, 512, "safe"),
    "speed_512_hard": lambda bench: case(bench, 512, "hard"),
}
