"""What libraries need of the machine is found by trying: long and unwritable TMPDIRs, users without a home."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from segtune.errors import InputError
from segtune.files import library_folders
from tests.scripts import call

BELOW = "/r/session/sockets/store"


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """TMPDIR, and the one place that there is besides."""
    for name in ("RAY_TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as common:
        monkeypatch.setattr(library_folders, "_COMMON", (common,))
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(common)


def test_sockets_go_into_tmpdir_where_that_is_possible(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as given:
        monkeypatch.setenv("TMPDIR", given)
        folder = library_folders.socket_folder("own-", BELOW)
        assert folder.parent == Path(given)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert list(library_folders.abandoned("own-")) == [folder]


@pytest.mark.parametrize("unfit", ["long", "missing", "file", "proc", "spaced"])
def test_sockets_go_elsewhere_where_tmpdir_is_too_long_or_not_writable(
    unfit: str, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for name in ("long" * 30, "with space"):
        (tmp_path / name).mkdir()
    given = {"long": tmp_path / ("long" * 30), "missing": tmp_path / "none", "file": tmp_path / "file"}
    monkeypatch.setenv("TMPDIR", str({**given, "proc": "/proc", "spaced": tmp_path / "with space"}[unfit]))
    assert library_folders.socket_folder("own-", BELOW).parent == temporary
    library_folders.shorten_sockets()
    assert len(tempfile.gettempdir()) < 80


def test_without_any_place_for_sockets_one_line_says_what_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_folders, "_TMPDIRS", ("TMPDIR",))
    monkeypatch.setattr(library_folders, "_COMMON", ("/proc",))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    with pytest.raises(InputError, match=rf"^TMPDIR: found no folder .*; tried {tmp_path}/none \(No such .*/proc"):
        library_folders.socket_folder("own-", BELOW)


@pytest.fixture
def cacheless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in (*library_folders._CACHES, "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")  # put back after the test, whatever it does
        monkeypatch.delenv(name)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_home_that_can_be_written_keeps_the_caches(cacheless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(cacheless / "home"))
    library_folders.place_caches()
    assert not set(library_folders._CACHES) & os.environ.keys()
    assert not list(cacheless.iterdir())


def test_caches_go_elsewhere_where_the_home_folder_cannot_take_them(
    cacheless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/proc")
    library_folders.place_caches()
    own = cacheless / f"segtune-home-{os.getuid()}"
    assert {os.environ[name] for name in library_folders._CACHES} == {
        str(own / name) for name in library_folders._CACHES.values()
    }
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    own.chmod(0o777)  # anybody's: not to be trusted
    for name in library_folders._CACHES:
        monkeypatch.delenv(name)
    library_folders.place_caches()
    assert Path(os.environ["HF_HOME"]).parent != own


def test_weights_in_a_home_folder_that_is_read_only_stay_in_use(
    cacheless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cacheless / "cache" / "huggingface").mkdir(parents=True)
    monkeypatch.setattr(library_folders, "_can_be_made", lambda folder: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cacheless / "cache"))
    library_folders.place_caches()
    assert "HF_HOME" not in os.environ
    assert "TORCH_HOME" in os.environ


def test_a_user_without_a_home_gets_one(cacheless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    library_folders.place_caches()
    assert os.environ["HOME"] == str(cacheless / f"segtune-home-{os.getuid()}")


@pytest.mark.parametrize("script", ["run_search", "run_single", "validate"])
@pytest.mark.parametrize("place", ["file", "file/below", "link", "/proc/none", "y" * 300])
def test_an_impossible_results_folder_is_reported_before_any_work(
    script: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (tmp_path / "space.yaml").write_text("dataset: none\nspace: {lr: [1e-3, 1e-2]}\n")
    flag, given = {
        "run_search": ("--results-dir", ["--space", "space.yaml"]),
        "run_single": ("--log-dir", ["-d", "none"]),
        "validate": ("-o", ["-cd", "none", "-d", "none"]),
    }[script]
    (line,) = call(script, *given, flag, place).mistakes
    assert line.startswith(f"{flag}: {place}")
    assert sorted(os.listdir()) == ["file", "link", "space.yaml"]


@pytest.mark.parametrize("script", ["run_search", "run_single", "validate"])
@pytest.mark.parametrize("where", ["working folder", "data", "results"])
def test_a_folder_name_that_is_not_utf8_is_reported_in_one_line(
    script: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/Fl\xe4che")
    os.mkdir(odd)
    monkeypatch.chdir(odd if where == "working folder" else tmp_path)
    names = {"data": tmp_path, "results": tmp_path / "results"} | {where: odd}
    given = {
        "run_search": ["--space", "quickstart.yaml", "-d", names["data"], "--results-dir", names["results"]],
        "run_single": ["-d", names["data"], "--log-dir", names["results"]],
        "validate": ["-cd", tmp_path, "-d", names["data"], "-o", names["results"]],
    }[script]
    assert call(script, *given).mistakes == [f"{tmp_path}/Fl\\udce4che: its name is not UTF-8; rename it"]
    assert os.listdir(tmp_path) == [os.path.basename(odd)]
    assert not os.listdir(odd)
