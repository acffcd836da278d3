"""The flags of validate.py."""

from __future__ import annotations

import argparse
from argparse import Namespace
from dataclasses import dataclass
from math import inf

from segtune.cli.parser import Parser, make_parser
from segtune.data.formats import MOST_BANDS
from segtune.errors import InputError
from segtune.values import OVERLAP, check_overlap, resolution_number
from segtune.vocabulary import EXPORT_FILES

_EXPORTS = tuple(EXPORT_FILES)


PLOTS, BINARY, RAW = "plots", "binary", "raw"
_OF_ONE = ("--store-threshold", "--export", "--push-to-hub")
TILE_FOLDERS = (PLOTS, BINARY, RAW)  # in OUT


@dataclass(frozen=True)
class Wanted:
    """What a validation computes and writes."""

    metrics: bool
    plots: bool
    binary: bool
    raw: bool

    @property
    def folders(self) -> frozenset[str]:
        """The folders in OUT that get a file for each tile."""
        return frozenset(name for name in TILE_FOLDERS if getattr(self, name))

    @classmethod
    def of(cls, arguments: Namespace) -> Wanted:
        """Return what the flags ask for: metrics and plots if they name nothing; InputError for a contradiction."""
        outputs = {name: bool(getattr(arguments, name)) for name in ("plots", "only_plots", "binary", "raw")}
        chosen = [f"--{name.replace('_', '-')}" for name, given in outputs.items() if given]
        if arguments.com and chosen:
            raise InputError(f"--com: computes the metrics alone, and {chosen[0]} asks for more; leave one out")
        if arguments.no_plots and (outputs["plots"] or outputs["only_plots"]):
            raise InputError(f"--no-plots: contradicts {chosen[0]}; leave one out")
        plots = not (chosen or arguments.com or arguments.no_plots) or outputs["plots"] or outputs["only_plots"]
        return cls(not outputs["only_plots"], plots, outputs["binary"], outputs["raw"])


def validate_parser(manual: str) -> Parser:
    """Return the parser of validate.py; `manual` is the script's docstring."""
    parser = make_parser(manual)
    _add_model(parser)
    _add_data(parser)
    _add_outputs(parser)
    _add_measuring(parser)
    _add_scenes(parser)
    _add_export(parser)
    return parser


def _add_model(parser: Parser) -> None:
    group = parser.add_argument_group("model")
    model = group.add_mutually_exclusive_group(required=True)
    model.add_argument("-c", "--check-path", metavar="PATH", help="folder of a model, or its model.safetensors")
    model.add_argument("-cd", "--check-dir", metavar="FOLDER", help="folder of a search, a run or a model")
    group.add_argument("--trial", type=int, metavar="N", help="trial of the search in -cd [its winner]")
    group.add_argument("--top", type=int, metavar="N", help="the N best trials of the search in -cd, one after another")
    averaged = "average the models of a confirmed search's winner, one of each seed, or all models in the folder -cd"
    group.add_argument("--ensemble", action="store_true", help=averaged)
    _add_description(group)
    group.add_argument("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N [auto]")
    group.add_argument("--cpu", action="store_true", help="short for --device cpu")
    group.add_argument(
        "--precision", choices=("fp32", "fp16", "bf16"), help="numbers that it computes with [as in training]"
    )


def _add_description(group: argparse._ArgumentGroup) -> None:
    """Add the flags that say what a model without run.yaml was trained on, which smp's save_pretrained writes."""
    for flags, text in {
        ("--classes", "--class-list"): "labels of its outputs; only for a folder that lacks run.yaml, as the next four",
        ("--ignore",): "labels that do not count [none]",
        ("--channels", "--add-dirs"): "folders of its extra channels, after the image's bands [none]",
        ("--mean",): "mean of each band, in units of the pixel values: 123.7,116.3,103.5",
        ("--std",): "standard deviation of each band, likewise",
    }.items():
        group.add_argument(*flags, nargs="+", metavar="LIST", help=text)


def _add_data(parser: Parser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "-d",
        "--dataset-dir",
        nargs="+",
        default=[],
        metavar="PLACE",
        help="folders of splits, such as DATASET/val, or of images, or image files; without masks, the model predicts",
    )
    group.add_argument(
        "--bands",
        nargs="+",
        default=[],
        metavar="LIST",
        help="bands of the images, from 1, that are the model's first band, second band, ...: 3,2,1,4 [as they lie]",
    )
    group.add_argument("-o", "--output-dir", metavar="OUT", help="folder for results [MODEL/validation/NAME]")


def band_order(arguments: Namespace) -> tuple[int, ...]:
    """Return the numbers that --bands lists, ``3,2,1`` or ``3 2 1``; raise InputError where one is no number from 1."""
    text = " ".join(arguments.bands)
    words = [word.strip() for word in text.split(",")] if "," in text else text.split()
    if not all(word.isascii() and word.isdigit() and 0 < int(word) <= MOST_BANDS for word in words):
        raise InputError(f"--bands: needs the numbers of bands, from 1, such as 3,2,1, but got {text!r}")
    return tuple(map(int, words))


def _add_outputs(parser: Parser) -> None:
    group = parser.add_argument_group("outputs (without any of these: metrics and plots)")
    group.add_argument("--plots", action="store_true", help="OUT/plots: image, output and truth of each tile")
    group.add_argument("--no-plots", action="store_true", help="no plots")
    group.add_argument("--only-plots", action="store_true", help="plots, and no metrics")
    group.add_argument("--binary", action="store_true", help="OUT/binary: masks in the labels of the data set")
    group.add_argument("--raw", action="store_true", help="OUT/raw: probabilities, float32 .tif, a band per output")
    group.add_argument("--com", "--calc-only-metrics", action="store_true", help="metrics alone")
    group.add_argument("--vis", action="store_true", help="show the plot of the first tile in a window")
    group.add_argument("--worst", type=int, default=8, metavar="N", help="tiles on the sheet of the worst ones [8]")


def _add_measuring(parser: Parser) -> None:
    group = parser.add_argument_group("measuring")
    group.add_argument(
        "-t", "--thres", type=float, metavar="P", help="probability above which a pixel is the class [the model's own]"
    )
    group.add_argument("--min-area", type=int, metavar="N", help="remove objects of fewer pixels [the model's own: 0]")
    group.add_argument("--tile-size", type=int, metavar="S", help="side of the square for the network [its image_size]")
    group.add_argument("--tta", default="none", metavar="VIEWS", help="average mirrored views: none, flips, d4 [none]")
    group.add_argument(
        "--overlap", type=float, default=OVERLAP, metavar="SHARE", help=f"overlap of windows side by side [{OVERLAP}]"
    )
    group.add_argument(
        "--group",
        metavar="PATTERN",
        help="tiles whose names match in the pattern's group belong together: 'scene(\\d+)'",
    )
    group.add_argument("--compare", metavar="OTHER", help="another model on the same tiles, and the difference")
    group.add_argument("--sweep-threshold", action="store_true", help="IoU, precision and recall at each threshold")
    group.add_argument(
        "--store-threshold", action="store_true", help="write the best threshold and min-area into the model's run.yaml"
    )


def _add_scenes(parser: Parser) -> None:
    group = parser.add_argument_group("scenes (images without masks)")
    group.add_argument("--cog", action="store_true", help="write cloud-optimized GeoTIFFs")
    group.add_argument("--polygons", metavar="FILE.gpkg", help="also write the outlines of objects")
    group.add_argument(
        "--simplify",
        type=float,
        default=0.0,
        metavar="D",
        help="move the outlines by up to D metres, to have fewer corners [0]",
    )
    group.add_argument(
        "--resolution", metavar="METRES", help="resample to this pixel size first; auto: that of the training"
    )


def _add_export(parser: Parser) -> None:
    group = parser.add_argument_group("deploying")
    formats = ", ".join(_EXPORTS)
    group.add_argument(
        "--export", metavar="FORMAT", choices=_EXPORTS, help=f"write the model as {formats}; into OUT [MODEL/export]"
    )
    group.add_argument("--push-to-hub", metavar="REPO", help="upload the model's folder to the Hugging Face hub")


def check_validate_flags(arguments: argparse.Namespace) -> None:
    """Raise InputError with every flag whose value is out of its range, or that contradicts another."""
    mistakes = []
    if arguments.thres is not None and not 0 < arguments.thres < 1:
        mistakes.append(f"-t: must be between 0 and 1, but got {arguments.thres:g}")
    if arguments.min_area is not None and arguments.min_area < 0:
        mistakes.append(f"--min-area: must be at least 0, but got {arguments.min_area}")
    try:
        check_overlap(arguments.overlap)
    except InputError as error:
        mistakes += error.mistakes
    if not 0 <= arguments.simplify < inf:
        mistakes.append(f"--simplify: must be a number of metres, at least 0, but got {arguments.simplify:g}")
    try:
        resolution_number(arguments.resolution)
    except InputError as error:
        mistakes += error.mistakes
    if arguments.worst < 0:
        mistakes.append(f"--worst: must be at least 0, but got {arguments.worst}")
    if arguments.trial is not None and arguments.top is not None:
        mistakes.append("--trial and --top both choose trials; leave one out")
    alone = {"-c": arguments.check_path, "--trial": arguments.trial is not None, "--top": arguments.top is not None}
    alone |= {name: getattr(arguments, name[2:].replace("-", "_")) for name in _OF_ONE}
    if arguments.ensemble and (flags := [flag for flag, given in alone.items() if given]):
        mistakes.append(
            f"--ensemble: averages the models that -cd names, and {flags[0]} is for one model; leave one out"
        )
    if arguments.cpu and arguments.device not in (None, "cpu"):
        mistakes.append(f"--device: --cpu and --device {arguments.device} contradict each other; leave one out")
    if not (arguments.dataset_dir or arguments.export or arguments.push_to_hub):
        mistakes.append("-d: is missing; it names what to measure or predict, such as DATASET/val")
    if arguments.store_threshold and (arguments.thres is not None or arguments.min_area is not None):
        mistakes.append("--store-threshold: looks for the best values itself; leave out -t and --min-area")
    changed = {
        "--tta": arguments.tta != "none",
        "--tile-size": arguments.tile_size,
        "--overlap": arguments.overlap != OVERLAP,
    }
    if arguments.store_threshold and (flags := [flag for flag, given in changed.items() if given]):
        mistakes.append(
            f"--store-threshold: what it stores is used later without {' and '.join(flags)}, and would not be the best "
            f"then; leave out {' and '.join(flags)}"
        )
    if mistakes:
        raise InputError(mistakes)
