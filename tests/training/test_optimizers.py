"""Every optimizer that can be chosen: it trains, its state is accepted, and it goes on exactly."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from timm.optim import get_optimizer_info, list_optimizers
from torch import Tensor, nn
from torch.optim import Optimizer

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.training.optim import build_optimizer
from segtune.training.state import check_optimizer
from segtune.vocabulary import Optimizer as Name

NAMES = get_args(Name)
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "settings.md"


class Small(nn.Module):
    """As smp's models: an encoder and a head; full, grouped and pointwise convolutions in channels_last."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU())
        self.head = nn.Sequential(nn.Conv2d(8, 16, 1), nn.Flatten(), nn.Linear(64, 2))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images))


IMAGES, LABELS = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 2


def built(name: str, **settings: Any) -> tuple[Small, Optimizer]:
    model = Small()
    return model, build_optimizer(RunConfig.from_settings({"optimizer": name, "lr": 1e-3, **settings}), model)


def steps(model: nn.Module, optimizer: Optimizer, count: int) -> float:
    """Train; return the last loss."""
    for _ in range(count):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(IMAGES), LABELS)
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("name", NAMES)
def test_each_optimizer_lowers_the_loss_and_goes_on_exactly(name: str) -> None:
    lr = {"adadelta": 1.0, "lars": 0.1}.get(name, 1e-3)
    model, optimizer = built(name, lr=lr)
    before = nn.functional.cross_entropy(model(IMAGES), LABELS).item()
    model.encoder.requires_grad_(False)  # as freeze_encoder_epochs does
    steps(model, optimizer, 2)
    model.encoder.requires_grad_(True)
    assert steps(model, optimizer, 4) < before
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other, later = built(name, lr=lr)
    other.load_state_dict(state["model"])
    later.load_state_dict(state["optimizer"])
    check_optimizer(later)
    torch.rand(3)  # what others draw in between
    assert steps(model, optimizer, 3) == steps(other, later, 3)
    for one, another in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, another)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_that_does_not_fit_is_found(name: str) -> None:
    model, optimizer = built(name)
    steps(model, optimizer, 2)
    weight = model.encoder[0].weight
    (part, *_) = [name for name, value in optimizer.state[weight].items() if getattr(value, "shape", 0) == weight.shape]
    optimizer.state[weight][part] = torch.zeros(3)
    with pytest.raises(ValueError, match=f"optimizer: {part} does not fit"):
        check_optimizer(optimizer)


def test_all_names_are_those_of_timm_and_none_needs_another_package() -> None:
    assert list(NAMES) == sorted(NAMES)
    assert set(NAMES) <= set(list_optimizers())
    assert not [name for name in NAMES if isinstance(get_optimizer_info(name).opt_class, str)]
    assert not [name for name in NAMES if get_optimizer_info(name).second_order]


@pytest.mark.parametrize(
    ("given", "nearest"), [("adamm", "adam"), ("lionn", "lion"), ("moun", "muon"), ("rmsprob", "rmsprop")]
)
def test_a_wrong_name_gets_the_nearest_one(given: str, nearest: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"did you mean {nearest!r}?")) as caught:
        RunConfig.from_settings({"optimizer": given})
    assert str(caught.value).startswith(f"optimizer: {given!r} is not one of adabelief, ")


def documented() -> dict[str, tuple[str, str]]:
    """How each optimizer decays and whether it uses `momentum`, by the table of the page of settings."""
    section = PAGE.read_text(encoding="utf-8").partition("\n## Optimizers\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")]
    return {name: (cells[2], cells[3]) for cells in rows for name in re.findall(r"`(\w+)`", cells[0])}


def decay(name: str) -> str:
    """Whether a weight without a gradient shrinks by lr * weight_decay in every step, or otherwise."""
    model = nn.Linear(4, 4, bias=False)
    nn.init.constant_(model.weight, 1.0)
    optimizer = build_optimizer(RunConfig(optimizer=name, lr=0.1, weight_decay=0.1), model)  # type: ignore[arg-type]
    seen = []
    for _ in range(8):  # radam's first five steps are sgd's
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
        seen.append(model.weight.mean().item())
    decoupled = [0.99**step for step in range(1, 9)]
    return "decoupled" if seen == pytest.approx(decoupled, rel=1e-3) else "L2"


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_how_each_decays_and_whether_it_has_a_momentum(name: str) -> None:
    assert documented()[name] == (decay(name), "yes" if get_optimizer_info(name).has_momentum else "")
    described = str(RunConfig.model_fields["momentum"].description)
    assert (name in re.findall(r"\w+", described)) == get_optimizer_info(name).has_momentum


def test_muon_is_for_matrices_and_flattened_convolutions_only() -> None:
    model, optimizer = built("muon", weight_decay=0.0)
    steps(model, optimizer, 1)
    muon = {name for name, weight in model.named_parameters() if optimizer.state[weight]["use_muon"]}
    # Not the grouped convolution, and not head.2, which has fewer than 4 outputs.
    assert muon == {"encoder.0.weight", "head.0.weight"}
    before = model.head[0].weight.detach().clone()
    for group in optimizer.param_groups:
        group["lr"] = 1.0
    model.head[0].weight.grad = torch.randn(16, 8, 1, 1)
    optimizer.step()
    moved = torch.linalg.svdvals((model.head[0].weight - before).detach().flatten(1))
    assert moved.max() < 1.6 * moved.min()  # orthogonal, up to what five Newton-Schulz steps leave


@pytest.mark.parametrize("name", [name for name in NAMES if get_optimizer_info(name).has_momentum])
def test_momentum_counts_where_the_page_says_so_and_may_be_zero(name: str) -> None:
    ends = []
    for momentum in (0.0, 0.9):
        model, optimizer = built(name, momentum=momentum)
        ends.append(steps(model, optimizer, 3))
    assert ends[0] != ends[1]


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_the_optimizers_of_the_first_release_are_those_of_torch(name: str) -> None:
    model, optimizer = built(name, lr=0.01, weight_decay=0.02, momentum=0.8)
    twin = Small()
    weights = [p for p in twin.parameters() if p.ndim > 1]
    others = [p for p in twin.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    more = {"momentum": 0.8, "nesterov": True} if name == "sgd" else {}
    assert type(optimizer) is kinds[name]
    assert len(optimizer.param_groups) == 4
    # A fused update rounds as a plain one on Intel's processors, and differs in the last digit on AMD's.
    assert steps(model, optimizer, 5) == pytest.approx(steps(twin, kinds[name](groups, lr=0.01, **more), 5), rel=1e-6)
