"""Whether the workers of a training can ever be placed on a Ray cluster, decided before Ray Train waits for them.

Ray keeps a group of workers pending for as long as there is no room for it, also where there never will be. What is compared
here are the nodes' *total* resources: a node that is busy now will be free one day.

Source: Ray's monitor reports on every cluster (`ray status` prints it). Without an autoscaler it mirrors the nodes, each
as a type of its own that is named after the node's id; with one, nodes have the types of its configuration.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from voc.errors import TrainingError

Resources = Mapping[str, float]

_NAMES = ("CPU", "GPU")
_TOLERANCE = 1e-6  # Ray counts in steps of 0.0001
_STATUS_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class WorkerRequest:
    """What a training asks of the cluster.

    Attributes:
        num_workers: Workers that must run at the same time.
        cpus: CPUs of each.
        gpus: GPUs of each.
    """

    num_workers: int
    cpus: float
    gpus: float

    @property
    def per_worker(self) -> dict[str, float]:
        """The resources of one worker under Ray's names, without those that it does not need."""
        return {name: float(amount) for name, amount in zip(_NAMES, (self.cpus, self.gpus), strict=True) if amount > 0}

    def count_on(self, node: Resources) -> int:
        """Return how many workers a node with these resources can hold."""
        rooms = [math.floor(node.get(name, 0.0) / amount + _TOLERANCE) for name, amount in self.per_worker.items()]
        return min(rooms, default=self.num_workers)

    def __str__(self) -> str:
        return f"{self.num_workers} x {_describe(self.per_worker)}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a cluster has.

    Attributes:
        nodes: Total resources of each node that is alive.
        can_grow: False only where it is known that nothing adds nodes.
    """

    nodes: tuple[Resources, ...]
    can_grow: bool

    def __str__(self) -> str:
        listed = ", ".join(_describe(node) for node in self.nodes) or "none"
        return f"{len(self.nodes)} nodes ({listed})"


def find_shortage(request: WorkerRequest, nodes: Sequence[Resources]) -> str | None:
    """Return what the nodes lack for the workers, or None if all of them fit at the same time."""
    rooms = [request.count_on(node) for node in nodes]
    if sum(rooms) >= request.num_workers:
        return None
    if any(rooms):
        return f"only {sum(rooms)} of {request.num_workers} workers fit"
    return f"no node has the {_describe(request.per_worker)} of one worker"


def check_capacity(request: WorkerRequest, cluster: Cluster, start_timeout_s: int) -> str | None:
    """Decide whether waiting for the workers makes sense.

    Returns:
        A sentence on what is waited for, or None if the cluster is large enough as it is.

    Raises:
        TrainingError: If the workers do not fit the cluster and it cannot grow.
    """
    shortage = find_shortage(request, cluster.nodes)
    if shortage is None:
        return None
    if cluster.can_grow:
        return f"{shortage} on {cluster}: waiting up to {start_timeout_s} s for the cluster to grow"
    raise explain_shortage(request, cluster, "no autoscaler can add a node")


def explain_shortage(request: WorkerRequest, cluster: Cluster, circumstance: str) -> TrainingError:
    """Return the error of workers that found no room.

    Args:
        request: What was asked.
        cluster: What there is.
        circumstance: Why more waiting is of no use.
    """
    shortage = find_shortage(request, cluster.nodes) or "all workers fit, but others hold the resources"
    return TrainingError(
        f"the training needs {request} at the same time, the cluster has {cluster}: {shortage}, and {circumstance}",
        expected="room for all workers",
        remedy="lower training.num_workers, cpus_per_worker or gpus_per_worker, enlarge the cluster, or raise "
        "training.start_timeout_s if it would have grown later",
    )


def read_cluster(*, started_here: bool) -> Cluster:
    """Look at the cluster that this process is connected to.

    Args:
        started_here: Whether this process started it, which makes it one node for good.
    """
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    nodes = tuple({name: float(node["Resources"].get(name, 0.0)) for name in _NAMES} for node in alive)
    return Cluster(nodes, can_grow=not started_here and not _is_mirrored([str(node["NodeID"]) for node in alive]))


def names_only_nodes(status: bytes | None, node_ids: Sequence[str]) -> bool:
    """Tell whether the monitor's report shows that no autoscaler is there.

    Args:
        status: The report as JSON, or None where there is none.
        node_ids: The nodes that are alive.

    Returns:
        True if every node type in it is just a node; False if not, or if nothing can be told from it.
    """
    try:
        report = json.loads(status or b"{}").get("autoscaler_report") or {}
        types = {*report.get("active_nodes", {}), *(report.get("idle_nodes") or {})}
        pending = [*report.get("pending_nodes", []), *report.get("pending_launches", {})]
    except (ValueError, AttributeError, TypeError):
        return False
    return bool(types) and not pending and types <= {f"node_{node_id}" for node_id in node_ids}


def _is_mirrored(node_ids: Sequence[str]) -> bool:
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.experimental.internal_kv import internal_kv_get_gcs_client

    try:
        client = internal_kv_get_gcs_client()
        status = client.internal_kv_get(DEBUG_AUTOSCALING_STATUS.encode(), None, timeout=_STATUS_TIMEOUT_S)
    except Exception as error:  # no public way to ask: whatever changes there must not end a training that fits
        logging.getLogger(__name__).warning("cannot ask Ray whether the cluster can grow: %r", error)
        return False
    return names_only_nodes(status, node_ids)


def _describe(resources: Resources) -> str:
    """Return resources as `{CPU: 2, GPU: 1}`."""
    listed = ", ".join(f"{name}: {amount:g}" for name, amount in resources.items() if amount > 0)
    return "{" + listed + "}"
