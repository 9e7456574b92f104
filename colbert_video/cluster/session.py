"""A connection to a Ray cluster: a running one, else a new one on this machine.

Ray's defaults that are not ours: usage statistics stay off, no dashboard is started, workers' output is not copied to this
terminal, and programs must prove that they know the cluster's token. docs/cluster.md says what listens where.
"""

import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colbert_video.errors import ClusterError, DependencyError, SettingsError, shown

logger = logging.getLogger(__name__)

ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}
"""Set before Ray is asked for anything, unless the user set them otherwise."""
LOCAL_ENVIRONMENT = {"RAY_enable_metrics_collection": "0"}
"""Set before a cluster is started here: Ray would publish its metrics on all addresses of the machine, without token."""
TOKEN_SETTINGS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""A user who sets one of these keeps the token elsewhere than Ray's file."""
REACH_SECONDS = 5.0
"""Until a machine must have accepted a connection."""
ANSWER_SECONDS = 60.0
"""Until a cluster must have answered, on a busy machine too; Ray itself would wait without end."""
QUESTION = "import sys, ray; ray._raylet.GcsClient(address=sys.argv[1])"
"""Asks a cluster's head who it is, in another process: Ray aborts where something else answers."""


def import_ray() -> Any:
    """Import Ray with this library's settings.

    Raises:
        DependencyError: If it is not installed.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise DependencyError('clusters need Ray; install it with: pip install "colbert_video[cluster]"') from error
    return ray


@dataclass
class Session:
    """An open connection; leaving the block closes it.

    A connection that was open before stays open, and a cluster that was running before keeps running; one that was
    started for this session ends with it.
    """

    ray: Any
    """The imported `ray`."""
    address: str
    """HOST:PORT of the cluster's head."""
    started: bool
    """True if the cluster was started for this session."""
    ours: bool
    """True if this session connected, and so disconnects."""
    folder: str | None = None
    """Ray's files of a cluster that was started for this session, deleted at the end; None for others."""

    def close(self) -> None:
        """Disconnect, if the connection was opened for this session."""
        if self.ours:
            self.ray.shutdown()
            self.ours = False
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def connect(cluster: str = "auto", **local: Any) -> Session:
    """Connect to a Ray cluster, or start one on this machine.

    Args:
        cluster: "auto" for the cluster that this process is connected to, else that of RAY_ADDRESS, else the one that runs
            on this machine, else a new one here; "local" for a new one here; or HOST:PORT of a cluster's head.
        **local: Arguments of `ray.init` for a cluster that is started, such as num_cpus.

    Raises:
        DependencyError: If Ray is not installed.
        SettingsError: If the address is not valid, or this process is connected to another cluster.
        ClusterError: If the cluster cannot be reached, or refuses.
    """
    check_address(cluster)
    ray = import_ray()
    if ray.is_initialized():
        return Session(ray, _same_cluster(ray, cluster), started=False, ours=False)
    _apply_environment()
    _protect_token()
    address = _running(cluster)
    if address is None:
        _provide_token()
        return _start(ray, **local)
    _reach(address)
    return _init(ray, started=False, address=address)


def _start(ray: Any, **settings: Any) -> Session:
    """Start a cluster whose files nobody else can reach: Ray lets all users write into its session folder."""
    for name, value in LOCAL_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    folder = tempfile.mkdtemp(prefix="cv-ray-")  # a short name: paths of sockets are limited
    inner = {"_temp_dir": f"{folder}/r"}  # Ray opens this one to all, but nobody else passes the folder around it
    try:
        session = _init(ray, started=True, address="local", include_dashboard=False, **{**inner, **settings})
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    session.folder = folder
    return session


def check_address(cluster: str) -> None:
    """Check the address of a cluster.

    Raises:
        SettingsError: If it is neither "auto", "local" nor HOST:PORT.
    """
    host, colon, port = cluster.rpartition(":")
    if cluster in ("auto", "local") or (host and colon and port.isdecimal() and "/" not in host):
        return
    raise SettingsError(
        f"cluster={shown(cluster)} is not the address of a Ray cluster; give HOST:PORT of its head, such as 10.0.0.1:6379, "
        "or 'auto' for the one that runs on this machine."
    )


def _init(ray: Any, *, started: bool, **settings: Any) -> Session:
    try:
        with _own_signals():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = "could not be started" if started else f"at {settings['address']} could not be joined"
        raise ClusterError(f"a Ray cluster {where}: {_first_line(error)}") from error
    address = ray.get_runtime_context().gcs_address
    logger.info("%s the Ray cluster %s", "started" if started else "joined", address)
    return Session(ray, address, started=started, ours=True)


def _same_cluster(ray: Any, cluster: str) -> str:
    """The address of the cluster that this process is connected to, if that is the one meant."""
    address = str(ray.get_runtime_context().gcs_address)
    if cluster not in ("auto", address):
        raise SettingsError(
            f"this process is connected to the Ray cluster {address} already, so it cannot use {cluster}; call "
            "ray.shutdown() first, or give cluster='auto'."
        )
    return address


def _running(cluster: str) -> str | None:
    """HOST:PORT of the cluster to join; None if one is to be started."""
    named = os.environ.get("RAY_ADDRESS") if cluster == "auto" else cluster
    if named == "local":
        return None
    if named and named != "auto":
        check_address(named)
        return named
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found = str(canonicalize_bootstrap_address("auto"))
        _knock(found)
    except OSError:  # none runs, or Ray remembers one that has ended
        return None
    return found


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()


def _reach(address: str) -> None:
    """Check that a cluster answers; Ray itself would wait without end.

    Raises:
        ClusterError: If nothing listens at the address, something else does, or the cluster refuses this program.
    """
    try:
        _knock(address)
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"no Ray cluster can be reached at {address} ({error}); is it running (`ray start --head`), and is the port "
            "open for this machine?"
        ) from error
    command = [sys.executable, "-c", QUESTION, address]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ClusterError(_silent(address)) from error
    if asked.returncode < 0:
        raise ClusterError(
            f"what listens at {address} is not a Ray cluster; is that the port of its head (6379 by default)?"
        )
    if asked.returncode > 0:
        raise ClusterError(_refusal(address, asked.stderr))


def _silent(address: str) -> str:
    return (
        f"{address} accepts connections, but no Ray cluster answered; is that the port of its head (6379 by default), "
        "and is its token the one of this machine?"
    )


def _refusal(address: str, output: str) -> str:
    """What an error of Ray's means."""
    lines = [line for line in output.splitlines() if line.strip()]
    reason = lines[-1] if lines else "it gave no reason"
    if "Timed out" in reason:
        return _silent(address)
    return (
        f"the Ray cluster at {address} refuses this program: {reason} Both need the same version of Ray and the same token "
        "(~/.ray/auth_token, or RAY_AUTH_TOKEN_PATH)."
    )


def _apply_environment() -> None:
    """Let Ray, which may have been imported before, read the environment again."""
    from ray._raylet import Config  # type: ignore[attr-defined]

    Config.initialize("")


def _token_file() -> Path:
    return Path.home() / ".ray" / "auth_token"


def _protect_token() -> None:
    """Let this user alone read the token: Ray writes it readable for all."""
    with suppress(OSError):
        if _token_file().stat().st_mode & 0o077:
            _token_file().chmod(0o600)


def _provide_token() -> None:
    """Make the token before Ray does, readable by this user alone."""
    if any(name in os.environ for name in TOKEN_SETTINGS) or os.environ["RAY_AUTH_MODE"] != "token":
        return
    path = _token_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this program's handler of SIGTERM, which `ray.init` replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
