"""The flags of the settings of a run, and of the settings of a search."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from segtune.config import RunConfig
from segtune.fields import FOLDER_LISTS, base_type, choices

# Flags that users know from other training scripts, besides --name-of-the-setting.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "dataset": ("-d",),
    "val_dir": ("-val",),
    "classes": ("--class-list",),
    "channels": ("--add-dirs",),
    "model": ("-m",),
    "batch_size": ("-b", "--batch"),
    "epochs": ("-e",),
    "lr": ("-lr",),
    "augmentation": ("-a",),
    "workers": ("-w",),
}


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting of RunConfig."""
    group = parser.add_argument_group("settings (also KEY=VALUE with --set, or in a YAML file)")
    for name, field in RunConfig.model_fields.items():
        known = f" ({', '.join(choices(name))})" if choices(name) else ""
        default = "" if field.default in (None, "") else f" [{_default(field.default)}]"
        # A switch needs no value, but takes one: false overrides a file.
        form: dict[str, Any] = {"nargs": "?", "const": "true"} if base_type(name) is bool else {}
        if base_type(name) is list:  # a second flag adds folders, but replaces other values
            form = {"nargs": "+", "action": "extend" if name in FOLDER_LISTS else "store"}
        group.add_argument(
            *ALIASES.get(name, ()),
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar="VALUE",
            help=f"{field.description}{known}{default}".replace("%", "%%"),
            **form,
        )
    group.add_argument("--max-mask-val", type=int, default=0, metavar="N", help="short for --classes 1,2,...,N [0]")
    group.add_argument("--cpu", action="store_true", help="short for --device cpu")


def add_tracker(parser: argparse.ArgumentParser) -> None:
    """Add the flag --log-to of a run; a search has a setting of this name."""
    tracker = "experiment tracker that gets the run: mlflow or wandb"
    parser.add_argument("--log-to", choices=("mlflow", "wandb", "none"), default="none", help=tracker)


def add_assignments(parser: argparse.ArgumentParser) -> None:
    """Add the flag --set."""
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="assignments",
        help="set any settings of a run, such as classes=1,2 ignore=255 channels=none; overrides files and other flags",
    )


# Flags for settings under `search:`: the type, the placeholder and the help of each.
SEARCH_FLAGS: Mapping[str, tuple[type, str, str]] = {
    "trials": (
        int,
        "N",
        "number of trials in total, with the baseline; on --resume, a larger number extends the search",
    ),
    "time_budget": (
        str,
        "TIME",
        "end the search after this time, all starts together: 8h, 1h30m, or a number of seconds",
    ),
    "patience": (int, "N", "end the search after N trials in a row without improvement"),
    "prefer": (
        str,
        "LIMITS",
        "what a model may cost, such as 'miou, latency < 20ms'; with --resume, of a search that is done, too; none: "
        "no limits",
    ),
    "seed": (int, "N", "random seed of the sampler; --set seed=N sets that of the runs"),
    "disk_gb": (float, "GB", "maximum size of the search folder in gigabytes"),
    "log_to": (str, "TRACKER", "experiment tracker that gets the search and its trials: mlflow or wandb"),
    "max_concurrent": (int, "N", "maximum number of trials at the same time"),
    "gpus_per_trial": (float, "F", "GPUs per trial; with 0.5, two trials share a GPU"),
    "cpus_per_trial": (int, "N", "CPU cores per trial"),
}


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that override the `search:` section of a space file."""
    for name, (kind, metavar, text) in SEARCH_FLAGS.items():
        # With a prefix, since a run has a setting `seed` too.
        parser.add_argument(f"--{name.replace('_', '-')}", dest=f"search_{name}", type=kind, metavar=metavar, help=text)


def add_backend_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where trials run; on this machine's Ray when neither is given."""
    where = parser.add_mutually_exclusive_group()
    address = "Ray cluster to run on: HOST:PORT, or auto for the one on this machine [a Ray of its own]"
    where.add_argument("--address", metavar="ADDR", help=address)
    alone = "run trials in this process, one at a time and without Ray, so that breakpoints work"
    where.add_argument("--in-process", action="store_true", help=alone)


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
