"""Entries of the cache: damaged ones are built again, and what processes share of one."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segtune.data.cache_entry import EntryWriter
from tests.data.caching import TRAIN, VAL, Counted, config_of, content, hidden, said, scanned


def damage(path: Path, how: str) -> None:
    size = path.stat().st_size
    if how == "gone":
        path.unlink()
    elif how == "garbage":
        path.write_bytes(b"x" * size if path.name != "data.bin" else b"x")
    else:
        with path.open("r+b") as file:
            file.truncate({"empty": 0, "short": size - 1, "half": size // 2}[how])


@pytest.mark.parametrize("file", ["data.bin", "index.npy", "names.npy", "info.json"])
@pytest.mark.parametrize("how", ["gone", "garbage", "empty", "short", "half"])
def test_a_damaged_entry_is_built_again(root: Path, reads: Counted, file: str, how: str) -> None:
    first = scanned(root)
    expected = content(root, first)
    place = first.entries["train", "resize-32"]
    damage(place / file if file != "info.json" else place.parent / file, how)
    reads.tiles.clear()
    again = scanned(root)
    assert len(reads.tiles) == TRAIN
    assert again == first
    assert content(root, again) == expected
    reads.refuse = True
    assert content(root, scanned(root)) == expected


@pytest.mark.parametrize("key", [None, "info", "pixels", "moments"])
@pytest.mark.parametrize("content", [[], {}, 1])
def test_tiles_of_which_something_unexpected_is_known_are_read_anew(
    root: Path, reads: Counted, content: Any, key: str | None
) -> None:
    first = scanned(root)
    place = first.entries["train", "resize-32"].parent / "info.json"
    known = json.loads(place.read_text())
    where = known if key == "info" else known["info"]
    if key:
        where[key] = content
    place.write_text(json.dumps(known if key else content))
    reads.tiles.clear()
    assert scanned(root) == first
    assert len(reads.tiles) == TRAIN


def failing(method: str, after: int) -> Callable[..., Any]:
    """An EntryWriter's method that fails from some call on, as on a full disk."""
    real, calls = getattr(EntryWriter, method), iter(range(10**6))

    def fail(*arguments: Any) -> Any:
        if next(calls) >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    return fail


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writing fails beyond so many bytes of a file, also when what is buffered is written on closing."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("method", "after"), [("__init__", 0), ("__init__", 1), ("add", 0), ("add", 3), ("publish", 0)]
)
def test_a_disk_that_turns_out_to_be_full_is_done_without(
    root: Path, monkeypatch: pytest.MonkeyPatch, reads: Counted, method: str, after: int
) -> None:
    plain = scanned(root, cache_dir="none")
    expected = content(root, plain)
    reads.tiles.clear()
    monkeypatch.setattr(EntryWriter, method, failing(method, after))
    info, text = said(root)
    assert "no cache: writing decoded tiles failed (No space left on device)" in text
    assert len(reads.tiles) == TRAIN + VAL
    assert replace(info, entries={}) == plain
    assert content(root, info) == expected
    assert not hidden(root.parent / "cache")


@pytest.mark.parametrize("size", [0, 1000, 9000, 24_000])
def test_writing_that_fails_anywhere_is_done_without(root: Path, size: int) -> None:
    plain = scanned(root, cache_dir="none")
    with largest_file(size):
        info, text = said(root)
    assert "no cache: writing decoded tiles failed (File too large)" in text
    assert replace(info, entries={}) == plain
    assert not hidden(root.parent / "cache")
    assert said(root)[0].store("train", config_of(root)).decoded  # the next one finds room


@pytest.mark.parametrize("split", ["train", "val"])
def test_tiles_of_a_partly_cached_set_are_still_sent_to_the_trials(
    root: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(EntryWriter, "publish", failing("publish", 1 if split == "train" else 0))
        info = scanned(root)
    sent = pickle.loads(pickle.dumps(info.light(with_holders=False)))
    assert content(root, sent) == content(root, scanned(root, cache_dir="none"))


def test_a_process_goes_on_reading_an_entry_that_is_deleted(root: Path) -> None:
    info = scanned(root)
    store = info.store("train", config_of(root))
    before = store.image(0).copy()
    for place in info.entries.values():
        shutil.rmtree(place)
    np.testing.assert_array_equal(store.image(0), before)
    assert [store.name(i) for i in range(len(store))] == [f"{i:03d}" for i in range(TRAIN)]
    assert store.image(TRAIN - 1).any()


def test_what_the_cache_holds_cannot_be_written_to(root: Path) -> None:
    store = scanned(root).store("train", config_of(root))
    with pytest.raises(ValueError, match="read-only"):
        store.image(0)[...] = 0
    target = store.target(0)
    before = target.copy()
    target[...] = 7  # the caller's own: labels become indices each time
    assert (store.target(0) == before).all()


def test_pickling_a_store_sends_its_path_alone(root: Path) -> None:
    store = scanned(root).store("train", config_of(root))
    store.image(0)  # opened
    data = pickle.dumps(store)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).image(1), store.image(1))


@pytest.mark.parametrize("how", ["no mark", "another mark", "a link"])
def test_what_lies_in_an_entrys_place_is_neither_read_nor_deleted(root: Path, how: str) -> None:
    expected = content(root, scanned(root, cache_dir="none"))
    entry = scanned(root).entries["train", "resize-32"]
    if how == "a link":
        entry.rename(root.parent / "elsewhere")
        entry.symlink_to(root.parent / "elsewhere")
    elif how == "no mark":
        (entry / "segtune.json").unlink()
    else:
        (entry / "segtune.json").write_text("{}")
    data = (entry / "data.bin").read_bytes()
    (entry / "data.bin").write_bytes(bytes(len(data)))
    info, text = said(root)
    assert f"{entry} is in the way" in text
    assert set(info.entries) == {("val", "resize-32")}
    assert content(root, info) == expected
    assert (entry / "data.bin").read_bytes() == bytes(len(data))


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o000])
def test_entries_get_the_users_umask_and_are_for_nobody_else_to_change(root: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        scanned(root)
    finally:
        os.umask(before)
    cache = root.parent / "cache"
    for path in cache.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o775 if path.is_dir() else 0o666) & ~umask


def test_entries_are_known_by_content_that_says_what_it_is(root: Path) -> None:
    """The format that the module describes: other versions must not be taken for it."""
    info = scanned(root, channels=["nir"])
    place = info.entries["train", "resize-32"]
    rows, names = np.load(place / "index.npy"), np.load(place / "names.npy")
    assert rows.shape == (TRAIN, 3, 5)  # image, nir and target
    assert (rows[..., 0] % 64 == 0).all()
    assert rows[0, :, 1:4].tolist() == [[32, 32, 3], [32, 32, 1], [32, 32, 0]]
    assert [name.decode() for name in names] == [f"{i:03d}" for i in range(TRAIN)]
    assert set(json.loads((place.parent / "info.json").read_text())["info"]["pixels"]) == {"0", "255"}
