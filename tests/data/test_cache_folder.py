"""The folder of the cache: where it lies, whose it is, and what else may lie there."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from segtune.config import RunConfig
from segtune.data.cache import Cache
from segtune.errors import InputError
from tests.data.caching import said, scanned

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


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


def test_the_default_folder_is_this_users_alone_and_on_a_local_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folder() -> Path:
        cache = Cache.of(RunConfig())
        assert cache
        return cache.folder

    for name in ("SEGTUNE_CACHE_DIR", "SLURM_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    own = f"segtune-cache-{os.getuid()}"
    usual = Path("/var/tmp") / own
    made = not usual.exists()
    assert folder().parent == usual.parent
    if made:
        shutil.rmtree(usual)
    for name in ("TMPDIR", "SLURM_TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
        assert folder() == tmp_path / name / own
        assert folder().stat().st_mode & 0o077 == 0
    monkeypatch.setenv("SEGTUNE_CACHE_DIR", str(tmp_path / "given"))
    assert folder() == tmp_path / "given"
