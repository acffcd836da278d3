"""The parser of the command line; it reports wrong flags like every other mistake of the user."""

from __future__ import annotations

import argparse
import itertools
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from segtune.cli.flags import ALIASES
from segtune.config import RunConfig
from segtune.errors import InputError, nearest

_SETTING_OF = {
    flag: name for name in RunConfig.model_fields for flag in (f"--{name.replace('_', '-')}", *ALIASES.get(name, ()))
}


class Parser(argparse.ArgumentParser):
    """A parser that raises InputError with all unknown flags, and takes no abbreviations.

    An abbreviation could mean another flag as soon as a flag is added. argparse's own `allow_abbrev` does not cover
    flags with one dash.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # argparse itself takes -1 for a value, but -1,-100 and -3.4e38 for unknown flags.
        self._negative_number_matcher = re.compile(r"-\.?[0-9]")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse the command line; raise InputError with every unknown flag before any other mistake."""
        typed = list(sys.argv[1:] if args is None else args)
        # Paths are stored in a study, in YAML and in JSON, which are all UTF-8.
        unreadable = [f"{name}: its name is not UTF-8; rename it" for name in (os.getcwd(), *typed) if not _utf8(name)]
        if unreadable:
            raise InputError(unreadable)
        flags = itertools.takewhile(lambda word: word != "--", typed)
        mistakes = [self._unknown(word) for word in flags if self._is_flag(word) and not self._knows(word)]
        if mistakes:
            raise InputError(f"{mistake} (see --help)" for mistake in mistakes)
        return super().parse_known_args(typed, namespace)

    def error(self, message: str) -> Any:
        """Raise InputError; argparse calls this for a wrong flag or value."""
        raise InputError(f"{message} (see --help)")

    def _is_flag(self, word: str) -> bool:
        return word[:1] == "-" and len(word) > 1 and " " not in word and not self._negative_number_matcher.match(word)

    def _knows(self, word: str) -> bool:
        """Return whether a word is a known flag: ``--flag``, ``--flag=value``, or a letter and its value, ``-e3``."""
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
    return not any("\udc80" <= char <= "\udcff" for char in name)  # how Python shows bytes that are not UTF-8


def _starting(known: Iterable[str], start: str) -> list[str]:
    return [flag for flag in known if flag.startswith(start)]


def make_parser(manual: str) -> Parser:
    """Return a parser whose help begins with the script's docstring, not with a usage line of fifty flags."""
    form = argparse.RawDescriptionHelpFormatter
    return Parser(description=manual, usage=argparse.SUPPRESS, formatter_class=form, allow_abbrev=False)
