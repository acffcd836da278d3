"""The flags of `tile`, and what it prints."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path

from segtune.errors import InputError, counted
from segtune.files.checks import check_writable
from segtune.machine import available_cpus

_LASTS = ("shift", "pad")
_RESAMPLINGS = ("nearest", "bilinear", "cubic", "average")
_MOST_PIXELS = 65_536  # of the side of a tile
_LARGEST_LABEL = 2**31 - 1


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `tile`."""
    scenes = "scenes: images, folders of images, or lists (.txt) of files whose bands make up an image"
    parser.add_argument("scenes", nargs="+", type=Path, metavar="SCENE", help=scenes)
    parser.add_argument("--to", type=Path, metavar="FOLDER", required=True, help="folder for images/, gt/ and channels")
    parser.add_argument("--size", type=int, metavar="N", required=True, help="pixels of the side of a tile")
    parser.add_argument("--stride", type=int, metavar="N", help="pixels from one tile to the next [the size]")
    last = "the last row and column: shifted back into the scene, or padded with pixels without data [shift]"
    parser.add_argument("--last", choices=_LASTS, default="shift", help=last)
    channels = "extra channels: a name, whose file lies beside the image, or NAME=FILE, NAME=FOLDER"
    parser.add_argument("--channels", nargs="+", default=[], metavar="NAME[=WHERE]", help=channels)
    mask = "masks, rasters or outlines (.gpkg .geojson .shp): a file, a folder, or a name as of a channel"
    parser.add_argument("--mask", metavar="WHERE", help=mask)
    parser.add_argument("--attribute", metavar="NAME", help="the outlines' attribute that says their label [all get 1]")
    labels = "the labels of the attribute's values; other outlines are left out"
    parser.add_argument("--labels", nargs="+", default=[], metavar="VALUE:LABEL", help=labels)
    parser.add_argument("--layer", metavar="NAME", help="the layer of a file of outlines, where there are several")
    background = "labels that do not count as labelled; the first is that of pixels without an outline [0]"
    parser.add_argument("--background", nargs="+", type=int, default=[0], metavar="LABEL", help=background)
    valid = "leave out tiles with a smaller share of pixels that hold data [0]"
    parser.add_argument("--min-valid", type=float, default=0.0, metavar="SHARE", help=valid)
    labelled = "leave out tiles with a smaller share of labelled pixels [0]"
    parser.add_argument("--min-labelled", type=float, default=0.0, metavar="SHARE", help=labelled)
    resample = "bring channels, and bands of a list, of another grid onto the image's; masks take the nearest label"
    parser.add_argument("--resample", choices=_RESAMPLINGS, help=resample)
    parser.add_argument("--workers", type=int, metavar="N", help="processes [all cores]")
    parser.add_argument("--dry-run", action="store_true", help="say what would be cut, and write nothing")
    parser.add_argument("--force", action="store_true", help="replace the tiles of these scenes that are there already")


def run(arguments: Namespace) -> None:
    """Cut scenes into tiles."""
    mistakes = list(_mistakes(arguments))
    if mistakes:
        raise InputError(mistakes)
    channels, labels = _channels(arguments.channels), _labels(arguments.labels)
    check_writable(arguments.to, "--to")
    # rasterio takes a second to import; --help and common mistakes do not wait for it.
    from segtune.tools.outlines import Labelling
    from segtune.tools.scenes import find_scenes
    from segtune.tools.tile import Cut, check_free, plan, tile

    cut = Cut(
        size=arguments.size,
        stride=arguments.stride or arguments.size,
        last=arguments.last,
        min_valid=arguments.min_valid,
        min_labelled=arguments.min_labelled,
        background=tuple(arguments.background),
        resample=arguments.resample,
        labelling=Labelling(arguments.layer, arguments.attribute, labels or None),
    )
    scenes = find_scenes(arguments.scenes, channels, arguments.mask)
    if not any(scene.outlined for scene in scenes) and (arguments.attribute or labels or arguments.layer):
        raise InputError("--attribute, --labels and --layer are for outlines, but no --mask is a file of outlines")
    planned = plan(scenes, cut)
    replaced = check_free(planned, arguments.to, arguments.force)
    from segtune.report.terminal import make_console, step_bar

    console = make_console()
    for one in planned:
        for line in (one.line(cut), *one.remarks):
            console.print(line)
    number, shares = sum(one.tiles for one in planned), cut.min_valid or cut.min_labelled
    if arguments.dry_run:
        most = "up to " if shares else ""
        again = f", in place of {counted(len(replaced), 'file')} that are there" if replaced else ""
        console.print(f"dry run: {arguments.to} would get {most}{counted(number, 'tile')}{again}; nothing was written")
        return
    workers = arguments.workers or available_cpus()
    with step_bar(console) as bar:
        looked = tile(
            planned,
            cut,
            arguments.to,
            replaced,
            workers,
            lambda done, total: bar.update(done, total, "cutting tiles"),
            console.print,
        )
    left_out = [
        f"{counted(few, 'tile')} left out by {flag}"
        for few, flag in ((looked.invalid, "--min-valid"), (looked.unlabelled, "--min-labelled"))
        if few
    ]
    console.print("; ".join([f"{arguments.to}: {counted(looked.kept, 'tile')}", *left_out]))
    if looked.empty:
        console.print(f"warning: {_holding(looked.empty)} no data at all; --min-valid 0.01 leaves out such tiles")


def _holding(tiles: int) -> str:
    return "1 tile holds" if tiles == 1 else f"{tiles} tiles hold"


def _mistakes(arguments: Namespace) -> list[str]:
    found = []
    if not 1 <= arguments.size <= _MOST_PIXELS:
        found.append(f"--size: must be from 1 to {_MOST_PIXELS} pixels, but got {arguments.size}")
    if arguments.stride is not None and arguments.stride < 1:
        found.append(f"--stride: must be at least 1 pixel, but got {arguments.stride}")
    for name in ("min_valid", "min_labelled"):
        if not 0 <= getattr(arguments, name) <= 1:
            found.append(f"--{name.replace('_', '-')}: a share is from 0 to 1, but got {getattr(arguments, name):g}")
    if arguments.min_labelled and not arguments.mask:
        found.append("--min-labelled: needs masks; --mask says where they lie")
    if arguments.mask is None and (arguments.attribute or arguments.labels or arguments.layer):
        found.append("--attribute, --labels and --layer are for outlines; --mask says where they lie")
    elif arguments.labels and not arguments.attribute:
        found.append("--labels: needs --attribute, which names the attribute that holds these values")
    if arguments.workers is not None and arguments.workers < 1:
        found.append(f"--workers: must be at least 1, but got {arguments.workers}")
    if not all(0 <= label <= _LARGEST_LABEL for label in arguments.background):
        found.append("--background: labels are whole numbers from 0 on")
    return found


def _channels(given: list[str]) -> dict[str, str]:
    """Return where each extra channel lies, by its name."""
    found = {}
    for text in given:
        name, _, where = text.partition("=")
        if not name or name != Path(name).name or name.startswith(".") or name in ("images", "gt"):
            raise InputError(f"--channels: {name!r} cannot be the name of a channel's folder")
        if name in found:
            raise InputError(f"--channels: {name} is given twice")
        found[name] = where or name
    return found


def _labels(given: list[str]) -> dict[str, int]:
    """Return the label of each value of the attribute."""
    found = {}
    for text in given:
        value, colon, label = text.rpartition(":")
        if not colon or not label.isdecimal() or int(label) > _LARGEST_LABEL:
            raise InputError(f"--labels: takes VALUE:LABEL with a whole number, such as water:1, but got {text!r}")
        found[value] = int(label)
    return found
