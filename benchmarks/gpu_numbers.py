"""Checks of numbers: a run computes on a GPU what it computes on a CPU."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gpu_bench import CPU, NEEDS_GPU, Bench, Outcome, off
from torch import Tensor

from segtune.data.distances import DistanceMaps
from segtune.data.labels import IGNORED, Labels
from segtune.evaluation.predict import count_pixels, most_likely
from segtune.evaluation.validate import validate
from segtune.training.losses import SegmentationLoss
from segtune.training.state import load_state
from segtune.vocabulary import BINARY_LOSSES, LOSSES

# An architecture each, and encoders of other kinds.
PAIRS = (
    *(("unet", encoder) for encoder in ("efficientnet-b0", "mobilenet_v2", "mit_b0", "tu-mobilenetv3_small_100")),
    *((model, "resnet18") for model in ("unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3")),
    *((model, "resnet18") for model in ("deeplabv3plus", "pan", "upernet", "segformer")),
    ("dpt", "tu-vit_tiny_patch16_224"),
)


def like_the_cpu(bench: Bench, precision: str, tolerance: float) -> Outcome:
    """Compare a precision on the device with fp32 on the CPU: loss of two steps, score of a run, validation."""
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
    """Check fp32; convolutions use TF32 where the GPU has it, torch's default."""
    return like_the_cpu(bench, "fp32", 0.005)


def bf16(bench: Bench) -> Outcome:
    return like_the_cpu(bench, "bf16", 0.02)


def fp16(bench: Bench) -> Outcome:
    """Check fp16, the state of its GradScaler, and that a run continues with it."""
    if not bench.gpu:
        return NEEDS_GPU
    found = like_the_cpu(bench, "fp16", 0.01)
    scale = float(load_state(bench.folder("fp16").state)["scaler"]["scale"])
    more = bench.train("fp16", go_on=True, precision="fp16", epochs=bench.epochs + 1)
    ok = bool(found.ok) and 1 <= scale < 2**24 and len(more) == 1 and math.isfinite(more[0].loss)
    return Outcome(ok, f"{found.text}; scale {scale:g}; goes on", found.figures | {"scale": scale})


def ignored(bench: Bench) -> Outcome:
    """Compare every loss with the CPU, for no, some and all pixels ignored, and a run with an ignored label."""
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
                maps = _maps(name, labels, targets)
                here, there = (
                    _loss_and_gradient(loss_of, logits, targets, maps, place) for place in (bench.device, CPU)
                )
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


def counts(bench: Bench) -> Outcome:
    """Compare the counts of pixels with numpy's, and let torch refuse what would wait for the GPU."""
    generator = torch.Generator().manual_seed(1)
    wrong, waited = [], ""
    for labels in (Labels.from_masks([1], [9], [0, 1, 9]), Labels.from_masks([1, 2, 3], [9], [0, 1, 2, 3, 9])):
        side = len(labels.classes) + 1
        logits = torch.randn(4, labels.outputs, 48, 48, generator=generator)
        targets = torch.randint(0, side, (4, 48, 48), generator=generator).to(torch.uint8)
        targets[torch.rand(4, 48, 48, generator=generator) < 0.3] = IGNORED
        valid = (targets != IGNORED).numpy()
        expected = np.zeros((side, side), np.int64)
        np.add.at(expected, (targets.numpy()[valid], most_likely(logits, labels).numpy()[valid]), 1)
        here, truth = logits.to(bench.device), targets.to(bench.device)
        try:
            with no_waiting(bench):
                found = count_pixels(here, truth, labels)
        except RuntimeError as error:
            waited = f"; {' '.join(str(error).split())[:200]}"
            continue
        if not np.array_equal(found.cpu().numpy(), expected):
            wrong.append("one class" if labels.binary else f"{side - 1} classes")
    looked = "nothing waits for the GPU" if bench.gpu else "no GPU to wait for"
    text = f"counts as numpy's: {f'not of {wrong}' if wrong else 'yes'}; {'it waits' if waited else looked}{waited}"
    return Outcome(not wrong and not waited, text)


@contextmanager
def no_waiting(bench: Bench) -> Iterator[None]:
    """Make torch raise RuntimeError in the block where the GPU would be waited for."""
    if not bench.gpu:
        yield
        return
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _maps(name: str, labels: Labels, targets: Tensor) -> Tensor | None:
    maps = DistanceMaps.of(name, labels)
    return torch.stack([torch.from_numpy(maps(target.numpy())).float() for target in targets]) if maps else None


def _loss_and_gradient(
    loss_of: SegmentationLoss, logits: Tensor, targets: Tensor, maps: Tensor | None, place: torch.device
) -> list[Tensor]:
    moved = logits.to(place).requires_grad_()
    loss = loss_of(moved, targets.to(place), maps=None if maps is None else maps.to(place))
    (gradient,) = torch.autograd.grad(loss, moved)
    return [loss.detach().cpu(), gradient.cpu()]


def windows(bench: Bench) -> Outcome:
    """Compare sliding-window evaluation of a run on crops with the CPU's evaluation of the same model."""
    best = bench.train("windows", fit="crop", precision="fp32", epochs=2)[-1].best_miou or 0.0
    cpu = validate(bench.folder("windows").path, bench.demo / "val", "cpu").scores.miou
    return Outcome(abs(best - cpu) < 5e-3, f"miou {best:.4f} (on the CPU {cpu:.4f})", {"miou": best, "cpu_miou": cpu})


def architectures(bench: Bench) -> Outcome:
    """Train and evaluate each architecture briefly, with encoders of every kind."""
    failed = []
    tiny: dict[str, Any] = {"epochs": 1, "samples_per_epoch": 4, "val_samples": 2, "image_size": 128}
    pairs = PAIRS[:2] if bench.small else PAIRS
    for model, encoder in pairs:
        try:
            bench.train(f"{model}-{encoder}", model=model, encoder=encoder, **tiny)
        except Exception as error:
            failed.append(f"{model} with {encoder}: {' '.join(str(error).split())[:150]}")
    return Outcome(not failed, "; ".join(failed) or f"{len(pairs)} models trained and evaluated")
