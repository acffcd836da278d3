"""Store runs in Weights & Biases: a search and its trials are a group of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import wandb

from segtune.report.tracked import Tracked
from segtune.report.trackers import EXPERIMENT, Ledger

_TIMEOUT_S = 30  # until a server that does not answer is an error


class WandbRuns:
    """The runs of one search in W&B: ids that follow from the search's own id, so that none is created twice.

    The library's own environment variables say where it is: WANDB_PROJECT, WANDB_ENTITY, WANDB_BASE_URL, WANDB_MODE.
    The ledger knows what was sent, since W&B writes files without a server, too.
    """

    def __init__(self, ledger: Ledger, group: str) -> None:
        self._ledger, self._group = ledger, group
        found = wandb.setup().settings
        self._project = found.project or EXPERIMENT
        self._offline = found.mode != "online"
        place = f"files in {found.wandb_dir}, offline" if self._offline else found.base_url
        self.where = f"{place}, project {self._project}"
        self._place = "offline" if self._offline else f"{found.base_url}/{found.entity or ''}/{self._project}"
        self._open: dict[str, Any] = {}  # runs that are not over, by name
        self._epochs: dict[str, int] = {}  # last epoch that was logged, by name

    def digest(self, name: str) -> str | None:
        """Return the digest of the run of this name that was sent; None where none was."""
        found = self._ledger.sent(self._place).get(name)
        return str(found[0]) if found else None

    def send(self, run: Tracked) -> None:
        """Create a run, or add what is missing; one that is running is not known to be sent until it no longer runs.

        Offline, nobody looks at a run that is running: it is written once it ended or waits.
        """
        if self._offline and run.state == "running":
            return
        stored = self._open.get(run.name) or self._start(run)
        stored.config.update(dict(run.settings), allow_val_change=True)
        for epoch, numbers in run.rows:
            if epoch > self._epochs[run.name]:
                stored.log(dict(numbers), step=epoch)
                self._epochs[run.name] = epoch
        numbers = run.rows[-1][1] if run.rows else {}  # W&B cannot sort a column of numbers and texts
        stored.summary.update({name: float(text) if name in numbers else text for name, text in run.facts.items()})
        if run.state == "running":
            return
        if run.files:
            stored.log_artifact(_artifact(stored.id, run))
        stored.finish(exit_code=int(run.state == "failed"))
        del self._open[run.name]
        self._ledger.note(self._place, run)

    def _start(self, run: Tracked) -> Any:
        settings = wandb.Settings(
            init_timeout=_TIMEOUT_S, console="off", silent=True, disable_git=True, x_disable_stats=True
        )
        stored = wandb.init(
            project=self._project,
            id=f"{self._ledger.id}-{run.name if run.parent else run.kind}",
            name=run.name,
            group=self._group,
            job_type=run.kind,
            resume="allow",
            reinit="create_new",
            settings=settings,
        )
        known = self._ledger.sent(self._place).get(run.name, (None, -1))
        # A server knows the last step by itself, also where the ledger was not written.
        self._epochs[run.name] = max(int(known[1]), stored.step - 1)
        self._open[run.name] = stored
        return stored


def _artifact(identity: str, run: Tracked) -> Any:
    artifact = wandb.Artifact(f"{identity}-files", "search" if run.kind == "search" else "run")
    for file in run.files:
        inside = Path(file.parent.name) if file.parent.name == "best" else Path()
        artifact.add_file(str(file), name=str(inside / file.name))
    return artifact
