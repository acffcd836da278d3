"""The tool `view`: its flags, and what it does with them."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path

from segtune.cli.given import given_settings
from segtune.errors import InputError, counted, first_few
from segtune.tools.check import meaning_flags, meant
from segtune.tools.placing import check_file

_MOST = 200  # tiles of a sheet
_NAME = "sheet.png"


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the tool."""
    parser.add_argument("dataset", metavar="DATASET", help="folder that contains train/ and val/, perhaps test/")
    meaning_flags(parser)
    parser.add_argument("--split", default="train", metavar="NAME", help="train, val or test [train]")
    parser.add_argument("--tiles", type=int, default=12, metavar="N", help="number of tiles [12]")
    holding = "only tiles that hold this label, those with most of it first [tiles drawn at random]"
    parser.add_argument("--label", type=int, metavar="LABEL", help=holding)
    other = "another seed draws other tiles [0]"
    parser.add_argument("--seed", dest="draw", type=int, default=0, metavar="N", help=other)  # a run has a seed, too
    parser.add_argument("-o", "--output", type=Path, default=Path(_NAME), metavar="FILE", help=f"the sheet [{_NAME}]")
    parser.add_argument("--dry-run", action="store_true", help="name the tiles that would be drawn; write nothing")
    parser.add_argument("--force", action="store_true", help="replace FILE")


def run(arguments: Namespace) -> None:
    """Draw a sheet of tiles with their masks; InputError for every mistake, before anything is written."""
    settings = given_settings(arguments)
    config = meant(settings)
    if not 1 <= arguments.tiles <= _MOST:
        raise InputError(f"--tiles: must be between 1 and {_MOST}, but got {arguments.tiles}")
    if arguments.draw < 0:
        raise InputError(f"--seed: must be at least 0, but got {arguments.draw}")
    if arguments.output.suffix.lower() != ".png":
        raise InputError(f"--output: {arguments.output} must end in .png")
    if not arguments.dry_run:
        check_file(arguments.output, "--output", arguments.force)
    # torch and rasterio take seconds to import; --help and common mistakes do not wait for them.
    from segtune.pictures.png import write_png
    from segtune.report.terminal import make_console, reading_bar
    from segtune.tools.pixels import DataSet, without_val
    from segtune.tools.showing import choose, sheet

    console = make_console()
    data = DataSet.of(config, config.channels if "channels" in settings else None)
    for line in without_val(data.splits, config.dataset):
        console.print(line)
    if arguments.split not in data.splits:
        raise InputError(f"--split: there is no {arguments.split!r}; there are {', '.join(data.splits)}")
    split = data.splits[arguments.split]
    with reading_bar(console) as (progress, _):
        chosen = choose(data, split, arguments.tiles, arguments.label, arguments.draw, progress)
        if not chosen:
            raise InputError(f"--label: no tile of {arguments.split} holds {arguments.label}")
        told = f"{counted(len(chosen), 'tile')} of {len(split)} in {arguments.split}"
        if arguments.dry_run:
            console.print(f"{told}: {first_few((split.names[index] for index in chosen), 20)}")
            console.print("a dry run: nothing was written")
            return
        picture = sheet(config, data, [split[index] for index in chosen], "classes" in settings, told)
    write_png(arguments.output, picture)
    console.print(f"{arguments.output}: {told}")
