"""What run_search.py is asked to do, and on which space and folder."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from segtune.errors import InputError
from segtune.files.atomic import write_text
from segtune.files.checks import read_own_json
from segtune.files.folders import SearchFolder
from segtune.report.commands import same_command
from segtune.space.jsonschema import schema_text
from segtune.space.lookup import find_space
from segtune.space.reader import load_space
from segtune.space.space import Space
from segtune.vocabulary import ENCODERS

SPACES = Path(__file__).resolve().parent.parent.parent / "search_spaces"


def add_tasks(parser: argparse.ArgumentParser) -> None:
    """The flags of run_search.py that say what it is to do."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--space", metavar="FILE", help="the search space: a path, or the name of one that ships")
    what.add_argument("--status", metavar="NAME", help="say how a search stands, running or not; change nothing")
    what.add_argument("--write-schema", metavar="FILE", help="write the JSON Schema of spaces, for editors")
    resume = "go on with the search of this name, with all that it was given; with --space: start it if there is none"
    # A batch script adds one without a name to what it is given.
    parser.add_argument("--resume", nargs="?", action="append", metavar="NAME", help=resume)


def checked_tasks(parser: argparse.ArgumentParser, given: argparse.Namespace) -> argparse.Namespace:
    """The same flags once more: `resumed` is the name that --resume gives, if any; InputError where none says what."""
    names = given.resume or []
    given.resumed, given.resume = next(filter(None, names), None), bool(names)
    if given.resume and (given.status or given.write_schema):
        parser.error(f"argument --resume: not allowed with {'--status' if given.status else '--write-schema'}")
    if not (given.space or given.status or given.write_schema or given.resumed):
        parser.error("one of --space FILE, --resume NAME, --status NAME and --write-schema FILE is required")
    return given


def command_to_resume(given: argparse.Namespace) -> str:
    """Return the command line that goes on with the search that this one started, or went on with."""
    words = sys.argv[1:]
    if not given.resumed:
        words = [*(word for word in words if word != "--resume"), "--resume"]
    return same_command(words)


def space_and_folder(given: argparse.Namespace) -> tuple[Path, SearchFolder]:
    """The file of the space, and the search's folder: of a search that goes on by its name, the file in there."""
    names = [name for name in (given.name, given.resumed) if name is not None]
    if len(set(names)) > 1:
        raise InputError(f"--resume {names[1]}: --name says {names[0]}; leave one out")
    results = Path(given.results_dir)
    if given.space:
        path = find_space(given.space, SPACES)
        return path, SearchFolder.named(results, names[0] if names else path.stem)
    folder = SearchFolder.named(results, names[0], "--resume")
    folder.check_begun()
    return folder.search_yaml, folder


def start_of(given: argparse.Namespace, folder: SearchFolder) -> Space | None:
    """Return the space that the search was started with; None for a search that starts now.

    A damaged search.yaml is written anew first, and a line says so. Raises InputError where that is not possible.
    """
    if not given.resume or (given.space and given.dry_run) or not folder.search_yaml.exists():
        return None
    try:
        return load_space(folder.search_yaml)
    except InputError as error:
        if folder.holder():
            raise
        # Optuna takes a second to import.
        from segtune.report.console import make_console
        from segtune.tuning.stored import mend_stored_space

        make_console().print(mend_stored_space(folder, error.mistakes[0], from_copy=not given.space))
    return load_space(folder.search_yaml) if folder.search_yaml.exists() else None


def write_schema(path: Path) -> int:
    """Write the JSON Schema of search spaces, which editors complete and check them by."""
    read_own_json(path, "$schema", "--write-schema")
    write_text(path, schema_text())
    return 0


def surely_unknown_encoder(name: str) -> str | None:
    """Why there is no such encoder, with the nearest name; None if there is one, or if it is left to timm (tu-NAME).

    Finding a mistake takes the import of torch, and a right name does not. timm's names are all left to it, since they
    would.
    """
    if name in ENCODERS or name.startswith("tu-"):
        return None
    from segtune.models.compatibility import unknown_encoder

    return unknown_encoder(name)


def show_status(folder: SearchFolder) -> int:
    folder.check_begun()
    from segtune.report.console import make_console
    from segtune.report.tables import state_of
    from segtune.tuning.status import search_state

    console = make_console()
    for line in state_of(search_state(folder), time.time()):
        console.print(line)
    return 0
