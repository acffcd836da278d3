"""What the three scripts share: flags from RunConfig, and how errors become exit statuses."""

from __future__ import annotations

import argparse
import errno
import itertools
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from segtune.cli.assignments import PATH_LISTS, parse_assignments, parse_value, parse_values
from segtune.cli.output import drop_what_cannot_be_written
from segtune.config import DEMO, ENCODERS, MAX_CLASSES, RunConfig, base_type, choices, settings_of
from segtune.data.pairs import check_folders
from segtune.errors import InputError, SegtuneError, nearest, printable
from segtune.files.atomic import write_text
from segtune.files.checks import read_own_json
from segtune.files.folders import SearchFolder
from segtune.files.places import place_caches, shorten_sockets
from segtune.files.yamlfile import read_yaml
from segtune.machine import ending_signals
from segtune.report.commands import same_command
from segtune.space.jsonschema import schema_text
from segtune.space.lookup import find_space
from segtune.space.reader import load_space
from segtune.space.space import Space

SPACES = Path(__file__).resolve().parent.parent.parent / "search_spaces"
_LONGEST_PATH = 300  # characters that an error repeats
# Flags that people know from their present scripts, beside --name-of-the-setting.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "dataset": ("-d",),
    "val_dir": ("-val",),
    "classes": ("--class-list",),
    "channels": ("--add-dirs",),
    "model": ("-m",),
    "batch_size": ("-b", "--batch"),
    "epochs": ("-e",),
    "lr": ("-lr",),
    "augmentation": ("-a",),
    "workers": ("-w",),
}
_SETTING_OF = {
    flag: name for name in RunConfig.model_fields for flag in (f"--{name.replace('_', '-')}", *ALIASES.get(name, ()))
}


class Terminated(BaseException):
    """SIGTERM, or SIGHUP from a terminal that was closed, on its way up like KeyboardInterrupt."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.number = number


class Parser(argparse.ArgumentParser):
    """Wrong flags end like every other mistake of the user: an `error:` line each, status 2.

    A flag is spelt out: an abbreviation would mean another flag as soon as there is one more. argparse's own
    `allow_abbrev` leaves flags of one dash out.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # argparse takes -1 for a value, but -1,-100 and -3.4e38 for flags that it does not know.
        self._negative_number_matcher = re.compile(r"-\.?[0-9]")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse what was typed; InputError with every flag that there is not, before anything else that is wrong."""
        typed = list(sys.argv[1:] if args is None else args)
        # A study, YAML and JSON, in which paths are kept, are UTF-8.
        unreadable = [f"{name}: its name is not UTF-8; rename it" for name in (os.getcwd(), *typed) if not _utf8(name)]
        if unreadable:
            raise InputError(unreadable)
        flags = itertools.takewhile(lambda word: word != "--", typed)
        mistakes = [self._unknown(word) for word in flags if self._is_flag(word) and not self._knows(word)]
        if mistakes:
            raise InputError(f"{mistake} (see --help)" for mistake in mistakes)
        return super().parse_known_args(typed, namespace)

    def error(self, message: str) -> Any:
        """Report a wrong flag."""
        raise InputError(f"{message} (see --help)")

    def _is_flag(self, word: str) -> bool:
        return word[:1] == "-" and len(word) > 1 and " " not in word and not self._negative_number_matcher.match(word)

    def _knows(self, word: str) -> bool:
        """Whether a word is a flag, ``--flag=value``, or one of a single letter with its value, as ``-e3``."""
        flag, known = word.partition("=")[0], self._option_string_actions
        attached = word[1] != "-" and word[:2] in known and not _starting(known, f"-{flag}")
        return flag in known or attached

    def _unknown(self, word: str) -> str:
        flag, known = word.partition("=")[0], self._option_string_actions
        attached = re.match(rf"({'|'.join(known)})([\d.].*)", flag)
        if setting := _SETTING_OF.get(flag) if "--set" in known else None:
            hint = f"; here it is --set {setting}=VALUE"
        elif attached:
            hint = f"; did you mean '{attached[1]} {attached[2]}'?"
        else:
            begun = _starting(known, flag) or _starting(known, f"-{flag}")
            hint = f"; did you mean {begun[0]!r}?" if len(begun) == 1 else nearest(flag, begun or known)
        return f"unknown flag {flag!r}{hint}"


def _utf8(name: str) -> bool:
    return not any("\udc80" <= char <= "\udcff" for char in name)  # what Python makes of other bytes


def _starting(known: Iterable[str], start: str) -> list[str]:
    return [flag for flag in known if flag.startswith(start)]


def make_parser(manual: str) -> Parser:
    """A parser whose help opens with the script's manual, and not with a list of fifty flags."""
    form = argparse.RawDescriptionHelpFormatter
    return Parser(description=manual, usage=argparse.SUPPRESS, formatter_class=form, allow_abbrev=False)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """A flag for every setting of RunConfig."""
    group = parser.add_argument_group("settings (also KEY=VALUE with --set, or in a YAML file)")
    for name, field in RunConfig.model_fields.items():
        known = f" ({', '.join(choices(name))})" if choices(name) else ""
        default = "" if field.default in (None, "") else f" [{_default(field.default)}]"
        # A switch needs no value, and takes one all the same: false undoes what a file sets.
        form: dict[str, Any] = {"nargs": "?", "const": "true"} if base_type(name) is bool else {}
        if base_type(name) is list:  # of paths, more with each flag
            form = {"nargs": "+", "action": "extend" if name in PATH_LISTS else "store"}
        group.add_argument(
            *ALIASES.get(name, ()),
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar="VALUE",
            help=f"{field.description}{known}{default}".replace("%", "%%"),
            **form,
        )
    group.add_argument("--max-mask-val", type=int, default=0, metavar="N", help="short for --classes 1,2,...,N [0]")
    group.add_argument("--cpu", action="store_true", help="short for --device cpu")


def add_assignments(parser: argparse.ArgumentParser) -> None:
    """The --set flag."""
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="assignments",
        help="set any setting of a run; wins over files and other flags",
    )


def add_tasks(parser: argparse.ArgumentParser) -> None:
    """The flags of run_search.py that say what it is to do."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--space", metavar="FILE", help="the search space: a path, or the name of one that ships")
    what.add_argument("--status", metavar="NAME", help="say how a search stands, running or not; change nothing")
    what.add_argument("--write-schema", metavar="FILE", help="write the JSON Schema of spaces, for editors")
    resume = "go on with the search of this name, with all that it was given; with --space: start it if there is none"
    # A batch script adds one without a name to what it is given.
    parser.add_argument("--resume", nargs="?", const="", action="append", metavar="NAME", help=resume)


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
    try:
        load_space(folder.search_yaml)
    except InputError:
        from segtune.report.console import make_console
        from segtune.tuning.stored import mend_stored_space

        make_console().print(mend_stored_space(folder, from_copy=True))
    return folder.search_yaml, folder


# Flags for settings under `search:`.
SEARCH_FLAGS: Mapping[str, tuple[type, str, str]] = {
    "trials": (int, "N", "trials in all, the baseline included; with --resume, a larger number extends the search"),
    "time_budget": (
        str,
        "TIME",
        "end the search after this time, summed over all its starts: 8h, 1h30m, or a number of seconds",
    ),
    "patience": (int, "N", "end the search when so many trials in a row brought no improvement"),
    "seed": (int, "N", "seed of the sampler; that of the runs is a setting (--set seed=N)"),
    "disk_gb": (float, "GB", "most gigabytes that the search's folder may take"),
    "max_concurrent": (int, "N", "most trials at a time"),
    "gpus_per_trial": (float, "F", "GPUs of each trial; with 0.5, two trials share one"),
    "cpus_per_trial": (int, "N", "CPU cores of each trial"),
}


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that win over a space file's `search:`."""
    for name, (kind, metavar, text) in SEARCH_FLAGS.items():
        # Under a name of its own: a run has a seed, too.
        parser.add_argument(f"--{name.replace('_', '-')}", dest=f"search_{name}", type=kind, metavar=metavar, help=text)


def given_search(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given as flags of `search:`."""
    given = {name: getattr(arguments, f"search_{name}") for name in SEARCH_FLAGS}
    if large := [name for name, value in given.items() if isinstance(value, int) and value.bit_length() > 63]:
        raise InputError(f"{name}: is too large a number" for name in large)
    return {name: value for name, value in given.items() if value is not None}


def write_schema(path: Path) -> int:
    """Write the JSON Schema of search spaces, which editors complete and check them by."""
    read_own_json(path, "$schema", "--write-schema")
    write_text(path, schema_text())
    return 0


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings given as flags and with --set (which wins), typed; InputError with all mistakes."""
    settings, mistakes = _short_forms(arguments)
    for name in RunConfig.model_fields:
        text = getattr(arguments, name, None)
        if text is not None:
            try:
                settings[name] = parse_values(name, text) if isinstance(text, list) else parse_value(name, text)
            except InputError as error:
                mistakes += error.mistakes
    try:
        settings |= parse_assignments(arguments.assignments)
    except InputError as error:
        mistakes += error.mistakes
    if mistakes:
        raise InputError(mistakes)
    return settings


def settings_in(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, such as a run.yaml; InputError, naming it, where one is wrong."""
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a mapping of settings")
    settings = settings_of(content)
    RunConfig.from_settings(settings, f"{path}: ")
    return settings


def kept_threads(arguments: argparse.Namespace, config: RunConfig, own: int) -> str:
    """A line where the number of threads is that of the run or trial before, and not what torch takes here."""
    if arguments.config or config.threads in (None, own) or "threads" in given_settings(arguments):
        return ""
    return (
        f"threads stays {config.threads}, as before, since results depend on it; torch's own number here is {own} "
        f"(--threads {own} takes that)"
    )


def _short_forms(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The settings that flags of another name stand for, and where they contradict the flags of that name."""
    settings: dict[str, Any] = {}
    mistakes = []
    largest = getattr(arguments, "max_mask_val", 0)
    if not 0 <= largest <= MAX_CLASSES:
        mistakes.append(f"--max-mask-val: must be 0, or the largest label, at most {MAX_CLASSES}, but got {largest}")
    elif largest:
        settings["classes"] = list(range(1, largest + 1))
        if arguments.classes is not None:
            mistakes.append("classes: --max-mask-val and --classes (--class-list) both say what they are; give one")
    if getattr(arguments, "cpu", False):
        settings["device"] = "cpu"
        if arguments.device not in (None, "cpu"):
            mistakes.append(f"device: --cpu and --device {arguments.device} contradict each other")
    return settings, mistakes


def unknown_encoder(name: str) -> str | None:
    """Why there is no such encoder, with the nearest name; None if there is one, or if it is left to timm (tu-NAME).

    Finding a mistake takes the import of torch, and a right name does not. timm's names are all left to it, since they
    would.
    """
    if name in ENCODERS or name.startswith("tu-"):
        return None
    from segtune.models.build import unknown_encoder

    return unknown_encoder(name)


def dataset_of(folder: SearchFolder, space: Space) -> dict[str, str]:
    """The data set, as a setting, of a search that goes on with a space which names none."""
    if space.baseline.dataset or not folder.search_yaml.is_file():
        return {}
    return {"dataset": load_space(folder.search_yaml).baseline.dataset}


def check_data(config: RunConfig, channels: Sequence[str]) -> None:
    """Refuse data of which a folder is missing, before seconds are spent on importing torch. The demo is made later."""
    if not _is_missing_demo(config.dataset):
        check_folders(config, channels)


def ensure_demo(dataset: str, say: Callable[[str], None]) -> None:
    """Write the demo data set where it is asked for by its own name and is not there yet."""
    if _is_missing_demo(dataset):
        from segtune.data.demo import write_demo  # and with it OpenCV and GDAL

        say(f"writing the demo data set to {DEMO}")
        write_demo(Path(DEMO))


def _is_missing_demo(dataset: str) -> bool:
    return Path(dataset) == Path(DEMO) and not Path(DEMO).exists()


def run(main: Callable[[], int]) -> None:
    """Run a script's main and exit.

    The status is 0 done, 2 the input is wrong, 1 another failure, 130 Ctrl-C, 143 SIGTERM, 129 a closed terminal.
    """
    drop_what_cannot_be_written()
    for number in ending_signals():
        signal.signal(number, _terminate)
    try:
        shorten_sockets()
        place_caches()
        status = main()
        sys.stdout.flush()
    except InputError as error:
        for mistake in error.mistakes:
            print(f"error: {printable(mistake)}", file=sys.stderr)
        status = 2
    except SegtuneError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt as error:
        _say("interrupted", error)
        status = 128 + signal.SIGINT
    except Terminated as error:
        _say("terminated", error)
        status = 128 + error.number
    except OSError as error:  # a full disk, a folder that may not be written
        _say(f"error: {_shortened(error.filename or 'writing')}: {error.strerror or error}", error)
        status = 2 if error.errno == errno.ENAMETOOLONG else 1  # nobody but the user names files
    sys.exit(status)


@contextmanager
def hinted(hint: str) -> Iterator[None]:
    """Say, as the last line, how to go on when the block is interrupted, terminated, or cannot write a file."""
    try:
        yield
    except (KeyboardInterrupt, Terminated, OSError) as error:
        if hint:
            error.add_note(hint)
        raise


def _shortened(path: object) -> str:
    text = str(path)
    return text if len(text) <= _LONGEST_PATH else f"{text[:_LONGEST_PATH]}..."


def _say(line: str, error: BaseException) -> None:
    notes = getattr(error, "__notes__", [])
    for said in [line, *notes[:1]]:  # the innermost hint: it knows most
        print(printable(said), file=sys.stderr)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
