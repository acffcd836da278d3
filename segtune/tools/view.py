"""The tool `view`: its flags, and what it does with them."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segtune.cli.given import given_settings
from segtune.config import RunConfig
from segtune.errors import InputError, counted, first_few
from segtune.tools.check import meaning_flags, meant
from segtune.tools.placing import check_file

if TYPE_CHECKING:
    from rich.console import Console

    from segtune.tools.showing import Sheet

_MOST = 200  # tiles of a sheet
_NAME = "sheet.png"


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the tool."""
    parser.add_argument("dataset", metavar="DATASET", help="folder that contains train/ and val/, perhaps test/")
    meaning_flags(parser)
    parser.add_argument("--split", metavar="NAME", help="train, val or test [train]")
    parser.add_argument("--tiles", type=int, default=12, metavar="N", help="number of tiles [12]")
    holding = "only tiles that hold this label, those with most of it first [tiles drawn at random]"
    parser.add_argument("--label", type=int, metavar="LABEL", help=holding)
    found = "tiles that a file of check --json names, worst first, each above what was found; pairs side by side"
    parser.add_argument("--findings", type=Path, metavar="FILE", help=found)
    kinds = "with --findings: only findings of these kinds, such as near_duplicate [all]"
    parser.add_argument("--kind", nargs="+", default=[], metavar="KIND", help=kinds)
    other = "another seed draws other tiles [0]"
    parser.add_argument("--seed", dest="draw", type=int, metavar="N", help=other)  # a run has a seed, too
    parser.add_argument("-o", "--output", type=Path, default=Path(_NAME), metavar="FILE", help=f"the sheet [{_NAME}]")
    parser.add_argument("--dry-run", action="store_true", help="name the tiles that would be drawn; write nothing")
    parser.add_argument("--force", action="store_true", help="replace FILE")


def run(arguments: Namespace) -> None:
    """Draw a sheet of tiles with their masks; InputError for every mistake, before anything is written."""
    settings = given_settings(arguments)
    config = meant(settings)
    mistakes = list(_mistakes(arguments))
    if mistakes:
        raise InputError(mistakes)
    if not arguments.dry_run:
        check_file(arguments.output, "--output", arguments.force)
    # torch and rasterio take seconds to import; --help and common mistakes do not wait for them.
    from segtune.pictures.png import write_png
    from segtune.report.terminal import make_console
    from segtune.tools.found_tiles import named_in
    from segtune.tools.showing import sheet_of_findings

    console = make_console()
    channels = config.channels if "channels" in settings else ()  # a picture shows the images' own bands
    if arguments.findings:
        named = named_in(arguments.findings, arguments.kind)
        sheet = sheet_of_findings(config, channels, named, arguments.tiles, "classes" in settings)
    else:
        sheet = _of_split(arguments, config, channels, "classes" in settings, console)
    if sheet.failed:
        console.print(f"not drawn: {first_few(sheet.failed, 3)}")
    if arguments.dry_run:
        console.print(f"{sheet.title}: {first_few(sheet.names, 20)}")
        console.print("a dry run: nothing was written")
        return
    write_png(arguments.output, sheet.picture)
    console.print(f"{arguments.output}: {sheet.title}")


def _mistakes(arguments: Namespace) -> Iterator[str]:
    if not 1 <= arguments.tiles <= _MOST:
        yield f"--tiles: must be between 1 and {_MOST}, but got {arguments.tiles}"
    if arguments.draw is not None and arguments.draw < 0:
        yield f"--seed: must be at least 0, but got {arguments.draw}"
    if arguments.output.suffix.lower() != ".png":
        yield f"--output: {arguments.output} must end in .png"
    given = {"--label": arguments.label, "--split": arguments.split, "--seed": arguments.draw}
    others = [flag for flag, value in given.items() if value is not None]
    if arguments.findings and others:
        yield f"--findings: says which tiles are drawn; leave {' and '.join(others)} out"
    if arguments.kind and not arguments.findings:
        yield "--kind: needs --findings, the file of check --json"


def _of_split(
    arguments: Namespace, config: RunConfig, channels: Sequence[str], with_classes: bool, console: Console
) -> Sheet:
    """Draw tiles of one split, at random or those with most of a label."""
    from segtune.report.terminal import reading_bar
    from segtune.tools.pixels import DataSet, without_val
    from segtune.tools.showing import choose, sheet

    data = DataSet.of(config, channels)
    for line in without_val(data.splits, config.dataset):
        console.print(line)
    name = arguments.split or "train"
    if name not in data.splits:
        raise InputError(f"--split: there is no {name!r}; there are {', '.join(data.splits)}")
    split = data.splits[name]
    with reading_bar(console) as (progress, _):
        chosen = choose(data, split, arguments.tiles, arguments.label, arguments.draw or 0, progress)
        if not chosen:
            raise InputError(f"--label: no tile of {name} holds {arguments.label}")
        told = f"{counted(len(chosen), 'tile')} of {len(split)} in {name}"
        return sheet(config, data, [split[index] for index in chosen], with_classes, told)
