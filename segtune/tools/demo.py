"""The tool `demo`: its flags, and what it does with them."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from segtune.errors import InputError, counted

_FEWEST, _MOST = 1, 100_000  # tiles of a split
_SMALLEST, _LARGEST = 32, 4096  # pixels of the side of a tile
_WIDEST = 16_384  # pixels of the side of a scene
_LARGEST_SEED = 2**32 - 1


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the tool."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder for the data set, or for the scene")
    parser.add_argument("--train", type=int, metavar="N", help="training tiles [64]")
    parser.add_argument("--val", type=int, metavar="N", help="validation tiles [24]")
    parser.add_argument("--size", type=int, default=128, metavar="N", help="pixels of the side of a tile [128]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed draws other tiles [0]")
    scene = "write one scene of so many tiles from top to bottom and from left to right, and outlines of its buildings"
    parser.add_argument("--scene", type=int, nargs=2, metavar=("ROWS", "COLUMNS"), help=scene)
    parser.add_argument("--dry-run", action="store_true", help="say what would be written, and write nothing")
    parser.add_argument("--force", action="store_true", help="replace files of the same names")


def run(arguments: Namespace) -> None:
    """Write a demo data set or a demo scene; InputError for every mistake, before anything is written."""
    if mistakes := list(_mistakes(arguments)):
        raise InputError(mistakes)
    folder, size, seed = arguments.folder, arguments.size, arguments.seed
    # rasterio takes a second to import; --help and common mistakes do not wait for it.
    from segtune.data.demo import write_demo
    from segtune.data.demo_wide import NIR, OUTLINES, SCENE, write_wide_scene
    from segtune.report.terminal import make_console, step_bar
    from segtune.tools.placing import check_target, joined_tree

    check_target(folder, "FOLDER", arguments.force)
    console = make_console()
    train, val = arguments.train or 64, arguments.val or 24
    tiles = f"{counted(train, 'train tile')}, {counted(val, 'val tile')} of {size} px, with nir, gt and gt_classes"
    if arguments.scene:
        height, width = (number * size for number in arguments.scene)
        tiles = f"{SCENE} and {NIR} of {width} x {height} px, and {OUTLINES}"
    if arguments.dry_run:
        console.print(f"{folder}: {tiles}")
        console.print("a dry run: nothing was written")
        return
    with step_bar(console) as bar, joined_tree(folder) as tree:

        def on_done(done: int, total: int) -> None:
            bar.update(done, total, "drawing")

        if arguments.scene:
            rows, columns = arguments.scene
            number = write_wide_scene(tree, rows, columns, size, seed, on_done)
            tiles += f" with {counted(number, 'building')}"
        else:
            tree.rmdir()
            write_demo(tree, train, val, size, seed, on_done)
    console.print(f"{folder}: {tiles}")


def _mistakes(arguments: Namespace) -> Iterator[str]:
    """Yield what is wrong with the flags."""
    if not _SMALLEST <= arguments.size <= _LARGEST:
        yield f"--size: must be between {_SMALLEST} and {_LARGEST}, but got {arguments.size}"
    if not 0 <= arguments.seed <= _LARGEST_SEED:
        yield f"--seed: must be between 0 and {_LARGEST_SEED}, but got {arguments.seed}"
    for name in ("train", "val"):
        number = getattr(arguments, name)
        if number is None:
            continue
        if arguments.scene:
            yield f"--{name}: --scene writes a scene, not tiles; leave one out"
        elif not _FEWEST <= number <= _MOST:
            yield f"--{name}: must be between {_FEWEST} and {_MOST}, but got {number}"
    if arguments.scene:
        sides = [number * arguments.size for number in arguments.scene]
        if min(arguments.scene) < 1 or max(sides) > _WIDEST:
            got = " ".join(map(str, arguments.scene))
            most = max(1, _WIDEST // max(1, arguments.size))
            yield f"--scene: both numbers must be between 1 and {most} with --size {arguments.size}, but got {got}"
