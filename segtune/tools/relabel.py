"""The tool `relabel`: its flags, and what it does with them."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path

from segtune.errors import InputError
from segtune.tools.label_rules import parse_rules
from segtune.tools.placing import check_target


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the tool."""
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="folders of masks, such as data/*/gt")
    pairs = (
        "what becomes of labels (255:1) or of colours (255,0,0:1); other:0 takes all other values, nodata:255 pixels "
        "without data"
    )
    parser.add_argument("--labels", nargs="+", default=[], metavar="VALUE:LABEL", help=pairs)
    cuts = "for grey masks: below the first value is 0, from the first one on 1, from the second one on 2"
    parser.add_argument("--threshold", nargs="+", default=[], metavar="VALUE", help=cuts)
    near = "a value or colour counts as a listed one that differs by at most so much (JPEG, smooth edges)"
    parser.add_argument("--tolerance", type=int, default=0, metavar="N", help=near)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", type=Path, metavar="FOLDER", help="new folder for the masks of one folder")
    beside = "name of a new folder beside each folder: with labels, train/gt becomes train/labels"
    where.add_argument("--beside", metavar="NAME", help=beside)
    parser.add_argument("--dry-run", action="store_true", help="say what would become of the masks; write nothing")
    parser.add_argument("--force", action="store_true", help="replace masks of the same names in the new folder")


def run(arguments: Namespace) -> None:
    """Write masks with new labels; InputError for every mistake, before anything is written."""
    rules = parse_rules(arguments.labels, arguments.threshold, arguments.tolerance)
    if arguments.to and len(arguments.folders) > 1:
        raise InputError("--to: is for one folder of masks; for several, use --beside NAME")
    if arguments.beside and Path(arguments.beside).name != arguments.beside:
        raise InputError(f"--beside: is the name of a folder, not a path, but got {arguments.beside}")
    flag = "--to" if arguments.to else "--beside"
    targets = [arguments.to or _parent(folder) / arguments.beside for folder in arguments.folders]
    for folder, target in zip(arguments.folders, targets, strict=True):
        if target.resolve() == folder.resolve():
            raise InputError(
                f"{flag}: {target} is the folder of the masks; masks are never replaced, so name a new one"
            )
        check_target(target, flag, arguments.force)
    # rasterio takes a second to import; --help and common mistakes do not wait for it.
    from segtune.report.terminal import make_console, step_bar
    from segtune.tools.mask_maps import find_masks, relabel_folders

    folders = [find_masks(source, target) for source, target in zip(arguments.folders, targets, strict=True)]
    console = make_console()
    with step_bar(console) as bar:
        relabel_folders(
            folders,
            rules,
            not arguments.dry_run,
            lambda done, total: bar.update(done, total, "reading masks"),
            console.print,
        )
    console.print("a dry run: nothing was written" if arguments.dry_run else "all masks are written")


def _parent(folder: Path) -> Path:
    return folder.absolute().resolve().parent if folder.name in ("", "..") else folder.parent
