"""The flags of `split`, and what it prints."""

from __future__ import annotations

import argparse
import math
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from segtune.errors import InputError, counted
from segtune.tools.layout_flags import layout_flags

_WAYS = ("link", "copy", "move", "list")
_DONE = {"link": "linked", "copy": "copied", "move": "moved"}
_MOST = 3  # splits


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `split`."""
    parser.add_argument("tiles", type=Path, metavar="FOLDER", help="tiles: images/, gt/ and folders of extra channels")
    to = "the new data set: TO/train, TO/val, TO/test; not for --with list"
    parser.add_argument("--to", type=Path, metavar="DATASET", help=to)
    what = parser.add_mutually_exclusive_group(required=True)
    by = "what stays together: nothing, scenes (by names such as SCENE_r0512_c1024), or square blocks on the ground"
    what.add_argument("--by", choices=("random", "scene", "blocks"), help=by)
    group = "tiles stay together whose names match in the pattern's parentheses: '(.+)_[0-9]+'"
    what.add_argument("--group", metavar="PATTERN", help=group)
    shares = "shares of train, val and, where there are three, test [0.8 0.2]"
    parser.add_argument("--shares", nargs="+", type=float, default=[0.8, 0.2], metavar="SHARE", help=shares)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="other seeds give other splits [0]")
    parser.add_argument("--block", type=int, metavar="PIXELS", help="the side of a block [4 tiles]")
    gap = "leave out tiles with fewer pixels between them and a tile of a later split [0: only overlapping ones]"
    parser.add_argument("--gap", type=int, metavar="PIXELS", help=gap)
    no = "split the tiles alone, and not also the pixels of each label, by the shares"
    parser.add_argument("--no-stratify", dest="stratify", action="store_false", help=no)
    way = "hard links, copies, or moved files in the new data set; or lists of names beside the tiles [link]"
    parser.add_argument("--with", dest="way", choices=_WAYS, default="link", help=way)
    channels = "folders of extra channels [all other folders of images]"
    parser.add_argument("--channels", nargs="+", metavar="NAME", help=channels)
    layout_flags(parser)
    parser.add_argument("--dry-run", action="store_true", help="show the splits and what leaks, and write nothing")
    parser.add_argument("--force", action="store_true", help="replace an earlier split that this tool made")


def run(arguments: Namespace) -> None:
    """Split tiles, and say how much leaks."""
    mistakes = list(_mistakes(arguments))
    if mistakes:
        raise InputError(mistakes)
    # scipy and rasterio take a second to import; --help and common mistakes do not wait for them.
    from segtune.report.terminal import make_console, step_bar
    from segtune.tools.split import (
        How,
        check_earlier,
        check_lists,
        divide,
        exclusion_remarks,
        find_set,
        leak_remarks,
        leaks,
        place,
        write_lists,
    )

    shares, lists = tuple(arguments.shares), arguments.way == "list"
    how = How(
        by=arguments.by or "group",
        shares=shares,
        seed=arguments.seed,
        pattern=arguments.group or "",
        block=arguments.block,
        gap=arguments.gap or 0,
        stratify=arguments.stratify,
    )
    tiles, layout = find_set(arguments.tiles, arguments.images_dir, arguments.masks_dir, arguments.channels)
    force = arguments.force
    replaced = check_lists(arguments.tiles, force) if lists else check_earlier(arguments.to, force)
    console = make_console()
    for line in tiles.unread:
        console.print(line)
    with step_bar(console) as bar:
        divided = divide(tiles, how, lambda done, total, what: bar.update(done, total, what))
        leaking, findings = leaks(divided, lambda done, total, what: bar.update(done, total, what))
    for line in (*divided.table(), *leaking, *leak_remarks(findings, how.by)):
        console.print(line)
    target = arguments.tiles if lists else arguments.to
    for line in exclusion_remarks(divided, target):
        console.print(line)
    if arguments.dry_run:
        console.print("dry run: nothing was written")
    elif lists:
        write_lists(divided, how, target, replaced)
        console.print(f"{target}: {', '.join(f'{name}.txt' for name in divided.names)} written; -d {target} uses them")
    else:
        number = place(divided, layout, how, target, arguments.way, replaced)
        console.print(f"{target}: {counted(number, 'file')} {_DONE[arguments.way]}; -d {target} uses them")


def _mistakes(arguments: Namespace) -> Iterator[str]:
    shares = arguments.shares
    if not 2 <= len(shares) <= _MOST:
        yield f"--shares: takes 2 or 3 numbers, for train, val and test, but got {len(shares)}"
    elif not all(0 < share < 1 for share in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        yield f"--shares: are above 0 and make 1 together, but got {' '.join(f'{share:g}' for share in shares)}"
    if arguments.way == "list" and arguments.to:
        yield "--to: is not for --with list, which writes its lists beside the tiles"
    if arguments.way != "list" and not arguments.to:
        yield "--to: is missing; it names the new data set (--with list needs none)"
    for name in ("block", "gap"):
        value = getattr(arguments, name)
        if value is not None and arguments.by != "blocks":
            yield f"--{name}: is for --by blocks"
        elif value is not None and value < (1 if name == "block" else 0):
            yield f"--{name}: pixels are at least {1 if name == 'block' else 0}, but got {value}"
    if arguments.seed < 0:
        yield f"--seed: is at least 0, but got {arguments.seed}"
