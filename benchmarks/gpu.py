"""Check on a GPU that runs are correct, and measure how fast they are, in at most eight minutes.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --only fp16 speed_256_safe
    python benchmarks/gpu.py --dry-run            some minutes on any machine, without an end: does the script run

Everything is made here, in a temporary folder; no network is needed. Each check prints a line: its name, ok or FAILED,
and its figures; one that fails does not stop the others, and makes the exit status 1. Speed compares, in one run,
(a) our loop from end to end, (b) its step alone, on a batch that lies on the device, and (c) the loop that most scripts
have: fp32, contiguous memory, one loader that decodes, augments, resizes and normalizes each tile anew, and the IoU of
each batch. The aims are a/b of 0.9 with augmentation safe, and a/c of 4. The checks that matter most come first: when
the time is up, the one that is under way is ended, and the rest are skipped.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from gpu_bench import CPU, Bench, Outcome, noted_warnings
from gpu_memory import full_gpu, given_back, given_back_model, out_of_memory
from gpu_numbers import architectures, bf16, counts, fp16, fp32, ignored, windows
from gpu_processes import interrupted, loaders, shared, together
from gpu_speed import SPEED
from machine import machine_line

from segtune.data.demo import write_demo

# In the order of what a change of the code most often breaks, and of what the documentation claims.
CHECKS: dict[str, Callable[[Bench], Outcome]] = {
    "fp32": fp32,
    "bf16": bf16,
    "fp16": fp16,
    "ignored": ignored,
    "counts": counts,
    "speed_256_safe": SPEED["speed_256_safe"],
    "speed_512_hard": SPEED["speed_512_hard"],
    "together": together,
    "given_back": given_back,
    "given_back_model": given_back_model,
    "out_of_memory": out_of_memory,
    "interrupted": interrupted,
    "shared": shared,
    "full_gpu": full_gpu,
    "speed_512_safe": SPEED["speed_512_safe"],
    "speed_256_hard": SPEED["speed_256_hard"],
    "estimate": SPEED["estimate"],
    "loaders": loaders,
    "windows": windows,
    "architectures": architectures,
}
SECONDS = 440.0  # of the eight minutes, when imports and the removal of the files are taken off
WORDS = {True: "ok", False: "FAILED", None: "skipped"}


def card_line(device: torch.device) -> str:
    """Describe the GPU and its libraries."""
    if device.type != "cuda":
        return "no GPU"
    card, cudnn = torch.cuda.get_device_properties(device), torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return (
        f"{card.name}, {card.total_memory / 2**30:.0f} GiB, compute capability {card.major}.{card.minor}; "
        f"CUDA {torch.version.cuda}, cuDNN {cudnn}"
    )


class TimeIsUp(BaseException):
    """Raised in the check that is under way at the end; no check takes it for an error of its own."""


@contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """Raise TimeIsUp in the block when it has taken so many seconds."""

    def end(number: int, frame: FrameType | None) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds if math.isfinite(seconds) else 0)  # 0: never
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome_of(check: Callable[[Bench], Outcome], bench: Bench, left: float) -> Outcome:
    """Run a check for as long as there is time; an error counts as a failure of this check only."""
    if left <= 0:
        return Outcome(None, "no time was left", left=True)
    noted: list[str] = []
    try:
        with ended_after(left), noted_warnings() as noted:
            found = check(bench)
    except TimeIsUp:
        found = Outcome(None, "ended before it was done: the time was up", left=True)
    except Exception as error:
        traceback.print_exc()
        found = Outcome(False, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    gc.collect()
    if bench.gpu:
        torch.cuda.empty_cache()
    return replace(found, figures=found.figures | ({"warnings": noted} if noted else {}))


def run_checks(checks: dict[str, Callable[[Bench], Outcome]], bench: Bench, end: float) -> Iterator[dict[str, Any]]:
    """Run the checks one after another, until `end` by time.perf_counter(), and print a line for each."""
    for name, check in checks.items():
        started = time.perf_counter()
        found = outcome_of(check, bench, end - started)
        seconds = time.perf_counter() - started
        print(f"{name:16} {WORDS[found.ok]:8} {found.text}  [{seconds:.1f} s]", flush=True)
        for line in found.figures.get("warnings", []):
            print(f"{'':16} {line}", flush=True)
        yield {
            "check": name,
            "ok": found.ok,
            "text": found.text,
            "seconds": seconds,
            "left": found.left,
            "figures": found.figures,
        }


def summary(rows: list[dict[str, Any]]) -> str:
    """Return one line: how many checks passed, which ones failed or were skipped, and how to run what was left."""
    named = {word: [row["check"] for row in rows if row["ok"] is ok] for ok, word in WORDS.items()}
    told = [f"{len(named['ok'])} of {len(rows)} checks ok"]
    told += [f"{len(named[word])} {word}: {', '.join(named[word])}" for word in ("FAILED", "skipped") if named[word]]
    if left := [row["check"] for row in rows if row["left"]]:
        told.append(f"the time was up; for the rest: python benchmarks/gpu.py --only {' '.join(left)}")
    return "; ".join(told)


def main() -> int:
    began = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CHECKS, metavar="CHECK", help=f"of {', '.join(CHECKS)}")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with sizes that show nothing")
    limit = f"end after so many seconds with what there is [{SECONDS:.0f}; a dry run has no end]"
    parser.add_argument("--seconds", type=float, metavar="S", help=limit)
    parser.add_argument("--out", type=Path, metavar="FILE", help="the same as JSON, written after each check")
    given = parser.parse_args()
    if not (given.dry_run or torch.cuda.is_available()):
        parser.error("torch sees no GPU here; --dry-run does without")
    device = CPU if given.dry_run else torch.device("cuda")
    seconds = given.seconds if given.seconds is not None else math.inf if given.dry_run else SECONDS
    machine, card = machine_line(), card_line(device)
    print(f"{machine}\n{card}", flush=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        bench = Bench(Path(folder), device, small=given.dry_run)
        write_demo(bench.demo, *((12, 4) if given.dry_run else (64, 24)))
        wanted = {name: CHECKS[name] for name in given.only or CHECKS}
        for row in run_checks(wanted, bench, began + seconds):
            rows.append(row)
            if given.out:
                given.out.write_text(json.dumps({"machine": machine, "card": card, "checks": rows}, indent=1) + "\n")
    print(summary(rows))
    return 1 if any(row["ok"] is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
