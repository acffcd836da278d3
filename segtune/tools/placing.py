"""Put files into new folders, whole or not at all; a file that exists is replaced only if that was asked for."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from segtune.data.listing import SUFFIXES, changes_reading, files_beside, list_folder
from segtune.errors import InputError, counted, first_few
from segtune.files.checks import check_writable
from segtune.files.temporary import workplace


def check_target(folder: Path, setting: str, force: bool) -> None:
    """Raise InputError, naming the setting, where a folder cannot be written to or holds files already."""
    check_writable(folder, setting)
    if force or not folder.is_dir():
        return
    held = [name for name in os.listdir(folder) if not name.startswith(".")]
    if held:
        raise InputError(
            f"{setting}: {folder} exists and holds {counted(len(held), 'file')}, such as {min(held)}; give another "
            f"folder, or --force to replace files of the same names"
        )


def check_file(path: Path, setting: str, force: bool) -> None:
    """Raise InputError, naming the setting, where a file cannot be written, or exists and is not to be replaced."""
    check_writable(path.absolute().parent, setting)
    if path.is_dir():
        raise InputError(f"{setting}: {path} is a folder; name a file")
    if path.exists() and not force:
        raise InputError(f"{setting}: {path} exists; name another file, or --force to replace it")


@contextmanager
def joined_tree(final: Path, replaced: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield a temporary folder; move all files below it to the same places below `final` at the end of the block.

    Then delete the `replaced` files below `final` that none of these took the place of, and folders that this empties.
    Files beside images that tell GDAL of earlier pixels, such as .aux.xml, are deleted first. Nothing is moved or
    deleted if the block raises an error.
    """
    with workplace(final) as work:
        tree = work / "files"
        tree.mkdir()
        yield tree
        targets = {
            Path(folder): [final / Path(folder).relative_to(tree) / name for name in names]
            for folder, _, names in os.walk(tree)
        }
        placed = {path for paths in targets.values() for path in paths}
        earlier = set(replaced)
        _delete_files(_beside(earlier | placed) - placed, final)
        for folder, paths in targets.items():
            (final / folder.relative_to(tree)).mkdir(parents=True, exist_ok=True)
            for path in paths:
                os.replace(folder / path.name, path)
    _delete_files(earlier - placed, final)


def _beside(files: Iterable[Path]) -> set[Path]:
    """Return the files beside these images in which GDAL looks for facts on them, and on none of the other images."""
    names: dict[Path, set[str]] = {}
    for file in files:
        if _is_image(file.name):
            names.setdefault(file.parent, set()).add(file.name)
    found = set[Path]()
    for folder, own in names.items():
        there = os.listdir(folder) if folder.is_dir() else []
        shared = _looked_for(name for name in there if _is_image(name) and name not in own)
        wanted = _looked_for(own) - shared
        found |= {folder / name for name in there if name.lower() in wanted}
    return found


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _looked_for(images: Iterable[str]) -> set[str]:
    """Return the names, in small letters, of the files in which GDAL looks for facts on images."""
    return {beside.lower() for name in images for beside in files_beside(name)}


def _delete_files(files: Iterable[Path], root: Path) -> None:
    """Delete files below a folder, and the folders between that are empty then; missing files do not matter."""
    folders = set[Path]()
    for file in files:
        file.unlink(missing_ok=True)
        folders.update(root / inside for inside in file.relative_to(root).parents[:-1])
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):  # the innermost first
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()


def place_file(source: Path, target: Path, copy: bool, flag: str = "--copy") -> None:
    """Link a file to a second name, or copy it; links are followed. The folder of `target` is made.

    Raises InputError, naming the flag that copies, where the file system cannot link.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if copy:
        shutil.copy2(source, target)
        return
    try:
        os.link(source.resolve(), target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        raise InputError(f"{source}: cannot be linked to {target.parent} ({error.strerror}); use {flag}") from None


def sidecars(folder: Path, files: Iterable[str]) -> list[str]:
    """Return the names of files in a folder that change what is read from these files: georeference, masks, facts."""
    images = set(files)
    stems = {os.path.splitext(name)[0] for name in images}
    return [name for name in list_folder(folder).files if changes_reading(name, images, stems)]


def check_one_name_each(folder: Path, names: Iterable[str]) -> None:
    """Raise InputError where files of a folder would be written under one name."""
    twice = sorted(name for name, number in Counter(names).items() if number > 1)
    if twice:
        raise InputError(f"{folder}: several files would become {first_few(twice)}; rename some of them")
