"""Checks of memory: too little of it, and what a process keeps after its trials."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import torch
import yaml
from gpu_bench import MB, NEEDS_GPU, Bench, Outcome, off, script

from segtune.data.scan import scan
from segtune.errors import DeviceMemoryError, NonFiniteLossError
from segtune.evaluation.validate import validate
from segtune.models.build import build_model
from segtune.training.train import train

_KEPT = 160 * MB  # that libraries may keep of a GPU's memory for their own use
_GROWTH = 16 * MB  # by which what is kept may differ from trial to trial


@contextmanager
def room(device: torch.device, left: float) -> Iterator[None]:
    """Occupy all memory of the device except so many bytes."""
    gc.collect()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    block = torch.empty(max(0, free - int(left)), dtype=torch.uint8, device=device)
    try:
        yield
    finally:
        del block
        torch.cuda.empty_cache()


@contextmanager
def most_reserved(device: torch.device) -> Iterator[list[int]]:
    """Measure the peak of reserved bytes in the block; the list holds it when the block has ended."""
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    found: list[int] = []
    yield found
    found.append(torch.cuda.max_memory_reserved(device) - before)


def out_of_memory(bench: Bench) -> Outcome:
    """Check that a run and a validation go on in smaller parts when memory is short, and fail clearly without any."""
    if not bench.gpu:
        return NEEDS_GPU
    large: dict[str, Any] = {"encoder": "resnet34", "image_size": 256, "batch_size": 16, "epochs": 1}
    large |= {"samples_per_epoch": 64, "precision": "fp32"}
    with most_reserved(bench.device) as needed:
        usual = bench.train("roomy", **large)[0]
    with room(bench.device, 0.45 * needed[0]):
        tight = bench.train("tight", **large)[0]
    more = bench.train("tight", go_on=True, **large | {"epochs": 2})[0]
    split, model = bench.demo / "val", bench.folder("roomy").path
    with most_reserved(bench.device) as evaluation:
        miou = validate(model, split).scores.miou
    weights = 110 * MB  # of a resnet34 Unet, which no smaller batch makes smaller
    with room(bench.device, weights + 0.5 * (evaluation[0] - weights)):
        validated = validate(model, split)
    refused = ""
    try:
        with room(bench.device, 0.5 * weights):
            bench.train("nothing", **large)
    except DeviceMemoryError as error:
        refused = str(error)
    size = validated.manifest.evaluation_batch_size
    ok = tight.micro_batch < 16 == usual.micro_batch and more.micro_batch == tight.micro_batch and size < 16
    ok = ok and off(tight.loss, usual.loss) < 0.1 and abs(validated.scores.miou - miou) < 1e-3
    ok = ok and refused.startswith("out of memory")
    text = (
        f"a run that reserves {needed[0] / MB:.0f} MB, in 45 % of it: {tight.micro_batch} of 16 tiles at a time, loss "
        f"{tight.loss:.4f} (all: {usual.loss:.4f}); validation {size} of 16, "
        f"{abs(validated.scores.miou - miou):.1e} off; no room at all: {refused[:40] or 'no error'}"
    )
    return Outcome(ok, text, {"needed_mb": needed[0] / MB, "micro_batch": tight.micro_batch})


def full_gpu(bench: Bench) -> Outcome:
    """Check that a process started on a full GPU ends with one line and no traceback."""
    if not bench.gpu:
        return NEEDS_GPU
    (bench.root / "full.yaml").write_text(yaml.safe_dump(bench.config(epochs=1).settings()))
    found, ok = [], True
    for left in (100, 700):
        name = f"full-{left}"
        command = ["run_single.py", "--config", str(bench.root / "full.yaml"), "--exp-name", name]
        with room(bench.device, left * MB):
            ended = script([*command, "--log-dir", str(bench.root / "runs")])
        lines = ended.stderr.strip().splitlines()
        ok = ok and "Traceback" not in ended.stderr and (ended.returncode == 0 or "memory" in (lines or [""])[-1])
        found.append(f"{left} MB left: status {ended.returncode} {' '.join(lines)[-200:]}")
    return Outcome(ok, "; ".join(found))


def given_back(bench: Bench) -> Outcome:
    """Check the memory held after trials that finished, were stopped or failed, and that NaN is noticed."""
    if not bench.gpu:
        return NEEDS_GPU
    bench.train("first", epochs=1)
    gc.collect()
    held = {"first": _held(bench)}
    bench.train("second", epochs=1)
    held["finished"] = _held(bench)
    config = bench.config(epochs=3)
    with closing(train(config, scan(config), bench.folder("stopped"))) as epochs:
        next(epochs)
    held["stopped"] = _held(bench)
    failed = False
    try:
        bench.train("nan", optimizer="sgd", lr=1e30, grad_clip=0.0)
    except NonFiniteLossError:
        failed = True
    gc.collect()  # as a search does: only now, without the error, is what its traceback held free
    torch.cuda.empty_cache()
    held["failed"] = _held(bench)
    try:
        with room(bench.device, 20 * MB):
            bench.train("memory", epochs=1)
    except DeviceMemoryError:
        held["out of memory"] = _held(bench)
    ok = failed and "out of memory" in held
    most = held["first"][1] + _GROWTH
    ok = ok and all(kept[1] <= most and kept[0] < _KEPT for kept in held.values())
    shown = ", ".join(f"{name} {kept[0] / MB:.0f}/{kept[1] / MB:.0f}" for name, kept in held.items())
    return Outcome(ok, f"MB allocated/reserved after: {shown}", held)


def _held(bench: Bench) -> tuple[int, int]:
    return torch.cuda.memory_allocated(bench.device), torch.cuda.memory_reserved(bench.device)


def given_back_model(bench: Bench) -> Outcome:
    """Check that the previous check can fail: it sees a model that is kept."""
    if not bench.gpu:
        return NEEDS_GPU
    before = _held(bench)[0]
    model = build_model(bench.config(encoder="resnet34"), 4, 1).to(bench.device)
    more = _held(bench)[0] - before
    del model
    return Outcome(more > _GROWTH, f"a model that is held is seen: {more / MB:.0f} MB")
