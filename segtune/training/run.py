"""The parts of a training run: set up, saved and closed. What is done with them is in train.py."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch import nn

from segtune.clock import running_seconds
from segtune.config import RunConfig
from segtune.data.balance import class_weights, repeat_factors
from segtune.data.bands import Band
from segtune.data.batches import Batches
from segtune.data.dataset import DataInfo
from segtune.data.distances import DistanceMaps
from segtune.data.fitting import Fit
from segtune.data.mix import Mix
from segtune.data.store import TileStore
from segtune.data.tiles import TRAIN, VAL
from segtune.data.transforms import make_augmentation
from segtune.errors import InputError, one_line
from segtune.evaluation.measure import Measure
from segtune.files.atomic import discard_folder
from segtune.files.folders import RunFolder
from segtune.files.transforms_file import TransformsFile
from segtune.models.build import build_model, parameter_count
from segtune.models.checkpoint import settle_model
from segtune.models.device import resolve_device, resolve_precision
from segtune.models.manifest import Manifest
from segtune.models.normalization import Normalization, input_statistics
from segtune.pictures.gallery import preview_picture
from segtune.training.distributed import ALONE, Seat
from segtune.training.loaders import choose_workers, spare_cores
from segtune.training.losses import SegmentationLoss
from segtune.training.optim import build_optimizer, build_schedule
from segtune.training.runlog import RunLog
from segtune.training.state import Progress, TrainingState, save_state
from segtune.training.step import TrainingStep
from segtune.training.stopwatch import Phases
from segtune.training.worst_pictures import draw_worst, log_worst

Stop = Callable[[], bool]
_EXAMPLES, _CELL = 4, 128  # augmented tiles that TensorBoard shows, and their width in pixels
_SAVE_EVERY_S = 600.0  # seconds between states within an epoch


class StoppedError(Exception):
    """The caller asked the run to stop; its state is saved."""


class Run:
    """The parts of one training run.

    Parameters
    ----------
    config, info: the resolved settings, and the scan of the data.
    folder: the folder for the files of the run.
    content: the state to resume from, as `load_state` returned it; None for a new run.
    stop: called after every batch; the run stops when it returns True.
    phases: the clocks of the run.
    cores: CPU cores that the run may use.
    transforms: the file that `augmentation` names; None for a level.
    each_epoch: TensorBoard shows the worst tiles of each epoch, not only those of the best one.
    seat: the place among the processes that train the run.

    Raises InputError where the state is damaged or belongs to another run.
    """

    def __init__(
        self,
        config: RunConfig,
        info: DataInfo,
        folder: RunFolder,
        content: dict[str, Any] | None,
        stop: Stop | None,
        phases: Phases,
        cores: int,
        transforms: TransformsFile | None = None,
        each_epoch: bool = False,
        seat: Seat = ALONE,
    ) -> None:
        self.each_epoch, self.group, self.cores = each_epoch, seat.group, cores
        self.config, self.folder, self.phases, self._stop = config, folder, phases, stop
        self.measure = Measure.named(config.objective, config.classes)
        self.device = resolve_device(config.device)
        precision = resolve_precision(config, self.device)
        _seed(config.seed)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        bands = input_statistics(config, info.input_bands(config.channels), info.uint8)
        self.model = self._setup_model(info, bands, begins=content is None)
        weights = class_weights(config.class_weights, info)
        self.manifest = self._setup_manifest(info, bands, precision, transforms, weights)
        phases.beat()
        self.stores: dict[str, TileStore] = {}
        self.spare_cores = spare_cores(self.device, cores, torch.get_num_threads())
        self.batches, self.sets = self._setup_data(info, cores)
        self.state = self._setup_state(precision)
        self.loss = SegmentationLoss(config.loss, info.labels, config.label_smoothing, list(weights.values()))
        self.step = TrainingStep(
            self.model,
            self.loss,
            self.state.optimizer,
            self.state.scaler,
            Normalization(bands, self.device),
            self.device,
            precision,
            config.grad_clip,
            info.labels,
            self.group,
        )
        if content is not None:
            self._load(content)
            self._settle_best()
        else:
            discard_folder(folder.next_best)
        self.progress.micro_batch = min(self.progress.micro_batch, seat.micro_batch or config.batch_size)
        self.started, self._saved = running_seconds(), time.monotonic()
        self.write_manifest()
        self.log = RunLog(folder, config, self.progress.epoch, self.state.row)
        if content is None and config.worst and self.group.first:
            examples = preview_picture(config, info, _EXAMPLES, transforms, _CELL)
            self.log.picture("training/augmented", 0, examples)
        self.told = phases.spent()  # as of the last row
        phases.beat()

    @property
    def progress(self) -> Progress:
        """The progress of the run."""
        return self.state.progress

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or `early_stopping` ended the run before."""
        patience = self.config.early_stopping
        return self.progress.epoch >= self.config.epochs or 0 < patience <= self.progress.stale_epochs

    def _setup_model(self, info: DataInfo, bands: tuple[Band, ...], begins: bool) -> nn.Module:
        # A state holds all weights, and the file of the initial ones may be gone.
        config = self.config if begins else self.config.model_copy(update={"encoder_weights": "none"})
        model = build_model(config, len(bands), info.labels.outputs).to(self.device)
        # On a CPU torch has no BatchNorm that several processes share.
        return self.group.synchronized(model) if config.sync_batchnorm and self.device.type == "cuda" else model

    def _setup_manifest(
        self,
        info: DataInfo,
        bands: tuple[Band, ...],
        precision: str,
        transforms: TransformsFile | None,
        weights: Mapping[str, float],
    ) -> Manifest:
        return Manifest(
            self.config,
            info.labels,
            bands,
            info.uint8,
            precision,
            str(self.device),
            info.fingerprint,
            parameter_count(self.model),
            micro_batch=self.config.batch_size,
            evaluation_batch_size=self.config.batch_size,
            tiles=info.counts,
            left_out=info.left_out,
            class_weights=weights,
            threads=torch.get_num_threads(),
            transforms=transforms,
            tile_size=info.largest,
            resolution=info.resolution,
        )

    def _setup_data(self, info: DataInfo, cores: int) -> tuple[Batches, dict[str, Batches]]:
        config, bands = self.config, self.manifest.bands
        pinned = self.device.type == "cuda"
        store = info.store(TRAIN, config)
        train = Batches(
            store,
            config.batch_size,
            config.seed,
            make_augmentation(config, info, bands, self.manifest.transforms),
            crop=Fit.of(config) if config.fit == "crop" else None,
            mix=Mix.of(config, info.labels, info.pixels[TRAIN], info.holders),
            samples=config.samples_per_epoch,
            pin_memory=pinned,
            maps=DistanceMaps.of(config.loss, info.labels),
            factors=repeat_factors(info.holders, len(store)) if config.oversample == "rare" else None,
            share=self.group,
        )
        assert config.image_size is not None
        self.workers = (
            choose_workers(train, config.image_size, store.decoded, self.device, cores, torch.get_num_threads())
            if config.workers == "auto"
            else -(-config.workers // self.group.size)
        )
        train.use_workers(self.workers)
        self.manifest = replace(self.manifest, workers=self.workers)
        sets: dict[str, Batches] = {}
        for split in info.counts:
            if split != TRAIN:
                tiles = self.stores[split] = info.store(split, config)
                # Tiles that are decoded already leave a loader process nothing to do.
                workers = 0 if tiles.decoded else self.workers
                sets[split] = Batches(tiles, config.batch_size, workers=workers, pin_memory=pinned, share=self.group)
        return train, sets

    def _setup_state(self, precision: str) -> TrainingState:
        optimizer = build_optimizer(self.config, self.model)
        progress = Progress(
            torch.zeros((), device=self.device),
            torch.zeros((len(self.config.classes) + 1,) * 2, dtype=torch.int64, device=self.device),
            micro_batch=self.config.batch_size,
            evaluation_batch_size=self.config.batch_size,
            lr=self.config.lr,
        )
        return TrainingState(
            self.model,
            optimizer,
            build_schedule(self.config, optimizer, len(self.batches)),
            torch.amp.GradScaler(self.device.type, enabled=precision == "fp16"),
            progress,
            self.phases,
            self._average() if self.config.ema else None,
        )

    def _average(self) -> ModelEmaV3:
        # The decay is at most (1 + steps) / (10 + steps), so that the average forgets the first steps.
        return ModelEmaV3(self.model, self.config.ema, use_warmup=True, warmup_gamma=9, warmup_power=1)

    def _load(self, content: dict[str, Any]) -> None:
        """Load a state; raise InputError where it is damaged or belongs to another run."""
        tiles = {split: len(self.stores[split]) for split in self.sets if split == VAL or self.config.use_only_add_val}
        try:
            self.state.load_state_dict(content, tiles)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # these are RuntimeErrors too, but no fault of the state
        except (AttributeError, LookupError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
            reason = one_line(error) if isinstance(error, ValueError) else type(error).__name__
            raise InputError(f"{self.folder.state}: damaged, or not the state of this run ({reason})") from None

    def _settle_best(self) -> None:
        """Keep the model that the state calls the best in best/; forget the best score where that model is gone."""
        kept = self.group.first and settle_model(self.folder.best, self.folder.next_best, self.progress.best_epoch)
        if not self.group.any(kept):
            self.progress.best_score = self.progress.best_miou = None
            self.progress.best_epoch, self.progress.stale_epochs, self.state.worst = 0, 0, {}

    def write_manifest(self) -> None:
        """Write run.yaml, with the batch sizes that fit into memory."""
        self.manifest = replace(
            self.manifest,
            micro_batch=self.progress.micro_batch,
            evaluation_batch_size=self.progress.evaluation_batch_size,
            latency=self.progress.latency,
            gpu_memory=self.progress.gpu_memory,
        )
        self.manifest.write(self.folder.run_yaml)

    def costs(self) -> dict[str, float]:
        """Return the costs of the model that are known, by name."""
        manifest = self.manifest
        found = {
            "parameters": manifest.parameters,
            "latency": manifest.latency,
            "gpu_memory": manifest.gpu_memory,
        }
        return {name: float(value) for name, value in found.items() if value is not None}

    def pause(self) -> None:
        """Save the state within an epoch when it is time to; raise StoppedError when the caller asks to stop.

        Called after every batch.
        """
        self.phases.beat()
        stopping = self._stop is not None and self._stop()
        if stopping or time.monotonic() - self._saved > _SAVE_EVERY_S:
            with self.phases.during("checkpoint"):
                self.save(running_seconds() - self.started)
        if stopping:
            raise StoppedError

    def save(self, more_seconds: float = 0.0) -> None:
        """Write the state; `more_seconds` is the time spent on an epoch that is not done."""
        if self.group.first:
            save_state(self.folder.state, self.state.state_dict(more_seconds))
        self._saved = time.monotonic()
        self.phases.beat()

    def close(self) -> None:
        """End loader processes, draw the worst tiles and close the log."""
        self.phases.enter("reporting")
        # The error that ended the run, such as a full disk, must not be hidden by the same error here.
        failed = isinstance(sys.exception(), OSError)
        for batches in (self.batches, *self.sets.values()):
            batches.close()
        with suppress(OSError) if failed else nullcontext():
            try:
                if self.group.first and not self.each_epoch:
                    log_worst(self.log, self.stores, self.manifest, self.state.worst, self.progress.best_epoch)
                    self.phases.beat()
                if self.group.first:
                    draw_worst(self.folder, self.stores, self.manifest, self.state)
            finally:
                self.log.close(finished=self.finished)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
