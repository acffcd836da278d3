"""Three loops that train the same network: segtune's own, its step alone, and the loop of most scripts.

Each does a part of its work when asked, so that a benchmark can run them in turns and noise hits all alike.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segtune.config import RunConfig
from segtune.data.augment import Augmentation
from segtune.data.bands import rgb_positions
from segtune.data.dataset import DataInfo
from segtune.data.labels import IGNORED, Indices
from segtune.data.tiles import TRAIN
from segtune.files.folders import RunFolder
from segtune.files.yamlfile import read_yaml
from segtune.machine import available_cpus
from segtune.models.build import build_model
from segtune.training.resolve import resolve
from segtune.training.result import EpochResult
from segtune.training.run import Run
from segtune.training.stopwatch import Phases
from segtune.training.train import train


def wait(device: torch.device) -> None:
    """Wait until a GPU has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class OurLoop:
    """Loop (a): `train` from end to end, an epoch of so many tiles at a time."""

    def __init__(self, config: RunConfig, info: DataInfo, folder: Path, tiles: int, cores: int | None = None) -> None:
        changed = config.model_copy(update={"samples_per_epoch": tiles, "epochs": 10_000, "lr_schedule": "constant"})
        self.tiles, self.folder = tiles, RunFolder(folder)
        self._epochs = train(changed, info, self.folder, cores=cores)

    def epoch(self) -> EpochResult:
        """Train and evaluate an epoch."""
        return next(self._epochs)

    def workers(self) -> int:
        """Return the number of loader processes; an epoch was trained before."""
        return int(read_yaml(self.folder.run_yaml)["machine"]["workers"])

    def close(self) -> None:
        """Free what the run holds."""
        self._epochs.close()


class StepAlone:
    """Loop (b): the step of `train` on one batch, whose images lie on the device; targets stay on the host."""

    def __init__(self, config: RunConfig, info: DataInfo, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._run = Run(resolve(config, info), info, RunFolder(folder), None, None, Phases(), available_cpus())
        self.device, self._batch_size = self._run.device, config.batch_size
        self.model, self.manifest = self._run.model, self._run.manifest
        self.optimizer = self._run.state.optimizer
        images, targets = next(self._run.batches.epoch(1))[:2]
        assert isinstance(images, Tensor)
        assert isinstance(targets, Tensor)
        self._images, self._targets = images.to(self.device), targets

    def once(self) -> Tensor:
        """Run a step, and return its loss; the model is in training mode, where evaluation has not changed it."""
        return self._run.step(self._images, self._targets, self._batch_size)[0]

    def seconds(self, steps: int, watched: bool = False) -> float:
        """Return the seconds of so many steps; `watched` looks at each loss, as a progress bar would."""
        self.model.train()
        wait(self.device)
        started = time.perf_counter()
        for _ in range(steps):
            loss = self.once()
            if watched:
                loss.item()
        wait(self.device)
        return time.perf_counter() - started

    def close(self) -> None:
        """Free what the run holds."""
        self._run.close()


class _TilesOfToday(Dataset[tuple[Tensor, Tensor]]):
    """Tiles as most scripts load them: decoded, augmented at full size, resized and normalized each time."""

    def __init__(self, config: RunConfig, info: DataInfo) -> None:
        self._root = Path(config.dataset) / TRAIN
        self._images = sorted((self._root / "images").iterdir())
        self._channels, self._labels = config.channels, info.labels
        bands = info.input_bands(config.channels)
        self._augmentation = Augmentation(config.augmentation, bands, True, rgb_positions(config.rgb, bands))
        self._size = config.image_size or info.image_size()
        self._mean = np.array([band.mean for band in bands], np.float32)
        self._std = np.array([band.std for band in bands], np.float32)
        self._shift = 0 if info.labels.binary or info.labels.background else 1  # of indices to outputs

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        name = self._images[index].name
        layers = [cv2.cvtColor(cv2.imread(str(self._images[index])), cv2.COLOR_BGR2RGB)]
        layers += [self._grey(folder, name)[..., None] for folder in self._channels]
        image = np.concatenate(layers, axis=2) if self._channels else np.asarray(layers[0], np.uint8)
        target = self._labels.to_indices(self._grey("gt", name))
        number = int(torch.randint(1 << 30, ()).item())
        changed, target = self._augmentation(image, target, 1, 1, number)
        changed = cv2.resize(changed, (self._size, self._size), interpolation=cv2.INTER_AREA)
        target = cv2.resize(target, (self._size, self._size), interpolation=cv2.INTER_NEAREST)
        normalized = (changed.astype(np.float32) - self._mean) / self._std
        outputs = np.where(target == IGNORED, IGNORED, target.astype(np.int64) - self._shift)
        return torch.from_numpy(normalized.transpose(2, 0, 1).copy()), torch.from_numpy(outputs)

    def _grey(self, folder: str, name: str) -> Indices:
        grey = cv2.imread(str(self._root / folder / name), cv2.IMREAD_GRAYSCALE)
        assert grey is not None
        return np.asarray(grey, np.uint8)


class TodaysLoop:
    """Loop (c), that of most scripts: fp32, contiguous memory, one loader process, the IoU of each batch."""

    def __init__(self, config: RunConfig, info: DataInfo, device: torch.device) -> None:
        self._device, self._batch_size = device, config.batch_size
        self._mode = "binary" if info.labels.binary else "multiclass"
        self._outputs = info.labels.outputs
        model = build_model(config, len(info.input_bands(config.channels)), self._outputs)
        self._model = model.to(memory_format=torch.contiguous_format).to(device).train()
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=config.lr)
        self._criterion = smp.losses.DiceLoss(self._mode, ignore_index=IGNORED)
        tiles = _TilesOfToday(config, info)
        self._batches = _endless(DataLoader(tiles, config.batch_size, shuffle=True, num_workers=1, drop_last=True))

    def seconds(self, steps: int) -> float:
        """Return the seconds of so many steps."""
        wait(self._device)
        started = time.perf_counter()
        for images, masks in (next(self._batches) for _ in range(steps)):
            self._step(images.to(self._device), masks.to(self._device))
        return time.perf_counter() - started

    def _step(self, images: Tensor, masks: Tensor) -> None:
        self._optimizer.zero_grad()
        logits = self._model(images)
        truth = masks[:, None] if self._mode == "binary" else masks
        loss = self._criterion(logits, truth)
        loss.backward()
        self._optimizer.step()
        loss.item()
        if self._mode == "binary":
            predicted = logits.detach().sigmoid() > 0.5
            counts = smp.metrics.get_stats(predicted, (truth == 1).long(), mode="binary")
        else:
            predicted = logits.detach().argmax(1)
            several = {"num_classes": self._outputs, "ignore_index": IGNORED}
            counts = smp.metrics.get_stats(predicted, truth, mode="multiclass", **several)
        smp.metrics.iou_score(*counts, reduction="micro").item()

    def close(self) -> None:
        """End the loader process."""
        self._batches.close()


def _endless(data: DataLoader[tuple[Tensor, Tensor]]) -> Generator[tuple[Tensor, Tensor]]:
    while True:
        yield from data
