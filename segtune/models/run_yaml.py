"""run.yaml: the settings of a run, and sections with facts about its data, model and machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The keys of a run.yaml that are no settings.
RUN_SECTIONS = (
    "data",
    "bands",
    "threshold",
    "min_area",
    "prediction",
    "evaluation",
    "parameters",
    "costs",
    "metrics",
    "machine",
    "versions",
    "augmentation_file",
)


def settings_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in the content of a run.yaml, without the sections that a run adds."""
    settings = {name: value for name, value in content.items() if name not in RUN_SECTIONS}
    evaluation = content.get("evaluation")
    if settings and "threads" not in settings and isinstance(evaluation, Mapping):  # of an earlier release
        settings["threads"] = evaluation.get("threads")
    return settings
