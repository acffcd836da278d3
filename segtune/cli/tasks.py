"""The task that run_search.py is given, and the space and the folder that it works on."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from segtune.cli.reporting import show_report
from segtune.cli.tracking import send_search
from segtune.errors import InputError
from segtune.files.atomic import write_text
from segtune.files.checks import check_writable, read_own_json
from segtune.files.folders import SearchFolder
from segtune.report.commands import same_command
from segtune.space.confirm import FEWEST, Confirm
from segtune.space.jsonschema import schema_text
from segtune.space.lookup import find_space
from segtune.space.reader import load_space
from segtune.space.space import Space
from segtune.vocabulary import ENCODERS

SPACES = Path(__file__).resolve().parent.parent.parent / "search_spaces"


def add_tasks(parser: argparse.ArgumentParser) -> None:
    """Add the flags that select the task of run_search.py."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--space", metavar="FILE", help="search space: a path, or the name of a file in search_spaces/")
    what.add_argument("--status", metavar="NAME", help="show how a search stands, running or not; change nothing")
    report = "write report.html of a search, running or not, and index.html of all searches of its folder"
    what.add_argument("--report", metavar="NAME", help=report)
    confirm = "train the best trials of a search again with fresh seeds, and say how sure its winner is"
    what.add_argument("--confirm", metavar="NAME", help=confirm)
    log = "send what MLflow or W&B lacks of a search; --log-to says which, unless the search does"
    what.add_argument("--log", metavar="NAME", help=log)
    what.add_argument("--write-schema", metavar="FILE", help="write the JSON Schema of space files, for editors")
    resume = "continue the search of this name with its settings; with --space: start it if it does not exist"
    parser.add_argument("--figures", action="store_true", help="with --report: its charts as PNG and SVG, for papers")
    again = "with --confirm: measure the winner on the test tiles once more, which makes that number too good"
    parser.add_argument("--test-again", action="store_true", help=again)
    for name, number in {"top": "how many of the best trials train again", "seeds": "with how many seeds each"}.items():
        usual = f"with --confirm: {number} [as the search says, or {getattr(Confirm, name)}]"
        parser.add_argument(f"--{name}", type=int, metavar="N", help=usual)
    # It may be given twice: a batch script adds one without a name.
    parser.add_argument("--resume", nargs="?", action="append", metavar="NAME", help=resume)


def checked_tasks(parser: argparse.ArgumentParser, given: argparse.Namespace) -> argparse.Namespace:
    """Return the flags with `resumed`, the name given with --resume, or None; raise InputError if there is no task."""
    names = given.resume or []
    given.resumed, given.resume = next(filter(None, names), None), bool(names)
    others = {"--status": given.status, "--report": given.report, "--write-schema": given.write_schema}
    others |= {"--confirm": given.confirm, "--log": given.log}
    other = next((flag for flag, value in others.items() if value), None)
    if given.resume and other:
        parser.error(f"argument --resume: not allowed with {other}; leave one out")
    _check_numbers(parser, given)
    if given.confirm:
        _resume_to_confirm(parser, given)
    if given.figures and not given.report:
        parser.error("argument --figures: needs --report NAME")
    if not (given.space or other or given.resumed):
        parser.error(
            "one of --space FILE, --resume NAME, --status NAME, --report NAME, --confirm NAME, --log NAME and "
            "--write-schema FILE is required"
        )
    return given


def _check_numbers(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Raise InputError where a flag of a confirmation is given without one, or asks for too little."""
    for name in ("test_again", *FEWEST):
        if getattr(given, name) not in (None, False) and not given.confirm:
            parser.error(f"argument --{name.replace('_', '-')}: needs --confirm NAME")
    for name, fewest in FEWEST.items():
        if (number := getattr(given, name)) is not None and number < fewest:
            raise InputError(f"--{name}: must be at least {fewest}, but got {number}")


def _resume_to_confirm(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Let the search that --confirm names, by its name or its folder, be opened as one that is resumed."""
    given.resume, path = True, Path(given.confirm)
    if path.name != given.confirm:
        given.results_dir = str(path.parent)
    given.resumed = path.name
    for flag, value in {"--dry-run": given.dry_run, "--warm-start": given.warm_start}.items():
        if value:
            parser.error(f"argument --confirm: not allowed with {flag}; leave one out")


def command_to_resume(given: argparse.Namespace) -> str:
    """Return the command line that resumes the search that this command line started or resumed."""
    words = sys.argv[1:]
    if not given.resumed:
        words = [*(word for word in words if word != "--resume"), "--resume"]
    return same_command(words)


def space_and_folder(given: argparse.Namespace) -> tuple[Path, SearchFolder]:
    """Return the space file and the search folder; for a search resumed by name, the file is its search.yaml.

    Raises InputError where the folder is to be written to and cannot be.
    """
    names = [name for name in (given.name, given.resumed) if name is not None]
    if len(set(names)) > 1:
        raise InputError(f"--resume {names[1]}: --name says {names[0]}; leave one out")
    results = Path(given.results_dir)
    if given.space:
        path = find_space(given.space, SPACES)
        folder = SearchFolder.named(results, names[0] if names else path.stem)
    else:
        folder = SearchFolder.named(results, names[0], "--resume")
        folder.check_begun()
        path = folder.search_yaml
    if not given.dry_run:
        check_writable(folder.path, "--results-dir")
    return path, folder


def start_of(given: argparse.Namespace, folder: SearchFolder) -> Space | None:
    """Return the space that a resumed search was started with; None for a search that starts now.

    A damaged search.yaml is restored first, and a line says so. Raises InputError where that is not possible.
    """
    if not given.resume or (given.space and given.dry_run) or not folder.search_yaml.exists():
        return None
    try:
        return load_space(folder.search_yaml)
    except InputError as error:
        if folder.holder():
            raise
        # Optuna takes a second to import.
        from segtune.report.terminal import make_console
        from segtune.tuning.search_yaml import mend_stored_space

        make_console().print(mend_stored_space(folder, error.mistakes[0], from_copy=not given.space))
    return load_space(folder.search_yaml) if folder.search_yaml.exists() else None


def other_task(given: argparse.Namespace) -> int | None:
    """Do what is not a search, if that is the task; return the exit status, or None for a search."""
    if given.write_schema:
        return write_schema(Path(given.write_schema))
    if given.status:
        return show_status(given)
    if given.log:
        return send_search(given)
    return show_report(given) if given.report else None


def write_schema(path: Path) -> int:
    """Write the JSON Schema of space files, which editors use to complete and check them; return the exit status."""
    read_own_json(path, "$schema", "--write-schema")
    write_text(path, schema_text())
    return 0


def surely_unknown_encoder(name: str) -> str | None:
    """Return why there is no such encoder, with the most similar name; None if there is one, or if timm may have it.

    Only a wrong name imports torch, to find the most similar one. Names of timm, tu-NAME, are checked later, since
    every one of them would need that import.
    """
    if name in ENCODERS or name.startswith("tu-"):
        return None
    from segtune.models.compatibility import unknown_encoder

    return unknown_encoder(name)


def show_status(given: argparse.Namespace) -> int:
    """Print the state of the search that --status names; return the exit status."""
    folder = SearchFolder.named(Path(given.results_dir), given.status, "--status")
    folder.check_begun()
    from segtune.report.tables import state_of
    from segtune.report.terminal import make_console
    from segtune.tuning.status import search_state

    console = make_console()
    for line in state_of(search_state(folder), time.time()):
        console.print(line)
    return 0
