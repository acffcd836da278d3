"""One training step: as a whole, and in parts where memory is not enough."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segtune.data.distances import DistanceMaps
from segtune.data.labels import Labels
from segtune.errors import DeviceMemoryError
from segtune.training.losses import SegmentationLoss
from segtune.training.step import TrainingStep
from tests.memory import out_of_memory

CPU = torch.device("cpu")


class Network(nn.Module):
    """Four outputs per pixel; out of memory above a number of tiles, in the forward pass or the backward pass."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Dropout(dropout), nn.Conv2d(8, 4, 1))
        self.limit, self.backward_limit, self.failing_call = 99, 99, 0
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        logits: Tensor = self.layers(images)
        if len(images) > self.limit or len(self.seen) == self.failing_call:
            out_of_memory()
        if len(images) > self.backward_limit:
            logits.register_hook(lambda _: out_of_memory())
        return logits


LABELS = Labels.from_masks([1, 2, 3], [], [0, 1, 2, 3])


def step_of(
    network: Network, scaler: torch.amp.GradScaler | None = None, grad_clip: float = 0.0, name: str = "ce"
) -> TrainingStep:
    scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    loss = SegmentationLoss(name, LABELS)
    return TrainingStep(
        network, loss, optimizer, scaler, lambda images: images.permute(0, 3, 1, 2), CPU, "fp32", grad_clip, LABELS
    )


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    images = torch.rand(7, 16, 16, 3, generator=random)
    return images, torch.randint(0, 4, (7, 16, 16), generator=random, dtype=torch.uint8)


def weights(network: Network) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("grad_clip", [0.0, 1e-2])
def test_accumulated_gradients_are_those_of_the_whole_batch(
    batch: tuple[Tensor, Tensor], micro_batch: int, grad_clip: float
) -> None:
    whole, parts = Network(), Network()
    loss, _, counts = step_of(whole, grad_clip=grad_clip)(*batch, micro_batch=7)
    same_loss, kept, same_counts = step_of(parts, grad_clip=grad_clip)(*batch, micro_batch=micro_batch)
    assert whole.seen == [7]
    assert sum(parts.seen) == 7
    assert max(parts.seen) <= micro_batch == kept
    assert max(parts.seen) - min(parts.seen) <= 1
    assert same_loss.item() == pytest.approx(loss.item(), rel=1e-6)
    assert torch.equal(same_counts, counts)
    assert counts.sum() == 7 * 16 * 16
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-5, atol=1e-7)
    assert not torch.allclose(weights(whole), weights(Network()), atol=1e-4)


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
@pytest.mark.parametrize("name", ["ce+100*boundary", "boundary_ce"])
def test_each_part_of_a_batch_has_its_own_distance_maps(
    batch: tuple[Tensor, Tensor], name: str, micro_batch: int
) -> None:
    compute = DistanceMaps.of(name, LABELS)
    assert compute
    images, targets = batch
    targets[:, :8, :8] = torch.arange(7, dtype=torch.uint8)[:, None, None] % 4  # so that the tiles' maps differ
    maps = torch.stack([torch.from_numpy(compute(tile.numpy())) for tile in targets])
    whole, parts, mixed = Network(), Network(), Network()
    loss, *_ = step_of(whole, name=name)(images, targets, 7, maps)
    same_loss, *_ = step_of(parts, name=name)(images, targets, micro_batch, maps)
    other_loss, *_ = step_of(mixed, name=name)(images, targets, micro_batch, maps.flip(0))
    assert same_loss.item() == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-5, atol=1e-6)
    assert abs(other_loss.item() - loss.item()) > 1e-3


@pytest.mark.parametrize("where", ["limit", "backward_limit"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_step_that_ran_out_of_memory_ends_as_one_that_began_in_parts(
    batch: tuple[Tensor, Tensor], where: str, dropout: float
) -> None:
    failing, parts = Network(dropout), Network(dropout)
    setattr(failing, where, 2)
    torch.manual_seed(5)
    loss, kept, _ = step_of(failing)(*batch, micro_batch=7)
    after = torch.rand(3)
    torch.manual_seed(5)
    same_loss, _, _ = step_of(parts)(*batch, micro_batch=2)
    assert kept == 2
    assert failing.seen == [7, 4, 2, 2, 2, 1]
    assert torch.equal(loss, same_loss)
    assert torch.equal(weights(failing), weights(parts))
    assert torch.equal(after, torch.rand(3))


def test_gradients_from_before_memory_ran_out_do_not_count(batch: tuple[Tensor, Tensor]) -> None:
    failing, parts = Network(), Network()
    failing.failing_call = 2  # the second of two parts
    assert step_of(failing)(*batch, micro_batch=4)[1] == 2
    step_of(parts)(*batch, micro_batch=2)
    assert failing.seen == [4, 3, 2, 2, 2, 1]
    assert torch.equal(weights(failing), weights(parts))


def test_a_last_batch_that_is_smaller_leaves_the_micro_batch_as_it_is(batch: tuple[Tensor, Tensor]) -> None:
    network = Network()
    step = step_of(network)
    images, targets = batch
    assert step(images[:3], targets[:3], micro_batch=5)[1] == 5
    network.limit = 2
    assert step(images[:3], targets[:3], micro_batch=5)[1] == 2


def test_where_one_tile_is_too_much_one_line_says_what_would_help(batch: tuple[Tensor, Tensor]) -> None:
    network = Network()
    network.limit = 0
    with pytest.raises(DeviceMemoryError) as caught:
        step_of(network)(*batch, micro_batch=7)
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in ("image_size", "encoder", "precision", "CUDA out of memory"))
    assert all(parameter.grad is None for parameter in network.parameters())


class CountingScaler(torch.amp.GradScaler):
    """Loss scaling as for fp16, on the CPU; notes the order of what is done."""

    def __init__(self) -> None:
        super().__init__("cpu", init_scale=1024.0)
        self.done: list[str] = []

    def scale(self, outputs: Any) -> Any:
        self.done.append("scale")
        return super().scale(outputs)

    def unscale_(self, optimizer: Any) -> None:
        self.done.append("unscale")
        super().unscale_(optimizer)

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        self.done.append("step")
        return super().step(optimizer, *args, **kwargs)

    def update(self, *args: Any) -> None:
        self.done.append("update")
        super().update(*args)


def test_scaled_gradients_are_accumulated_clipped_once_and_applied_once(batch: tuple[Tensor, Tensor]) -> None:
    plain, scaled, scaler = Network(), Network(), CountingScaler()
    scaled.limit = 3
    step_of(plain, grad_clip=1e-2)(*batch, micro_batch=7)
    step_of(scaled, scaler, grad_clip=1e-2)(*batch, micro_batch=7)
    assert scaled.seen == [7, 4, 2, 2, 2, 1]
    assert scaler.done == ["scale"] * 4 + ["unscale", "step", "update"]
    torch.testing.assert_close(weights(scaled), weights(plain), rtol=1e-5, atol=1e-7)


def test_a_part_that_overflows_in_fp16_skips_the_update_of_the_batch(batch: tuple[Tensor, Tensor]) -> None:
    network, scaler = Network(), CountingScaler()
    images, targets = batch
    images[5] = torch.inf
    before = weights(network)
    step_of(network, scaler)(images, targets, micro_batch=2)
    assert torch.equal(weights(network), before)
    assert scaler.get_scale() == 512.0
