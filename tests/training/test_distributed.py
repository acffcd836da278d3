"""Two processes that share batches compute what one process computes, to rounding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from segtune.config import RunConfig
from segtune.data.distances import DistanceMaps
from segtune.data.labels import IGNORED, Labels
from segtune.files.folders import RunFolder
from segtune.training.distributed import ALONE, Group
from segtune.training.losses import SegmentationLoss
from segtune.training.step import TrainingStep
from segtune.training.team import Job, Link, train_together
from segtune.vocabulary import BINARY_LOSSES, LOSSES

CPU = torch.device("cpu")
BINARY, SEVERAL = Labels.from_masks([1], [9], [0, 1, 9]), Labels.from_masks([1, 2, 3], [9], [0, 1, 2, 3, 9])
# By name: loss, tiles, tiles at a time, network.
CASES = {f"{name} of one class": (BINARY, name, 5, 5, "plain") for name in LOSSES}
CASES |= {name: (SEVERAL, name, 5, 5, "plain") for name in LOSSES if name not in BINARY_LOSSES}
CASES |= {
    "an even batch": (SEVERAL, "dice+ce", 4, 4, "plain"),
    "weights of classes and of terms": (SEVERAL, "0.3*dice+0.7*ce", 5, 5, "weighted"),
    "a batch of one tile": (SEVERAL, "dice+ce", 1, 5, "plain"),
    "weights that no output depends on": (SEVERAL, "ce", 5, 5, "unused"),
    "a frozen encoder": (SEVERAL, "ce", 5, 5, "frozen"),
    "batch normalization as in evaluation": (SEVERAL, "ce", 5, 5, "normalized"),
}


class Network(nn.Module):
    def __init__(self, labels: Labels, kind: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8).eval() if kind == "normalized" else nn.Identity()
        self.head = nn.Conv2d(8, labels.outputs, 1)
        if kind == "unused":
            self.spare = nn.Conv2d(8, 8, 1)

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.norm(self.encoder(images)).relu()))


def tiles_of(labels: Labels, tiles: int) -> tuple[Tensor, Tensor]:
    """A batch whose first tile is ignored for the most part: parts of it have different numbers of pixels."""
    random = torch.Generator().manual_seed(3)
    images = torch.rand(tiles, 8, 8, 3, generator=random)
    targets = torch.randint(0, len(labels.classes) + 1, (tiles, 8, 8), generator=random, dtype=torch.uint8)
    targets[0, 1:] = IGNORED
    return images, targets


def outcome(name: str, group: Group) -> list[float]:
    """The losses of two steps, and the weights after them."""
    labels, loss, tiles, micro_batch, kind = CASES[name]
    network = Network(labels, kind)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5, weight_decay=0.1)
    step = TrainingStep(
        network,
        SegmentationLoss(loss, labels, class_weights=(0.5, 1.0, 2.0, 4.0) if kind == "weighted" else ()),
        optimizer,
        torch.amp.GradScaler("cpu", enabled=False),
        lambda images: images.permute(0, 3, 1, 2),
        CPU,
        "fp32",
        0.5,
        labels,
        group,
    )
    network.encoder.requires_grad_(kind != "frozen")
    images, targets = tiles_of(labels, tiles)
    if group.divides(tiles):
        counts = group.counts(tiles)
        images, targets = (whole.split(counts)[group.rank] for whole in (images, targets))
    measured = DistanceMaps.of(loss, labels)
    maps = measured and torch.stack([torch.from_numpy(measured(target.numpy())) for target in targets])
    results = [step(images, targets, micro_batch, maps, tiles) for _ in range(2)]
    losses = [result.loss.item() for result in results]
    losses += [float(count) for result in results for count in result.counts.flatten()]
    return losses + torch.cat([weight.detach().flatten() for weight in network.parameters()]).tolist()


def in_parts(group: Group) -> list[float]:
    """As `outcome`, with two tiles at a time and no pixel ignored: the loss is a mean over pixels."""
    network = Network(SEVERAL, "plain")
    step = TrainingStep(
        network,
        SegmentationLoss("ce", SEVERAL),
        torch.optim.SGD(network.parameters(), lr=0.5),
        torch.amp.GradScaler("cpu", enabled=False),
        lambda images: images.permute(0, 3, 1, 2),
        CPU,
        "fp32",
        0.0,
        SEVERAL,
        group,
    )
    images, targets = tiles_of(SEVERAL, 5)
    targets = targets.clamp(max=3)
    images, targets = (whole.split(group.counts(5))[group.rank] for whole in (images, targets))
    losses = [step(images, targets, 3 if group.size > 1 else 5, None, 5)[0].item() for _ in range(2)]
    return losses + torch.cat([weight.detach().flatten() for weight in network.parameters()]).tolist()


def all_cases(job: Job, link: Link) -> Iterator[Any]:
    """What each of the processes does."""
    torch.set_num_threads(1)
    group = Group.join(job.rank, job.size, job.meeting, CPU)
    found: dict[str, Any] = {name: outcome(name, group) for name in CASES}
    found["in parts"] = in_parts(group)
    group.seed(5, 1, 2)
    layer = nn.BatchNorm2d(1)
    layer.running_mean = torch.full((1,), float(group.rank + 3))
    group.send_buffers(layer)
    found["group"] = {
        "any": (group.any(group.rank == 1), group.any(False)),
        "gather": group.gather(f"process {group.rank}"),
        "draws": len(set(group.gather(torch.rand(1).item()))),
        "buffers": group.gather(layer.running_mean.item()),
    }
    yield found


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes found; all of it from one pair, because a process takes seconds to start."""
    folder = tmp_path_factory.mktemp("team")
    job = Job(RunConfig(), cast(Any, None), RunFolder(folder), False, 1, 1, 2, False)
    (found,) = list(train_together(all_cases, job, None, None, None))
    return cast(dict[str, Any], found)


@pytest.mark.parametrize("name", CASES)
def test_losses_and_weights_are_those_of_one_process(together: dict[str, Any], name: str) -> None:
    alone = outcome(name, ALONE.group)
    assert alone[0] != alone[1], "nothing was learnt"
    assert together[name] == pytest.approx(alone, rel=1e-5, abs=1e-6)


def test_parts_of_a_batch_add_up_over_processes(together: dict[str, Any]) -> None:
    assert together["in parts"] == pytest.approx(in_parts(ALONE.group), rel=1e-5, abs=1e-6)


def test_processes_exchange_what_they_know(together: dict[str, Any]) -> None:
    found = together["group"]
    assert found["any"] == (True, False)
    assert found["gather"] == ["process 0", "process 1"]
    assert found["draws"] == 2, "dropout would draw the same in both"
    assert found["buffers"] == [3.0, 3.0]
