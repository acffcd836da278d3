"""The settings that a command line, or a file that it names, gives."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from segtune.cli.assignments import parse_assignments, parse_value, parse_values
from segtune.cli.flags import SEARCH_FLAGS
from segtune.config import MAX_CLASSES, RunConfig
from segtune.errors import InputError
from segtune.fields import VALIDATION_SETTINGS
from segtune.files.folders import RunFolder, SearchFolder
from segtune.files.run_yaml import settings_of
from segtune.files.yamlfile import read_yaml


def given_search(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given as flags of `search:`."""
    given = {name: getattr(arguments, f"search_{name}") for name in SEARCH_FLAGS}
    if large := [name for name, value in given.items() if isinstance(value, int) and value.bit_length() > 63]:
        raise InputError(f"{name}: is too large a number" for name in large)
    return {name: value for name, value in given.items() if value is not None}


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings given as flags and with --set (which wins), typed; InputError with all mistakes."""
    settings, mistakes = _short_forms(arguments)
    for name in RunConfig.model_fields:
        text = getattr(arguments, name, None)
        if text is not None:
            try:
                settings[name] = parse_values(name, text) if isinstance(text, list) else parse_value(name, text)
            except InputError as error:
                mistakes += error.mistakes
    try:
        settings |= parse_assignments(arguments.assignments)
    except InputError as error:
        mistakes += error.mistakes
    if mistakes:
        raise InputError(mistakes)
    return settings


def settings_in(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, such as a run.yaml; InputError, naming it, where one is wrong."""
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a mapping of settings")
    settings = settings_of(content)
    RunConfig.from_settings(settings, f"{path}: ")
    return settings


def kept_threads(arguments: argparse.Namespace, config: RunConfig, own: int) -> str | None:
    """A line where the number of threads is that of the run or trial before, and not what torch takes here."""
    if arguments.config or config.threads in (None, own) or "threads" in given_settings(arguments):
        return None
    return (
        f"threads stays {config.threads}, as before, since results depend on it; torch's own number here is {own} "
        f"(--threads {own} takes that)"
    )


def _short_forms(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The settings that flags of another name stand for, and where they contradict the flags of that name."""
    settings: dict[str, Any] = {}
    mistakes = []
    largest = getattr(arguments, "max_mask_val", 0)
    if not 0 <= largest <= MAX_CLASSES:
        mistakes.append(f"--max-mask-val: must be 0, or the largest label, at most {MAX_CLASSES}, but got {largest}")
    elif largest:
        settings["classes"] = list(range(1, largest + 1))
        if arguments.classes is not None:
            mistakes.append("classes: --max-mask-val and --classes (--class-list) both say what they are; give one")
    if getattr(arguments, "cpu", False):
        settings["device"] = "cpu"
        if arguments.device not in (None, "cpu"):
            mistakes.append(f"device: --cpu and --device {arguments.device} contradict each other")
    return settings, mistakes


def given_config(arguments: argparse.Namespace, folder: RunFolder | None) -> RunConfig:
    """The run: what its folder, a file or a search says of it, and what the command line does, which wins."""
    if arguments.config and arguments.from_search:
        raise InputError("--config and --from-search both give settings; leave one out")
    if arguments.trial is not None and not arguments.from_search:
        raise InputError("--trial says which of the trials of --from-search; that is missing")
    given = given_settings(arguments)
    settings = settings_in(folder.run_yaml) if folder and folder.begun else {}
    if folder and not (folder.begun or given.get("dataset") or arguments.config or arguments.from_search):
        folder.check_begun()
    if arguments.config:
        settings |= settings_in(Path(arguments.config))
    if arguments.from_search:
        found = settings_in(SearchFolder(Path(arguments.from_search)).settings_yaml(arguments.trial))
        if "dataset" in given:  # the search's validation sets are of other data
            found = {name: value for name, value in found.items() if name not in VALIDATION_SETTINGS}
        settings |= found
    return RunConfig.from_settings(settings | given)
