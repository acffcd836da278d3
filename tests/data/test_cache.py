"""The cache of decoded tiles: read once, never wrong, never in the way, whatever is killed, full or damaged."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segtune.config import RunConfig
from segtune.data.batches import Batches
from segtune.data.cache import Cache
from segtune.data.cache_entry import EntryWriter
from segtune.data.cache_folder import default_folder
from segtune.data.dataset import DataInfo
from segtune.data.reading import read_mask, read_tile
from segtune.data.scan import scan
from segtune.data.tiles import Tile
from segtune.errors import InputError
from segtune.files.locks import locked_file
from tests.conftest import WriteDataSet, WriteImage

TRAIN, VAL = 6, 4
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


class Counted:
    """Counts the tiles that are read; can be told to fail instead."""

    def __init__(self) -> None:
        self.tiles: list[str] = []
        self.refuse = False

    def __call__(self, tile: Tile, *settings: Any) -> Any:
        assert not self.refuse, f"{tile.image} is read"
        self.tiles.append(tile.name)
        return read_tile(tile, *settings)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted()
    monkeypatch.setattr("segtune.data.findings.read_tile", counted)
    monkeypatch.setattr("segtune.data.store.read_tile", counted)
    return counted


@pytest.fixture
def root(tmp_path: Path, data_set: WriteDataSet) -> Path:
    return data_set(tmp_path / "set", TRAIN, VAL)


def config_of(root: Path, **settings: Any) -> RunConfig:
    """A run whose cache lies beside its data set."""
    given: dict[str, Any] = {"cache_dir": str(root.parent / "cache"), "image_size": 32}
    return RunConfig(dataset=str(root), **(given | settings))


def scanned(root: Path, **settings: Any) -> DataInfo:
    return scan(config_of(root, **settings))


def said(root: Path, **settings: Any) -> tuple[DataInfo, str]:
    """A scan and what it says."""
    lines: list[str] = []
    return scan(config_of(root, **settings), say=lines.append), "\n".join(lines)


def content(root: Path, info: DataInfo, **settings: Any) -> list[bytes]:
    """All that the stores give."""
    found = []
    for split in ("train", "val"):
        store = info.store(split, config_of(root, **settings))
        for index in range(len(store)):
            found += [store.name(index).encode(), store.image(index).tobytes(), store.target(index).tobytes()]
    return found


def entries(root: Path) -> set[Path]:
    return {path.parent for path in (root.parent / "cache").glob("*/*/*/data.bin")}


def hidden(folder: Path) -> list[Path]:
    """What is not finished, wherever it lies."""
    return list(folder.rglob(".*"))


# Once


def test_the_second_scan_reads_no_tile_and_finds_the_same(root: Path, reads: Counted) -> None:
    first = scanned(root)
    assert len(reads.tiles) == TRAIN + VAL
    expected = content(root, first)
    reads.refuse = True
    second = scanned(root)
    assert second == first
    assert content(root, second) == expected


def test_the_second_scan_opens_no_image(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scanned(root, image_size=None)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("an image is opened")

    monkeypatch.setattr("rasterio.open", fail)
    assert scanned(root, image_size=None) == first


def test_a_scan_that_reads_nothing_reports_no_progress(root: Path) -> None:
    scanned(root)
    scan(config_of(root), progress=lambda done, total: pytest.fail("progress of nothing"))


def test_statistics_come_back_to_the_last_bit(tmp_path: Path, data_set: WriteDataSet) -> None:
    root = data_set(tmp_path / "set", labels=(0, 255, 700), dtype="float32", suffix=".tif")
    first, second = (scanned(root, channels=["nir"], classes=[255, 700]) for _ in range(2))
    plain = scanned(root, channels=["nir"], classes=[255, 700], cache_dir="none")
    assert first == second == replace(plain, entries=first.entries)


@pytest.mark.parametrize("folder", ["images", "gt", "nir"])
@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_file_is_noticed(
    root: Path, write_image: WriteImage, reads: Counted, folder: str, change: str
) -> None:
    before = content(root, scanned(root, channels=["nir"]), channels=["nir"])
    reads.tiles.clear()
    path = root / "train" / folder / "002.png"
    if change == "size":
        array = read_mask(path) if folder != "images" else None
        changed = np.zeros((32, 32, 3), np.uint8) if array is None else np.where(array == 255, 0, array + 1)
        write_image(path, changed.astype(np.uint8))
    else:
        os.utime(path, (1, 1))
    after = scanned(root, channels=["nir"])
    assert len(reads.tiles) == TRAIN  # the other split is known
    assert (content(root, after, channels=["nir"]) == before) == (change == "time")


def test_a_tile_that_joins_is_noticed(root: Path) -> None:
    scanned(root)
    for folder in ("images", "gt"):
        shutil.copy(root / "train" / folder / "000.png", root / "train" / folder / "900.png")
    info = scanned(root)
    assert (info.counts["train"], len(info.store("train", config_of(root)))) == (TRAIN + 1, TRAIN + 1)


@pytest.mark.parametrize("settings", [{"classes": [0]}, {"ignore": [0]}, {"classes": [0, 255]}])
def test_other_classes_need_no_new_pixels(root: Path, reads: Counted, settings: dict[str, Any]) -> None:
    first = scanned(root)
    reads.refuse = True
    other = scanned(root, **settings)
    assert other.entries == first.entries
    found = content(root, other, **settings)
    reads.refuse = False
    assert found != content(root, first)
    assert found == content(root, scanned(root, **settings, cache_dir="none"), **settings)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "uint32", "int64"])
def test_labels_of_every_type_are_kept(tmp_path: Path, write_image: WriteImage, dtype: str) -> None:
    random, limits = np.random.default_rng(0), np.iinfo(dtype)
    labels = sorted({0, 7, max(limits.min + 1, -(2**40)), min(limits.max, 2**40)})
    for split in ("train", "val"):
        write_image(tmp_path / split / "images" / "a.tif", random.integers(0, 255, (48, 48, 3), np.uint8))
        write_image(tmp_path / split / "gt" / "a.tif", random.choice(labels, (48, 48)).astype(dtype))
    kept, made = (
        [
            info.store(split, config_of(tmp_path, classes=labels)).target(0).tolist()
            for info in [scanned(tmp_path, classes=labels, cache_dir=folder)]
            for split in ("train", "val")
        ]
        for folder in (str(tmp_path / "cache"), "none")
    )
    assert kept == made
    assert {index for target in kept for row in target for index in row} == set(range(1, len(labels) + 1))


@pytest.mark.parametrize("settings", [{"channels": ["nir"]}, {"limit_tiles": 2}, {"masks_dir": "other"}])
def test_what_is_read_otherwise_has_entries_of_its_own(root: Path, reads: Counted, settings: dict[str, Any]) -> None:
    for split in ("train", "val"):
        shutil.copytree(root / split / "gt", root / split / "other")
    first = scanned(root)
    reads.tiles.clear()
    other = scanned(root, **settings)
    assert len(reads.tiles) == min(TRAIN, settings.get("limit_tiles", TRAIN)) + min(
        VAL, settings.get("limit_tiles", VAL)
    )
    assert not set(first.entries.values()) & set(other.entries.values())
    assert content(root, other, **settings) == content(root, scanned(root, **settings, cache_dir="none"), **settings)


def test_another_size_is_another_entry_and_only_the_pixels_are_read_again(root: Path, reads: Counted) -> None:
    first = scanned(root)
    other = scanned(root, image_size=64)
    assert replace(other, entries={}, wanted=()) == replace(first, entries={}, wanted=())
    assert not set(first.entries.values()) & set(other.entries.values())
    assert len(entries(root)) == 4
    assert len({path.parent for path in entries(root)}) == 2  # beside one another
    reads.refuse = True
    assert other.store("train", config_of(root, image_size=64)).image(0).shape == (64, 64, 3)
    assert scanned(root) == first


def test_a_search_reads_each_tile_once_for_all_its_sizes_and_fits(root: Path, reads: Counted) -> None:
    wanted = [("resize", 32), ("resize", 64), ("pad", 64), ("crop", 32), ("crop", 64), ("resize", None)]
    info = scan(config_of(root), ["nir"], wanted=wanted)
    assert sorted(reads.tiles) == sorted([f"{i:03d}" for count in (TRAIN, VAL) for i in range(count)])
    assert {kept for _, kept in info.entries} == {"resize-32", "resize-64", "pad-64", "whole"}
    reads.refuse = True
    for fit, size in wanted:
        store = info.store("train", config_of(root, fit=fit, image_size=size or info.image_size()))
        assert store.decoded
        assert store.image(TRAIN - 1).ndim == 3


def test_one_cache_serves_a_folder_seen_under_another_name_of_the_same_path(
    root: Path, reads: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned(root)
    reads.refuse = True
    monkeypatch.chdir(root.parent)
    assert scan(config_of(root).model_copy(update={"dataset": "set"})).counts == {"train": TRAIN, "val": VAL}


def test_a_set_that_is_added_twice_over_is_read_once(root: Path, reads: Counted) -> None:
    """The validation folder among the added ones: one entry serves both."""
    info = scanned(root, add_val_dirs=[str(root / "val")])
    assert len(reads.tiles) == TRAIN + VAL
    assert info.entries["val", "resize-32"] == info.entries["add_val/val", "resize-32"]


# What is damaged


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


# Builders that end too soon

BUILD = """
import os, signal, sys, time
import segtune.data.scan as module
from segtune.config import RunConfig
root, cache, kill_at, slow = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])

last = 0

def progress(done, total):
    global last
    if done == last:  # it only waits
        return
    last = done
    print(done, flush=True)
    if done == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(slow)

print("ready", flush=True)
sys.stdin.readline()
info = module.scan(RunConfig(dataset=root, cache_dir=cache, image_size=32), progress=progress, say=print)
print("fingerprint", info.fingerprint, len(info.entries))
"""


def builder(root: Path, kill_at: int = 0, slow: float = 0.0) -> subprocess.Popen[str]:
    """A process that is about to scan, once it gets a line."""
    arguments = [str(root), str(root.parent / "cache"), str(kill_at), str(slow)]
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("kill_at", [1, TRAIN, TRAIN + 1])
def test_a_builder_that_is_killed_leaves_nothing_that_is_taken_for_an_entry(
    root: Path, reads: Counted, kill_at: int
) -> None:
    assert builder(root, kill_at).communicate("\n")[0].split()[-1] == str(kill_at)
    cache = root.parent / "cache"
    assert len(hidden(cache)) == 1  # what it was at
    known = len([path for path in entries(root) if not path.name.startswith(".")])
    assert known == (kill_at > TRAIN)
    info = scanned(root)
    assert len(reads.tiles) == (VAL if known else TRAIN + VAL)
    assert not hidden(cache)
    assert content(root, info) == content(root, scanned(root, cache_dir="none"))


def test_what_a_killed_builder_left_goes_also_when_its_files_changed(root: Path, write_image: WriteImage) -> None:
    builder(root, 3).communicate("\n")
    cache = root.parent / "cache"
    (left,) = hidden(cache)
    write_image(root / "train" / "gt" / "000.png", np.full((32, 32), 255, np.uint8))
    scanned(root)
    assert not left.exists()
    assert not hidden(cache)


def test_what_a_builder_at_work_wrote_so_far_stays(root: Path, data_set: WriteDataSet) -> None:
    """Another data set's builder cleans up behind dead ones only."""
    process = builder(root, slow=0.3)
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    while process.stdout.readline() != "2\n":
        pass
    other = data_set(root.parent / "other", 2, 2)
    scanned(other)
    assert hidden(root.parent / "cache")
    assert process.communicate()[0].split()[-1] == "2"  # both entries, published


def test_two_builders_at_once_share_the_work(root: Path) -> None:
    processes = [builder(root, slow=0.02) for _ in range(2)]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate()[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0][-1] == outputs[1][-1]
    assert outputs[0][-1].endswith(" 2")
    numbers = sorted(int(line) for lines in outputs for line in lines if line.isdigit())
    assert len(numbers) == TRAIN + VAL  # each tile in one of them
    assert any("waiting for another run" in line for lines in outputs for line in lines)


def test_ctrl_c_leaves_no_unfinished_folder(root: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(config_of(root), progress=interrupt)
    assert not hidden(root.parent / "cache")
    assert not entries(root)
    assert scanned(root).store("train", config_of(root)).decoded


def test_mistakes_in_the_tiles_leave_no_unfinished_folder(root: Path, reads: Counted) -> None:
    broken = root / "val" / "images" / "001.png"
    intact = broken.read_bytes()
    broken.write_bytes(intact[:60])
    for _ in range(2):
        with pytest.raises(InputError, match=r"001\.png"):
            scanned(root)
    assert not hidden(root.parent / "cache")
    reads.tiles.clear()
    broken.write_bytes(intact)
    scanned(root)
    assert len(reads.tiles) == VAL  # the sound split was kept


# No room


def test_a_cache_that_allows_too_little_is_done_without(root: Path, reads: Counted) -> None:
    expected = content(root, scanned(root, cache_dir="none"))
    info, text = said(root, cache_gb=1e-6)
    assert "no cache: decoded tiles need about" in text
    assert "cache_gb allows 1e-06 GB" in text
    assert not info.entries
    assert not entries(root)
    assert content(root, info, cache_gb=1e-6) == expected
    reads.tiles.clear()
    again, text = said(root, cache_gb=1e-6)
    assert not reads.tiles  # what was learnt is kept all the same
    assert "no cache" in text
    assert again == info


def test_a_disk_without_space_is_done_without(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))  # type: ignore[attr-defined]
    info, text = said(root)
    assert "the disk is short" in text
    assert not info.entries
    assert len(content(root, info)) == 3 * (TRAIN + VAL)


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
    sent = pickle.loads(pickle.dumps(info.light()))
    assert content(root, sent) == content(root, scanned(root, cache_dir="none"))


# Making room


Places = dict[str, tuple[Path, ...]]


def build_several(tmp_path: Path, data_set: WriteDataSet, hours: dict[str, float]) -> tuple[Places, int]:
    """Data sets of one size, last used so many hours ago: the folders of their entries, and the bytes of each."""
    places: Places = {}
    for name, unused in hours.items():
        info = scanned(data_set(tmp_path / name, 3, 2, channels=()))
        places[name] = tuple(info.entries.values())
        for place in places[name]:
            os.utime(place, (time.time() - 3600 * unused,) * 2)
    size = sum(file.stat().st_size for place in next(iter(places.values())) for file in place.iterdir())
    return places, size


def there(places: Places) -> str:
    """The data sets whose entries are there."""
    return "".join(name for name, folders in places.items() if all(folder.is_dir() for folder in folders))


def test_what_was_unused_longest_makes_room(tmp_path: Path, data_set: WriteDataSet) -> None:
    places, size = build_several(tmp_path, data_set, {"a": 2, "b": 4, "c": 3, "d": 0})
    new = data_set(tmp_path / "new", 3, 2, channels=())
    assert len(scanned(new, cache_gb=4.5 * size / 1e9).entries) == 2
    assert there(places) == "acd"
    newer = data_set(tmp_path / "newer", 3, 2, channels=())
    assert len(scanned(newer, cache_gb=3.5 * size / 1e9).entries) == 2
    assert there(places) == "d"


def test_what_was_used_just_now_is_not_deleted_and_nothing_in_vain(tmp_path: Path, data_set: WriteDataSet) -> None:
    places, size = build_several(tmp_path, data_set, {"a": 2, "b": 0})
    large = data_set(tmp_path / "large", 6, 4, channels=())  # without a, it would still have no room beside b
    info, text = said(large, cache_gb=2.5 * size / 1e9)
    assert not info.entries
    assert "cache_gb allows" in text
    assert there(places) == "ab"


def test_a_scan_marks_what_it_finds_as_used(tmp_path: Path, data_set: WriteDataSet) -> None:
    places, size = build_several(tmp_path, data_set, {"a": 3, "b": 2})
    scanned(tmp_path / "a")
    scanned(data_set(tmp_path / "new", 3, 2, channels=()), cache_gb=2.5 * size / 1e9)
    assert there(places) == "a"


def test_a_short_disk_is_made_room_on_too(
    tmp_path: Path, data_set: WriteDataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cache_gb may be more than the disk has: then old entries must not fill it for ever."""
    places, size = build_several(tmp_path, data_set, {"a": 2, "b": 3})
    usage = shutil._ntuple_diskusage(10 * size, 10 * size - size // 2, size // 2)  # type: ignore[attr-defined]
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert len(scanned(data_set(tmp_path / "new", 3, 2, channels=())).entries) == 2
    assert there(places) == "a"


def test_a_process_goes_on_reading_an_entry_that_is_deleted(root: Path) -> None:
    info = scanned(root)
    store = info.store("train", config_of(root))
    before = store.image(0).copy()
    for place in info.entries.values():
        shutil.rmtree(place)
    np.testing.assert_array_equal(store.image(0), before)
    assert [store.name(i) for i in range(len(store))] == [f"{i:03d}" for i in range(TRAIN)]
    assert store.image(TRAIN - 1).any()


# What processes share


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


def test_what_is_sent_to_trials_does_not_grow_with_the_tiles(tmp_path: Path, data_set: WriteDataSet) -> None:
    """Of equal numbers of digits, since counts are numbers too."""
    sizes, plain = [], []
    for name, count in (("few", 10), ("all", 80)):
        root = data_set(tmp_path / name, count, 10, channels=())
        info = scanned(root)
        assert info.light().counts == info.counts == {"train": count, "val": 10}
        sizes.append(len(pickle.dumps(info.light())))
        plain.append(len(pickle.dumps(info)))
    assert abs(sizes[1] - sizes[0]) < 20
    assert plain[1] > plain[0] + 1000


def test_batches_are_the_same_with_and_without_a_cache(root: Path) -> None:
    def pixels(**settings: Any) -> list[bytes]:
        store = scanned(root, **settings).store("train", config_of(root))
        with Batches(store, 2, 3) as batches:
            return [np.asarray(images).tobytes() for images, _ in batches.epoch(1)]

    assert pixels() == pixels(cache_dir="none")


# The folder


def test_no_cache_writes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default = root.parent / "default"
    monkeypatch.setenv("SEGTUNE_CACHE_DIR", str(default))
    before = sorted(root.parent.rglob("*"))
    for settings in ({"cache_dir": "none"}, {"cache_gb": 0.0}, {"cache_dir": None, "cache_gb": 0.0}):
        info = scanned(root, **settings)
        assert not info.entries
        assert sorted(root.parent.rglob("*")) == before
    assert len(scanned(root, cache_dir=None).entries) == 2
    assert default.is_dir()


def test_a_cache_never_writes_beside_the_data(root: Path) -> None:
    before = sorted(root.rglob("*"))
    scanned(root)
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("place", ["file", "file/below", "closed", "/proc/nowhere"])
def test_a_cache_dir_that_cannot_be_written_to_is_told(root: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (root.parent / "file").touch()
    (root.parent / "closed").mkdir(mode=0o500)
    if place == "closed" and os.geteuid() == 0:  # root may write everywhere
        monkeypatch.setattr("os.access", lambda *_, **__: False)
    with pytest.raises(InputError, match=r"^cache_dir: ") as caught:
        scanned(root, cache_dir=str(root.parent / place))
    assert place in str(caught.value)


def test_what_is_not_its_own_is_never_deleted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache_dir that holds other things: whatever their names, and however short the disk."""
    cache = root.parent / "cache"
    first = scanned(root)
    entry = next(iter(first.entries.values()))
    within = entry.parent.parent / ("0" * 32)  # inside of its own folder, without an entry's mark
    theirs = [cache / "project" / ".venv.old", cache / "runs" / "exp1", within / ".git.backup", within / "exp2"]
    for place in theirs:
        place.mkdir(parents=True)
        for name in ("data.bin", "index.npy", "names.npy"):
            (place / name).write_bytes(b"precious" * 10_000)
    (entry / "mine.txt").touch()
    for place in (*theirs, *first.entries.values()):
        os.utime(place, (1, 1))
    (root / "train" / "gt" / "000.png").touch()  # other entries now
    usage = shutil._ntuple_diskusage(10**6, 10**6 - 30_000, 30_000)  # type: ignore[attr-defined]
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    scanned(root, cache_gb=1e-4)
    assert not (entry / "data.bin").exists()  # it did make room
    assert [(place / "data.bin").is_file() for place in theirs] == [True] * 4
    assert (entry / "mine.txt").is_file()


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


def test_a_folder_with_the_caches_name_that_is_none_is_refused(root: Path) -> None:
    place = root.parent / "cache" / "segtune-tiles"
    place.mkdir(parents=True)
    (place / "mine.txt").touch()
    with pytest.raises(InputError, match=r"^cache_dir: .*segtune-tiles is not a cache"):
        scanned(root)
    assert [path.name for path in place.rglob("*")] == ["mine.txt"]


@pytest.mark.parametrize("of_whom", ["everybody", pytest.param("another", marks=ROOT)])
def test_a_cache_that_others_could_change_is_refused(root: Path, of_whom: str) -> None:
    store = next(iter(scanned(root).entries.values())).parent.parent
    if of_whom == "everybody":
        store.chmod(0o777)
    else:
        os.chown(store, 12345, 12345)
        scanned(root)  # nobody but its owner could have made it there
        store.parent.chmod(0o1777)
    with pytest.raises(InputError, match=r"^cache_dir: other users could change pixels in .*segtune-tiles; "):
        scanned(root)


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


@pytest.mark.parametrize("taken", ["open", "a link", "a file", pytest.param("another's", marks=ROOT)])
def test_a_default_folder_that_is_not_ours_alone_is_left_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    monkeypatch.delenv("SEGTUNE_CACHE_DIR")
    monkeypatch.setenv("TMPDIR", str(root.parent))
    first = root.parent / f"segtune-cache-{os.getuid()}"
    if taken == "a link":
        (root.parent / "elsewhere").mkdir(mode=0o700)
        first.symlink_to(root.parent / "elsewhere")
    elif taken == "a file":
        first.touch()
    else:
        first.mkdir(mode=0o755 if taken == "open" else 0o700)
        if taken == "another's":
            os.chown(first, 12345, 12345)
    for _ in range(2):  # the next one finds it
        info, text = said(root, cache_dir=None)
        (line,) = [line for line in text.splitlines() if str(first) in line and "decoding" not in line]
        assert line == f"{first} is not closed to other users, who could change pixels in it; using {first}-2 instead"
        assert {path.parents[2] for path in info.entries.values()} == {Path(f"{first}-2")}
        assert stat.S_IMODE(Path(f"{first}-2").stat().st_mode) == 0o700
    assert first.is_file() or not list(first.iterdir())


def test_the_default_folder_is_this_users_alone_and_on_a_disk_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SEGTUNE_CACHE_DIR", "SLURM_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    own = f"segtune-cache-{os.getuid()}"
    assert default_folder() == Path("/var/tmp") / own
    for name in ("TMPDIR", "SLURM_TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
        assert default_folder() == tmp_path / name / own
    cache = Cache.of(RunConfig())
    assert cache
    assert cache.folder.stat().st_mode & 0o077 == 0
    monkeypatch.setenv("SEGTUNE_CACHE_DIR", str(tmp_path / "given"))
    assert default_folder() == tmp_path / "given"


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


def test_who_waits_for_a_lock_shows_that_it_lives(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX);"
         "print(flush=True); sys.stdin.read()", str(tmp_path / "lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdin
    assert holder.stdout
    holder.stdout.readline()
    signs: list[float] = []

    def busy() -> None:
        signs.append(time.monotonic())
        if len(signs) == 3:
            holder.kill()
            holder.wait()

    with locked_file(tmp_path / "lock", busy):
        assert len(signs) == 3
