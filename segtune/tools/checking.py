"""Check a whole data set: pair its files, look at every tile once, and collect all findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segtune.config import RunConfig
from segtune.data.alpha import alpha_taken
from segtune.data.checks import has_jpeg
from segtune.data.diagnosis import Finding, by_severity
from segtune.data.exclusion import check_splits, exclusion_lines
from segtune.data.leaks import Trace, find_leaks
from segtune.data.likeness import Likeness
from segtune.data.listing import SUFFIXES, list_folder
from segtune.data.pairs import Unpaired, find_pairs
from segtune.data.reading import Image, TilePixels, Valid, has_data, read_image, read_mask, read_tile
from segtune.data.splits import places_with_test
from segtune.data.tiles import TRAIN, Layout, ReadSettings, Split
from segtune.errors import InputError, first_few
from segtune.machine import versions
from segtune.tools.exchanged import exchanges
from segtune.tools.image_findings import fills_of, image_findings
from segtune.tools.looks import Look, look_at_all
from segtune.tools.mask_findings import Meaning, mask_findings, pixels_by_split

FORMAT = 1  # of the JSON
_SAMPLED_ALPHA = 32  # images whose alpha bands are examined


@dataclass(frozen=True)
class Checked:
    """What a check found in a data set."""

    dataset: str
    channels: tuple[str, ...]
    tiles: Mapping[str, int]  # that were looked at, by split
    labels: Mapping[str, Mapping[int, int]]  # pixels of each label, by split
    holders: Mapping[str, Mapping[int, int]]  # tiles that hold each label, by split
    findings: Sequence[Finding]  # errors first
    remarks: Sequence[str]  # lines on what was left out
    own: frozenset[str]  # splits that lie in the data set's folder under their names, as lists of tiles name them

    def plain(self) -> dict[str, Any]:
        """Return the result as JSON values; see docs/data-tools.md."""
        splits = {
            split: {
                "tiles": self.tiles[split],
                "labels": {
                    str(label): {
                        "pixels": number,
                        "share": number / sum(self.labels[split].values()),
                        "tiles": self.holders[split][label],
                    }
                    for label, number in self.labels[split].items()
                },
            }
            for split in self.tiles
        }
        return {
            "format": FORMAT,
            "segtune": versions()["segtune"],
            "dataset": self.dataset,
            "channels": list(self.channels),
            "splits": splits,
            "findings": [finding.plain() for finding in self.findings],
        }

    def reasons(self) -> dict[str, list[str]]:
        """Return why each tile that a finding would leave out is to be left out, by SPLIT/NAME."""
        found: dict[str, list[str]] = {}
        for finding in self.findings:
            for tile in finding.leave_out:
                if tile.rpartition("/")[0] not in self.own:
                    continue
                partners = {other for pair in finding.pairs if tile in pair for other in pair if other != tile}
                found.setdefault(tile, []).append(" ".join([finding.kind, *sorted(partners)[:1]]))
        return found


def check_data_set(
    config: RunConfig, channels: Sequence[str] | None, with_classes: bool, progress: Callable[[int, int], None]
) -> Checked:
    """Read every tile of a data set once and return all that is wrong with it.

    Parameters
    ----------
    config: where the data lies and how it is read.
    channels: the extra channels; None for all folders beside images and masks that every split has.
    with_classes: whether `config.classes` is meant; otherwise all labels count.
    progress: called with the number of tiles read and the number to read.

    Raises InputError where no data set is found.
    """
    places = places_with_test(config)
    if not any(place.exists() for place in places.values()):
        raise InputError(f"{config.dataset}: has neither {TRAIN}/ nor val/, and no list of tiles ({TRAIN}.txt)")
    own_channels = channels_by_split(places, config) if channels is None else {}
    channels = tuple(_everywhere(own_channels) if channels is None else channels)
    tiles, findings = _pair(places, Layout.of(config, channels))
    findings += _lacking(own_channels)
    findings += _unpaired_channels(places, tiles, own_channels, config)
    try:
        check_splits(Path(config.dataset))
    except InputError as error:
        do = "name tiles as train/tile_12 (docs/data-sets.md)"
        findings += [Finding("error", "folders", mistake, do) for mistake in error.mistakes]
    settings = _settings(tiles, config, findings)
    looks = list(look_at_all(list(tiles.items()), settings, progress))
    findings += _faults(looks)
    meaning = Meaning(tuple(config.classes) if with_classes else (), tuple(config.ignore))
    positions = {f"{split}/{name}": (split, i) for split, found in tiles.items() for i, name in enumerate(found.names)}

    def read(name: str) -> TilePixels:
        split, position = positions[name]
        return read_tile(tiles[split][position], settings)

    exchanged = exchanges(looks, meaning.ignore)
    findings += mask_findings(looks, meaning, read, exchanged)
    fills = fills_of(looks, channels)
    findings += image_findings(looks, channels, fills, exchanged)

    def read_again(name: str) -> tuple[Image, Valid]:
        split, position = positions[name]
        return read_image(tiles[split][position].image, settings)

    findings += _leaks(looks, [fill.value for fill in fills], read_again)
    counts = {split: len(found) for split, found in tiles.items()}
    labels = {split: dict(sorted(found.items())) for split, found in pixels_by_split(looks).items()}
    holders = {
        split: {label: sum(label in look.labels for look in looks if look.split == split) for label in found}
        for split, found in labels.items()
    }
    remarks = exclusion_lines(found.excluded for found in tiles.values())
    root = Path(config.dataset).resolve()
    own = frozenset(name for name, place in places.items() if place.resolve().with_suffix("") == root / name)
    return Checked(config.dataset, channels, counts, labels, holders, by_severity(findings), remarks, own)


def channel_folders(places: Iterable[Path], config: RunConfig) -> list[str]:
    """Return the names of the folders beside images and masks that hold images in every split."""
    return _everywhere(channels_by_split({str(place): place for place in places}, config))


def _leaks(
    looks: Sequence[Look],
    fills: Sequence[float],
    read: Callable[[str], tuple[Image, Valid]],
) -> list[Finding]:
    """Return the leaks between splits; `read` reads an image again, whose pixels of values in `fills` hold no data.

    Equal areas without data make two tiles alike: what looks alike because of them is compared without them.
    """
    traced = [(look.name, look.trace) for look in looks if look.trace]
    splits = [look.split for look in looks if look.trace]
    seen = [look for look in looks if look.trace]

    def differ(one: int, other: int) -> bool:
        return _contradict(seen[one], seen[other])

    found = find_leaks([trace for _, trace in traced], splits, differ)
    alike = {name for finding in found if finding.kind == "near_duplicate" for name in finding.tiles}
    if not fills or not alike:
        return found

    def without_fills(name: str, trace: Trace) -> Trace:
        image, valid = read(name)
        for fill in fills:
            valid = valid & has_data(image.transpose(2, 0, 1), [fill] * image.shape[2])
        return replace(trace, likeness=Likeness.of(image, valid))

    return find_leaks([without_fills(*one) if one[0] in alike else one[1] for one in traced], splits, differ)


def _contradict(one: Look, other: Look) -> bool:
    """Return whether the masks of two tiles differ."""
    if not (one.labelled and other.labelled):
        return False
    return not np.array_equal(read_mask(Path(one.mask)), read_mask(Path(other.mask)))


def channels_by_split(places: Mapping[str, Path], config: RunConfig) -> dict[str, set[str]]:
    """Return for each split that exists the names of the folders beside images and masks that hold images."""
    found: dict[str, set[str]] = {}
    for split, place in places.items():
        root = place if place.is_dir() else place.parent
        if place.exists():
            folders = list_folder(root).folders
            images = {name for name in folders if any(_is_image(file) for file in list_folder(root / name).files)}
            found[split] = images - {config.images_dir, config.masks_dir}
    return found


def _everywhere(channels: Mapping[str, set[str]]) -> list[str]:
    return sorted(set.intersection(*channels.values())) if channels else []


def _lacking(channels: Mapping[str, set[str]]) -> Iterator[Finding]:
    """Yield a finding for each folder of images that some splits have and others lack."""
    for name in sorted(set().union(*channels.values()) if channels else ()):
        having = [split for split, own in channels.items() if name in own]
        for split, own in channels.items():
            if name in own:
                continue
            near = next((other for other in sorted(own) if other.lower() == name.lower()), None)
            if near and near < name:  # told once for both names
                continue
            has = "has" if len(having) == 1 else "have"
            what = f"{split} has no {name}/, {' and '.join(having)} {has}, so it is no channel of the set"
            if near:
                what, do = f"{what}; {split} has {near}/", f"give {near}/ and {name}/ one name"
            else:
                do = f"add {name}/ to {split}; if it is no channel, name those that are (--channels none if none is)"
            yield Finding("warning", "channel_absent", what, do)


def _unpaired_channels(
    places: Mapping[str, Path], tiles: Mapping[str, Split], channels: Mapping[str, set[str]], config: RunConfig
) -> Iterator[Finding]:
    """Yield files without a partner in channels that some split lacks, which are not read as channels of tiles."""
    common = set(_everywhere(channels))
    for split, found in tiles.items():
        for name in sorted(channels.get(split, common) - common):
            try:
                paired, unpaired = find_pairs(places[split], Layout.of(config, (*sorted(common), name)))
            except InputError as error:
                do = "correct the folder, or name the channels (--channels)"
                yield from (Finding("error", "folders", mistake, do) for mistake in error.mistakes)
                continue
            if 2 * len(paired) > len(found):  # otherwise these are other pictures than a channel's
                root = places[split] if places[split].is_dir() else places[split].parent
                yield from (_alone(split, one) for one in unpaired if f" in {root / name}:" in one.what)


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _pair(places: Mapping[str, Path], layout: Layout) -> tuple[dict[str, Split], list[Finding]]:
    """Return the tiles of each split whose files are all there, and what is wrong with the others."""
    tiles: dict[str, Split] = {}
    findings: list[Finding] = []
    for split, place in places.items():
        try:
            tiles[split], unpaired = find_pairs(place, layout)
        except InputError as error:
            do = "correct the folders, or say where they lie (docs/data-sets.md)"
            findings += [Finding("error", "folders", mistake, do) for mistake in error.mistakes]
            continue
        for found in unpaired:
            findings.append(_alone(split, found))
        for line in tiles[split].unread:
            findings.append(Finding("warning", "unread", line, "convert these files, or move them away"))
        if has_jpeg(tiles[split]):
            what = f"{tiles[split].folders[1]}: JPEG does not keep labels"
            findings.append(
                Finding("warning", "mask_jpeg", what, "write masks as PNG (python -m segtune.tools relabel)")
            )
    return tiles, findings


def _alone(split: str, found: Unpaired) -> Finding:
    named = tuple(f"{split}/{name}" for name in sorted(found.names))
    return Finding("error", "unpaired", found.what, "add the files, or leave the tiles out", named, (), named)


def _settings(tiles: Mapping[str, Split], config: RunConfig, findings: list[Finding]) -> ReadSettings:
    """Decide what an alpha band is, for all images alike; add a note on it where there is one."""
    alpha = config.alpha
    images = [tile.image for split in tiles.values() for tile in split[:: -(-len(split) // _SAMPLED_ALPHA) or 1]]
    try:
        found = alpha_taken(images) if alpha == "auto" else None
    except InputError:  # reported when the tiles are read
        found = None
    return ReadSettings(config.nodata, found.taken if found else alpha)


def _faults(looks: Sequence[Look]) -> Iterator[Finding]:
    """Yield one finding per kind of fault of single files, with the first few in words."""
    groups: dict[tuple[Any, str, str], dict[str, str]] = {}
    for look in looks:
        for fault in look.faults:
            groups.setdefault((fault.severity, fault.kind, fault.do), {}).setdefault(look.name, fault.what)
    for (severity, kind, do), found in groups.items():
        what = first_few(found.values(), 3)
        yield Finding(severity, kind, what, do, tuple(found), leave_out=tuple(found))
