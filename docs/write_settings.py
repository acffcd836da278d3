"""Write the tables of docs/settings.md from the code.

    python docs/write_settings.py            write them
    python docs/write_settings.py --check    change nothing; exit status 1 if the page is not current

A table stands between a line `<!-- NAME -->` and the next `<!-- end -->`. All other text of the page stays as it is.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # the scripts

from segtune.config import RunConfig  # noqa: E402
from segtune.fields import ROLES, choices  # noqa: E402
from segtune.roles import Change, declared  # noqa: E402
from segtune.space.settings import AtResume, SearchSettings  # noqa: E402

PAGE = ROOT / "docs" / "settings.md"
SCRIPTS = ("run_search", "run_single", "validate")
_SEARCH = "search_"  # how names of flags for settings of a search begin, inside the parser

Row = Sequence[str]


class _MadeError(Exception):
    """Carries the parser that a script made, in place of parsing."""


def parser_of(script: str) -> argparse.ArgumentParser:
    """Return the parser of one of the scripts."""

    def made(self: argparse.ArgumentParser, *_: Any) -> None:
        raise _MadeError(self)

    with patch.object(argparse.ArgumentParser, "parse_args", made):
        try:
            importlib.import_module(script).parse()
        except _MadeError as error:
            return error.args[0]
    raise RuntimeError(f"{script}.py parses no flags")


def flags_of(script: str, settings: bool) -> Iterator[argparse.Action]:
    """Yield the flags of a script: those of its group of settings, or its own. argparse has no public list of them."""
    for group in parser_of(script)._action_groups:
        if (group.title != "options") == settings:
            yield from (action for action in group._group_actions if action.dest != "help")


def run_settings() -> Iterator[Row]:
    """Yield a row for each setting of a run."""
    yield "setting", "default", "what it is", "in a search", "on resume"
    for name, field in RunConfig.model_fields.items():
        values = f"; one of {_listed(choices(name))}" if choices(name) else ""
        role = ROLES[name]
        searched = "" if role.searchable else "fixed"
        resumed = {Change.NEVER: "", Change.RUN: "run"}.get(role.change, "run, search")
        yield f"`{name}`", _value(field.default), f"{field.description}{values}", searched, resumed


def old_flags() -> Iterator[Row]:
    """Yield a row for each flag that stands for a setting of another name."""
    yield "old flag", "setting"
    for action in flags_of("run_single", settings=True):
        if action.dest in RunConfig.model_fields:
            own = f"--{action.dest.replace('_', '-')}"
            if old := [flag for flag in action.option_strings if flag != own]:
                yield _listed(old), f"`{action.dest}`"
        else:  # a short form of a setting
            yield _listed(action.option_strings), str(action.help)


def search_settings() -> Iterator[Row]:
    """Yield a row for each setting of a search."""
    yield "setting", "default", "what it is", "flag", "on resume"
    resumed = declared(SearchSettings, AtResume)
    flags = {action.dest: action.option_strings for action in flags_of("run_search", settings=False)}
    for name, field in SearchSettings.model_fields.items():
        flag = _listed(flags.get(_SEARCH + name, []))
        yield f"`{name}`", _value(field.default), str(field.description), flag, resumed[name].name.lower()


def script_flags() -> Iterator[Row]:
    """Yield a row for each flag of the scripts, without those of `search:` and run_single.py's flags of settings."""
    yield "script", "flag", "what it does"
    for script in SCRIPTS:
        for action in flags_of(script, settings=False):
            if not action.dest.startswith(_SEARCH):
                values = f" {action.metavar}" if action.metavar else ""
                yield f"`{script}.py`", f"{_listed(action.option_strings)}{values}", str(action.help)


TABLES = {
    "settings of a run": run_settings,
    "old flags": old_flags,
    "settings of a search": search_settings,
    "flags of the scripts": script_flags,
}


def current(page: str) -> str:
    """Return the page with its tables as the code has them."""
    for name, rows in TABLES.items():
        table = f"<!-- {name} -->\n{_table(rows())}\n<!-- end -->"
        page, found = re.subn(rf"<!-- {name} -->\n.*?<!-- end -->", lambda _: table, page, flags=re.DOTALL)  # noqa: B023
        if found != 1:
            raise RuntimeError(f"{PAGE}: needs one place for the table '{name}', but has {found}")
    return page


def main() -> int:
    """Write or check the page; return the exit status."""
    page = PAGE.read_text(encoding="utf-8")
    wanted = current(page)
    if page == wanted:
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{PAGE} is not current; run: python docs/write_settings.py", file=sys.stderr)
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


def _table(rows: Iterable[Row]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return f"`{','.join(map(str, value)) or 'none'}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return "" if value in (None, "") else f"`{value}`"


if __name__ == "__main__":
    sys.exit(main())
