"""A search's own Ray is closed to other users of the machine, and leaves nothing behind."""

from __future__ import annotations

import ipaddress
import os
import profile
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray

import segtune
from segtune.files import library_folders
from segtune.tuning.cluster import ray_runtime
from segtune.tuning.ray_session import private_session


@dataclass
class Seen:
    """What others can see of a search's Ray."""

    addresses: set[str]  # that its processes listen on
    folder: Path
    open: list[Path]  # folders in it that others may enter
    home: list[Path]
    environment: dict[str, str]  # of Ray's authentication, when it ended
    profile: str  # the file that its workers import as Python's module of this name


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    import psutil  # type: ignore[import-untyped]  # Ray brings it, and knows where it is

    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(home))
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("t" * 100)))
        patch.chdir(tmp_path_factory.mktemp("work"))
        Path("profile.py").touch()
        with ray_runtime(None):
            profile = ray.get(ray.remote(lambda: __import__("profile").__file__).remote())
            node = ray._private.worker._global_node
            assert node
            session = Path(node.get_session_dir_path())
            addresses = {
                connection.laddr.ip
                for process in (psutil.Process(), *psutil.Process().children(recursive=True))
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            }
            inside = [session.parent.parent, session.parent, *session.rglob("*")]
            entered = [path for path in inside if path.is_dir() and stat.S_IMODE(path.lstat().st_mode) & 0o077]
        left = {name: os.environ[name] for name in os.environ if name.startswith("RAY_AUTH")}
        with ray_runtime(None):  # once more, with a token of its own
            assert ray.get(ray.remote(lambda: 1).remote()) == 1
        yield Seen(addresses, session.parent.parent, entered, list(home.rglob("*")), left, profile)


@pytest.mark.slow
def test_no_port_can_be_reached_from_another_machine(seen: Seen) -> None:
    assert seen.addresses
    found = map(ipaddress.ip_address, seen.addresses)
    assert all((getattr(address, "ipv4_mapped", None) or address).is_loopback for address in found)


@pytest.mark.slow
def test_no_folder_is_open_to_others_and_the_token_is_not_on_disk(seen: Seen) -> None:
    assert seen.open == []
    assert seen.home == []


@pytest.mark.slow
def test_a_file_in_the_working_folder_does_not_shadow_pythons_modules(seen: Seen) -> None:
    assert Path(seen.profile) == Path(profile.__file__)


def test_a_file_beside_the_scripts_does_not_shadow_them_either(tmp_path: Path) -> None:
    (tmp_path / "segtune").symlink_to(Path(segtune.__file__).parent)
    (tmp_path / "profile.py").touch()
    (tmp_path / "script.py").write_text("import segtune, profile; print(segtune.__file__, profile.__file__)")
    said = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=True).stdout
    assert said.split() == [f"{tmp_path}/segtune/__init__.py", profile.__file__]


@pytest.mark.slow
def test_nothing_is_left_when_it_ended(seen: Seen) -> None:
    assert seen.environment == {}
    assert seen.folder.name.startswith("segtune-ray-")
    assert not seen.folder.exists()


HOLD = "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.lockf(file, fcntl.LOCK_EX); print(flush=True); input()"


def test_what_killed_searches_left_is_cleared_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_folders, "_COMMON", ("/tmp",))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    left, held, foreign, elsewhere = (
        tmp_path / f"segtune-ray-{name}" for name in ("killed00", "running0", "notours0", "x")
    )
    for folder in (left, held, foreign, elsewhere):
        (folder / "r" / "session").mkdir(parents=True)
    for folder in (left, held, elsewhere):
        (folder / ".lock").touch()
    (tmp_path / "segtune-ray-linked00").symlink_to(elsewhere)
    before = set(tmp_path.iterdir())
    command = [sys.executable, "-c", HOLD, str(held / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        other.stdout.readline()
        with private_session() as folder:
            assert not folder.exists()  # Ray makes it
            assert set(tmp_path.iterdir()) - {folder.parent} == before - {left}
        other.communicate("\n")
    assert set(tmp_path.iterdir()) == before - {left}
    assert (elsewhere / "r" / "session").is_dir()
