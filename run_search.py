"""Search for the best hyperparameters of a segmentation model.

    python run_search.py --space quickstart.yaml                        the demo, in minutes
    python run_search.py --space encoders.yaml -d DATASET --trials 12   a space that ships, on your tiles
    python run_search.py --space overnight.yaml -d DATASET --dry-run    show the plan and an estimate of its time
    python run_search.py --resume encoders                              continue a search that was stopped or killed
    python run_search.py --status encoders                              show how it stands, from another terminal
    python run_search.py --confirm encoders                             train its best trials again with fresh seeds
    python run_search.py --log encoders                                 send what MLflow or W&B lacks of it
    python run_search.py --report encoders                              write its report.html again, to look at and send
    tensorboard --logdir ray_results                                    the curves of all trials

A search space is a YAML file: a path, or the name of a file in search_spaces/. Results go to ray_results/NAME:
trials.csv, the winner in best/, and a folder per trial. NAME is the name of the space file unless --name sets
another. --resume continues with the settings that the search was started with; a larger --trials extends it.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from segtune.cli import tasks
from segtune.cli.dataset import check_data, ensure_demo
from segtune.cli.exits import hinted, run_script
from segtune.cli.flags import add_assignments, add_backend_flags, add_search_flags
from segtune.cli.given import given_search, given_settings
from segtune.cli.parser import make_parser
from segtune.cli.tracking import to_send_later, tracked
from segtune.errors import InputError
from segtune.report.commands import same_command
from segtune.report.trackers import check_installed
from segtune.space.reader import load_space


def parse() -> Namespace:
    parser = make_parser(__doc__ or "")
    tasks.add_tasks(parser)
    parser.add_argument("-d", "--dataset", metavar="FOLDER", help="data set; overrides `dataset` in the space file")
    results = "folder that holds the searches [ray_results]"
    parser.add_argument("--results-dir", default="ray_results", metavar="FOLDER", help=results)
    parser.add_argument("--name", help="name of the search and of its folder [the name of the space file]")
    add_assignments(parser)
    cache = "folder for decoded tiles, on a local disk; none: no cache"
    parser.add_argument("--cache-dir", metavar="FOLDER", help=cache)
    dry_run = "show the space, the data and an estimate of the time; train nothing"
    parser.add_argument("--dry-run", action="store_true", help=dry_run)
    teachers = "earlier searches whose trials the sampler learns from"
    parser.add_argument("--warm-start", nargs="+", default=[], type=Path, metavar="FOLDER", help=teachers)
    parser.add_argument(
        "--warm-start-anyway", action="store_true", help="with --warm-start: accept searches that ran on different data"
    )
    add_search_flags(parser)
    add_backend_flags(parser)
    return tasks.checked_tasks(parser, parser.parse_args())


def main() -> int:
    arguments = parse()
    if (status := tasks.other_task(arguments)) is not None:
        return status
    path, folder = tasks.space_and_folder(arguments)
    settings, search = given_settings(arguments), given_search(arguments)
    started = tasks.start_of(arguments, folder)
    space = load_space(path, settings, search, {"encoder": tasks.surely_unknown_encoder})
    goes_on = folder.path.exists() and not arguments.dry_run
    if goes_on and not arguments.resume:
        raise InputError(f"{folder.path}: this search exists; --resume continues it, --name starts another")
    check_installed(space.search.log_to)
    if started and not space.baseline.dataset:
        settings = {"dataset": started.baseline.dataset} | settings
    check_data(space.baseline.model_copy(update=settings), space.channels())
    # Ray and torch take seconds to import; --help and common mistakes do not wait for them.
    from segtune.cli.searching import SearchDisplay, show_outcome
    from segtune.models.compatibility import unknown_encoder
    from segtune.planning.feasibility import check_space, scan_data
    from segtune.report.dry_run import show_dry_run
    from segtune.report.terminal import make_console, reading_bar
    from segtune.tuning.confirm import Asked
    from segtune.tuning.search import run_search
    from segtune.tuning.search_yaml import to_resume
    from segtune.tuning.warm_start import check_earlier

    console = make_console()
    space = load_space(path, settings, search, {"encoder": unknown_encoder})
    if started and goes_on:
        space = to_resume(space, started, search, console.print)
    space = check_space(space, arguments.address, not arguments.dry_run, started, console.print)
    again = tasks.command_to_resume(arguments)
    with hinted(None if arguments.dry_run else f"to go on: {again}"):
        with reading_bar(console) as (progress, say):
            ensure_demo(space.baseline.dataset, console.print)
            info = scan_data(space, progress, say)
        check_earlier(arguments.warm_start, space, info.fingerprint, arguments.warm_start_anyway, folder)
        if arguments.dry_run:
            return show_dry_run(console, space, info, arguments.address)
        console.print(f"{space.baseline.dataset}: {info.counted()}; searching {', '.join(space.searched())}")
        address, alone = arguments.address, arguments.in_process
        teachers, numbers = arguments.warm_start, (arguments.top, arguments.seeds)
        asked = Asked(bool(arguments.confirm), arguments.test_again, *numbers)
        later = same_command(to_send_later(folder))
        with tracked(space.search.log_to, folder.path, later, console.print) as over:
            with SearchDisplay(console, space, folder) as listener:
                outcome = run_search(space, info, folder, listener, address, arguments.resume, teachers, alone, asked)
            if not (outcome.signal or outcome.halted):
                over()
            return show_outcome(console, outcome, space, again)


if __name__ == "__main__":
    run_script(main)
