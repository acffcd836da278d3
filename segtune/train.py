"""train(): one training run as an iterator of epoch results; knows nothing of Ray or of terminals."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segtune.checkpoint import Manifest, load_state, save_model, save_state
from segtune.config import RunConfig
from segtune.data.augment import Augmentation
from segtune.data.batches import Batches
from segtune.data.scan import DataInfo
from segtune.data.store import TileStore
from segtune.device import autocast, resolve_device, resolve_precision
from segtune.errors import InputError, NonFiniteLossError
from segtune.evaluation import Normalization, evaluate, evaluation_store
from segtune.folders import RunFolder
from segtune.losses import SegmentationLoss
from segtune.metrics import IGNORED, Scores
from segtune.models import build_model, check_models, fetch_weights, parameter_count, unknown_encoder
from segtune.optim import build_optimizer, build_schedule
from segtune.runlog import RunLog

OnBatch = Callable[[int, int, float], None]  # batches done, batches in the epoch, loss
_CHECK_EVERY = 50  # steps between looks at a GPU's loss; each look waits for the GPU


@dataclass(frozen=True)
class EpochResult:
    """What an epoch showed; everything of it is on disk when it is yielded."""

    epoch: int  # from 1
    epochs: int
    loss: float  # mean over the training tiles
    scores: Scores
    best_miou: float  # of the epochs so far
    best_epoch: int
    lr: float  # of the epoch's last step
    train_seconds: float
    eval_seconds: float
    seconds: float  # of all epochs so far, over every start of the run

    def row(self) -> dict[str, float | int | None]:
        """The epoch's row of metrics.csv."""
        return {
            "epoch": self.epoch,
            "loss": self.loss,
            **self.scores.flat(),
            "best_miou": self.best_miou,
            "best_epoch": self.best_epoch,
            "lr": self.lr,
            "train_seconds": round(self.train_seconds, 3),
            "eval_seconds": round(self.eval_seconds, 3),
            "seconds": round(self.seconds, 3),
        }


def check_run(config: RunConfig) -> None:
    """Refuse what cannot work, before anything starts: InputError with every mistake."""
    unknown = unknown_encoder(config.encoder)
    if unknown:
        raise InputError(f"encoder: {unknown}")
    mistakes = check_models([config.model], [config.encoder], [config.image_size])
    if mistakes:
        raise InputError(mistakes)
    resolve_precision(config, resolve_device(config.device))
    if config.encoder_weights == "imagenet":
        fetch_weights(config.encoder)


def resolve(config: RunConfig, info: DataInfo) -> RunConfig:
    """The same config with what depends on the data filled in, and valid in any working folder."""
    size = config.image_size or info.image_size()
    return config.model_copy(update={"image_size": size, "dataset": str(Path(config.dataset).absolute())})


def train(
    config: RunConfig,
    info: DataInfo,
    folder: RunFolder,
    threads: int | None = None,
    go_on: bool = False,
    on_batch: OnBatch | None = None,
) -> Generator[EpochResult]:
    """Train, evaluate and record, epoch by epoch.

    Before an epoch is yielded, its row, its state and, where it is the best so far, its model are on disk.

    Parameters
    ----------
    config, info: the run, and the scan of its data.
    folder: where run.yaml, metrics.csv, events, state and best/ go; made where it does not exist.
    threads: torch threads; None leaves torch's own number.
    go_on: continue from the folder's state where there is one.
    on_batch: called after every training step.

    Raises NonFiniteLossError when the loss becomes NaN or infinite. Close the generator (or exhaust it) to free
    what it holds.
    """
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        # In a frame of its own, which is gone before the clean-up and holds nothing back from it.
        yield from _epochs(config, info, folder, go_on, on_batch)
    finally:
        torch.set_num_threads(before)
        # What cycles still hold (tracebacks, some encoders) is freed now, for the next run in this process.
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()


def _epochs(
    config: RunConfig, info: DataInfo, folder: RunFolder, go_on: bool, on_batch: OnBatch | None
) -> Iterator[EpochResult]:
    with closing(_Run(resolve(config, info), info, folder, go_on)) as run:
        yield from run.epochs(on_batch)


class _Run:
    """The parts of one training run."""

    def __init__(self, config: RunConfig, info: DataInfo, folder: RunFolder, go_on: bool) -> None:
        self._config, self._folder = config, folder
        self._device = resolve_device(config.device)
        precision = resolve_precision(config, self._device)
        _seed(config.seed)
        bands = info.input_bands(config.channels)
        self._model = build_model(config, len(bands), info.labels.outputs).to(self._device)
        self._manifest = Manifest(
            config,
            info.labels,
            bands,
            info.uint8,
            precision,
            str(self._device),
            info.fingerprint,
            parameter_count(self._model),
            threads=torch.get_num_threads(),
        )
        self._train, self._val = self._batches(info)
        self._normalize = Normalization(bands, self._device)
        self._loss = SegmentationLoss(config.loss, info.labels)
        self._optimizer = build_optimizer(config, self._model)
        self._schedule = build_schedule(config, self._optimizer, len(self._train))
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=precision == "fp16")
        self._epoch, self._best_miou, self._best_epoch, self._seconds, self._lr = 0, -1.0, 0, 0.0, config.lr
        folder.path.mkdir(parents=True, exist_ok=True)
        if go_on and folder.state.is_file():
            self._load(load_state(folder.state))
        self._manifest.write(folder.run_yaml)
        self._log = RunLog(folder, config, self._epoch)

    def epochs(self, on_batch: OnBatch | None) -> Iterator[EpochResult]:
        """Train the epochs that are left."""
        while self._epoch < self._config.epochs:
            self._epoch += 1
            start = time.perf_counter()
            loss = self._train_epoch(on_batch)
            trained = time.perf_counter()
            scores = evaluate(self._model, self._manifest, self._val, self._val_store, self._device)
            end = time.perf_counter()
            self._seconds += end - start
            if scores.miou > self._best_miou:
                self._best_miou, self._best_epoch = scores.miou, self._epoch
                metrics = {"epoch": self._epoch, **scores.flat()}
                save_model(self._folder.best, self._model, self._manifest.with_metrics(metrics))
            result = EpochResult(
                self._epoch,
                self._config.epochs,
                loss,
                scores,
                self._best_miou,
                self._best_epoch,
                self._lr,
                trained - start,
                end - trained,
                self._seconds,
            )
            self._log.write(self._epoch, result.row())
            save_state(self._folder.state, self._state())
            yield result

    def close(self) -> None:
        """End loader processes and close files."""
        self._train.close()
        self._val.close()
        self._log.close(finished=self._epoch >= self._config.epochs)

    def _batches(self, info: DataInfo) -> tuple[Batches, Batches]:
        config, bands = self._config, self._manifest.bands
        sources, threads = info.sources(config.channels), torch.get_num_threads()
        store = TileStore(
            info.tiles["train"],
            info.labels,
            sources,
            bands,
            config.image_size or 0,
            info.uint8,
            fit_masks=True,
            threads=threads,
        )
        self._val_store = evaluation_store(self._manifest, info.tiles["val"], sources, threads)
        pinned = self._device.type == "cuda"
        augmentation = Augmentation(config.augmentation, bands, info.uint8)
        return (
            Batches(store, config.batch_size, config.seed, augmentation, config.workers, pinned),
            # Decoded already, evaluation has nothing to do for a loader process.
            Batches(self._val_store, config.batch_size, pin_memory=pinned),
        )

    def _train_epoch(self, on_batch: OnBatch | None) -> float:
        self._model.train()
        total = torch.zeros((), device=self._device)
        tiles = 0
        for step, (images, targets) in enumerate(self._train.epoch(self._epoch), start=1):
            loss = self._step(images, torch.stack(targets))
            total += loss * len(images)
            tiles += len(images)
            if on_batch or self._device.type == "cpu" or step % _CHECK_EVERY == 0 or step == len(self._train):
                value = loss.item()
                if not math.isfinite(total.item()):
                    raise NonFiniteLossError(f"the loss became {value} in epoch {self._epoch}, step {step}")
                if on_batch:
                    on_batch(step, len(self._train), value)
        return total.item() / tiles

    def _step(self, images: Tensor, targets: Tensor) -> Tensor:
        some_ignored = bool((targets == IGNORED).any())  # before they leave for the GPU, where asking waits
        with autocast(self._device, self._manifest.precision):
            logits = self._model(self._normalize(images))
        loss: Tensor = self._loss(logits.float(), targets.to(self._device, non_blocking=True), some_ignored)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self._config.grad_clip:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._config.grad_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._lr = float(self._schedule.get_last_lr()[0])
        self._schedule.step()
        return loss.detach()

    def _state(self) -> dict[str, Any]:
        return {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "epoch": self._epoch,
            "best_miou": self._best_miou,
            "best_epoch": self._best_epoch,
            "seconds": self._seconds,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None,
        }

    def _load(self, state: dict[str, Any]) -> None:
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        self._epoch, self._seconds = state["epoch"], state["seconds"]
        self._best_miou, self._best_epoch = state["best_miou"], state["best_epoch"]
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], self._device)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
