"""The tool `import`: its flags, and what it does with them."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path

from segtune.class_names import classes_in
from segtune.errors import InputError, counted
from segtune.tools.placing import check_target

KINDS = ("coco", "labelme", "cvat", "yolo")


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the tool."""
    parser.add_argument("kind", choices=KINDS, help="what the annotations are")
    source = "COCO's JSON, labelme's folder, CVAT's XML ('CVAT for images' or 'for video'), or Ultralytics' data.yaml"
    parser.add_argument("source", type=Path, metavar="SOURCE", help=source)
    images = "folder of the images; without it, that of SOURCE"
    parser.add_argument("--images", type=Path, metavar="FOLDER", help=images)
    target = "new split, such as data/mine/train; for yolo the new data set"
    parser.add_argument("--to", type=Path, metavar="FOLDER", required=True, help=target)
    names = "labels and names of the classes; without it, labels are 1, 2, 3 in the order of the annotations"
    parser.add_argument("--classes", nargs="+", metavar="LABEL:NAME", help=names)
    overlap = "which object is on top where several overlap: the later one, or the smaller one [later]"
    parser.add_argument("--on-top", choices=("later", "smaller"), default="later", help=overlap)
    skip = "leave out objects without an outline, such as boxes and points; otherwise they are an error"
    parser.add_argument("--skip", action="store_true", help=skip)
    parser.add_argument("--copy", action="store_true", help="copy images; otherwise they get a second name (hard link)")
    parser.add_argument("--dry-run", action="store_true", help="read and draw everything; write nothing")
    parser.add_argument("--force", action="store_true", help="replace files of the same names")


def run(arguments: Namespace) -> None:
    """Write a split or a data set from annotations; InputError for every mistake, before anything is written."""
    kind, source, images = arguments.kind, arguments.source, arguments.images
    try:
        given = classes_in(arguments.classes) if arguments.classes else None
    except ValueError as error:
        raise InputError(f"--classes: {error}") from None
    if arguments.classes and given is None:
        raise InputError("--classes: needs names, such as 1:building 2:road")
    if kind == "yolo" and images:
        raise InputError("--images: is not for yolo, whose data.yaml names the folders")
    if images and not images.is_dir():
        raise InputError(f"--images: {images}: no such folder")
    check_target(arguments.to, "--to", arguments.force)
    # rasterio takes a second to import; --help and common mistakes do not wait for it.
    from segtune.report.terminal import make_console, step_bar
    from segtune.tools.imported import Drawing, labels_for, read_annotations, tell, write_splits

    found = read_annotations(kind, source, images)
    found.check(source, arguments.skip)
    drawing = Drawing(labels_for(found, given, source), arguments.on_top == "smaller", arguments.copy)
    console = make_console()
    target = None if arguments.dry_run else arguments.to
    with step_bar(console) as bar:
        tally = write_splits(
            found, target, drawing, source, lambda done, total: bar.update(done, total, "drawing masks")
        )
    tell(found, drawing, tally, console.print)
    where = "a dry run: nothing was written" if arguments.dry_run else f"{arguments.to}"
    console.print(f"{where}: {counted(len(found.images), 'image')} with masks")
