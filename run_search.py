"""Search for the best hyperparameters of a segmentation model.

    python run_search.py --space quickstart.yaml                        the demo, in minutes
    python run_search.py --space encoders.yaml -d DATASET --trials 12   a shipped space on your tiles
    tensorboard --logdir ray_results                                    watch it

A search space is a YAML file: a path, or a name in search_spaces/. Results go to ray_results/NAME: trials.csv,
the winner in best/, and a folder per trial. NAME is the space's name unless --name says otherwise. An
interrupted search goes on with --resume.
"""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from segtune import cli
from segtune.errors import InputError
from segtune.folders import SearchFolder

if TYPE_CHECKING:
    from segtune.space import Space


def parse() -> Namespace:
    parser = cli.make_parser(__doc__ or "")
    parser.add_argument("--space", required=True, metavar="FILE", help="search space: a path or a shipped name")
    parser.add_argument("-d", "--dataset", metavar="FOLDER", help="data set; wins over the file's `dataset`")
    parser.add_argument("--results-dir", default="ray_results", metavar="FOLDER", help="[ray_results]")
    parser.add_argument("--name", help="name of the search's folder [that of the space]")
    parser.add_argument("--trials", type=int, metavar="N", help="trials in all, the baseline among them")
    cli.add_assignments(parser)
    parser.add_argument("--resume", action="store_true", help="go on with a search, or start it if there is none")
    parser.add_argument("--seed", type=int, metavar="N", help="of the sampler")
    parser.add_argument("--max-concurrent", type=int, metavar="N", help="trials at a time, at most")
    parser.add_argument("--gpus-per-trial", type=float, metavar="F", help="GPUs for each trial; fractions share one")
    parser.add_argument("--cpus-per-trial", type=int, metavar="N", help="cores for each trial")
    parser.add_argument("--address", metavar="ADDR", help="join this Ray cluster instead of starting one")
    return parser.parse_args()


def resumed(space: Space, folder: SearchFolder, arguments: Namespace) -> Space:
    """The space to go on with: what the search was started with, but for its budget and resources."""
    from segtune.space import load_space

    if not folder.search_yaml.is_file():  # killed before it began
        return space
    stored = load_space(folder.search_yaml)
    if not space.same_search(stored):
        raise InputError(
            f"{folder.search_yaml}: the search was started with other settings than these; "
            f"only --trials and the resources can change"
        )
    return space if arguments.trials else space.with_trials(stored.search.trials)


def main() -> int:
    arguments = parse()
    # Ray and torch take seconds to import; --help and wrong flags should not.
    from segtune.console import SearchConsole, make_console, step_bar
    from segtune.models import unknown_encoder
    from segtune.report import comparison, failures, ranking, summary
    from segtune.space import find_space, load_space
    from segtune.tuning.search import check_space, run_search, scan_data

    console = make_console()
    path = find_space(arguments.space, cli.SPACES)
    folder = SearchFolder(Path(arguments.results_dir) / (arguments.name or path.stem))
    settings = cli.given_settings(arguments)
    flags = ("trials", "seed", "max_concurrent", "gpus_per_trial", "cpus_per_trial")
    space = load_space(path, settings, {name: getattr(arguments, name) for name in flags}, {"encoder": unknown_encoder})
    if folder.path.exists():
        if not arguments.resume:
            raise InputError(f"{folder.path}: this search exists; --resume goes on with it, --name starts another")
        space = resumed(space, folder, arguments)
    check_space(space, arguments.address)
    cli.ensure_demo(space.baseline.dataset, console.print)
    with step_bar(console) as bar:
        info = scan_data(space, lambda done, total: bar.update(done, total, "reading the tiles"))
    counts = ", ".join(f"{len(tiles)} {split}" for split, tiles in info.tiles.items())
    console.print(f"{space.baseline.dataset}: {counts} tiles; searching {', '.join(space.searched())}")
    again = f"python run_search.py {shlex.join(item for item in sys.argv[1:] if item != '--resume')} --resume"
    try:
        with SearchConsole(console, space.search.trials) as listener:
            outcome = run_search(space, info, folder, listener, arguments.address, arguments.resume)
    except (KeyboardInterrupt, cli.Terminated):
        console.print(f"to go on: {again}", soft_wrap=True)
        raise

    trials = outcome.trials
    console.print()
    if space.search.compare:
        console.print(comparison(trials, space.search.compare))
    console.print(ranking(trials))
    for line in [*summary(trials, ended=not outcome.signal), *failures(trials)]:
        console.print(line, soft_wrap=True)
    if outcome.signal:
        console.print(f"interrupted; to go on: {again}", soft_wrap=True)
        return 128 + outcome.signal
    console.print(f"\neverything is in {folder.path}; next:", soft_wrap=True)
    console.print(f"  python validate.py -cd {folder.path} -d {space.baseline.dataset}/val", soft_wrap=True)
    console.print(f"  tensorboard --logdir {arguments.results_dir}", soft_wrap=True)
    unfinished = any(trial.status == "pending" for trial in trials)
    return 1 if unfinished or all(trial.miou is None for trial in trials) else 0


if __name__ == "__main__":
    cli.run(main)
