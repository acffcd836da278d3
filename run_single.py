"""Train one segmentation model: one run, no search.

    python run_single.py -d DATASET                                    with the default settings
    python run_single.py -d DATASET --encoder resnet34 --epochs 30     with settings of your own
    python run_single.py --from-search ray_results/NAME --epochs 200   train the winner of a search for longer
    python run_single.py --exp-name NAME                               continue a run that was stopped or killed
    python run_single.py -d DATASET --seeds 3                          train with three seeds; say how the score varies
    python run_single.py -d DATASET --folds 5                          score all tiles of train and val, in five folds

The run's folder, logs/NAME, gets run.yaml (the settings), metrics.csv (a row per epoch), TensorBoard events, the
model of the best epoch in best/, and the training state from which the run continues.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from segtune.cli.dataset import check_data
from segtune.cli.exits import run_script
from segtune.cli.flags import add_assignments, add_settings, add_tracker
from segtune.cli.folding import run_folds
from segtune.cli.given import given_config, kept_threads
from segtune.cli.parser import make_parser
from segtune.cli.repeating import repeat_run
from segtune.cli.tracking import command_to_go_on, tracked_run
from segtune.cli.training import check_tasks, looked_at, train_and_watch
from segtune.errors import counted
from segtune.files.checks import check_writable
from segtune.files.folders import RunFolder


def parse() -> Namespace:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings; flags and --set override it")
    winner = "use the settings of this search's winner; flags override them, and -d its validation sets too"
    parser.add_argument("--from-search", metavar="FOLDER", help=winner)
    parser.add_argument("--trial", type=int, metavar="N", help="with --from-search: this trial instead of the winner")
    add_assignments(parser)
    parser.add_argument("-log", "--log-dir", default="logs", metavar="FOLDER", help="folder that holds the runs [logs]")
    name = "name of the run and of its folder; an existing run continues [model_encoder_date]"
    parser.add_argument("--exp-name", metavar="NAME", help=name)
    preview = "write a picture of N tiles before and after augmentation; train nothing"
    parser.add_argument("--preview-augmentation", type=int, metavar="N", help=preview)
    seeds = "train with N seeds, one after another, and say how the score varies"
    parser.add_argument("--seeds", type=int, metavar="N", help=seeds)
    folds = "deal the tiles of train and val to N folds, and score each with a model of the others"
    parser.add_argument("--folds", type=int, metavar="N", help=folds)
    group = "with --folds or --seeds: tiles whose names match in the pattern's group belong together: 'scene(\\d+)'"
    parser.add_argument("--group", metavar="PATTERN", help=group)
    add_tracker(parser)
    add_settings(parser)
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    logs = Path(arguments.log_dir)
    check_writable(logs, "--log-dir")
    check_tasks(arguments)
    if arguments.seeds is not None:
        return repeat_run(arguments)
    if arguments.folds is not None:
        return run_folds(arguments)
    folder = RunFolder.named(logs, arguments.exp_name) if arguments.exp_name else None
    config = given_config(arguments, folder)
    preview = arguments.preview_augmentation
    if preview is not None:
        from segtune.pictures.sheet import check_preview

        check_preview(preview)
    if not (folder and folder.begun):
        check_data(config, config.channels)
    # torch takes seconds to import; --help and common mistakes do not wait for it.
    import torch

    from segtune.pictures.gallery import write_preview
    from segtune.report.terminal import make_console
    from segtune.report.text import how_it_ended, run_summary
    from segtune.training.resolve import resolve
    from segtune.training.resume import check_same_settings
    from segtune.training.runlog import epochs_done

    console = make_console()
    if line := kept_threads(arguments, config, torch.get_num_threads()):
        console.print(line)
    if folder and folder.begun:
        check_same_settings(folder, config)
        if (how := how_it_ended(folder, config)) and preview is None:
            console.print(f"{folder.path} is finished: {how}")
            with tracked_run(arguments, folder, console.print) as ended:
                ended(0)
            for line in run_summary(folder, arguments.log_dir):
                console.print(line)
            return 0
        console.print(f"going on with {folder.path} after {epochs_done(folder)} of {counted(config.epochs, 'epoch')}")
    begins = preview is None and not (folder and folder.state.is_file())
    config, info, transforms = looked_at(console, config, folder, begins, preview is None)
    if preview is not None:
        path = write_preview(resolve(config, info), info, preview, logs, transforms)
        console.print(f"tiles before and after augmentation {config.augmentation}: {path}")
        return 0
    folder = folder or RunFolder.dated(logs, config)
    hint = f"to go on: {command_to_go_on(arguments, folder)}"
    with tracked_run(arguments, folder, console.print) as ended:
        status = ended(train_and_watch(console, config, info, folder, hint))
    for line in [] if status else run_summary(folder, arguments.log_dir):
        console.print(line)
    return status


if __name__ == "__main__":
    run_script(main)
