"""Measure a trained model on a split, and write its predictions.

    python validate.py -cd ray_results/quickstart -d data/demo/val            a search's winner
    python validate.py -cd logs/NAME -d DATASET/test --binary                 a run, with predicted masks

-cd takes the folder of a search, a run or a model. OUT (-o) gets metrics.json and, with --binary, a mask per tile
in the data set's own label values and at the tile's own size.
"""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from segtune import cli
from segtune.folders import write_text


def parse() -> Namespace:
    parser = cli.make_parser(__doc__ or "")
    parser.add_argument("-cd", "--checkpoint-dir", required=True, metavar="FOLDER", help="a search, a run or a model")
    parser.add_argument("-d", "--dataset", required=True, metavar="SPLIT", help="a split's folder, such as DATASET/val")
    parser.add_argument("-o", "--out", metavar="OUT", help="where results go [FOLDER/validation/NAME-OF-SPLIT]")
    parser.add_argument("--binary", action="store_true", help="write the predicted masks")
    parser.add_argument("--device", help="[auto]: cuda where there is one")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    # torch takes seconds to import; --help and wrong flags should not.
    from segtune.console import make_console, step_bar
    from segtune.report import class_table
    from segtune.validation import load_validation, write_mask

    console = make_console()
    split = Path(arguments.dataset)
    validation = load_validation(Path(arguments.checkpoint_dir), split, arguments.device or "auto")
    out = Path(arguments.out or Path(arguments.checkpoint_dir) / "validation" / split.resolve().name)
    masks = out / "masks"
    if arguments.binary:
        masks.mkdir(parents=True, exist_ok=True)
    with step_bar(console) as bar:
        total, labels = len(validation.tiles), validation.manifest.labels
        for done, (tile, indices) in enumerate(validation.predictions(), start=1):
            if arguments.binary:
                write_mask(masks, tile, labels.to_labels(indices))
            bar.update(done, total, "predicting")
    metrics = validation.metrics()
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "metrics.json", json.dumps(metrics, indent=2) + "\n")

    console.print(f"{validation.model_folder}: {total} tiles of {split}", soft_wrap=True)
    console.print(class_table(labels.classes, metrics["iou"]))
    console.print(f"miou {metrics['miou']:.4f}")
    for line in validation.warnings():
        console.print(f"warning: {line}", soft_wrap=True)
    console.print(f"written to {out}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    cli.run(main)
