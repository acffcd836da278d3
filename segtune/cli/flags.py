"""The flags that scripts share: those of a run's settings and those of a search."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from segtune.config import RunConfig
from segtune.fields import FOLDER_LISTS, base_type, choices

# Flags that people know from their present scripts, beside --name-of-the-setting.
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
    """A flag for every setting of RunConfig."""
    group = parser.add_argument_group("settings (also KEY=VALUE with --set, or in a YAML file)")
    for name, field in RunConfig.model_fields.items():
        known = f" ({', '.join(choices(name))})" if choices(name) else ""
        default = "" if field.default in (None, "") else f" [{_default(field.default)}]"
        # A switch needs no value, and takes one all the same: false undoes what a file sets.
        form: dict[str, Any] = {"nargs": "?", "const": "true"} if base_type(name) is bool else {}
        if base_type(name) is list:  # of paths, more with each flag
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


def add_assignments(parser: argparse.ArgumentParser) -> None:
    """The --set flag."""
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="assignments",
        help="set any setting of a run; wins over files and other flags",
    )


# Flags for settings under `search:`.
SEARCH_FLAGS: Mapping[str, tuple[type, str, str]] = {
    "trials": (int, "N", "trials in all, the baseline included; with --resume, a larger number extends the search"),
    "time_budget": (
        str,
        "TIME",
        "end the search after this time, summed over all its starts: 8h, 1h30m, or a number of seconds",
    ),
    "patience": (int, "N", "end the search when so many trials in a row brought no improvement"),
    "seed": (int, "N", "seed of the sampler; that of the runs is a setting (--set seed=N)"),
    "disk_gb": (float, "GB", "most gigabytes that the search's folder may take"),
    "max_concurrent": (int, "N", "most trials at a time"),
    "gpus_per_trial": (float, "F", "GPUs of each trial; with 0.5, two trials share one"),
    "cpus_per_trial": (int, "N", "CPU cores of each trial"),
}


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that win over a space file's `search:`."""
    for name, (kind, metavar, text) in SEARCH_FLAGS.items():
        # Under a name of its own: a run has a seed, too.
        parser.add_argument(f"--{name.replace('_', '-')}", dest=f"search_{name}", type=kind, metavar=metavar, help=text)


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
