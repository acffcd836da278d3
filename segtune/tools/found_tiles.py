"""The tiles that `check --json` names: worst first, pairs beside each other, and read as far as they can be."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segtune.config import RunConfig
from segtune.data.alpha import alpha_taken
from segtune.data.diagnosis import SEVERITIES
from segtune.data.pairs import find_pairs
from segtune.data.reading import TilePixels, read_tile
from segtune.data.splits import places_with_test
from segtune.data.tiles import Layout, ReadSettings, Split
from segtune.errors import InputError, nearest
from segtune.tools.annotations import entries, read_json

Names = tuple[str, ...]  # of the tiles in a row, as SPLIT/NAME


@dataclass(frozen=True)
class Named:
    """What a file of findings says of tiles."""

    rows: tuple[Names, ...]  # one tile, or two that are alike or meet; those of errors first
    notes: dict[str, str]  # of each tile, what was found: "warning: constant, duplicate"

    @property
    def tiles(self) -> int:
        """The number of tiles."""
        return len(self.notes)


def named_in(path: Path, kinds: Collection[str] = ()) -> Named:
    """Read which tiles a file of `check --json` names, those of errors first, then warnings, then notes.

    Of pairs whose tiles are all there already, as in groups of copies, only the first ones are returned.

    Parameters
    ----------
    path: the file.
    kinds: the kinds of findings that count; empty for all.

    Raises InputError where the file is another one, or where no finding of these kinds names a tile.
    """
    if not path.is_file():
        raise InputError(f"--findings: {path}: no such file; python -m segtune.tools check DATASET --json {path}")
    content = read_json(path)
    if content.get("format") != 1 or "findings" not in content:
        raise InputError(f"--findings: {path} is not a file that check --json writes")
    found = sorted(entries(content, "findings", path), key=lambda one: _severity(one, path))
    held = {str(one.get("kind")) for one in found}
    for kind in kinds:
        if kind not in held:
            raise InputError(f"--kind: {path} has no finding {kind!r}{nearest(kind, held)}")
    rows: list[Names] = []
    seen: set[str] = set()
    notes: dict[str, dict[str, None]] = {}
    for one in found:
        if kinds and one.get("kind") not in kinds:
            continue
        pairs, tiles = (_names(one.get(key), path) for key in ("pairs", "tiles"))
        paired = {name for pair in pairs for name in pair}
        for row in (*pairs, *(row for row in tiles if row[0] not in paired)):
            if not seen.issuperset(row):
                rows.append(row)
            seen.update(row)
            for name in row:
                notes.setdefault(name, {})[f"{one['severity']}: {one.get('kind')}"] = None
    if not rows:
        meant = f" of kind {' or '.join(kinds)}" if kinds else ""
        raise InputError(f"--findings: no finding{meant} in {path} names tiles, so there are none to draw")
    return Named(tuple(rows), {name: ", ".join(found) for name, found in notes.items()})


def _severity(finding: dict[str, object], path: Path) -> int:
    found = finding.get("severity")
    if found not in SEVERITIES:
        raise InputError(f"--findings: {path} has a finding of severity {found!r}; check --json writes another file")
    return SEVERITIES.index(found)


def _names(value: object, path: Path) -> list[Names]:
    """Return the rows of a list of names, or of a list of pairs of names."""
    rows = [(row,) if isinstance(row, str) else row for row in value] if isinstance(value, list) else [None]
    if not all(isinstance(row, (list, tuple)) and row and all(isinstance(name, str) for name in row) for row in rows):
        raise InputError(f"--findings: {path} has a finding whose tiles are no names; check --json writes another file")
    return [tuple(row) for row in rows if row]


Read = list[TilePixels]  # of the tiles in a row


def read_rows(
    config: RunConfig, channels: Sequence[str], rows: Sequence[Names], most: int
) -> tuple[list[tuple[Names, Read]], list[str]]:
    """Read rows of tiles until there are `most` tiles, although some files of the set may be damaged or missing.

    Returns the rows that can be drawn, and a line for each row before the last of them that cannot. Raises InputError
    where the folders of a split are missing.
    """
    places = places_with_test(config)
    layout = Layout.of(config, channels)
    splits = {name: find_pairs(place, layout)[0] for name, place in places.items() if place.exists()}
    drawn: list[tuple[Names, Read]] = []
    failed: list[str] = []
    taken = 0
    for row in rows:
        if taken and taken + len(row) > most:
            break
        try:
            drawn.append((row, [_read(name, splits, config) for name in row]))
        except InputError as error:
            failed.append(error.mistakes[0])
            continue
        taken += len(row)
    return drawn, failed


def _read(name: str, splits: Mapping[str, Split], config: RunConfig) -> TilePixels:
    split, _, own = name.rpartition("/")
    names = splits[split].names if split in splits else ()
    if own not in names:
        raise InputError(f"{name}: {config.dataset} does not have both image and mask of it")
    tile = splits[split][names.index(own)]
    alpha = alpha_taken([tile.image]) if config.alpha == "auto" else None
    return read_tile(tile, ReadSettings(config.nodata, alpha.taken if alpha else config.alpha))
