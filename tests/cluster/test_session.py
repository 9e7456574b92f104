"""Joining a cluster: which one is meant, what is refused in words, and who may read its token."""

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from thorough import thorough_only

from colbert_video.cli import main
from colbert_video.cluster import session
from colbert_video.cluster.indexing.machines import Share, divide
from colbert_video.errors import ClusterError, DependencyError, SettingsError

pytest_plugins = ("cluster_fixture",)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without a token."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    for name in session.TOKEN_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where something listens that is no cluster."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match=r'pip install "colbert_video\[cluster\]"'):
        session.import_ray()


def test_the_environment_says_what_ray_leaves_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    session.import_ray()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert os.environ["RAY_AUTH_MODE"] == "disabled"  # the user's word counts


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_a_token_is_its_owners_alone(home: Path) -> None:
    session._provide_token()
    token = home / ".ray" / "auth_token"
    assert (mode(token), len(token.read_text())) == (0o600, 64)
    before = token.read_text()
    token.chmod(0o644)  # as Ray makes it
    session._protect_token()
    session._provide_token()
    assert (mode(token), token.read_text()) == (0o600, before)


def test_a_token_that_is_kept_elsewhere_is_left_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/elsewhere")
    session._provide_token()
    assert not (home / ".ray").exists()


@pytest.mark.parametrize("cluster", ["clips", "clips/", "10.0.0.1", "ray://10.0.0.1:10001", "a/b:1", ":6379", ""])
def test_what_is_no_address_is_refused(cluster: str) -> None:
    with pytest.raises(SettingsError, match="is not the address of a Ray cluster; give HOST:PORT"):
        session.check_address(cluster)


def test_the_environment_names_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert session._running("auto") == "10.0.0.1:6379"
    assert session._running("10.0.0.2:6379") == "10.0.0.2:6379"
    assert session._running("local") is None
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(SettingsError, match="'nonsense' is not the address"):
        session._running("auto")


def test_a_connected_process_keeps_its_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(gcs_address="10.0.0.1:6379")
    ray = SimpleNamespace(is_initialized=lambda: True, get_runtime_context=lambda: context)
    monkeypatch.setattr(session, "import_ray", lambda: ray)
    with session.connect("auto") as joined:
        assert (joined.address, joined.started, joined.ours) == ("10.0.0.1:6379", False, False)
    with pytest.raises(SettingsError, match=r"connected to the Ray cluster 10\.0\.0\.1:6379 already"):
        session.connect("10.0.0.2:6379")


def failed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a bad command says; on one line, and with exit code 2."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_command_line_says_what_is_wrong_with_a_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    command = ["index", str(tmp_path), "--index", str(tmp_path / "i"), "--model", "toy", "--device", "cpu"]
    swallowed = ["index", "--cluster", "clips", *command[1:]]
    assert "--cluster clips is not the address of a Ray cluster" in failed(swallowed, capsys)
    started = time.monotonic()
    assert "no Ray cluster can be reached at 127.0.0.1:1 (" in failed([*command, "--cluster=127.0.0.1:1"], capsys)
    adding = ["add", str(tmp_path), "--index", str(tmp_path / "i"), "--cluster=127.0.0.1:1"]
    assert "no Ray cluster can be reached at 127.0.0.1:1 (" in failed(adding, capsys)
    assert time.monotonic() - started < 30  # nothing expensive is done before
    assert not (tmp_path / "i").exists()
    monkeypatch.setattr(session, "ANSWER_SECONDS", 1.0)
    silence = failed([*command, f"--cluster=127.0.0.1:{silent_port}"], capsys)
    assert f"127.0.0.1:{silent_port} accepts connections, but no Ray cluster answered; is that" in silence


def test_what_ray_says_is_told_in_our_words() -> None:
    timeout = "Traceback\nray.exceptions.RpcError: Timed out while waiting for GCS to become available.\n"
    assert "h:1 accepts connections, but no Ray cluster answered" in session._refusal("h:1", timeout)
    assert "the Ray cluster at h:1 refuses this program: it gave no reason" in session._refusal("h:1", "\n")


def test_another_token_is_refused(ray_cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session._reach(ray_cluster)
    monkeypatch.setenv("RAY_AUTH_TOKEN", 64 * "0")
    with pytest.raises(ClusterError, match=rf"the Ray cluster at {ray_cluster} refuses this program: .*token"):
        session._reach(ray_cluster)


def machines(*resources: dict[str, float]) -> Any:
    """A session with such machines."""
    nodes = [{"Alive": True, "Resources": machine} for machine in resources]
    nodes.append({"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}})
    return session.Session(SimpleNamespace(nodes=lambda: nodes), "", started=False, ours=False)


STARTED = """
import os, pathlib, sys
from colbert_video.cluster.session import connect
with connect("local", num_cpus=1, object_store_memory=80_000_000) as session:
    folder = pathlib.Path(session.folder)
    print(oct(folder.stat().st_mode & 0o777), os.environ["RAY_enable_metrics_collection"], any(folder.iterdir()))
print(folder.exists())
"""


@thorough_only
@pytest.mark.skipif(find_spec("ray") is None, reason='pip install "colbert_video[cluster]"')
def test_a_cluster_started_here_keeps_its_files_to_itself(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", STARTED], capture_output=True, text=True, timeout=120, env=environment, check=True
    )
    assert done.stdout.split() == ["0o700", "0", "True", "False"]


def test_workers_get_equal_shares() -> None:
    few, many, gpus = {"CPU": 2.0}, {"CPU": 16.0}, {"CPU": 16.0, "GPU": 4.0}
    assert divide(machines(many, many), None, None) == Share(8, 4.0, 0.0, "cpu")
    assert divide(machines(few, many), None, None) == Share(9, 2.0, 0.0, "cpu")
    assert divide(machines(few, many), 8, None) == Share(2, 8.0, 0.0, "cpu")
    assert divide(machines(many, gpus), None, None) == Share(4, 4.0, 1.0, "cuda")
    assert divide(machines(many, gpus), 8, None) == Share(2, 8.0, 1.0, "cuda")
    assert divide(machines(many, gpus), None, "cpu") == Share(8, 4.0, 0.0, "cpu")
    with pytest.raises(ClusterError, match="has 32 cores for a worker"):
        divide(machines(few, many), 32, None)
    with pytest.raises(ClusterError, match="no machine of the cluster has a GPU"):
        divide(machines(many), None, "cuda")
    with pytest.raises(ClusterError, match="no machine of the cluster has"):
        divide(machines({"CPU": 0.0}), None, None)
