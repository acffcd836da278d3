"""The tool `check`: its flags, and how it shows what is wrong with a data set."""

from __future__ import annotations

import argparse
import json
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segtune.cli.flags import ALIASES, add_assignments
from segtune.cli.given import given_settings
from segtune.config import RunConfig
from segtune.errors import InputError, SegtuneError, counted
from segtune.files.checks import check_writable

if TYPE_CHECKING:
    from rich.table import Table

    from segtune.tools.checking import Checked

_MEANING = ("classes", "ignore", "channels")  # settings that have flags of their own here


def meaning_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what the data means; --set takes the other settings of the data."""
    for name in _MEANING:
        default = {"classes": "all labels", "ignore": "none", "channels": "all other folders"}[name]
        text = f"{RunConfig.model_fields[name].description} [{default}]"
        parser.add_argument(*ALIASES.get(name, ()), f"--{name}", dest=name, nargs="+", metavar="VALUE", help=text)
    add_assignments(parser)


def meant(settings: Mapping[str, Any]) -> RunConfig:
    """Return the settings of the data as a run has them; raise InputError for wrong ones.

    Where all labels count, the class that a run has by default may be among the ignored ones.
    """
    if "classes" in settings:
        return RunConfig.from_settings(settings)
    ignored = settings.get("ignore", ())
    unused = next(label for label in range(len(ignored) + 1) if label not in ignored)
    return RunConfig.from_settings({**settings, "classes": [unused]})


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the tool."""
    parser.add_argument("dataset", metavar="DATASET", help="folder that contains train/ and val/, perhaps test/")
    meaning_flags(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all findings to this file, too")
    listing = "add the tiles that findings name to this list; DATASET/exclude.txt is the one that training reads"
    parser.add_argument("--exclude-file", type=Path, metavar="FILE", help=listing)


def run(arguments: Namespace) -> None:
    """Check a data set and show what is wrong with it.

    Raises InputError for a mistake on the command line, and SegtuneError where the check found errors.
    """
    settings = given_settings(arguments)
    config = meant(settings)
    for path, flag in ((arguments.json, "--json"), (arguments.exclude_file, "--exclude-file")):
        if path:
            check_writable(path.absolute().parent, flag)
            if path.is_dir():
                raise InputError(f"{flag}: {path} is a folder; name a file")
    # torch and rasterio take seconds to import; --help and common mistakes do not wait for them.
    from segtune.data.exclusion import add_to_list
    from segtune.files.atomic import write_text
    from segtune.report.terminal import make_console, reading_bar
    from segtune.tools.checking import check_data_set

    console = make_console()
    with reading_bar(console) as (progress, _):
        channels = config.channels if "channels" in settings else None
        checked = check_data_set(config, channels, "classes" in settings, progress)
    for line in checked.remarks:
        console.print(line)
    for table in (label_table(checked), finding_table(checked)):
        if table.row_count:
            console.print(table, soft_wrap=False)
    if arguments.json:
        write_text(arguments.json, json.dumps(checked.plain(), indent=1, ensure_ascii=False) + "\n")
        console.print(f"all findings, with the names of all tiles: {arguments.json}")
    if arguments.exclude_file:
        console.print(add_to_list(arguments.exclude_file, Path(checked.dataset), checked.reasons()))
    errors = sum(finding.severity == "error" for finding in checked.findings)
    tiles = ", ".join(f"{number} {split}" for split, number in checked.tiles.items())
    console.print(f"{checked.dataset}: {tiles} tiles; {_verdict(checked)}")
    if errors:
        raise SegtuneError(f"{checked.dataset}: {counted(errors, 'error')} in the data set, told above")


def _verdict(checked: Checked) -> str:
    numbers = Counter(finding.severity for finding in checked.findings)
    told = [counted(numbers[name], name) for name in ("error", "warning", "note") if numbers[name]]
    return ", ".join(told) or "nothing is wrong"


def label_table(checked: Checked) -> Table:
    """Return a table of the labels: their share of the pixels, and the tiles that hold them, in each split."""
    from rich import box
    from rich.table import Table

    table = Table(title="Labels: share (tiles)", title_justify="left", box=box.SIMPLE)
    table.add_column("label", justify="right")
    for split in checked.labels:
        table.add_column(split, justify="right")
    for label in sorted({label for found in checked.labels.values() for label in found}):
        cells = []
        for split, pixels in checked.labels.items():
            total, held = sum(pixels.values()), checked.holders[split].get(label, 0)
            cells.append(f"{pixels[label] / total:.2%} ({held})" if held else "-")
        table.add_row(str(label), *cells)
    return table


def finding_table(checked: Checked) -> Table:
    """Return a table of the findings, with what to do."""
    from rich import box
    from rich.table import Table

    table = Table(title="Findings", title_justify="left", box=box.SIMPLE, show_lines=False)
    for name in ("severity", "kind"):
        table.add_column(name, no_wrap=True)
    table.add_column("tiles", justify="right")
    table.add_column("what", overflow="fold", ratio=3)
    table.add_column("what to do", overflow="fold", ratio=2)
    for finding in checked.findings:
        table.add_row(finding.severity, finding.kind, str(len(finding.tiles) or ""), finding.what, finding.do)
    return table
