"""The tool `filter`: its flags, and what it does with them."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

from segtune.data.tiles import Layout
from segtune.errors import InputError, with_all_mistakes
from segtune.tools.conditions import KNOWN, parse_condition
from segtune.tools.layout_flags import layout_flags
from segtune.tools.placing import check_file, check_target
from segtune.tools.tile_files import find_splits, listed_splits, listed_tiles


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the tool."""
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="a data set, or the folder of one split")
    parser.add_argument("--where", metavar="CONDITION", help=f"keep tiles for which it is true; it knows {KNOWN}")
    parser.add_argument(
        "--ignore", nargs="+", type=int, default=[], metavar="LABEL", help="labels that do not count as labelled"
    )
    parser.add_argument("--channels", nargs="+", default=[], metavar="NAME", help="valid looks at these folders, too")
    parser.add_argument("--tiles", type=Path, metavar="FILE", help="keep only the tiles that this file lists")
    parser.add_argument("--without", type=Path, metavar="FILE", help="leave out the tiles that this file lists")
    has = "keep only tiles that have a file in these folders of their split"
    parser.add_argument("--has", nargs="+", default=[], metavar="NAME", help=has)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", type=Path, metavar="FOLDER", help="new data set with the kept tiles")
    where.add_argument("--list", metavar="NAME", help="write the kept names to a file of this name in each split")
    listing = "add the tiles that are not kept to this list; DATASET/exclude.txt is the one that training reads"
    where.add_argument("--exclude-file", type=Path, metavar="FILE", help=listing)
    parser.add_argument("--copy", action="store_true", help="copy files; otherwise they get a second name (hard link)")
    layout_flags(parser)
    parser.add_argument("--dry-run", action="store_true", help="say how many tiles would be kept; write nothing")
    parser.add_argument("--force", action="store_true", help="replace files of the same names")


def run(arguments: Namespace) -> None:
    """Keep some tiles of a data set; InputError for every mistake, before anything is written."""
    condition = parse_condition(arguments.where) if arguments.where is not None else None
    if not (condition or arguments.tiles or arguments.without or arguments.has):
        raise InputError("--where CONDITION, --tiles FILE, --without FILE or --has NAME is required")
    layout = Layout(arguments.images_dir, arguments.masks_dir, channels=tuple(arguments.channels))
    listed = listed_splits(arguments.dataset, layout)
    if listed and arguments.list:
        raise InputError(
            f"--list: {arguments.dataset} is split by lists ({', '.join(f'{split}.txt' for split in listed)}); --to "
            f"writes its tiles to a new data set, and --exclude-file leaves tiles out in place"
        )
    splits = listed or find_splits(arguments.dataset, layout)
    only, without = (
        listed_tiles(path, flag, splits) if path else None
        for path, flag in ((arguments.tiles, "--tiles"), (arguments.without, "--without"))
    )
    if arguments.to:
        inside = arguments.to.resolve().is_relative_to(arguments.dataset.resolve())
        if inside:
            raise InputError(f"--to: {arguments.to} lies in {arguments.dataset}; give a folder outside of it")
        check_target(arguments.to, "--to", arguments.force)
    elif arguments.exclude_file:
        check_file(arguments.exclude_file, "--exclude-file", force=True)  # a list that is there gets more lines
    else:
        _check_lists(arguments.dataset, splits, arguments.list, arguments.force)
    # rasterio takes a second to import; --help and common mistakes do not wait for it.
    from segtune.report.terminal import make_console, step_bar
    from segtune.tools.filtered import Wanted, exclude, files_to_place, kept_tiles, tell, write_data_set, write_lists

    console = make_console()
    with step_bar(console) as bar:
        wanted = Wanted(condition, arguments.ignore, only, without, arguments.has)
        kept = kept_tiles(
            arguments.dataset, splits, wanted, lambda done, total: bar.update(done, total, "reading tiles")
        )
        tell(arguments.dataset, splits, kept, console.print)
        files = files_to_place(arguments.dataset, splits, kept, arguments.to) if arguments.to else []
        if arguments.dry_run:
            console.print("a dry run: nothing was written")
        elif arguments.to:
            number = write_data_set(
                files, arguments.to, arguments.copy, lambda done, total: bar.update(done, total, "writing files")
            )
            console.print(f"{arguments.to}: {number} files {'copied' if arguments.copy else 'linked'}")
        elif arguments.exclude_file:
            console.print(exclude(arguments.exclude_file, arguments.dataset, splits, kept, _typed(arguments)))
        else:
            for path in write_lists(arguments.dataset, kept, arguments.list):
                console.print(f"{path} is written")


def _typed(arguments: Namespace) -> str:
    """Return what decides on the tiles, as it was typed: the reason for those that are not kept."""
    flags = {"--where": arguments.where, "--tiles": arguments.tiles, "--without": arguments.without}
    flags["--has"] = " ".join(arguments.has)
    return " ".join(f"{flag} {value}" for flag, value in flags.items() if value)


def _check_lists(dataset: Path, splits: Iterable[str], name: str, force: bool) -> None:
    """Raise InputError where lists of tiles cannot be written under this name."""
    if Path(name).name != name or not name.endswith(".txt"):
        raise InputError(f"--list: is the name of a file, such as kept.txt, but got {name}")
    places = {split: dataset / split / name for split in splits}
    with_all_mistakes(places, lambda _, path: check_file(path, "--list", force))
