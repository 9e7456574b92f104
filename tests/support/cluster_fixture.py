"""One small Ray cluster for all tests that need one: three machines of one core each, on this one."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

MEMORY = 100 * 2**20
"""Bytes of each machine's object store."""
PATIENT = {
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_worker_niceness": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def start_cluster(machines: int = 3, **settings: Any) -> Any:
    """Start so many machines; `.address` is where `connect` joins them, `.shutdown()` ends them."""
    for name, value in PATIENT.items():
        os.environ.setdefault(name, value)
    from ray.cluster_utils import Cluster

    from colbert_video.cluster.session import _apply_environment, _provide_token

    _apply_environment()
    _provide_token()
    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": MEMORY, **settings}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(machines - 1):
        cluster.add_node(num_cpus=1, object_store_memory=MEMORY, **settings)
    return cluster


def kill_machine(cluster: Any, node: Any) -> None:
    """Take a machine away as a power cut does: its raylet and all workers at once."""
    raylet = node.all_processes["raylet"][0].process.pid
    for pid in [*_descendants(raylet), raylet]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    cluster.worker_nodes.discard(node)


def _descendants(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    children = [int(word) for word in listed.stdout.split()]
    return [descendant for child in children for descendant in (*_descendants(child), child)]


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """HOST:PORT of the cluster's head. Tests take nothing away from it; who kills machines starts a cluster of its own."""
    pytest.importorskip("ray")
    cluster = start_cluster()
    yield cluster.address
    cluster.shutdown()
