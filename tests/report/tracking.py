"""The folder of a search without a search, and what MLflow got of it: a fake one, or the library where it is there."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from segtune.config import RunConfig
from segtune.files.folders import RunFolder, SearchFolder
from segtune.trials import Trial, write_trials

FAKES = Path(__file__).parent / "fakes"
SPACE = "dataset: tiles\nrun:\n  epochs: 4\nspace:\n  lr: [0.001, 0.01]\nsearch:\n  trials: 2\n"


def epochs_of(folder: RunFolder, epochs: int) -> None:
    """Write metrics.csv with so many epochs; one in two has no score."""
    lines = ["epoch,loss,miou,best_miou,iou/255,seconds"]
    for epoch in range(1, epochs + 1):
        miou = f"{epoch / 10}" if epoch % 2 else ""
        lines.append(f"{epoch},{1 / epoch},{miou},{epoch / 10},{miou},{epoch * 2.5}")
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.metrics_csv.write_text("\n".join(lines) + "\n")


def trial(number: int, status: str, epochs: int, **others: Any) -> Trial:
    settings = RunConfig(epochs=4, lr=0.001 * (number + 1), seed=others.pop("seed", 3)).settings()
    facts = {"epochs_done": epochs, "miou": epochs / 10 or None, "origin": "sampler" if number else "baseline"}
    return Trial(number, status, settings, **(facts | others))  # type: ignore[arg-type]


def search_in(path: Path, trials: Sequence[Trial], repeats: Sequence[Trial] = ()) -> SearchFolder:
    """Write as much of a search's folder as a tracker gets."""
    folder = SearchFolder(path)
    for one in trials:
        epochs_of(folder.trial(one.number), one.epochs_done)
    for number, one in enumerate(repeats, start=1):
        epochs_of(folder.repeat(one.number, number), one.epochs_done)
    folder.search_yaml.write_text(SPACE)
    folder.best.mkdir(exist_ok=True)
    (folder.best / "model.safetensors").write_bytes(b"weights")
    write_trials(folder.trials_csv, trials, repeats)
    return folder


@dataclass(frozen=True)
class Stored:
    """A run as a tracker has it."""

    parent: str | None  # the name of that run
    status: str
    settings: Mapping[str, str]
    facts: Mapping[str, str]
    curves: Mapping[str, Sequence[tuple[int, float]]]  # step and value
    files: Sequence[str]


class Store:
    """An MLflow of a test's own."""

    def __init__(self, place: Path, patch: pytest.MonkeyPatch, real: bool) -> None:
        self.real, self._place, self._patch = real, place, patch
        patch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
        if real:
            patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
            patch.chdir(place)  # the files of runs go to ./mlruns
        else:
            patch.setenv("PYTHONPATH", str(FAKES))
            patch.syspath_prepend(FAKES)
            patch.setenv("MLFLOW_TRACKING_URI", f"file {place}/mlflow.json")

    def runs(self) -> dict[str, Stored]:
        """Return all runs by name; no two have the same."""
        found = list(self._real_runs() if self.real else self._fake_runs())
        by_name = dict(found)
        assert len(by_name) == len(found), "a run is there twice"
        return by_name

    def _fake_runs(self) -> Any:
        path = self._place / "mlflow.json"
        runs = json.loads(path.read_text())["segtune"] if path.exists() else {}
        for run in runs.values():
            parent = run["tags"].get("mlflow.parentRunId")
            curves: dict[str, list[tuple[int, float]]] = {}
            for key, value, _, step in run["metrics"]:
                curves.setdefault(key, []).append((step, value))
            name = runs[parent]["name"] if parent else None
            yield run["name"], Stored(name, run["status"], run["params"], run["tags"], curves, run["files"])

    def _real_runs(self) -> Any:
        import mlflow

        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name("segtune").experiment_id
        runs = {run.info.run_id: run for run in client.search_runs([experiment])}
        for id, run in runs.items():
            parent = run.data.tags.get("mlflow.parentRunId")
            curves = {
                key: [(metric.step, metric.value) for metric in client.get_metric_history(id, key)]
                for key in run.data.metrics
            }
            files = [part.path for part in client.list_artifacts(id)]
            files += [part.path for part in client.list_artifacts(id, "best")] if "best" in files else []
            name = runs[parent].info.run_name if parent else None
            yield (
                run.info.run_name,
                Stored(name, run.info.status, run.data.params, run.data.tags, curves, sorted({*files} - {"best"})),
            )


REAL_ONLY = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed: pip install 'segtune[mlflow]'"
)
REAL = pytest.param(True, marks=REAL_ONLY, id="mlflow")
