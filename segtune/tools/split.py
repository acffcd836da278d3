"""Split a folder of tiles into train, val and test, and say how much leaks between them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from segtune.data.diagnosis import Finding
from segtune.data.exclusion import FILE, read_exclusion
from segtune.data.leaks import find_leaks, read_traces
from segtune.data.listing import SUFFIXES, list_folder
from segtune.data.mask_values import count_labels
from segtune.data.pairs import find_tiles
from segtune.data.reading import read_header, read_mask
from segtune.data.tiles import Layout, Split, Tile
from segtune.errors import InputError, counted, first_few
from segtune.evaluation.intervals import tile_groups
from segtune.files.atomic import write_text
from segtune.files.checks import check_writable, read_own_json
from segtune.machine import available_cpus
from segtune.tools.blocks import Spot, blocks_of, in_pixels, spot_of, too_near
from segtune.tools.placing import joined_tree, place_file
from segtune.tools.shares import assign
from segtune.tools.tile_files import SPLITS, all_names, files_by_tile
from segtune.tools.windows import TILE_NAME

RECORD = "split.json"  # in the new data set: what was split how
_LIST_HEAD = "# written by python -m segtune.tools split"
_TILES_PER_BLOCK = 4  # along its side, unless --block says otherwise
_KINDS = {  # of leaks, for people
    "duplicate": "duplicates",
    "near_duplicate": "near duplicates",
    "same_place": "the same place",
    "overlap": "overlapping",
    "neighbours": "directly beside one",
}

_OF_PLACES = {"same_place", "overlap", "neighbours"}

Progress = Callable[[int, int, str], None]  # done, all, and what is done
Found = TypeVar("Found")


@dataclass(frozen=True)
class How:
    """How tiles are split."""

    by: str  # random, scene, blocks, or group
    shares: tuple[float, ...]  # of train, val and test
    seed: int
    pattern: str = ""  # of groups
    block: int | None = None  # pixels, the side of a block
    gap: int = 0  # pixels that lie at least between tiles of different splits
    stratify: bool = True

    def plain(self) -> dict[str, Any]:
        """Return what was asked as JSON values."""
        return {name: value for name, value in vars(self).items() if value not in ("", None)}


@dataclass(frozen=True)
class Divided:
    """Tiles and their splits."""

    tiles: Split
    splits: tuple[str | None, ...]  # of each tile; None for one that is left out
    groups: tuple[str, ...]
    pixels: tuple[Mapping[int, int], ...]  # of each label

    def of(self, split: str | None) -> list[int]:
        """Return the positions of a split's tiles."""
        return [place for place, own in enumerate(self.splits) if own == split]

    @property
    def names(self) -> list[str]:
        """The splits in their order."""
        return [name for name in SPLITS if name in self.splits]

    def table(self) -> Iterator[str]:
        """Yield a line for each split: tiles, groups, and the share of each label among its pixels."""
        labels = sorted({label for counts in self.pixels for label in counts})
        yield "".join([f"{'':10}{'tiles':>8}{'groups':>8}", *(f"{label:>9}" for label in labels)])
        left_out = self.of(None)
        for name, places in [
            *((name, self.of(name)) for name in self.names),
            *([("left out", left_out)] * bool(left_out)),
        ]:
            counts = sum((Counter(self.pixels[place]) for place in places), Counter[int]())
            total = max(sum(counts.values()), 1)
            groups = len({self.groups[place] for place in places})
            shares = "".join(f"{counts[label] / total:>9.2%}" for label in labels)
            yield f"{name:10}{len(places):>8}{groups:>8}{shares}"


def find_set(folder: Path, images_dir: str, masks_dir: str, channels: Sequence[str] | None) -> tuple[Split, Layout]:
    """Find the tiles of a folder; without `channels`, all other folders of images in it are extra channels."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of tiles")
    if channels is None:
        others = [name for name in list_folder(folder).folders if name not in (images_dir, masks_dir)]
        channels = [name for name in others if _holds_images(folder / name)]
    layout = Layout(images_dir, masks_dir, channels=tuple(channels))
    return find_tiles(folder, layout), layout


def _holds_images(folder: Path) -> bool:
    return any(os.path.splitext(name)[1].lower() in SUFFIXES for name in list_folder(folder).files)


def divide(tiles: Split, how: How, progress: Progress) -> Divided:
    """Assign each tile to a split.

    Raises InputError where a file cannot be read, where names or places do not tell the groups, and where there are
    fewer groups than splits.
    """
    spots: list[Spot] = []
    if how.by == "blocks":
        look = _saying(progress, "reading places")
        spots = in_pixels(_each(tiles, lambda tile: spot_of(tile.name, tile.image), look))
    pixels = _each(tiles, lambda tile: count_labels(read_mask(tile.mask)), _saying(progress, "reading masks"))
    groups = _groups(tiles, how, spots)
    placed = assign(groups, pixels if how.stratify else [{}] * len(tiles), how.shares, how.seed)
    gone = too_near(spots, placed, how.gap) if how.by == "blocks" else [False] * len(tiles)
    splits = tuple(None if out else SPLITS[place] for place, out in zip(placed, gone, strict=True))
    lost = [name for name in SPLITS[: len(how.shares)] if name not in splits]
    if lost:
        raise InputError(f"--gap: leaves {lost[0]} without a tile; make it smaller, or the blocks larger (--block)")
    return Divided(tiles, splits, tuple(groups), tuple(pixels))


def _saying(progress: Progress, what: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(done, total, what)


def _each(tiles: Split, look: Callable[[Tile], Found], progress: Callable[[int, int], None]) -> list[Found]:
    """Return what `look` finds for each tile, on all cores; InputError with the mistakes of all of them."""
    found: list[Found] = []
    mistakes: list[str] = []

    def looked(tile: Tile) -> Found | InputError:
        try:
            return look(tile)
        except InputError as error:
            return error

    with ThreadPoolExecutor(available_cpus()) as pool:
        for done, one in enumerate(pool.map(looked, tiles), start=1):
            if isinstance(one, InputError):
                mistakes += one.mistakes
            else:
                found.append(one)
            progress(done, len(tiles))
    if mistakes:
        raise InputError(mistakes)
    return found


def _groups(tiles: Split, how: How, spots: Sequence[Spot]) -> list[str]:
    names = list(tiles.names)
    if how.by == "random":
        return names
    if how.by == "group":
        return tile_groups(names, how.pattern)
    if how.by == "blocks":
        return blocks_of(spots, how.block or _TILES_PER_BLOCK * _side(tiles))
    matches = {name: TILE_NAME.fullmatch(name) for name in names}
    strange = [name for name, match in matches.items() if match is None]
    if strange:
        raise InputError(
            f"--by scene: {counted(len(strange), 'name')} do not tell their scene as SCENE_r0512_c1024 does: "
            f"{first_few(strange, 3)}; --group PATTERN says which part of a name is the scene"
        )
    return [match["scene"] for match in matches.values() if match]


def _side(tiles: Split) -> int:
    header = read_header(tiles[0].image)
    return max(header.height, header.width)


def leaks(divided: Divided, progress: Progress) -> tuple[list[str], list[Finding]]:
    """Return a line for each later split that says how many of its tiles leak, and the findings behind it."""
    kept = [place for place, split in enumerate(divided.splits) if split]
    images = [(divided.tiles.names[place], divided.tiles[place].image) for place in kept]
    read = list(read_traces(images, _saying(progress, "looking for leaks")))
    traces = [trace for trace in read if not isinstance(trace, InputError)]
    if len(traces) < len(read):
        raise InputError(line for trace in read if isinstance(trace, InputError) for line in trace.mistakes)
    findings = find_leaks(traces, [str(divided.splits[place]) for place in kept])
    lines = []
    for split in divided.names[1:]:
        by_kind: dict[str, set[str]] = {}
        for finding in findings:
            for one, other in finding.pairs:
                if other.startswith(f"{split}/") and not one.startswith(f"{split}/"):
                    by_kind.setdefault(finding.kind, set()).add(other)
        number = len(set().union(*by_kind.values()))
        kinds = ", ".join(f"{len(tiles)} {_KINDS.get(kind, kind)}" for kind, tiles in by_kind.items())
        earlier = " or ".join(divided.names[: divided.names.index(split)])
        shown = f"{split}: {number} of {counted(len(divided.of(split)), 'tile')} {'leaks' if number == 1 else 'leak'}"
        lines.append(f"{shown} from {earlier}{f' ({kinds})' if kinds else ''}")
    return lines, findings


def leak_remarks(findings: Sequence[Finding], by: str) -> list[str]:
    """Return a line on each finding, with one pair as an example, and one on how tiles of one place stay together."""
    lines, kinds = [], {finding.kind for finding in findings}
    for finding in findings:
        if not finding.pairs:
            lines.append(f"{finding.severity}: {finding.what}; {finding.do}")
            continue
        one, other = finding.pairs[0]
        such = f"such as {one} and {other}" if len(finding.pairs) > 1 else f"{one} and {other}"
        lines.append(f"{finding.severity}: {finding.kind}: {counted(len(finding.pairs), 'pair')} of tiles, {such}")
    if kinds & _OF_PLACES:
        how = "a larger --gap leaves" if by == "blocks" else "--by blocks keeps places together, and --gap N leaves"
        lines.append(f"{how} out tiles that lie too near to another split")
    return lines


def exclusion_remarks(divided: Divided, dataset: Path) -> list[str]:
    """Return a line where the data set's list of tiles to leave out names tiles that are not in the named split."""
    path = dataset / FILE
    listed = read_exclusion(path) if path.is_file() else {}
    placed = set(zip(divided.splits, divided.tiles.names, strict=True))
    absent = [f"{split}/{name}" for split, names in listed.items() for name in names if (split, name) not in placed]
    if not absent:
        return []
    are = "is" if len(absent) == 1 else "are"
    return [
        f"warning: {path}: {len(absent)} of its tiles {are} not in the named split: {first_few(absent)}; training will "
        f"refuse these lines, so correct or delete them"
    ]


def check_earlier(to: Path, force: bool) -> list[Path]:
    """Return the files of an earlier split that a new one replaces in a data set.

    Raises InputError where splits are there already, unless `force` is set, this tool made them, and the tiles are
    also elsewhere.
    """
    check_writable(to, "--to")
    there = [name for name in SPLITS if (to / name).exists() or (to / f"{name}.txt").exists()]
    if not there:
        return []
    if not force:
        raise InputError(
            f"--to: {to} has {' and '.join(there)} already; give another folder, or --force to replace them"
        )
    record = read_own_json(to / RECORD, "files", "--to")
    if record is None or record.get("with") == "move":
        why = "holds the only copies of tiles that were moved" if record else f"was not made by this tool (no {RECORD})"
        raise InputError(f"--to: {to} {why}, so --force does not replace it; give another folder")
    names = [name for name in record["files"] if isinstance(name, str)] if isinstance(record["files"], list) else []
    paths = [PurePosixPath(name) for name in names]
    own = [to / path for path in paths if path.parts[:1] and path.parts[0] in SPLITS and ".." not in path.parts]
    only = [path for path in own if record.get("with") == "link" and path.is_file() and path.lstat().st_nlink == 1]
    if only:
        raise InputError(
            f"--to: {to} holds the only copies of {counted(len(only), 'linked file')} now, such as {only[0]}, so "
            f"--force does not replace it; give another folder"
        )
    return own


def place(divided: Divided, layout: Layout, how: How, to: Path, way: str, replaced: Sequence[Path]) -> int:
    """Link, copy or move the files of all tiles to TO/SPLIT/FOLDER; return how many.

    Files that change what is read from an image, such as world files, go with it. Nothing changes where one fails.
    """
    files = list(_files(divided, layout))
    with joined_tree(to, replaced) as tree:
        for source, target in files:
            place_file(source, tree / target, way == "copy", "--with copy")
        record = {"from": str(Path(divided.tiles.folders[0]).parent), "with": way, **how.plain()}
        record["files"] = [target.as_posix() for _, target in files]
        (tree / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
    if way == "move":
        for source, _ in files:
            source.unlink()
    return len(files)


def _files(divided: Divided, layout: Layout) -> Iterator[tuple[Path, Path]]:
    """Yield each file of the tiles, and its place in the data set."""
    known = all_names(divided.tiles)
    for name, folder in zip(
        (layout.images_dir, layout.masks_dir, *layout.channels), divided.tiles.folders, strict=True
    ):
        files = files_by_tile(Path(folder), known)
        for tile, split in zip(divided.tiles.names, divided.splits, strict=True):
            if split:
                yield from ((Path(folder, file), Path(split, name, file)) for file in files[tile])


def check_lists(folder: Path, force: bool) -> list[Path]:
    """Return the list files in a folder of tiles, which new ones replace; InputError unless they may be replaced."""
    check_writable(folder, str(folder))
    there = [path for name in SPLITS if (path := folder / f"{name}.txt").exists()]
    for path in there:
        if not force:
            raise InputError(f"{path}: exists already; --force replaces it")
        if not path.read_text(encoding="utf-8", errors="replace").startswith(_LIST_HEAD):
            raise InputError(f"{path}: was not written by this tool, so --force does not replace it; move it away")
    for name in SPLITS:
        if (folder / name).is_dir():
            raise InputError(f"{folder / name}: lies beside the lists, and both could define the tiles; move it away")
    return there


def write_lists(divided: Divided, how: How, folder: Path, replaced: Sequence[Path]) -> None:
    """Write TRAIN.txt and the others into the folder of tiles, which is a data set then."""
    new = {folder / f"{split}.txt": divided.of(split) for split in divided.names}
    for path, places in new.items():
        names = "\n".join(divided.tiles.names[place] for place in places)
        write_text(path, f"{_LIST_HEAD}: {json.dumps(how.plain())}\n{names}\n")
    for path in replaced:
        if path not in new:
            path.unlink()
