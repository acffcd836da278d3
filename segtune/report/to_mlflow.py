"""Store runs in MLflow: a search is a parent run, its trials are child runs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import mlflow
from mlflow.entities import Metric, Param, RunTag

from segtune.report.tracked import Row, State, Tracked
from segtune.report.trackers import EXPERIMENT

_ID, _NAME, _DIGEST = "segtune.id", "segtune.name", "segtune.digest"  # tags by which runs are found again
_PARENT, _SOURCE = "mlflow.parentRunId", "mlflow.source.name"
_EPOCH = "epoch"  # the last metric of a row: the epochs up to its value are stored
_STATUS: dict[State, str] = {
    "running": "RUNNING",
    "waiting": "SCHEDULED",
    "finished": "FINISHED",
    "failed": "FAILED",
}
# Without these, the library tries for many minutes before it says that a server does not answer.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
_MOST_METRICS, _MOST_PARAMS = 1000, 100  # that a call may hold; tags are as many as parameters
_LONGEST, _LONGEST_TAG = 500, 5000  # characters of a parameter and of a tag


@dataclass
class _Known:
    """A run that MLflow has."""

    id: str
    began: int  # ms
    digest: str | None = None
    epochs: int = -1  # the last epoch, or number of trials, that is stored
    settings: set[str] = field(default_factory=set)  # their values cannot change


class MlflowRuns:
    """The runs of one search in MLflow, found by the tag ``segtune.id``: what MLflow has is the truth.

    The library's own environment variables say where it is: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, ...
    """

    def __init__(self, identity: str) -> None:
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self._client, self._id = mlflow.MlflowClient(), identity
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        self.where = f"{mlflow.get_tracking_uri()}, experiment {name}"
        found = self._client.get_experiment_by_name(name)
        self._experiment: str = found.experiment_id if found else self._client.create_experiment(name)
        self._known = dict(self._stored())

    def _stored(self) -> Iterator[tuple[str, _Known]]:
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`{_ID}` = '{self._id}'", max_results=1000, page_token=token
            )
            for run in page:
                tags, epochs = run.data.tags, run.data.metrics.get(_EPOCH, -1)
                yield (
                    tags[_NAME],
                    _Known(run.info.run_id, run.info.start_time, tags.get(_DIGEST), int(epochs), set(run.data.params)),
                )
            token = page.token
            if not token:
                return

    def digest(self, name: str) -> str | None:
        """Return the digest of the run of this name that MLflow has; None where it has none."""
        return self._known[name].digest if name in self._known else None

    def send(self, run: Tracked) -> None:
        """Create a run, or add what is missing; its digest comes last, so that an interruption is made good later."""
        known = self._known.get(run.name) or self._create(run)
        params = [Param(_key(name), value[:_LONGEST]) for name, value in run.settings.items()]
        params = [param for param in params if param.key not in known.settings]
        tags = [RunTag(_key(name), value[:_LONGEST_TAG]) for name, value in run.facts.items()]
        for start in range(0, max(len(params), len(tags)), _MOST_PARAMS):
            part = slice(start, start + _MOST_PARAMS)
            self._client.log_batch(known.id, (), params[part], tags[part])
        known.settings |= {param.key for param in params}
        for metrics, last in _batches([row for row in run.rows if row[0] > known.epochs], known.began):
            self._client.log_batch(known.id, metrics)
            known.epochs = last
        for file in run.files:
            inside = file.parent.name if file.parent.name == "best" else None
            self._client.log_artifact(known.id, str(file), inside)
        if run.state in ("finished", "failed"):
            took = run.rows[-1][1].get("seconds") if run.rows else None
            ended = int(time.time() * 1000) if took is None else known.began + int(took * 1000)
            self._client.set_terminated(known.id, _STATUS[run.state], ended)
        else:
            self._client.update_run(known.id, _STATUS[run.state])
        self._client.set_tag(known.id, _DIGEST, run.digest)
        known.digest = run.digest

    def _create(self, run: Tracked) -> _Known:
        tags = {_ID: self._id, _NAME: run.name, "segtune.kind": run.kind, _SOURCE: "segtune"}
        if run.parent:
            tags[_PARENT] = self._known[run.parent].id
        began = int(run.began * 1000)
        made = self._client.create_run(self._experiment, start_time=began, tags=tags, run_name=run.name)
        return self._known.setdefault(run.name, _Known(made.info.run_id, began))


def _batches(rows: Sequence[Row], began: int) -> Iterator[tuple[list[Metric], int]]:
    """Yield the metrics of some whole rows, and the last epoch among them.

    Their time follows from the run alone: sent again, they are the same metrics to MLflow.
    """
    batch: list[Metric] = []
    last = 0
    for epoch, numbers in rows:
        at = began + int(numbers.get("seconds", 0.0) * 1000)
        metrics = [Metric(_key(name), value, at, epoch) for name, value in {**numbers, _EPOCH: float(epoch)}.items()]
        if batch and len(batch) + len(metrics) > _MOST_METRICS:
            yield batch, last
            batch = []
        batch, last = batch + metrics, epoch
    if batch:
        yield batch, last


def _key(name: str) -> str:
    """Return a name with nothing in it that MLflow refuses."""
    return "".join(char if char.isalnum() or char in "_-. /" else "_" for char in name)[:250]
