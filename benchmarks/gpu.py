"""Check on a GPU that runs are correct, and measure how fast they are, in at most eight minutes.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --only fp16 speed_256_safe
    python benchmarks/gpu.py --dry-run            a minute on any machine: does the script run

Everything is made here, in a temporary folder; no network is needed. Each check prints a line: its name, ok or FAILED,
and its figures; one that fails does not stop the others, and makes the exit status 1. Speed compares, in one run,
(a) our loop from end to end, (b) its step alone, on a batch that lies on the device, and (c) the loop that most scripts
have: fp32, contiguous memory, one loader that decodes, augments, resizes and normalizes each tile anew, and the IoU of
each batch. The aims are a/b of 0.9 with augmentation safe, and a/c of 4.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from gpu_bench import CPU, Bench, Outcome, noted_warnings
from gpu_memory import full_gpu, given_back, given_back_model, out_of_memory
from gpu_numbers import architectures, bf16, counts, fp16, fp32, ignored, windows
from gpu_processes import interrupted, loaders, shared, together
from gpu_speed import SPEED
from machine import machine_line

from segtune.data.demo import write_demo

# The speed of the two extremes comes before the checks that take longest.
FIRST = ("fp32", "bf16", "fp16", "ignored", "counts", "speed_256_safe", "speed_512_hard", "together")
CHECKS: dict[str, Callable[[Bench], Outcome]] = {
    "fp32": fp32,
    "bf16": bf16,
    "fp16": fp16,
    "ignored": ignored,
    "counts": counts,
    "windows": windows,
    "architectures": architectures,
    "loaders": loaders,
    "given_back": given_back,
    "given_back_model": given_back_model,
    "out_of_memory": out_of_memory,
    "full_gpu": full_gpu,
    "together": together,
    "interrupted": interrupted,
    "shared": shared,
}
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


def outcome_of(check: Callable[[Bench], Outcome], bench: Bench) -> Outcome:
    """Run a check; an error counts as a failure of this check only."""
    try:
        with noted_warnings() as noted:
            found = check(bench)
    except Exception as error:
        traceback.print_exc()
        found, noted = Outcome(False, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"), []
    gc.collect()
    if bench.gpu:
        torch.cuda.empty_cache()
    return Outcome(found.ok, found.text, found.figures | ({"warnings": noted} if noted else {}))


def run_checks(checks: dict[str, Callable[[Bench], Outcome]], bench: Bench, limit: float) -> Iterator[dict[str, Any]]:
    """Run the checks one after another and print a line for each; none begins after so many seconds."""
    end = time.perf_counter() + limit
    for name, check in checks.items():
        started = time.perf_counter()
        found = outcome_of(check, bench) if started < end else Outcome(None, "no time is left; --only runs it")
        seconds = time.perf_counter() - started
        print(f"{name:16} {WORDS[found.ok]:8} {found.text}  [{seconds:.1f} s]", flush=True)
        for line in found.figures.get("warnings", []):
            print(f"{'':16} {line}", flush=True)
        yield {"check": name, "ok": found.ok, "text": found.text, "seconds": seconds, "figures": found.figures}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = {**CHECKS, **SPEED}
    known = {name: every[name] for name in dict.fromkeys((*FIRST, *every))}
    parser.add_argument("--only", nargs="+", choices=known, metavar="CHECK", help=f"of {', '.join(known)}")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with sizes that show nothing")
    limit = "begin no check after so many seconds; the longest one takes about a minute [400]"
    parser.add_argument("--seconds", type=float, default=400.0, metavar="S", help=limit)
    parser.add_argument("--out", type=Path, metavar="FILE", help="the same as JSON")
    given = parser.parse_args()
    if not (given.dry_run or torch.cuda.is_available()):
        parser.error("torch sees no GPU here; --dry-run does without")
    device = CPU if given.dry_run else torch.device("cuda")
    machine, card = machine_line(), card_line(device)
    print(f"{machine}\n{card}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), device, small=given.dry_run)
        write_demo(bench.demo, *((12, 4) if given.dry_run else (64, 24)))
        rows = []
        for row in run_checks({name: known[name] for name in given.only or known}, bench, given.seconds):
            rows.append(row)
            if given.out:
                given.out.write_text(json.dumps({"machine": machine, "card": card, "checks": rows}, indent=1) + "\n")
    failed = [row["check"] for row in rows if row["ok"] is False]
    print(f"{len(failed)} of {len(rows)} failed: {', '.join(failed)}" if failed else f"{len(rows)} checks, none failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
