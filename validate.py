"""Measure a trained model on a split of a data set, and write its predictions.

    python validate.py -cd ray_results/quickstart -d data/demo/val            the winner of a search
    python validate.py -cd logs/NAME -d DATASET/test --binary                 a run; also writes its predicted masks

-cd takes the folder of a search, a run or a model. OUT (-o) gets metrics.json and, with --binary, a predicted mask
per tile, with the labels of the data set and the size of the tile.
"""

from __future__ import annotations

import json
from argparse import Namespace
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from segtune.cli.exits import run_script
from segtune.cli.given import settings_in
from segtune.cli.parser import make_parser
from segtune.config import RunConfig
from segtune.data.splits import check_split
from segtune.data.tiles import Layout, Tile
from segtune.errors import InputError, counted
from segtune.files.atomic import write_text
from segtune.files.checks import check_writable, read_own_json
from segtune.files.folders import find_model
from segtune.files.temporary import joined_folder

if TYPE_CHECKING:
    from segtune.evaluation.predicted_masks import Mask


def parse() -> Namespace:
    parser = make_parser(__doc__ or "")
    parser.add_argument(
        "-cd",
        "--checkpoint-dir",
        required=True,
        metavar="FOLDER",
        help="folder of a search, a run or a model",
    )
    parser.add_argument(
        "-d", "--dataset", required=True, metavar="SPLIT", help="folder of a split, such as DATASET/val"
    )
    parser.add_argument("-o", "--out", metavar="OUT", help="folder for results [FOLDER/validation/SPLIT]")
    parser.add_argument("--binary", action="store_true", help="also write the predicted masks")
    parser.add_argument("--device", default="auto", help="device: auto, cpu, cuda or cuda:N [auto]")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    folder, split = Path(arguments.checkpoint_dir), Path(arguments.dataset)
    name = split.resolve().name if split.is_dir() else split.stem  # of a folder, or of a list file
    out = Path(arguments.out or folder / "validation" / name)
    check_writable(out, "-o")
    before = read_own_json(out / "metrics.json", "miou", "-o") or {}  # of an earlier validation
    replaceable = not arguments.out or before.get("masks")
    model = find_model(folder)
    config = RunConfig.from_settings(settings_in(model / "run.yaml"), f"{model / 'run.yaml'}: ")
    check_split(split, Layout.of(config, config.channels))
    if arguments.binary and split.is_dir() and (out / "masks").resolve().is_relative_to(split.resolve()):
        raise InputError(f"-o: {out / 'masks'} lies inside {split}: predictions would mix with its own files")
    # torch takes seconds to import; --help and common mistakes do not wait for it.
    from segtune.evaluation.predicted_masks import write_mask
    from segtune.evaluation.validate import validate
    from segtune.models.manifest import Manifest
    from segtune.pictures.render import categories
    from segtune.report.console import make_console, step_bar
    from segtune.report.tables import class_table

    console = make_console()
    named = categories(Manifest.read(model / "run.yaml").labels)
    done = count(1)
    # All masks or none: an unreadable tile at the end must not leave a part of them.
    masks = joined_folder(out / "masks") if arguments.binary else nullcontext()
    with step_bar(console) as bar, masks as written:

        def on_tile(tile: Tile, mask: Mask) -> None:
            if written:
                place = out / "masks" / write_mask(written, tile, mask, named).name
                if not replaceable and place.exists():
                    raise InputError(f"-o: {place} exists, and was not written by an earlier run; give another folder")
            bar.update(next(done), None, "predicting")

        result = validate(model, split, arguments.device, on_tile, lambda line: console.print(line))
    out.mkdir(parents=True, exist_ok=True)
    masks_there = arguments.binary or bool(before.get("masks"))
    write_text(out / "metrics.json", json.dumps(result.metrics() | {"masks": masks_there}, indent=2) + "\n")

    console.print(f"{result.model_folder} on {counted(result.tiles, 'tile')} of {split}")
    console.print(class_table(result.manifest.labels, result.scores.iou))
    console.print(f"miou {result.scores.miou:.4f}")
    if result.absent():
        console.print(f"warning: no mask contains {', '.join(result.absent())}; left out of the mean")
    console.print(f"written to {out}")
    return 0


if __name__ == "__main__":
    run_script(main)
