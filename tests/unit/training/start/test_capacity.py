from __future__ import annotations

import json

import pytest

from training.start.capacity import (
    Cluster,
    WorkerRequest,
    check_capacity,
    explain_shortage,
    find_shortage,
    names_only_nodes,
)
from voc.errors import TrainingError

SMALL, BIG = {"CPU": 8.0, "GPU": 0.0}, {"CPU": 96.0, "GPU": 8.0}


def test_workers_that_fit_side_by_side_lack_nothing() -> None:
    assert find_shortage(WorkerRequest(16, cpus=12, gpus=1), [SMALL, BIG, BIG]) is None
    assert find_shortage(WorkerRequest(3, cpus=0.1, gpus=0), [{"CPU": 0.3}]) is None


def test_enough_resources_in_total_are_no_room_if_no_node_has_what_one_worker_needs() -> None:
    request = WorkerRequest(1, cpus=12, gpus=0)
    assert find_shortage(request, [SMALL, SMALL]) == "no node has the {CPU: 12} of one worker"


def test_a_gpu_that_no_node_has_is_named() -> None:
    request = WorkerRequest(2, cpus=1, gpus=1)
    assert find_shortage(request, [SMALL]) == "no node has the {CPU: 1, GPU: 1} of one worker"
    assert find_shortage(request, []) == "no node has the {CPU: 1, GPU: 1} of one worker"


@pytest.mark.parametrize(("workers", "shortage"), [(16, None), (17, "only 16 of 17 workers fit")])
def test_the_scarcest_resource_of_each_node_decides_how_many_fit(workers: int, shortage: str | None) -> None:
    assert find_shortage(WorkerRequest(workers, cpus=12, gpus=1), [SMALL, BIG, BIG]) == shortage


def test_a_cluster_that_cannot_grow_fails_at_once_and_says_what_to_set() -> None:
    with pytest.raises(TrainingError) as caught:
        check_capacity(WorkerRequest(4, cpus=4, gpus=0), Cluster((SMALL,), can_grow=False), 1800)
    message = str(caught.value)
    assert "needs 4 x {CPU: 4}" in message
    assert "the cluster has 1 nodes ({CPU: 8})" in message
    assert "only 2 of 4 workers fit" in message
    assert "no autoscaler can add a node" in message
    assert "training.num_workers" in message


def test_a_cluster_that_may_grow_is_waited_for_and_that_is_said() -> None:
    request = WorkerRequest(8, cpus=12, gpus=1)
    said = check_capacity(request, Cluster((SMALL,), can_grow=True), 1800)
    assert said is not None
    assert "waiting up to 1800 s" in said
    assert check_capacity(request, Cluster((SMALL, BIG), can_grow=True), 1800) is None
    assert check_capacity(request, Cluster((BIG,), can_grow=False), 1800) is None


def test_a_cluster_that_is_large_enough_but_busy_is_called_busy() -> None:
    error = explain_shortage(WorkerRequest(2, cpus=4, gpus=0), Cluster((SMALL,), can_grow=True), "it took too long")
    assert "all workers fit, but others hold the resources, and it took too long" in str(error)


def test_only_a_report_whose_node_types_are_nodes_shows_that_nothing_adds_nodes() -> None:
    def report(**fields: object) -> bytes:
        return json.dumps({"autoscaler_report": {"active_nodes": {}, "pending_nodes": [], **fields}}).encode()

    ids = ["aa", "bb"]
    assert names_only_nodes(report(active_nodes={"node_aa": 1}, idle_nodes={"node_bb": 1}), ids)
    assert not names_only_nodes(report(active_nodes={"headgroup": 1}), ids)
    assert not names_only_nodes(report(active_nodes={"node_aa": 1, "gpu-workers": 1}), ids)
    assert not names_only_nodes(report(active_nodes={"node_aa": 1}, pending_launches={"gpu-workers": 2}), ids)
    assert not names_only_nodes(report(), ids)
    for silent in (None, b"", b"{}", b"no json", b"[]", b'{"autoscaler_report": null}', b'{"autoscaler_report": 3}'):
        assert not names_only_nodes(silent, ids)
