"""run.yaml: the settings of a run, and sections with what was found out about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What a run.yaml holds besides settings: what was found out about data, model and machine.
RUN_SECTIONS = ("data", "bands", "threshold", "evaluation", "parameters", "metrics", "machine", "versions")


def settings_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a run.yaml, without the sections that a run adds."""
    settings = {name: value for name, value in content.items() if name not in RUN_SECTIONS}
    evaluation = content.get("evaluation")
    if settings and "threads" not in settings and isinstance(evaluation, Mapping):  # of an earlier release
        settings["threads"] = evaluation.get("threads")
    return settings
