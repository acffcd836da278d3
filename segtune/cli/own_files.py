"""Which files of an OUT are validate.py's own: it replaces and deletes these, and no others."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from segtune.cli.places import Place
from segtune.cli.validate_flags import TILE_FOLDERS
from segtune.data.listing import FACTS
from segtune.errors import InputError
from segtune.files.atomic import write_text
from segtune.files.checks import read_own_json

RECORD = ".segtune.json"  # in OUT
_KEY = "validate.py"
_MEASURED, _PREDICTED = "measured", "predicted"


class OwnFiles:
    """The files that runs of validate.py wrote into an OUT.

    Names are recorded before the files are written, so a run that was interrupted can be repeated.

    Parameters
    ----------
    place: the model, the data, and OUT.
    named: whether -o names OUT. Otherwise it lies in the model's folder, and all in it is of validate.py.
    """

    def __init__(self, place: Place, named: bool) -> None:
        self._out, self._named = place.out, named
        kinds = (_MEASURED, _PREDICTED) if place.measurable else (_PREDICTED, _MEASURED)
        self._kind, self._other_kind = kinds
        self._source = {"model": str(place.model.resolve()), "data": [str(path.resolve()) for path in place.data]}
        record = (read_own_json(self._out / RECORD, _KEY, "-o") or {_KEY: {}})[_KEY]
        try:
            self._earlier_source, self._earlier = _part(record, self._kind)
            self._other = _part(record, self._other_kind)
        except (AttributeError, TypeError, ValueError):
            raise InputError(f"-o: {self._out / RECORD} is damaged; give another folder") from None
        self._now: set[str] = set()

    def check(self, path: Path, flag: str = "-o") -> None:
        """Raise InputError, naming the flag, where a file exists that no earlier run wrote."""
        everything = not self._named and path.is_relative_to(self._out)
        check_replaceable(path, everything or self._name(path) in self._earlier | self._other[1], flag)

    def claim(self, paths: Iterable[Path]) -> None:
        """Record files that this run is about to write, beside those of earlier runs."""
        self._now |= {self._name(path) for path in paths}
        self._record(self._earlier_source or self._source, self._earlier | self._now)

    def finish(self, folders: Collection[str]) -> None:
        """Delete what earlier runs left in the folders that this run wrote, as far as it was not replaced.

        Where other tiles, or those of another model, were measured, all of it goes: masks and scores in an OUT belong
        together. Predictions of other images stay where -o names OUT, since people collect them there.
        """
        same = not self._earlier_source or self._earlier_source == self._source
        collected = not same and self._named and self._kind == _PREDICTED
        kept = {
            name
            for name in self._earlier
            if collected or name in self._other[1] or _outside(name) or (same and name.split("/")[0] not in folders)
        }
        for name in self._earlier - self._now - kept:
            path = self._out / name
            if not path.parent.is_symlink():
                path.unlink(missing_ok=True)
                path.with_name(path.name + FACTS).unlink(missing_ok=True)
        self._record(self._source, self._now | kept)

    def _name(self, path: Path) -> str:
        inside = path.is_relative_to(self._out)
        return path.relative_to(self._out).as_posix() if inside else str(path.resolve())

    def _record(self, source: Mapping[str, object], files: Iterable[str]) -> None:
        self._out.mkdir(parents=True, exist_ok=True)
        other, names = self._other
        parts = {
            self._kind: {**source, "files": sorted(files)},
            self._other_kind: {**other, "files": sorted(names)},
        }
        write_text(self._out / RECORD, json.dumps({_KEY: parts}, indent=2) + "\n")


def check_replaceable(path: Path, own: bool, flag: str = "-o") -> None:
    """Raise InputError, naming the flag, where a file exists that no earlier run wrote."""
    if path.exists() and not own:
        another = "another folder" if flag == "-o" else "another name"
        raise InputError(f"{flag}: {path} exists, and was not written by an earlier run; give {another}")


def _part(record: Any, kind: str) -> tuple[dict[str, Any], frozenset[str]]:
    """Return model and data of the last run of a kind, and the files of all of them; empty where there was none."""
    part = dict(record.get(kind, {}))
    return part, frozenset(map(str, part.pop("files", ())))


def _outside(name: str) -> bool:
    """Return whether a recorded file is none in OUT or in one of its folders: those are never deleted."""
    folder, file = os.path.split(name)
    return folder not in ("", *TILE_FOLDERS) or file in ("", ".", "..")
