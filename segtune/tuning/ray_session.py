"""Where a search's own Ray lives: in a folder that nobody else may enter, on ports that only this machine reaches."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import ray
from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
from ray.job_config import JobConfig
from ray.tune.execution.tune_controller import TuneController

from segtune.files.library_folders import abandoned, socket_folder
from segtune.files.locks import holder, locked_file

_VITAL = (ray_constants.PROCESS_TYPE_GCS_SERVER, ray_constants.PROCESS_TYPE_RAYLET)
_AUTHENTICATION = ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE")
_RAISED_WITHIN_S = 10.0  # seconds that the main thread has to leave what it does once a vital process is lost
_UNWOUND_WITHIN_S = 60.0  # more seconds that it has where the loss was raised in it
_PREFIX = "segtune-ray-"
_SOCKET = "/r/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"  # the longest path that Ray makes


@contextmanager
def private_session() -> Iterator[Path]:
    """Provide a new folder for Ray until the block ends; first delete what this user's killed searches left.

    Ray opens all its folders to everybody: a private one around them keeps others out.
    """
    for left in abandoned(_PREFIX):
        if (left / ".lock").is_file() and holder(left) is None:
            shutil.rmtree(left, ignore_errors=True)
    folder = socket_folder(_PREFIX, _SOCKET)
    try:
        with locked_file(folder / ".lock.new", lambda: None):
            # Renamed only now that it is held: another search must not take the folder for an abandoned one.
            os.rename(folder / ".lock.new", folder / ".lock")
            yield folder / "r"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def close_to_others(session: Path) -> None:
    """Take back the rights that Ray gave to everybody."""
    for folder in (session.parent, session, *session.rglob("*")):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o700)


class InstalledCodeOnly(JobConfig):  # type: ignore[misc]
    """A Ray job whose workers look for modules where Python does, and not first in the folder that the user works in.

    Ray puts that folder, and the script's, before Python's own modules: a user's profile.py or random.py would be
    imported in the place of Python's. What workers need of segtune is installed.
    """

    def _serialize(self) -> bytes:
        self._py_driver_sys_path: list[str] = []
        return bytes(super()._serialize())


class RayLost(BaseException):
    """A vital process of the search's own Ray died; raised in the main thread, at any moment."""

    def __init__(self, process: str, logs: list[Path]) -> None:
        super().__init__(process)
        self.process, self.logs = process, logs


@contextmanager
def ray_lost_is_raised(end: Callable[[RayLost], None]) -> Iterator[None]:
    """Raise RayLost in the main thread as soon as the raylet or the GCS of the search's own Ray dies.

    Ray itself would wait a minute for the GCS, and then end this process without a message. A main thread that waits
    for an answer inside Ray's C++ parts cannot raise anything: `end` is then called in another thread, to end this
    process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    lost: list[RayLost] = []
    over = threading.Event()

    def look(number: int, frame: FrameType | None) -> None:
        if found := _lost_process():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # once
            lost.append(found)
            raise found

    def look_again() -> None:
        while not over.wait(1.0):
            found = _lost_process()
            if found and not over.wait(_RAISED_WITHIN_S) and not (lost and over.wait(_UNWOUND_WITHIN_S)):
                end(found)

    before = signal.signal(signal.SIGCHLD, look)
    try:
        threading.Thread(target=look_again, name="ray_lost", daemon=True).start()
        with _no_cleanup_after(lost):
            look(signal.SIGCHLD, None)
            yield
    except SystemError:  # Python raises this where RayLost was raised inside Ray's C++ parts
        if lost:
            raise lost[0] from None
        raise
    finally:
        over.set()
        signal.signal(signal.SIGCHLD, before)


def _lost_process() -> RayLost | None:
    node = ray._private.worker._global_node
    for process, _ in node.dead_processes() if node else ():
        if process in _VITAL:
            logs = Path(node.get_logs_dir_path())
            return RayLost(process, [logs / f"{process}.{end}" for end in ("out", "err")])
    return None


@contextmanager
def _no_cleanup_after(lost: Sequence[RayLost]) -> Iterator[None]:
    """Keep Ray Tune from asking a lost process to free what trials hold: it would wait for the answer."""
    usual = TuneController.cleanup
    TuneController.cleanup = lambda controller: None if lost else usual(controller)
    try:
        yield
    finally:
        TuneController.cleanup = usual


@contextmanager
def authentication_put_back() -> Iterator[None]:
    """Restore the environment variables of Ray's authentication when the block ends.

    Otherwise the search's own token would be inherited by every process that is started later, and Ray's mode would
    also apply to the next cluster that is joined.
    """
    before = {name: os.environ.get(name) for name in _AUTHENTICATION}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def this_machine_only() -> Iterator[None]:
    """Make Ray, while it starts, listen on the loopback interface only and require a token of this search.

    Without a token, Ray writes one into the home folder, readable by everybody. RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH and
    RAY_AUTH_MODE=disabled are respected.
    """
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if not given and os.environ.get("RAY_AUTH_MODE", "token") == "token":
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        AuthenticationTokenLoader.instance().reset_cache()
    # Ray does this itself on systems without cluster support; its node's address is then 127.0.0.1. The environment
    # variable for it is read only when Ray is imported.
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
