"""How a cluster is divided among workers."""

import math
from dataclasses import dataclass
from typing import Any

from colbert_video.cluster.session import Session
from colbert_video.device import Device
from colbert_video.errors import ClusterError, shown

CPUS_PER_WORKER = 4
"""Cores that share one model where there are no GPUs, if machines have as many."""


@dataclass(frozen=True)
class Share:
    """What one worker gets."""

    workers: int
    """Number of workers in all."""
    cpus: float
    gpus: float
    device: str


def divide(session: Session, cpus: int | None, device: Device | None) -> Share:
    """Divide a cluster: a worker for each GPU with an equal part of its machine's cores, else one for a few cores.

    Args:
        session: The cluster.
        cpus: Cores of each worker; None to choose.
        device: "cpu" to leave GPUs alone; None to use them.

    Raises:
        ClusterError: If no machine has what a worker needs.
    """
    machines = [node["Resources"] for node in session.ray.nodes() if node["Alive"]]
    with_gpus = [machine for machine in machines if machine.get("GPU", 0) >= 1 and machine.get("CPU", 0) >= 1]
    wanted = None if device is None or device == "auto" else str(device)
    if isinstance(device, int):
        wanted = f"cuda:{device}"
    if with_gpus and (wanted is None or wanted.startswith("cuda")):
        least = min(machine["CPU"] / machine["GPU"] for machine in with_gpus)
        each = float(cpus or max(1, math.floor(least)))
        return _fitting(with_gpus, each, 1.0, "cuda")
    if wanted is not None and wanted.startswith("cuda"):
        raise ClusterError(f"device={shown(wanted)}, but no machine of the cluster has a GPU and a core; use 'cpu'.")
    cores = [machine["CPU"] for machine in machines if machine.get("CPU", 0) >= 1]
    each = float(cpus or min([CPUS_PER_WORKER, *map(math.floor, cores)]))
    return _fitting(machines, each, 0.0, wanted or "cpu")


def _fitting(machines: list[dict[str, Any]], cpus: float, gpus: float, device: str) -> Share:
    count = sum(
        int(min(machine.get("CPU", 0) // cpus, machine.get("GPU", 0) // gpus if gpus else math.inf))
        for machine in machines
    )
    if count == 0:
        raise ClusterError(
            f"no machine of the cluster has {cpus:g} cores for a worker; add machines, or give fewer workers=."
        )
    return Share(count, cpus, gpus, device)
