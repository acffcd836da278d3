"""Start Ray on this process's share of the machine, or join a Ray cluster."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants, utils
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from segtune.errors import InputError, SegtuneError
from segtune.machine import HANGUP, ending_signals
from segtune.models.pretrained import WEIGHTS_FOLDER, weights_environment
from segtune.planning.resources import Resources, local_resources
from segtune.tuning.ray_session import (
    InstalledCodeOnly,
    authentication_put_back,
    close_to_others,
    private_session,
    this_machine_only,
)

_ENCODERS = f"for weights of encoders, {WEIGHTS_FOLDER} takes a folder that all nodes see"
_KNOCK_S, _ANSWER_S = 10.0, 120.0  # a node's first process may have to read Python from a network disk
# The opening of an HTTP/2 connection (RFC 9113, section 3.4): a magic string and a settings frame, here an empty one.
_HTTP2_SETTINGS = b"\x04"
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + _HTTP2_SETTINGS + bytes(5)
_WITHOUT_TOKEN = """
import sys
from ray._private.services import canonicalize_bootstrap_address_or_die as resolve
from ray._raylet import GcsClient
GcsClient(address=resolve(sys.argv[1]))
"""
_QUIET = {"logging_level": logging.ERROR, "log_to_driver": False}

# Ray reads these when it is imported or initialized, here and in its workers.
ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours also serves SIGTERM
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed trial reports only its failure
    "TUNE_GLOBAL_CHECKPOINT_S": "100000000",  # Ray's own state is not what a search goes on from
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # no limit, or processes would start one after another
    "TUNE_WARN_THRESHOLD_S": "60",
    # A stopped trial's thread may be in the middle of its clean-up; after 2 s (Ray's default) the next trial of
    # the same process would be lost.
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
    # A trial that got no GPU sees none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    # Threads that wait for each other actively take the cores that another trial or a loader process needs: a training
    # step then takes ten times as long.
    "OMP_WAIT_POLICY": "PASSIVE",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}


@contextmanager
def ray_runtime(address: str | None) -> Iterator[list[Resources]]:
    """Provide a quiet Ray runtime, of this process's share of the machine or of a cluster; yield its nodes' resources.

    A process that is already connected to Ray stays connected. Raises InputError where no cluster answers at `address`.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if os.environ.get(WEIGHTS_FOLDER):  # as an absolute path: trials may have another working folder
        os.environ[WEIGHTS_FOLDER] = weights_environment()[WEIGHTS_FOLDER]
    for name in ("ray", "ray.tune", "ray._private"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if ray.is_initialized():
        yield _resources()
        return
    with ExitStack() as stack:
        stack.enter_context(authentication_put_back())
        session = None if address else stack.enter_context(private_session())
        stack.callback(ray.shutdown)  # also where a signal comes while Ray starts, and before its folder is deleted
        if address:
            _join(address)
        elif session:
            _start(session)
        yield _resources()


def _start(folder: Path) -> None:
    local = local_resources()
    # "local" keeps Ray from joining a cluster that someone else runs on this machine.
    with _signals_held_back(), this_machine_only():
        started = ray.init(
            address="local",
            num_cpus=int(local["CPU"]),
            num_gpus=int(local["GPU"]),
            include_dashboard=False,
            _temp_dir=str(folder),
            job_config=InstalledCodeOnly(),
            **_QUIET,
        )
    close_to_others(Path(started.address_info["session_dir"]))


def _resources() -> list[Resources]:
    return [node["Resources"] for node in alive_nodes()]


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Block SIGTERM and SIGHUP while Ray starts, so that its processes inherit this; keep this process's handlers.

    `timeout`, systemd and batch systems send SIGTERM to every process of a group or job; a closing terminal sends
    SIGHUP. Without Ray's processes, which end with this process anyhow, the search could not end in order. A signal
    that arrives meanwhile is handled when Ray has started. Ray's own handler, which would end this process at once, is
    not installed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    noted: list[int] = []
    usual = utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda handler: None
    # Nor that of Ray's C++ parts: another thread that took the signal there would end this process.
    disabled, ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER, True
    # Blocked only in this thread, which starts Ray's processes: another thread may still take the signal.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, HANGUP})
    handlers = {number: signal.signal(number, lambda number, _: noted.append(number)) for number in ending_signals()}
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        utils.set_sigterm_handler = usual
        ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = disabled
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for number in noted[:1]:
            signal.raise_signal(number)


def alive_nodes() -> list[dict[str, Any]]:
    """Return Ray's table of the nodes that answer: NodeID, NodeManagerHostname, NodeManagerAddress, Resources, ..."""
    return [node for node in ray.nodes() if node["Alive"]]


def wait_for_nodes(address: str, number: int, seconds: float = 300.0) -> None:
    """Wait until so many nodes have joined the cluster; raise SegtuneError when they do not within `seconds`."""
    end = time.monotonic() + seconds
    with ray_runtime(address) as nodes:
        there = len(nodes)
        while there < number:
            if time.monotonic() > end:
                raise SegtuneError(f"{address}: {there} of {number} nodes joined the Ray cluster in {seconds:g} s")
            time.sleep(0.5)
            there = len(alive_nodes())


def check_nodes(results: Path, places: Iterable[Path], weights: Iterable[Path] = ()) -> None:
    """Raise InputError, naming node and path, unless every node can write to `results` and sees the others.

    `places` has folders and files of the data, `weights` files with the initial weights of encoders.

    The test is a file that is written here and looked for there: a folder of the same name may be on another disk.
    """
    results = results.absolute()
    made = [parent for parent in (results, *results.parents) if not parent.exists()]
    results.mkdir(parents=True, exist_ok=True)
    mistakes: list[str] = ["not looked at"]
    try:
        with tempfile.NamedTemporaryFile(prefix=".nodes-", dir=results) as marker:
            advice = dict.fromkeys(places, "") | dict.fromkeys(weights, f"; {_ENCODERS}")
            mistakes = _not_shared(Path(marker.name), {str(place.absolute()): text for place, text in advice.items()})
    finally:
        for parent in made if mistakes else ():  # the innermost first
            with suppress(OSError):
                parent.rmdir()
    if mistakes:
        raise InputError(mistakes)


def _not_shared(marker: Path, places: Mapping[str, str]) -> list[str]:
    """Return a line for each place that a node does not see; the places have a text to add to it."""
    nodes = alive_nodes()
    answers = [_look_on(node["NodeID"]).remote(str(marker), list(places)) for node in nodes]
    mistakes = []
    for node, answer in zip(nodes, answers, strict=True):
        name = f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        try:
            writable, missing = ray.get(answer, timeout=_ANSWER_S)
        except ray.exceptions.RayError as error:
            raise SegtuneError(f"{name} does not start processes ({' '.join(str(error).split())[:200]})") from None
        if not writable:
            mistakes.append(f"--results-dir: {name} does not see {marker.parent}, or cannot write to it")
        mistakes += [f"{place}: no such folder or file on {name}{places[place]}" for place in missing]
    return mistakes


def _look_on(node: str) -> Any:
    """Make a remote function for a node: can it write beside a marker, and which places does it not see?"""

    # Nested, so that it is sent as code: the node's process need not import this package, which would import torch.
    def look(marker: str, places: list[str]) -> tuple[bool, list[str]]:
        writable = os.path.exists(marker) and os.access(os.path.dirname(marker), os.W_OK)
        return writable, [place for place in places if not os.path.exists(place)]

    here = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(look).options(num_cpus=0, max_retries=0, scheduling_strategy=here)


def _join(address: str) -> None:
    if "://" in address:
        raise InputError(f"--address {address}: run this on a node of the cluster, with HOST:PORT or auto")
    try:
        _knock(address)
        _authenticate(address)
        with _signals_held_back():
            # The nodes' raylets have an environment of their own.
            ray.init(
                address=address,
                runtime_env={"env_vars": ENVIRONMENT | weights_environment()},
                job_config=InstalledCodeOnly(),
                **_QUIET,
            )
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--address {address}: no Ray cluster answers there ({reason})") from None


def _authenticate(address: str) -> None:
    """Enable token authentication where the cluster asks for a token, unless RAY_AUTH_MODE decides.

    `ray start --head` asks for a token as soon as the user has one. A wrong guess, either way, fails late and with many
    messages.
    """
    # Not public; imported only by those who join a cluster.
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    if "RAY_AUTH_MODE" in os.environ or not AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
        return
    command = [sys.executable, "-P", "-c", _WITHOUT_TOKEN, address]  # -P: not the working folder's modules
    surroundings = os.environ | {"RAY_AUTH_MODE": "disabled"}
    with subprocess.Popen(command, env=surroundings, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        refused = any("InvalidAuthToken" in line for line in process.stderr)
        process.kill()  # it would try again and again
    # This check has loaded the token. While it is loaded, this process rejects the calls of a cluster that sends none,
    # and the cluster then takes every actor for abandoned and ends it.
    AuthenticationTokenLoader.instance().reset_cache()
    if refused:
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def _knock(address: str) -> None:
    """Raise OSError or ValueError where no gRPC server listens; Ray itself would try for minutes, with warnings."""
    host, colon, port = address.rpartition(":")
    if not colon:  # auto: Ray knows the port from a file
        return
    with socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S) as connection:
        connection.sendall(_HTTP2_HELLO)
        answer = connection.recv(4, socket.MSG_WAITALL)
    if answer[3:] != _HTTP2_SETTINGS:
        raise ValueError("something else listens on this port")
