"""The tool `collect`: its flags, and what it does with them."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path

from segtune.data.tiles import Layout
from segtune.errors import InputError
from segtune.tools.layout_flags import layout_flags
from segtune.tools.placing import check_target
from segtune.tools.tile_files import find_splits, remarks


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the tool."""
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="a data set, or the folder of one split")
    parser.add_argument("name", metavar="NAME", help="folder to fill in each split, such as nir")
    places = "where the files lie, also in folders below; FOLDER/train alone serves train, and so on"
    parser.add_argument("--from", nargs="+", type=Path, required=True, metavar="FOLDER", dest="places", help=places)
    skip = "take the files that there are; otherwise a tile without a file is an error"
    parser.add_argument("--skip-missing", action="store_true", help=skip)
    parser.add_argument("--copy", action="store_true", help="copy files; otherwise they get a second name (hard link)")
    layout_flags(parser)
    parser.add_argument("--dry-run", action="store_true", help="find and check the files; write nothing")
    parser.add_argument("--force", action="store_true", help="replace files of the same names")


def run(arguments: Namespace) -> None:
    """Collect files that have the names of tiles; InputError for every mistake, before anything is written."""
    dataset, name = arguments.dataset, arguments.name
    if Path(name).name != name or name in (arguments.images_dir, arguments.masks_dir):
        raise InputError(f"NAME: is that of a new folder in each split, such as nir, but got {name}")
    for place in arguments.places:
        if not place.is_dir():
            raise InputError(f"--from: {place}: no such folder")
    splits = find_splits(dataset, Layout(arguments.images_dir, arguments.masks_dir))
    for split in splits:
        check_target(dataset / split / name, "NAME", arguments.force)
        if any((dataset / split / name).resolve().is_relative_to(place.resolve()) for place in arguments.places):
            raise InputError(f"--from: the new folder {dataset / split / name} lies in a folder that is searched")
    # rasterio takes a second to import; --help and common mistakes do not wait for it.
    from segtune.report.terminal import make_console, step_bar
    from segtune.tools.collected import check_fits, find_files, missing_lines, write_files

    console = make_console()
    found = find_files(dataset, splits, arguments.places)
    missing = missing_lines(dataset, found)
    if missing and not arguments.skip_missing:
        raise InputError(f"{line}; --skip-missing takes the others" for line in missing)
    for line in (
        *remarks(splits),
        *(f"warning: {line}" for line in missing),
    ):
        console.print(line)
    with step_bar(console) as bar:
        check_fits(splits, found, lambda done, total: bar.update(done, total, "checking files"))
        for part in found:
            console.print(
                f"{dataset / part.split / name}: files for {len(part.files)} of {len(splits[part.split])} tiles"
            )
        if arguments.dry_run:
            console.print("a dry run: nothing was written")
            return
        number = write_files(
            dataset, name, found, arguments.copy, lambda done, total: bar.update(done, total, "writing files")
        )
    console.print(f"{number} files {'copied' if arguments.copy else 'linked'}")
