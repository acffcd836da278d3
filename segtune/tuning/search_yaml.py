"""Store what a search was started with: search.yaml, and a copy in the study in case that file gets damaged."""

from __future__ import annotations

import tempfile
from collections.abc import Container
from dataclasses import replace
from pathlib import Path

import optuna

from segtune.errors import InputError
from segtune.files.atomic import set_aside, write_text
from segtune.files.folders import SearchFolder
from segtune.files.yamlfile import yaml_of
from segtune.remarks import Say
from segtune.space.reader import load_space
from segtune.space.settings import KEPT
from segtune.space.space import WEIGHTS, Space
from segtune.tuning.study import read_study
from segtune.vocabulary import yaml_text

_COPY = "search_yaml"  # user attribute of the study
_REMEDY = "--space FILE --resume, with the file of the first start, rewrites it"


def store_space(folder: SearchFolder, study: optuna.Study, space: Space) -> None:
    """Write search.yaml, and keep a copy in the study."""
    text = yaml_of(space.dump())
    write_text(folder.search_yaml, text)
    if study.user_attrs.get(_COPY) != text:
        study.set_user_attr(_COPY, text)


def stored_space(folder: SearchFolder) -> tuple[Space, str | None]:
    """Return the space that a search was started with, and a line if the study's copy replaces a damaged search.yaml.

    Raises InputError where there is no copy either, as of a search of an earlier release.
    """
    try:
        return load_space(folder.search_yaml), None
    except InputError as error:
        damage = error.mistakes[0]
    text = _copy(folder)
    if text is None:
        raise InputError(f"{damage}; {_REMEDY}")
    with tempfile.TemporaryDirectory(prefix="segtune-") as place:
        path = Path(place) / folder.search_yaml.name
        path.write_text(text, encoding="utf-8")
        space = load_space(path)
    return replace(space, path=folder.search_yaml, name=folder.search_yaml.stem), f"{damage}; the study's copy is used"


def mend_stored_space(folder: SearchFolder, damage: str, from_copy: bool) -> str:
    """Set a damaged search.yaml aside and write the study's copy, if there is one; return a line that says so.

    Raises InputError where there is no copy and the space is to come `from_copy`: nobody gave another file.
    """
    text = _copy(folder)
    if text is None and from_copy:
        raise InputError(f"{damage}; {_REMEDY}")
    aside = set_aside(folder.search_yaml, f"lost_{folder.search_yaml.name}")
    if text is None:
        return f"{damage}; moved to {aside}, and rewritten"
    write_text(folder.search_yaml, text)
    return f"{damage}; moved to {aside}, and rewritten from the study's copy"


def to_resume(space: Space, started: Space, given: Container[str], say: Say) -> Space:
    """Return the space to go on with: what the search was started with, but for its budget and the machine.

    Of these, what is not among `given`, the flags of this start, stays as it was; where the file says something else,
    a line tells so. Raises InputError where the search was started with something else.
    """
    first = started.baseline.encoder_weights
    space = space.with_weights(started.fixed.get(WEIGHTS, first), first)  # auto stays what it stood for
    if changes := space.changes_from(started):
        raise InputError(
            f"{started.path}: the search was started with other settings: {', '.join(changes)}; "
            f"only its budget (--trials, --time-budget, --patience) and the machine can change"
        )
    kept = {name: getattr(started.search, name) for name in KEPT if name not in given}
    for name, value in kept.items():
        if (other := getattr(space.search, name)) != value:
            flag = name.replace("_", "-")
            say(f"{name} stays {_plain(value)}, and is not {_plain(other)} as in {space.path}; --{flag} changes it")
    return space.with_search(kept)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else yaml_text(value)


def _copy(folder: SearchFolder) -> str | None:
    text = read_study(folder).user_attrs.get(_COPY)
    return text if isinstance(text, str) else None
