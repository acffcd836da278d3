"""train(): one training run as an iterator over its epochs; independent of Ray and of terminals."""

from __future__ import annotations

import gc
import math
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from segtune.clock import running_seconds
from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.errors import InputError, NonFiniteLossError
from segtune.evaluation.intervals import bootstrap
from segtune.evaluation.metrics import mean_iou
from segtune.evaluation.overlap import Overlap
from segtune.files.atomic import discard_folder, replace_folder
from segtune.files.folders import RunFolder
from segtune.files.transforms_file import TransformsFile
from segtune.machine import available_cpus
from segtune.models.build import freeze_encoder
from segtune.models.checkpoint import save_model
from segtune.models.device import resolve_device, resolve_precision
from segtune.torch_errors import faults_named
from segtune.training.costs import measure_costs
from segtune.training.distributed import ALONE, Group, Seat
from segtune.training.loaders import Waiting, find_waiting
from segtune.training.measure import Measured, evaluate_epoch
from segtune.training.optim import lower_learning_rates, rate_at
from segtune.training.resolve import resolve, with_weights_decided
from segtune.training.result import EpochResult, Own
from segtune.training.resume import check_same_data, check_same_settings, started_with, transforms_of
from segtune.training.run import Run, Stop, StoppedError
from segtune.training.runlog import epochs_done
from segtune.training.state import load_state
from segtune.training.stopwatch import Alive, OnBatch, Phases
from segtune.training.team import Job, Link, train_together
from segtune.training.worst_pictures import log_worst

_CHECK_EVERY = 50  # steps between checks of the loss on a GPU; each check waits for the GPU


def train(
    config: RunConfig,
    info: DataInfo,
    folder: RunFolder,
    threads: int | None = None,
    go_on: bool = False,
    on_batch: OnBatch | None = None,
    stop: Stop | None = None,
    alive: Alive | None = None,
    cores: int | None = None,
    transforms: TransformsFile | None = None,
    each_epoch: bool = False,
) -> Generator[EpochResult]:
    """Train, evaluate and record a run; yield the result of each epoch.

    When an epoch is yielded, its row of metrics.csv, its state and, if it is the best so far, its model are on disk.
    Where the memory of the device is too small for a batch, the run continues with half of it at a time and
    accumulates gradients, or with a quarter, ..., and keeps to that. Evaluation does the same on its own.

    Parameters
    ----------
    config, info: the settings, and the scan of the data.
    folder: the folder for run.yaml, metrics.csv, events, state.pt and best/; made where it does not exist.
    threads: number of torch's threads where the settings leave it open; None: torch's own number.
    go_on: resume from the state in the folder, if there is one; also from within an epoch.
    on_batch: called after every training step.
    stop: called after every batch; when it returns True, the state is saved and the iteration ends.
    alive: called with the phase (start, training, evaluation, checkpoint, reporting) when a phase begins, after every
        batch of training and evaluation, and after every file that was written.
    cores: CPU cores that the run may use; None: those of this process.
    transforms: the file that `augmentation` names, as a search read it; None: it is read here.
    each_epoch: let TensorBoard show the worst tiles of each epoch, not only those of the best one.

    Raises NonFiniteLossError when the loss becomes NaN or infinite, DeviceMemoryError when memory is too small for one
    tile at a time, LoaderError when a loader process dies, TileError when a tile cannot be read any more, OSError when
    a file cannot be written, and InputError when another process trains in the folder or when the run that is resumed
    has other settings or data. Close the generator, or exhaust it, to free what it holds.
    """
    before = torch.get_num_threads()
    every = config.threads or threads or before
    config, cores = config.model_copy(update={"threads": every}), cores or available_cpus()
    if config.gpus > 1:
        cores, threads = (max(1, number // config.gpus) for number in (cores, every))
        info, told = info.for_run(config), on_batch is not None
        job = Job(config, info, folder, go_on, cores, threads, config.gpus, told, transforms, each_epoch)
        yield from train_together(train_share, job, on_batch, stop, alive)
        return
    phases = Phases(alive)
    phases.enter("start")
    torch.set_num_threads(every)
    try:
        # The run lives in a frame of its own, which is gone before the clean-up: all that it held can be freed.
        with faults_named():
            yield from _trained(config, info, folder, go_on, on_batch, stop, phases, cores, transforms, each_epoch)
    finally:
        torch.set_num_threads(before)
        # Frees what reference cycles still hold (tracebacks, some encoders), for the next run in this process.
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()


def train_share(job: Job, link: Link) -> Iterator[EpochResult]:
    """Train a run as one of several processes, each on its share of every batch; what each process of a team runs."""
    torch.set_num_threads(job.threads)
    device = resolve_device(job.config.device)
    if device.type == "cuda":
        torch.cuda.set_device(job.rank % torch.cuda.device_count())
    group = Group.join(job.rank, job.size, job.meeting, device)
    phases = Phases(link.alive)
    phases.enter("start")
    seat = Seat(group, None if group.first else job.scratch, job.micro_batch)
    on_batch = link.step if group.first and job.steps_told else None
    stop = link.stopping if group.first else None
    with faults_named():
        yield from _trained(
            job.config,
            job.info,
            job.folder,
            job.go_on,
            on_batch,
            stop,
            phases,
            job.cores,
            job.transforms,
            job.each_epoch and group.first,
            seat,
        )


def _trained(
    config: RunConfig,
    info: DataInfo,
    folder: RunFolder,
    go_on: bool,
    on_batch: OnBatch | None,
    stop: Stop | None,
    phases: Phases,
    cores: int,
    transforms: TransformsFile | None,
    each_epoch: bool,
    seat: Seat = ALONE,
) -> Iterator[EpochResult]:
    """Set up the run in its folder, and train it."""
    resolve_precision(config, resolve_device(config.device))  # checked before anything is written
    own = seat.scratch or folder
    with own.locked():
        state = None
        if go_on and epochs_done(folder) and not folder.state.is_file():
            raise InputError(f"{folder.path}: cannot go on: {folder.state.name}, the state of the run, is missing")
        resolved = resolve(with_weights_decided(started_with(config, folder if go_on else None)), info)
        if go_on and folder.state.is_file():
            check_same_settings(folder, resolved)
            check_same_data(folder, info, config)
            state = load_state(folder.state)
        transforms = transforms or transforms_of(resolved, folder if go_on else None)
        with closing(Run(resolved, info, own, state, stop, phases, cores, transforms, each_epoch, seat)) as run:
            state = None  # frees the second copy of model and optimizer
            yield from _epochs(run, on_batch)


def _epochs(run: Run, on_batch: OnBatch | None) -> Iterator[EpochResult]:
    """Train the epochs that are not done yet."""
    whole = run.progress.step == 0  # the first one that counts for how long training waits for tiles
    while not run.finished:
        try:
            result = _next_epoch(run, on_batch)
        except StoppedError:
            return
        run.phases.leave()
        yield replace(result, spent=run.phases.spent(), waiting=_waiting(run, result) if whole else None)
        whole = True
        run.phases.enter("training")


def _waiting(run: Run, epoch: EpochResult) -> Waiting | None:
    gpu = run.device.type == "cuda"
    return find_waiting(epoch.train_seconds, epoch.data_seconds, run.workers, run.spare_cores, gpu)


def _next_epoch(run: Run, on_batch: OnBatch | None) -> EpochResult:
    """Train, evaluate and record one epoch."""
    epoch = run.progress.epoch + 1
    start = run.started = running_seconds()
    trained = _train_epoch(run, epoch, on_batch)
    evaluating = running_seconds()
    if epoch < run.config.epochs:
        run.batches.begin(epoch + 1)
    run.phases.enter("evaluation")
    measured = evaluate_epoch(run, epoch)
    end = running_seconds()
    if run.progress.latency is None and run.group.first:
        measure_costs(run)
    _finish_epoch(run, measured, end - start)
    return _record(run, trained, measured, end - evaluating)


@dataclass(frozen=True)
class _Trained:
    """The result of training for an epoch."""

    loss: float  # mean over the tiles of the epoch
    miou: float | None  # of the predictions in its steps; None where no class occurs in its tiles
    seconds: float
    first_lr: float  # learning rate of the first step
    images_per_second: float  # of this start, without the wait for its first batch
    waiting_share: float


def _train_epoch(run: Run, epoch: int, on_batch: OnBatch | None) -> _Trained:
    """Train on the batches of an epoch that are not done yet."""
    progress, steps = run.progress, len(run.batches)
    done, first_lr = progress.tiles, rate_at(run.state.schedule, (epoch - 1) * len(run.batches))
    run.model.train()
    freeze_encoder(run.model, epoch <= run.config.freeze_encoder_epochs)
    for batch in run.phases.trained_on(run.batches.epoch(epoch, first_batch=progress.step)):
        images, targets, *maps = (part for part in batch if isinstance(part, Tensor))  # all of them, in training
        tiles = run.batches.tiles(progress.step)
        run.group.seed(run.config.seed, epoch, progress.step)
        near = next(iter(maps), None)
        loss, micro_batch, counts = run.step(images, targets, progress.micro_batch, near, tiles)
        if micro_batch < progress.micro_batch:
            progress.micro_batch = micro_batch
            run.write_manifest()
        progress.lr = float(run.state.optimizer.param_groups[0]["lr"])
        run.state.step_done()
        progress.total += loss * tiles
        progress.counts += counts
        progress.tiles += tiles
        progress.step += 1
        if run.device.type == "cpu" or progress.step % _CHECK_EVERY == 0 or progress.step == steps:
            value = loss.item()
            if not math.isfinite(progress.total.item()):
                raise NonFiniteLossError(f"the loss became {value} in epoch {epoch}, step {progress.step}")
        if on_batch:
            on_batch(progress.step, steps, loss)
        run.pause()
    spent = run.phases.spent()
    waited, seconds = (spent[phase] - run.told[phase] for phase in ("data", "training"))
    seconds = max(waited + seconds, 1e-6)
    return _Trained(
        progress.total.item() / progress.tiles,
        mean_iou(Overlap.of(progress.counts.cpu().numpy())),
        running_seconds() - run.started,
        first_lr,
        round((progress.tiles - done) / seconds, 3),
        round(waited / seconds, 4),
    )


def _finish_epoch(run: Run, measured: Measured, seconds: float) -> None:
    """Count the epoch as done, and write its model beside the best one if it is better."""
    run.phases.enter("checkpoint")
    run.state.progress = progress = run.progress.next_epoch(run.progress.seconds + seconds)
    if measured.collapsed is not None:
        progress.collapsed_epochs = progress.collapsed_epochs + 1 if measured.collapsed else 0
    scores = measured.scores
    if scores and measured.score is not None and run.state.scored(measured.score, scores.miou):
        run.state.worst = measured.worst
        if run.group.first:
            own = {run.config.objective: measured.score}
            metrics = {"epoch": progress.epoch, **(scores.flat() | own), **_interval(run, measured)}
            save_model(run.folder.next_best, run.state.measured, run.manifest.with_metrics(metrics))
        run.phases.beat()
    if scores and _on_plateau(run):
        lower_learning_rates(run.state.schedule, run.config.lr_decay)


def _interval(run: Run, measured: Measured) -> dict[str, float]:
    """Return the 95% intervals of mIoU and of the objective, as run.yaml has them; empty for a single tile."""
    if measured.tiles is None or len(measured.tiles) < 2:
        return {}
    found = {"miou": bootstrap(measured.tiles, run.manifest.labels.classes).miou}
    if not run.measure.objective.is_miou and (own := run.measure.interval(measured.tiles)):
        found[run.config.objective] = own
    return {f"{name}_{end}": getattr(one, end) for name, one in found.items() for end in ("low", "high")}


def _on_plateau(run: Run) -> bool:
    """Return whether the schedule plateau lowers the rate now: once for every `lr_patience` epochs in a row."""
    config, stale = run.config, run.progress.stale_epochs
    warm = run.progress.epoch > config.warmup_epochs
    return config.lr_schedule == "plateau" and warm and stale > 0 and stale % config.lr_patience == 0


def _record(run: Run, trained: _Trained, measured: Measured, eval_seconds: float) -> EpochResult:
    """Write the state, then move a better model to best/, then write the row.

    A run that is killed in between finds, from its state, what is left to do.
    """
    folder = run.folder
    run.state.row = _result(run, trained, measured, eval_seconds).row()
    try:
        run.save()  # from here on, a run that is resumed has this epoch
    except OSError:
        discard_folder(folder.next_best)
        raise
    if folder.next_best.exists():
        replace_folder(folder.next_best, folder.best)
    run.phases.enter("reporting")
    result = _result(run, trained, measured, eval_seconds)
    run.told = dict(result.spent)
    run.state.row = result.row()
    if run.each_epoch:
        log_worst(run.log, run.stores, run.manifest, measured.worst, result.epoch)
    run.log.write(result.epoch, run.state.row)
    run.phases.beat()
    return result


def _result(run: Run, trained: _Trained, measured: Measured, eval_seconds: float) -> EpochResult:
    """Return the record of the epoch, with the times spent so far."""
    progress, spent = run.progress, run.phases.spent()
    return EpochResult(
        epoch=progress.epoch,
        epochs=run.config.epochs,
        loss=trained.loss,
        scores=measured.scores,
        added=measured.added,
        best_miou=progress.best_miou,
        costs=run.costs(),
        own=None if run.measure.objective.is_miou else Own(measured.score, progress.best_score),
        best_epoch=progress.best_epoch,
        lr=progress.lr,
        micro_batch=progress.micro_batch,
        collapsed_epochs=progress.collapsed_epochs,
        train_seconds=trained.seconds,
        eval_seconds=eval_seconds,
        data_seconds=spent["data"] - run.told["data"],
        checkpoint_seconds=spent["checkpoint"] - run.told["checkpoint"],
        report_seconds=spent["reporting"] - run.told["reporting"],
        seconds=progress.seconds,
        spent=spent,
        first_lr=trained.first_lr,
        val_loss=measured.loss,
        train_miou=trained.miou,
        images_per_second=trained.images_per_second,
        waiting_share=trained.waiting_share,
    )
