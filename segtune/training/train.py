"""train(): one training run as an iterator of epoch results; knows nothing of Ray or of terminals."""

from __future__ import annotations

import gc
import math
import random
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segtune.clock import running_seconds
from segtune.config import RunConfig
from segtune.data.augment import Augmentation
from segtune.data.bands import rgb_positions
from segtune.data.batches import Batches
from segtune.data.dataset import DataInfo
from segtune.data.fitting import Fit
from segtune.data.labels import Indices
from segtune.data.store import TileStore
from segtune.data.tiles import TRAIN, VAL
from segtune.errors import InputError, NonFiniteLossError, loader_died, loader_error, one_line
from segtune.evaluation.evaluate import OnTile, evaluate
from segtune.evaluation.metrics import ConfusionMatrix, Scores
from segtune.evaluation.worst import Worst, WorstTile, wrong_pixels
from segtune.files.atomic import discard_folder, replace_folder
from segtune.files.folders import RunFolder
from segtune.models.build import (
    build_model,
    freeze_encoder,
    parameter_count,
)
from segtune.models.checkpoint import save_model, settle_model
from segtune.models.device import memory_error, out_of_memory, resolve_device, resolve_precision, within_memory
from segtune.models.manifest import Manifest
from segtune.models.normalization import Normalization, input_statistics
from segtune.pictures.gallery import worst_picture
from segtune.pictures.png import write_png
from segtune.training.losses import SegmentationLoss
from segtune.training.optim import build_optimizer, build_schedule, rate_at, set_learning_rates
from segtune.training.resolve import resolve
from segtune.training.result import EpochResult
from segtune.training.resume import check_same_data, check_same_settings
from segtune.training.runlog import RunLog
from segtune.training.state import check_optimizer, check_state, load_state, save_state
from segtune.training.step import TrainingStep
from segtune.training.stopwatch import Alive, Phases

OnBatch = Callable[[int, int, float], None]  # batches done, batches in the epoch, loss
Stop = Callable[[], bool]
_CHECK_EVERY = 50  # steps between looks at a GPU's loss; each look waits for the GPU
_SAVE_EVERY_S = 600.0  # seconds between states within an epoch


def train(
    config: RunConfig,
    info: DataInfo,
    folder: RunFolder,
    threads: int | None = None,
    go_on: bool = False,
    on_batch: OnBatch | None = None,
    stop: Stop | None = None,
    alive: Alive | None = None,
) -> Generator[EpochResult]:
    """Train, evaluate and record, epoch by epoch.

    Before an epoch is yielded, its row, its state and, where it is the best so far, its model are on disk. Where the
    device's memory is not enough for a batch, the run goes on with half of it at a time and accumulates gradients, or
    with half of that, for good; the same, by itself, for evaluation.

    Parameters
    ----------
    config, info: the run, and the scan of its data.
    folder: where run.yaml, metrics.csv, events, state and best/ go; made where it does not exist.
    threads: torch threads of a run that leaves them open; None: torch's own number.
    go_on: continue from the folder's state where there is one, also from within an epoch.
    on_batch: called after every training step.
    stop: asked after every batch; when true, the state is saved and the iteration ends.
    alive: called with the phase (start, training, evaluation, checkpoint, reporting) when one begins, after every
        batch of training and evaluation, and after every file that was written.

    Raises NonFiniteLossError when the loss becomes NaN or infinite, DeviceMemoryError when memory is not enough for
    one tile at a time, LoaderError when a loader process dies, TileError when a tile cannot be read any more, OSError
    when a file cannot be written, and InputError when another process trains in the folder, or when the run to go on
    with has other settings or data. Close the generator (or exhaust it) to free what it holds.
    """
    phases = Phases(alive)
    phases.enter("start")
    before = torch.get_num_threads()
    config = config.model_copy(update={"threads": config.threads or threads or before})
    torch.set_num_threads(config.threads or before)
    try:
        # In a frame of its own, which is gone before the clean-up and holds nothing back from it.
        with _faults_named():
            yield from _epochs(config, info, folder, go_on, on_batch, stop, phases)
    finally:
        torch.set_num_threads(before)
        # What cycles still hold (tracebacks, some encoders) is freed now, for the next run in this process.
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()


@contextmanager
def _faults_named() -> Iterator[None]:
    """What torch raises as a RuntimeError where machine or processes failed, as errors with names."""
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise memory_error(error) from None
        if loader_died(error):
            raise loader_error(error) from None
        raise


def _epochs(
    config: RunConfig,
    info: DataInfo,
    folder: RunFolder,
    go_on: bool,
    on_batch: OnBatch | None,
    stop: Stop | None,
    phases: Phases,
) -> Iterator[EpochResult]:
    resolve_precision(config, resolve_device(config.device))  # nothing is written where the device is not there
    with folder.locked():
        state = None
        if go_on and folder.epochs_done and not folder.state.is_file():
            raise InputError(f"{folder.path}: cannot go on: {folder.state.name}, the state of the run, is missing")
        if go_on and folder.state.is_file():
            check_same_settings(folder, resolve(config, info))
            check_same_data(folder, info, config)
            state = load_state(folder.state)
        with closing(_Run(resolve(config, info), info, folder, state, stop, phases)) as run:
            state = None  # a second copy of model and optimizer, not to be held for the whole run
            yield from run.epochs(on_batch)


class _StoppedError(Exception):
    """The caller asked to stop, and the state is saved."""


class _Run:
    """The parts of one training run."""

    def __init__(
        self,
        config: RunConfig,
        info: DataInfo,
        folder: RunFolder,
        state: dict[str, Any] | None,
        stop: Stop | None,
        phases: Phases,
    ) -> None:
        self._config, self._folder, self._stop, self._phases = config, folder, stop, phases
        self._device = resolve_device(config.device)
        precision = resolve_precision(config, self._device)
        _seed(config.seed)
        bands = input_statistics(config, info.input_bands(config.channels), info.uint8)
        # The state holds all weights: those that the run began with need not be there any more.
        begun = config.model_copy(update={"encoder_weights": "none"}) if state is not None else config
        self._model = build_model(begun, len(bands), info.labels.outputs).to(self._device)
        self._manifest = Manifest(
            config,
            info.labels,
            bands,
            info.uint8,
            precision,
            str(self._device),
            info.fingerprint,
            parameter_count(self._model),
            micro_batch=config.batch_size,
            evaluation_batch_size=config.batch_size,
            tiles=info.counts,
            left_out=info.left_out,
            threads=torch.get_num_threads(),
        )
        phases.beat()
        self._stores: dict[str, TileStore] = {}
        self._train, self._sets = self._batches(info)
        self._worst: dict[str, list[WorstTile]] = {}  # of the best epoch
        self._optimizer = build_optimizer(config, self._model)
        self._schedule = build_schedule(config, self._optimizer, len(self._train))
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=precision == "fp16")
        self._step = TrainingStep(
            self._model,
            SegmentationLoss(config.loss, info.labels),
            self._optimizer,
            self._scaler,
            Normalization(bands, self._device),
            self._device,
            precision,
            config.grad_clip,
        )
        self._progress = _Progress(
            torch.zeros((), device=self._device),
            micro_batch=config.batch_size,
            evaluation_batch_size=config.batch_size,
            lr=config.lr,
        )
        self._row: dict[str, float | int | None] = {}  # of the last epoch that is done
        if state is not None:
            self._load(state)
            self._settle_best()
        else:
            discard_folder(folder.next_best)
        self._started, self._saved = running_seconds(), time.monotonic()
        self._write_manifest()
        self._log = RunLog(folder, config, self._progress.epoch, self._row)
        self._told = phases.spent()  # when the last row was made
        phases.beat()

    def epochs(self, on_batch: OnBatch | None) -> Iterator[EpochResult]:
        """Train the epochs that are left."""
        while self._progress.epoch < self._config.epochs:
            try:
                result = self._next_epoch(on_batch)
            except _StoppedError:
                return
            self._phases.leave()
            yield replace(result, spent=self._phases.spent())
            self._phases.enter("training")

    def close(self) -> None:
        """End loader processes and close files."""
        self._phases.enter("reporting")
        # What made the run fail, such as a full disk, is told of, and not what it makes impossible here.
        failed = isinstance(sys.exception(), OSError)
        for batches in (self._train, *self._sets.values()):
            batches.close()
        with suppress(OSError) if failed else nullcontext():
            try:
                self._show_worst()
            finally:
                self._log.close(finished=self._progress.epoch >= self._config.epochs)

    def _batches(self, info: DataInfo) -> tuple[Batches, dict[str, Batches]]:
        config, bands = self._config, self._manifest.bands
        pinned = self._device.type == "cuda"
        store = info.store(TRAIN, config)
        train = Batches(
            store,
            config.batch_size,
            config.seed,
            Augmentation(config.augmentation, bands, info.uint8, rgb_positions(config.rgb, bands)),
            crop=Fit.of(config) if config.fit == "crop" else None,
            samples=config.samples_per_epoch,
            workers=config.workers,
            pin_memory=pinned,
        )
        sets: dict[str, Batches] = {}
        for split in info.counts:
            if split != TRAIN:
                tiles = self._stores[split] = info.store(split, config)
                # What is decoded already leaves nothing to do for a loader process.
                workers = 0 if tiles.decoded else config.workers
                sets[split] = Batches(tiles, config.batch_size, workers=workers, pin_memory=pinned)
        return train, sets

    def _next_epoch(self, on_batch: OnBatch | None) -> EpochResult:
        progress, epoch = self._progress, self._progress.epoch + 1
        start = self._started = running_seconds()
        self._train_epoch(epoch, on_batch)
        trained = running_seconds()
        self._phases.enter("evaluation")
        measured = self._evaluate(epoch)
        end = running_seconds()
        self._finish_epoch(measured, end - start)
        loss = progress.total.item() / progress.tiles
        result = self._result(loss, measured, trained - start, end - trained)
        self._row = result.row()
        try:
            self._save()  # from here on, the epoch is done
        except OSError:
            discard_folder(self._folder.next_best)
            raise
        if self._folder.next_best.exists():
            replace_folder(self._folder.next_best, self._folder.best)
        self._phases.enter("reporting")
        result = self._result(loss, measured, trained - start, end - trained)
        self._told = dict(result.spent)
        self._row = result.row()
        self._log.write(epoch, self._row)
        self._phases.beat()
        return result

    def _finish_epoch(self, measured: _Measured, seconds: float) -> None:
        """Count the epoch, and write its model beside the best one where it is better."""
        self._phases.enter("checkpoint")
        self._progress = progress = self._progress.next_epoch(self._progress.seconds + seconds)
        if measured.collapsed is not None:
            progress.collapsed_epochs = progress.collapsed_epochs + 1 if measured.collapsed else 0
        scores = measured.scores
        if scores and (progress.best_miou is None or scores.miou > progress.best_miou):
            self._worst = measured.worst
            progress.best_miou, progress.best_epoch = scores.miou, progress.epoch
            metrics = {"epoch": progress.epoch, **scores.flat()}
            save_model(self._folder.next_best, self._model, self._manifest.with_metrics(metrics))
            self._phases.beat()

    def _result(self, loss: float, measured: _Measured, train_seconds: float, eval_seconds: float) -> EpochResult:
        """The epoch that was finished, as far as it was recorded."""
        progress, spent = self._progress, self._phases.spent()
        return EpochResult(
            epoch=progress.epoch,
            epochs=self._config.epochs,
            loss=loss,
            scores=measured.scores,
            added=measured.added,
            best_miou=progress.best_miou,
            best_epoch=progress.best_epoch,
            lr=progress.lr,
            micro_batch=progress.micro_batch,
            collapsed_epochs=progress.collapsed_epochs,
            train_seconds=train_seconds,
            eval_seconds=eval_seconds,
            data_seconds=spent["data"] - self._told["data"],
            checkpoint_seconds=spent["checkpoint"] - self._told["checkpoint"],
            report_seconds=spent["reporting"] - self._told["reporting"],
            seconds=progress.seconds,
            spent=spent,
            first_lr=rate_at(self._schedule, (progress.epoch - 1) * len(self._train)),
        )

    def _train_epoch(self, epoch: int, on_batch: OnBatch | None) -> None:
        progress, steps = self._progress, len(self._train)
        self._model.train()
        freeze_encoder(self._model, epoch <= self._config.freeze_encoder_epochs)
        for images, targets in self._phases.trained_on(self._train.epoch(epoch, first_batch=progress.step)):
            assert isinstance(images, Tensor)
            assert isinstance(targets, Tensor)
            loss, micro_batch = self._step(images, targets, progress.micro_batch)
            if micro_batch < progress.micro_batch:
                progress.micro_batch = micro_batch
                self._write_manifest()
            progress.lr = float(self._optimizer.param_groups[0]["lr"])
            self._schedule.step()
            progress.total += loss * len(images)
            progress.tiles += len(images)
            progress.step += 1
            if on_batch or self._device.type == "cpu" or progress.step % _CHECK_EVERY == 0 or progress.step == steps:
                value = loss.item()
                if not math.isfinite(progress.total.item()):
                    raise NonFiniteLossError(f"the loss became {value} in epoch {epoch}, step {progress.step}")
                if on_batch:
                    on_batch(progress.step, steps, value)
            self._pause()

    def _evaluate(self, epoch: int) -> _Measured:
        """What the epoch's model is worth; from the beginning, with smaller batches, where memory is not enough."""
        progress = self._progress
        measured, size = within_memory(lambda size: self._measure(epoch, size), progress.evaluation_batch_size)
        if size < progress.evaluation_batch_size:
            progress.evaluation_batch_size = size
            self._write_manifest()
        return measured

    def _measure(self, epoch: int, batch_size: int) -> _Measured:
        turn = epoch % self._config.adv_freq == 0 or epoch == self._config.epochs
        pooled = self._config.use_only_add_val
        total = ConfusionMatrix(self._manifest.labels.classes)
        added: dict[str, Scores | None] = {}
        worst: dict[str, list[WorstTile]] = {}
        for split, batches in self._sets.items():
            if split != VAL and not turn:
                continue
            batches.batch_size = batch_size
            tiles = Worst(self._config.worst)
            matrix = evaluate(self._model, self._manifest, batches, self._device, self._noter(tiles), self._pause)
            if split != VAL:
                added[split] = matrix.scores() if matrix.measurable else None
            if split == VAL or pooled:
                total.add(matrix)
                worst[split] = tiles.tiles()
        if not total.measurable:
            return _Measured(None, added, worst, None)
        return _Measured(total.scores(), added, worst, total.collapsed)

    def _noter(self, worst: Worst) -> OnTile | None:
        """What an evaluation calls for each tile, to find the worst ones: those that cost the score most."""

        def note(index: int, predicted: Indices, truth: Indices) -> None:
            if wrong := wrong_pixels(predicted, truth):
                worst.add(-wrong, index, predicted)

        return note if self._config.worst else None

    def _show_worst(self) -> None:
        """Draw the worst tiles of the best epoch: worst.png, and TensorBoard's images."""
        for split, tiles in self._worst.items():
            if tiles:
                title = f"Worst tiles of {split} in epoch {self._progress.best_epoch}"
                picture = worst_picture(self._stores[split], self._manifest, tiles, title)
                self._log.picture(f"worst/{split}", self._progress.best_epoch, picture)
                if split == next(iter(self._worst)):
                    write_png(self._folder.worst, picture)
                self._phases.beat()

    def _pause(self) -> None:
        """After a batch: save what an epoch has done so far, when it is time to or when the run shall stop."""
        self._phases.beat()
        stopping = self._stop is not None and self._stop()
        if stopping or time.monotonic() - self._saved > _SAVE_EVERY_S:
            with self._phases.during("checkpoint"):
                self._save(running_seconds() - self._started)
        if stopping:
            raise _StoppedError

    def _write_manifest(self) -> None:
        """run.yaml, with the sizes that memory was enough for."""
        self._manifest = replace(
            self._manifest,
            micro_batch=self._progress.micro_batch,
            evaluation_batch_size=self._progress.evaluation_batch_size,
        )
        self._manifest.write(self._folder.run_yaml)

    def _settle_best(self) -> None:
        """Leave in best/ the model that the state calls the best; where that is gone, there is no best one yet."""
        progress = self._progress
        if not settle_model(self._folder.best, self._folder.next_best, progress.best_epoch):
            progress.best_miou, progress.best_epoch, self._worst = None, 0, {}

    def _save(self, more_seconds: float = 0.0) -> None:
        progress = self._progress
        state = {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "worst": {
                split: [(tile.score, tile.index, torch.from_numpy(tile.predicted)) for tile in tiles]
                for split, tiles in self._worst.items()
            },
            "progress": vars(progress) | {"seconds": progress.seconds + more_seconds},
            "row": self._row,
            "spent": self._phases.spent(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None,
        }
        save_state(self._folder.state, state)
        self._saved = time.monotonic()
        self._phases.beat()

    def _load(self, state: dict[str, Any]) -> None:
        try:
            self._restore(state)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # RuntimeErrors too, and not the state's fault
        except (AttributeError, LookupError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
            reason = one_line(error) if isinstance(error, ValueError) else type(error).__name__
            raise InputError(f"{self._folder.state}: damaged, or not the state of this run ({reason})") from None

    def _restore(self, state: dict[str, Any]) -> None:
        check_state(state, self._progress, self._schedule)
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        check_optimizer(self._optimizer)
        self._schedule.load_state_dict(state["schedule"])
        set_learning_rates(self._schedule)
        if state["scaler"]:  # empty where the run was not in fp16 before
            self._scaler.load_state_dict(state["scaler"])
        self._progress = replace(self._progress, **state["progress"])
        self._progress.total = self._progress.total.to(self._device)
        self._row = state["row"]
        self._phases.add(state["spent"])
        # By position, which the fingerprint vouches for: an added set may have another name since.
        scored = [split for split in self._sets if split == VAL or self._config.use_only_add_val]
        self._worst = {
            split: [WorstTile(score, index, predicted.numpy()) for score, index, predicted in tiles]
            for split, tiles in zip(scored, state["worst"].values(), strict=False)  # none before the first evaluation
        }
        if any(tile.index >= len(self._stores[split]) for split, tiles in self._worst.items() for tile in tiles):
            raise ValueError("worst: there is no such tile")
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], self._device)


@dataclass(frozen=True)
class _Measured:
    """What evaluating an epoch's model showed."""

    scores: Scores | None  # of what the run is scored on; None where that was not evaluated
    added: dict[str, Scores | None]  # of each added set that was evaluated
    worst: dict[str, list[WorstTile]]  # tiles of what the run is scored on, by split
    collapsed: bool | None  # whether all predictions were one class; None as for scores


@dataclass
class _Progress:
    """How far a run is."""

    total: Tensor  # loss of the tiles of the epoch so far, summed on the device
    micro_batch: int  # tiles at a time in training
    evaluation_batch_size: int  # tiles, or windows, at a time in evaluation
    tiles: int = 0  # of the epoch so far
    step: int = 0  # of the epoch: steps that are done
    epoch: int = 0  # epochs that are done
    best_miou: float | None = None
    best_epoch: int = 0
    collapsed_epochs: int = 0  # in a row, up to the last one that is done
    seconds: float = 0.0
    lr: float = 0.0  # of the last step

    def next_epoch(self, seconds: float) -> _Progress:
        """At the end of an epoch: nothing of the next one is done."""
        return replace(self, total=torch.zeros_like(self.total), tiles=0, step=0, epoch=self.epoch + 1, seconds=seconds)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
