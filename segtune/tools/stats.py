"""The tool `stats`: its flags, and how it shows a data set in numbers."""

from __future__ import annotations

import argparse
import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from segtune.cli.given import given_settings
from segtune.errors import first_few
from segtune.tools.check import meaning_flags, meant
from segtune.tools.placing import check_file

if TYPE_CHECKING:
    from rich.table import Table

    from segtune.tools.describing import Stats

_SHOWN = (1, 50, 99)  # percentiles in the table


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the tool."""
    parser.add_argument("dataset", metavar="DATASET", help="folder that contains train/ and val/, perhaps test/")
    meaning_flags(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file, too")
    parser.add_argument("--force", action="store_true", help="replace FILE")


def run(arguments: Namespace) -> None:
    """Show a data set in numbers; InputError for a mistake, and for data that a training refuses."""
    settings = given_settings(arguments)
    config = meant(settings)
    if arguments.json:
        check_file(arguments.json, "--json", arguments.force)
    # torch and rasterio take seconds to import; --help and common mistakes do not wait for them.
    from segtune.files.atomic import write_text
    from segtune.report.terminal import make_console, reading_bar
    from segtune.tools.describing import describe
    from segtune.tools.pixels import without_val

    console = make_console()
    with reading_bar(console) as (progress, _):
        channels = config.channels if "channels" in settings else None
        stats = describe(config, channels, "classes" in settings, progress)
    for table in (band_table(stats), label_table(stats)):
        console.print(table, soft_wrap=False)
    for line in (*without_val(stats.splits, config.dataset), *suggestions(stats)):
        console.print(line)
    if arguments.json:
        write_text(arguments.json, json.dumps(stats.plain(), indent=1, ensure_ascii=False) + "\n")
        console.print(f"all numbers: {arguments.json}")


def band_table(stats: Stats) -> Table:
    """Return a table of the values of each band, in each split."""
    from rich import box
    from rich.table import Table

    table = Table(title="Bands: valid pixels", title_justify="left", box=box.SIMPLE)
    table.add_column("band")
    for name in ("split", "mean", "std", "min", *(f"p{rank}" for rank in _SHOWN), "max"):
        table.add_column(name, justify="left" if name == "split" else "right")
    first, *_ = stats.splits.values()
    for position, band in enumerate(first.bands):
        for name, split in stats.splits.items():
            found, ranks = split.bands[position], split.percentiles[position]
            values = (found.mean, found.std, found.low, *(ranks[rank] for rank in _SHOWN), found.high)
            table.add_row(band.name if split is first else "", name, *(f"{value:.4g}" for value in values))
    return table


def label_table(stats: Stats) -> Table:
    """Return a table of the labels: their share of the pixels, and the tiles that hold them, in each split."""
    from rich import box
    from rich.table import Table

    table = Table(title="Labels: share of the pixels (tiles)", title_justify="left", box=box.SIMPLE)
    table.add_column("label")
    for name in stats.splits:
        table.add_column(name, justify="right")
    shares = {name: stats.shares(name) for name in stats.splits}
    for label in sorted({label for split in stats.splits.values() for label in split.pixels}):
        cells = []
        for name, split in stats.splits.items():
            share = f"{shares[name][label]:.2%}" if label in shares[name] else "ignored"
            cells.append(f"{share} ({split.holders[label]})" if label in split.holders else "-")
        table.add_row(stats.labels.text(label), *cells)
    return table


def suggestions(stats: Stats) -> list[str]:
    """Return lines on the tiles and on the settings that follow from them."""
    lines = []
    for name, split in stats.splits.items():
        sizes = first_few((f"{width}x{height} pixels ({number})" for (height, width), number in split.sizes.items()), 3)
        lines.append(f"{name}: {split.tiles} tiles of {sizes}; {split.valid:.1%} of the pixels hold data")
    lines.append(f"image_size: {stats.image_size}, unless it is set")
    for setting in ("balanced", "effective"):
        weights = ", ".join(f"{label} {weight:.3g}" for label, weight in stats.weights(setting).items())
        lines.append(f"class_weights: {setting} stands for {weights}")
    return lines
