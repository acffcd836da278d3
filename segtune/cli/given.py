"""The settings that a command line gives, and the files that it names."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segtune.class_names import split_classes, without_old_names
from segtune.cli.assignments import parse_assignments, parse_value, parse_values
from segtune.cli.flags import SEARCH_FLAGS
from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.fields import VALIDATION_SETTINGS
from segtune.files.folders import RunFolder, SearchFolder
from segtune.files.yamlfile import read_yaml
from segtune.mistakes import SettingsError
from segtune.models.run_yaml import settings_of
from segtune.roles import acts
from segtune.values import AUTO, MAX_CLASSES

_LARGEST = 2**63 - 1  # whole number that the database of a search keeps


def given_search(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of a search that were given as flags; raise InputError for too large numbers."""
    given = {name: getattr(arguments, f"search_{name}") for name in SEARCH_FLAGS}
    if large := [name for name, value in given.items() if isinstance(value, int) and abs(value) > _LARGEST]:
        raise InputError(f"{name}: is too large a number; the largest is {_LARGEST}" for name in large)
    return {name: value for name, value in given.items() if value is not None}


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings given as flags and with --set, which wins; raise InputError with all mistakes."""
    settings, mistakes = _short_forms(arguments)
    for name in RunConfig.model_fields:
        text = getattr(arguments, name, None)
        if text is not None:
            try:
                settings[name] = parse_values(name, text) if isinstance(text, list) else parse_value(name, text)
            except InputError as error:
                mistakes += error.mistakes
    try:
        settings = split_classes(settings)
    except InputError as error:
        mistakes += error.mistakes
    try:
        assigned = parse_assignments(arguments.assignments)
        settings = without_old_names(settings, assigned) | assigned
    except InputError as error:
        mistakes += error.mistakes
    if mistakes:
        raise InputError(mistakes)
    return settings


def settings_in(path: Path) -> dict[str, Any]:
    """Return the settings in a YAML file, such as a run.yaml; raise InputError, naming it, where one is wrong.

    Settings that do not go together are no mistake here, since others may replace them.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no settings; each one has a line, such as epochs: 30")
    settings = settings_of(content)
    try:
        RunConfig.from_settings(settings, f"{path}: ")
    except SettingsError as error:
        if any(len(mistake.settings) == 1 for mistake in error.found):
            raise
    return split_classes(settings)


def kept_threads(arguments: argparse.Namespace, config: RunConfig, own: int) -> str | None:
    """Return a line that says so if `threads` stays as in an earlier run, and differs from torch's `own` number."""
    if arguments.config or config.threads in (None, own) or "threads" in given_settings(arguments):
        return None
    return (
        f"threads stays {config.threads} as before, since results depend on it; torch would use {own} here "
        f"(--threads {own} sets that)"
    )


def _short_forms(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Return the settings that --max-mask-val and --cpu stand for, and messages where other flags contradict them."""
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
            mistakes.append(f"device: --cpu and --device {arguments.device} contradict each other; leave one out")
    return settings, mistakes


def check_effects(config: RunConfig, names: Iterable[str]) -> None:
    """Raise InputError where settings that somebody gave, by `names`, change nothing.

    RunConfig does not refuse them: a search draws some for every optimizer, and the files of its runs then hold them.
    """
    mistakes = []
    for name in names:
        if getattr(config, name) == RunConfig.model_fields[name].default:
            continue
        needed = acts(RunConfig).get(name)
        if needed and needed.elsewhere == "nothing" and not needed.at(value := getattr(config, needed.name)):
            present = f"{needed.name} is {value}" if needed.values else "none is given"
            mistakes.append(f"{name}: has no effect without {needed.needs()}, and {present}; leave {name} out")
        elif name == "sync_batchnorm" and config.gpus == 1:
            mistakes.append(f"{name}: has no effect on one GPU, and gpus is 1; leave {name} out")
        elif name == "cache_gb" and config.cache_dir == "none":
            mistakes.append(f"{name}: has no effect without a cache, and cache_dir is none; leave {name} out")
    if mistakes:
        raise InputError(mistakes)


def given_config(arguments: argparse.Namespace, folder: RunFolder | None) -> RunConfig:
    """Return the settings of a run: of its folder, a file or a search, overridden by the command line.

    Raises InputError with all mistakes.
    """
    if arguments.config and arguments.from_search:
        raise InputError("--config and --from-search both give settings; leave one out")
    if arguments.trial is not None and not arguments.from_search:
        raise InputError("--trial selects a trial of --from-search, which is missing")
    given = given_settings(arguments)
    source = folder.run_yaml if folder and folder.begun else None
    settings = settings_in(source) if source else {}
    kept = settings.get("encoder_weights")
    if folder and not (folder.begun or given.get("dataset") or arguments.config or arguments.from_search):
        folder.check_begun()
    if arguments.config:
        source = Path(arguments.config)
        found = settings_in(source)
        settings = without_old_names(settings, found) | found
    if arguments.from_search:
        source = SearchFolder(Path(arguments.from_search)).settings_yaml(arguments.trial)
        found = settings_in(source)
        if "dataset" in given:  # the validation sets of the search belong to other data
            found = {name: value for name, value in found.items() if name not in VALIDATION_SETTINGS}
        settings = without_old_names(settings, found) | found
    if (settings | given).get("encoder_weights", AUTO) == AUTO:  # what a run began with
        given |= {"encoder_weights": kept} if kept else {}
    try:
        config = RunConfig.from_settings(without_old_names(settings, given) | given)
    except SettingsError as error:
        if source is None or error.settings & given.keys():
            raise
        raise SettingsError(error.found, f"{source}: ") from None
    if not (folder and folder.begun):  # a run goes on by the same command, of an earlier release, too
        check_effects(config, given)
    return config
