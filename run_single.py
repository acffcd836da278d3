"""Train one segmentation model: one run, no search.

    python run_single.py -d DATASET                                  the defaults
    python run_single.py -d DATASET --encoder resnet34 --epochs 30   with flags
    python run_single.py -d DATASET --config run.yaml --set lr=1e-3  as a search's trial ran, but for one setting

The run's folder, logs/NAME, gets run.yaml, metrics.csv, TensorBoard events and the best epoch's model in best/.
"""

from __future__ import annotations

from argparse import Namespace
from contextlib import closing
from datetime import datetime
from itertools import count
from pathlib import Path

from segtune import cli
from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.folders import RunFolder


def parse() -> Namespace:
    parser = cli.make_parser(__doc__ or "")
    parser.add_argument("--config", metavar="FILE", help="YAML of settings; flags and --set win over it")
    cli.add_assignments(parser)
    parser.add_argument("-log", "--log-dir", default="logs", metavar="FOLDER", help="where runs go [logs]")
    parser.add_argument("--exp-name", metavar="NAME", help="the run's folder [made of model, encoder and date]")
    cli.add_settings(parser)
    return parser.parse_args()


def run_config(arguments: Namespace) -> RunConfig:
    from segtune.checkpoint import settings_of
    from segtune.space import read_yaml

    if not arguments.config:
        return RunConfig.from_settings(cli.given_settings(arguments))
    path = Path(arguments.config)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a mapping of settings")
    given = cli.given_settings(arguments)
    RunConfig.from_settings(settings_of(content), f"{path}: ")
    return RunConfig.from_settings(settings_of(content) | given)


def run_folder(arguments: Namespace, config: RunConfig) -> RunFolder:
    parent = Path(arguments.log_dir)
    if arguments.exp_name:
        folder = parent / arguments.exp_name
        if folder.exists():
            raise InputError(f"{folder}: this run exists; --exp-name gives the new one another name")
        return RunFolder(folder)
    name = f"{config.model}_{config.encoder.replace('/', '-')}_{datetime.now():%Y-%m-%d}"
    names = (name if number == 1 else f"{name}_{number}" for number in count(1))
    return RunFolder(next(parent / free for free in names if not (parent / free).exists()))


def main() -> int:
    arguments = parse()
    config = run_config(arguments)
    folder = run_folder(arguments, config)
    # torch takes seconds to import; --help and wrong flags should not.
    from segtune.console import epoch_line, make_console, step_bar
    from segtune.data.scan import scan
    from segtune.train import check_run, resolve, train

    console = make_console()
    check_run(config)
    cli.ensure_demo(config.dataset, console.print)
    with step_bar(console) as bar:
        info = scan(config, progress=lambda done, total: bar.update(done, total, "reading the tiles"))
    dataset, config = config.dataset, resolve(config, info)
    check_run(config)
    counts = ", ".join(f"{len(tiles)} {split}" for split, tiles in info.tiles.items())
    console.print(f"{dataset}: {counts} tiles at {config.image_size} px -> {folder.path}", soft_wrap=True)
    best = None
    with step_bar(console) as bar:
        bar.update(0, None, "building the model")
        state = {"epoch": 1}

        def on_batch(done: int, total: int, loss: float) -> None:
            bar.update(done, total, f"epoch {state['epoch']}/{config.epochs}  loss {loss:.4f}")

        with closing(train(config, info, folder, on_batch=on_batch)) as epochs:
            for best in epochs:
                console.print(epoch_line(best), soft_wrap=True)
                state["epoch"] = best.epoch + 1
    if best:
        console.print(f"best: miou {best.best_miou:.4f} in epoch {best.best_epoch}; next:")
    console.print(f"  python validate.py -cd {folder.path} -d {dataset}/val", soft_wrap=True)
    console.print(f"  tensorboard --logdir {arguments.log_dir}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    cli.run(main)
