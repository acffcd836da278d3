"""Tools that prepare what the scripts need. `python -m segtune.tools NAME --help` lists the flags of each.

    python -m segtune.tools weights --encoders resnet34 mit_b0 --to FOLDER     ImageNet weights, to be taken along
    python -m segtune.tools weights --space encoders.yaml --to FOLDER          those of all encoders of a space
    python -m segtune.tools portfolio ray_results/* --to portfolio.yaml        what did well in your own searches
    python -m segtune.tools check DATASET                                      everything wrong with a data set, at once
    python -m segtune.tools stats DATASET                                      its bands and labels in numbers
    python -m segtune.tools view DATASET -o sheet.png                          tiles with their masks, on one picture
    python -m segtune.tools view DATASET --findings found.json                 those that check --json found.json names
    python -m segtune.tools relabel data/*/gt --labels 255:1 0:0 --beside labels       masks with other labels
    python -m segtune.tools tile SCENE.tif --mask OUTLINES.gpkg --size 512 --to FOLDER     cut scenes into tiles
    python -m segtune.tools filter data/mine --where "share(1) > 0.05 and valid > 0.9" --to data/few     some tiles
    python -m segtune.tools collect data/mine nir --from /archive/nir           files of a channel that came later
    python -m segtune.tools import coco instances.json --images FOLDER --to data/mine/train      annotations as masks
    python -m segtune.tools demo data/demo --train 200                         the demo data set, of any size
    python -m segtune.tools demo data/town --scene 4 6                         a scene with outlines, to be cut by tile
    python -m segtune.tools split FOLDER --by blocks --gap 512 --to DATASET    tiles into train, val and test

`weights` downloads the ImageNet weights of encoders, or takes them from the local cache, and writes a file for each
one. Copy FOLDER to a machine without a network and set SEGTUNE_WEIGHTS=FOLDER there: the scripts then use its files.
FOLDER/origins.yaml says where each file comes from. A file that is there already is kept.

`portfolio` reads the trials of your searches, groups them by data set, and writes the configurations that did best over
all of them. With `search: {start: portfolio.yaml}`, a new search tries these after its baseline.

`check` reads every tile of a data set once and shows what is wrong with it, how bad that is, and what to do: files,
labels, masks, values, duplicates, and leaks between splits. --json FILE writes it all; --exclude-file FILE lists tiles
to leave out. The exit status is 1 if there are errors, and 0 if there are warnings and notes only.

`stats` shows each band's mean, deviation and percentiles and each label's share, split by split, and the image size and
class weights that follow from them. --json FILE writes it all.

`view` draws tiles beside themselves with their masks over them: some at random, those that hold --label LABEL, or
those that `check --json FILE` names, worst first, with --findings FILE.

`relabel` writes masks with other labels into new folders: from labels, from colours (also palettes that differ from
file to file), or from grey values by threshold. Values without a rule are refused with their counts.

`tile` cuts scenes into tiles, which are called SCENE_r0512_c1024 by their first row and column. Images are rasters,
VRTs, or lists of one-band files; masks are rasters or outlines.

`filter` keeps some of the tiles: by their pixels, by lists, by the folders that hold them. All files of a tile go
together, into a new data set; or the names are listed.

`collect` finds files with the names of tiles in other folders, and puts them into a folder of each split. Files whose
size or place on the ground differs from the image's are refused.

`import` draws annotations (COCO, labelme, CVAT, Ultralytics) as masks, and puts the images beside them.

`demo` draws tiles of ponds and buildings for train/ and val/, or one georeferenced scene with outlines of its
buildings.

`split` makes a data set of tiles: at random, by scene, by blocks on the ground with a gap, or by a pattern of names.
Splits have like shares of each label. It says which tiles leak: copies, overlapping ones, and neighbours.
"""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path

from segtune.cli.exits import run_script
from segtune.cli.parser import make_parser
from segtune.cli.tasks import SPACES
from segtune.errors import InputError
from segtune.files.checks import check_writable
from segtune.space.lookup import find_space
from segtune.space.reader import load_space
from segtune.tools import check, collect, demo, filtering, importing, relabel, split_flags, stats, tile_flags, view
from segtune.vocabulary import encoder_name

_PROGRAM = "python -m segtune.tools"


def _weights_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--encoders", nargs="+", default=[], metavar="NAME", help="encoders, as in a space file")
    space = "take the encoders of a search space: a path, or the name of a file in search_spaces/"
    parser.add_argument("--space", metavar="FILE", help=space)
    parser.add_argument("--to", type=Path, metavar="FOLDER", required=True, help="folder for the files")
    parser.add_argument("--force", action="store_true", help="write files again that are there already")


def _portfolio_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("searches", nargs="+", type=Path, metavar="FOLDER", help="folders of searches")
    parser.add_argument("--to", type=Path, metavar="FILE", required=True, help="file for the portfolio")
    shipped = "put the entries of the portfolio that ships between your own"
    parser.add_argument("--with-shipped", action="store_true", help=shipped)


def parse() -> Namespace:
    """Parse the command line: the name of a tool, and its flags."""
    tool = next(iter(sys.argv[1:]), "")
    if tool not in TOOLS:
        parser = make_parser(__doc__ or "")
        parser.add_argument("tool", choices=list(TOOLS), help="what to do; NAME --help lists its flags")
        return parser.parse_args()
    parser = make_parser(manual(tool))
    TOOLS[tool][0](parser)
    parser.usage = f"{_PROGRAM} {tool} {_required(parser)} [flags]"
    return parser.parse_args(sys.argv[2:], Namespace(tool=tool))


def manual(tool: str) -> str:
    """Return what this module says of one tool: its paragraph, and its examples."""
    examples, *paragraphs = (__doc__ or "").partition("\n\n")[2].split("\n\n")
    (own,) = (text for text in paragraphs if text.startswith(f"`{tool}`"))
    lines = [line for line in examples.splitlines() if line.split()[3] == tool]
    return "\n".join([own.strip(), "", *lines])


def _required(parser: argparse.ArgumentParser) -> str:
    """Return the words that a command needs, as its usage shows them: what has no flag comes first."""
    places, flags = [], []
    for action in parser._actions:
        word = action.metavar or "|".join(action.choices or ())
        if not action.option_strings:
            places.append(f"{word} [{word} ...]" if action.nargs == "+" else str(word))
        elif action.required:
            flags.append(f"{action.option_strings[0]} {word}")
    return " ".join([*places, *flags])


def main() -> int:
    arguments = parse()
    _, run = TOOLS[arguments.tool]
    run(arguments)
    return 0


def _weights(arguments: Namespace) -> None:
    if not (arguments.encoders or arguments.space):
        raise InputError("--encoders NAME ... or --space FILE is required")
    check_writable(arguments.to, "--to")
    encoders = [encoder_name(name) for name in arguments.encoders]
    if arguments.space:
        encoders += load_space(find_space(arguments.space, SPACES)).encoders()
    # torch takes seconds to import; --help and common mistakes do not wait for it.
    from segtune.report.terminal import make_console
    from segtune.tools.weights import write_weights

    console = make_console()
    for line in write_weights(encoders, arguments.to, arguments.force):
        console.print(line)


def _portfolio(arguments: Namespace) -> None:
    check_writable(arguments.to.parent, "--to")
    from segtune.report.terminal import make_console
    from segtune.tools.portfolio import write_portfolio

    write_portfolio(arguments.searches, arguments.to, arguments.with_shipped, make_console().print)


Tool = tuple[Callable[[argparse.ArgumentParser], None], Callable[[Namespace], None]]  # its flags, and what it does
TOOLS: Mapping[str, Tool] = {
    "weights": (_weights_flags, _weights),
    "portfolio": (_portfolio_flags, _portfolio),
    "check": (check.flags, check.run),
    "stats": (stats.flags, stats.run),
    "view": (view.flags, view.run),
    "relabel": (relabel.flags, relabel.run),
    "tile": (tile_flags.add_flags, tile_flags.run),
    "filter": (filtering.flags, filtering.run),
    "collect": (collect.flags, collect.run),
    "import": (importing.flags, importing.run),
    "demo": (demo.flags, demo.run),
    "split": (split_flags.add_flags, split_flags.run),
}


if __name__ == "__main__":
    run_script(main)
