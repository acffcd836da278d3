"""A split's folder -> its tiles: image, mask and extra channels paired by file name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segtune.config import RunConfig
from segtune.errors import InputError, first_few

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
SPLITS = ("train", "val")


@dataclass(frozen=True)
class Tile:
    """The files of one tile."""

    name: str  # the file name without its extension
    image: Path
    mask: Path
    channels: tuple[Path, ...]

    def absolute(self) -> Tile:
        """The same with absolute paths."""
        channels = tuple(path.absolute() for path in self.channels)
        return Tile(self.name, self.image.absolute(), self.mask.absolute(), channels)


def find_data_set(config: RunConfig, channels: Sequence[str]) -> dict[str, list[Tile]]:
    """The tiles of train and val; raise InputError with what is wrong with either."""
    root = Path(config.dataset)
    if not root.is_dir():
        raise InputError(f"{root}: no such data set folder (dataset, -d)")
    found: dict[str, list[Tile]] = {}
    mistakes: list[str] = []
    for split in SPLITS:
        try:
            found[split] = find_tiles(root / split, config.images_dir, config.masks_dir, channels)
        except InputError as error:
            mistakes += error.mistakes
    if mistakes:
        raise InputError(mistakes)
    return found


def find_tiles(split: Path, images_dir: str, masks_dir: str, channels: Sequence[str]) -> list[Tile]:
    """The tiles of one split, sorted by name; raise InputError where a file has no partner."""
    if not split.is_dir():
        raise InputError(f"{split}: no such folder; a data set has train/ and val/ (its own folder goes to -d)")
    folders = [images_dir, masks_dir, *channels]
    missing = [f"{split / name}: no such folder" for name in folders if not (split / name).is_dir()]
    if missing:
        raise InputError(missing)
    files = {name: _by_stem(split / name) for name in folders}
    images = files[images_dir]
    if not images:
        raise InputError(f"{split / images_dir}: no images ({' '.join(SUFFIXES)})")
    mistakes = []
    for name in folders[1:]:
        mistakes += _unpaired(split / images_dir, images, split / name, files[name])
    mistakes += _unpaired(split / masks_dir, files[masks_dir], split / images_dir, images)
    if mistakes:
        raise InputError(mistakes)
    return [
        Tile(stem, images[stem], files[masks_dir][stem], tuple(files[name][stem] for name in channels))
        for stem in sorted(images)
    ]


def _by_stem(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    twice = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in files:
            twice.append(f"{files[path.stem].name} and {path.name}")
        files[path.stem] = path
    if twice:
        raise InputError(f"{folder}: the same name with two extensions: {first_few(twice)}")
    return files


def _unpaired(folder: Path, files: dict[str, Path], other: Path, partners: dict[str, Path]) -> list[str]:
    alone = [path.name for stem, path in files.items() if stem not in partners]
    if not alone:
        return []
    return [f"{folder}: {len(alone)} of {len(files)} files have no partner in {other}: {first_few(alone)}"]
