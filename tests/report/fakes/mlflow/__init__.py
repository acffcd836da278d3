"""The part of MLflow's client that segtune calls, over a JSON file.

The address is ``file PATH``, ``refuses`` or ``hangs``. FAKE_DIES_AFTER=N ends the process before the write N + 1, as a
kill would. MLflow's own rules hold: a parameter keeps its value, a batch has at most 1000 metrics, and a page of runs
has at most as many as asked for.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlflow.entities import Metric, Param, RunTag

_writes = 0


def get_tracking_uri() -> str:
    return os.environ["MLFLOW_TRACKING_URI"]


class _Page(list[Any]):
    token: str | None = None


class MlflowClient:
    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=name) if name in self._read() else None

    def create_experiment(self, name: str) -> str:
        self._write(self._read() | {name: {}})
        return name

    def search_runs(self, experiments: list[str], filtered: str, max_results: int, page_token: str | None) -> _Page:
        (experiment,) = experiments
        key, value = filtered.removeprefix("tags.`").removesuffix("'").split("` = '")
        found = [(id, run) for id, run in self._read()[experiment].items() if run["tags"].get(key) == value]
        start, size = int(page_token or 0), min(max_results, 2)
        page = _Page(_run(id, run) for id, run in found[start : start + size])
        page.token = str(start + size) if start + size < len(found) else None
        return page

    def create_run(self, experiment: str, start_time: int, tags: dict[str, str], run_name: str) -> Any:
        content = self._read()
        id = f"run{len(content[experiment])}"
        new = {"name": run_name, "began": start_time, "status": "RUNNING", "ended": None, "files": []}
        content[experiment][id] = new | {"tags": tags, "params": {}, "metrics": []}
        self._write(content)
        return _run(id, content[experiment][id])

    def log_batch(self, id: str, metrics: list[Metric] = (), params: list[Param] = (), tags: list[RunTag] = ()) -> None:
        assert len(metrics) <= 1000
        assert len(params) <= 100
        content, run = self._of(id)
        for param in params:
            assert run["params"].setdefault(param.key, param.value) == param.value, "a parameter keeps its value"
        run["tags"] |= {tag.key: tag.value for tag in tags}
        new = [[metric.key, metric.value, metric.timestamp, metric.step] for metric in metrics]
        run["metrics"] += [metric for metric in new if metric not in run["metrics"]]
        self._write(content)

    def log_artifact(self, id: str, path: str, inside: str | None = None) -> None:
        content, run = self._of(id)
        run["files"] = sorted({*run["files"], str(Path(inside or "") / Path(path).name)})
        self._write(content)

    def set_terminated(self, id: str, status: str, end_time: int) -> None:
        content, run = self._of(id)
        run |= {"status": status, "ended": end_time}
        self._write(content)

    def update_run(self, id: str, status: str) -> None:
        content, run = self._of(id)
        run |= {"status": status}
        self._write(content)

    def set_tag(self, id: str, key: str, value: str) -> None:
        content, run = self._of(id)
        run["tags"][key] = value
        self._write(content)

    def _of(self, id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        content = self._read()
        return content, next(runs[id] for runs in content.values() if id in runs)

    def _read(self) -> dict[str, Any]:
        kind, _, path = get_tracking_uri().partition(" ")
        if kind == "hangs":
            time.sleep(1000)
        if kind == "refuses":
            raise ConnectionError("connection refused")
        return json.loads(Path(path).read_text()) if Path(path).exists() else {}

    def _write(self, content: dict[str, Any]) -> None:
        global _writes
        _writes += 1
        if _writes > int(os.environ.get("FAKE_DIES_AFTER", 10**6)):
            os._exit(9)
        path = Path(get_tracking_uri().partition(" ")[2])
        path.with_suffix(".new").write_text(json.dumps(content))
        path.with_suffix(".new").replace(path)


def _run(id: str, run: dict[str, Any]) -> Any:
    latest = {key: value for key, value, _, step in sorted(run["metrics"], key=lambda metric: metric[3])}
    return SimpleNamespace(
        info=SimpleNamespace(run_id=id, start_time=run["began"]),
        data=SimpleNamespace(tags=run["tags"], params=run["params"], metrics=latest),
    )
