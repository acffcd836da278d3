"""Make searches whose trials ended with given scores, with models on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segtune.files.folders import SearchFolder
from segtune.trials import SearchState
from segtune.tuning.retention import Retention
from segtune.tuning.status import search_state
from tests.tuning.bench import SPACE, Bench, leave_model

MODEL_BYTES = 1_000_000


def searched(folder: Path, values: list[float], **search: Any) -> tuple[Bench, Retention]:
    """Make a search whose trials ended with these values, each with a model of a megabyte."""
    more = "".join(f", {name}: {value}" for name, value in search.items())
    bench = Bench(SearchFolder(folder), SPACE.replace("trials: 8", f"trials: 8{more}"))
    for number, value in enumerate(values):
        bench.start()
        model_of(bench, number).mkdir(parents=True)
        (model_of(bench, number) / "model.safetensors").write_bytes(bytes([number]) * MODEL_BYTES)
        bench.finish(number, value)
    return bench, Retention(bench.results(), bench.folder, bench.space.search)


def model_of(bench: Bench, number: int) -> Path:
    return bench.folder.trial(number).best


def kept(bench: Bench) -> list[int]:
    return [trial.number for trial in bench.study.trials if model_of(bench, trial.number).exists()]


def unfinished(folder: Path) -> tuple[Bench, Retention]:
    """Make a search with a finished trial (0.5) and a running one (0.7 in its second epoch of three)."""
    bench, retention = searched(folder, [0.5])
    retention.update()
    bench.start()
    for epoch, value in ((1, 0.3), (2, 0.7)):
        bench.report(1, epoch, value)
        leave_model(model_of(bench, 1), epoch, value, data=bytes([epoch]))
    return bench, retention


def best_of(bench: Bench) -> bytes:
    return (bench.folder.best / "model.safetensors").read_bytes()


def state(bench: Bench) -> SearchState:
    bench.folder.search_yaml.write_text(bench.space_text)
    return search_state(bench.folder)
