"""The part of W&B's client that segtune calls, over a JSON file per run in the folder FAKE_WANDB.

As in W&B, a step that is not above the last one of a resumed run is dropped, and `finish` is what makes a run whole.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def setup() -> Any:
    mode = os.environ.get("WANDB_MODE", "online")
    return SimpleNamespace(
        settings=SimpleNamespace(mode=mode, project=None, entity=None, base_url="https://fake", wandb_dir="wandb")
    )


def Settings(**settings: Any) -> dict[str, Any]:  # noqa: N802
    return settings


class Artifact:
    def __init__(self, name: str, type: str) -> None:
        self.files: list[str] = []

    def add_file(self, path: str, name: str) -> None:
        assert Path(path).is_file()
        self.files.append(name)


class _Settings(dict[str, Any]):
    def update(self, values: dict[str, Any], allow_val_change: bool = False) -> None:  # type: ignore[override]
        super().update(values)


class _Run:
    def __init__(self, id: str, facts: dict[str, Any]) -> None:
        self.id, self._path = id, Path(os.environ["FAKE_WANDB"]) / f"{id}.json"
        self._content = {"starts": 0, "rows": [], "files": [], "config": {}, "summary": {}, **facts}
        if self._path.exists():
            self._content |= json.loads(self._path.read_text())
        online = setup().settings.mode == "online"
        self.step = self._content["rows"][-1][0] + 1 if online and self._content["rows"] else 0
        self.config, self.summary = _Settings(self._content["config"]), _Settings(self._content["summary"])
        self._content["starts"] += 1
        self._write()

    def log(self, numbers: dict[str, float], step: int) -> None:
        if step >= self.step:
            self._content["rows"].append([step, numbers])
            self.step = step + 1
            self._write()

    def log_artifact(self, artifact: Artifact) -> None:
        self._content["files"] = sorted(artifact.files)

    def finish(self, exit_code: int) -> None:
        self._content["exit_code"] = exit_code
        self._write()

    def _write(self) -> None:
        self._path.write_text(json.dumps(self._content | {"config": self.config, "summary": self.summary}))


def init(id: str, name: str, group: str, job_type: str, **settings: Any) -> _Run:
    assert settings["resume"] == "allow"
    return _Run(id, {"name": name, "group": group, "job_type": job_type})
