"""Ray's trainer as it is used here: with what a training needs of it and without the rest.

Every actor of Ray Train's own is a process that imports Ray Train before the workers may start, some 5 s of CPU, and then wakes
up a hundred times a second. Where the ranks take all cores, what these processes take is lost to the training, and as ranks wait
for each other in every layer, what one loses all lose (docs/log.md has the figures).

Source: https://docs.ray.io/en/latest/train/api/doc/ray.train.torch.TorchTrainer.html
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from corpus.ground.tasks import names_cluster
from training.start.capacity import WorkerRequest

# A node that lives for one training is not drained, has no dashboard that would show metrics and events of tasks, and gets no
# other nodes, so its monitor looks once and not every 5 s whether it needs some.
_FOR_ONE_TRAINING = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_task_events_report_interval_ms": "0",
    "AUTOSCALER_UPDATE_INTERVAL_S": "86400",
}


def set_train_variables(start_timeout_s: int) -> None:
    """Set what Ray and Ray Train read when they are imported, and hand on to workers.

    Args:
        start_timeout_s: How long workers may take to start.
    """
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # else every line of a worker comes twice
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(start_timeout_s)
    if names_cluster():
        return
    for variable, value in _FOR_ONE_TRAINING.items():
        os.environ.setdefault(variable, value)


def build_trainer(
    train_worker: Callable[[Mapping[str, Any]], None],
    settings: Mapping[str, Any],
    request: WorkerRequest,
    *,
    name: str,
    storage: str,
    max_failures: int,
) -> Any:
    """Return a trainer whose `fit` runs a function on every worker.

    Args:
        train_worker: The function.
        settings: Its argument.
        request: The workers.
        name: What Ray calls the training.
        storage: Folder for its bookkeeping.
        max_failures: How often a lost worker group is started again.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    return _get_trainer_class()(
        train_worker,
        train_loop_config=dict(settings),
        scaling_config=ScalingConfig(
            num_workers=request.num_workers, use_gpu=request.gpus > 0, resources_per_worker=request.per_worker
        ),
        run_config=RunConfig(
            name=name,
            storage_path=storage,
            callbacks=[_build_sigterm_callback()],
            # For a type checker ray.train exports the classes of its first version.
            failure_config=FailureConfig(
                max_failures=max_failures,
                controller_failure_limit=0,  # type: ignore[call-arg]
            ),
        ),
    )


def _get_trainer_class() -> Any:
    """Return Ray's trainer without the actors that nobody here needs.

    One hands out Ray datasets; workers here read their shards themselves. In a cluster that was started for this training and
    ends with it, one more would free the workers' places if the controller was killed, and one would ask an autoscaler for nodes.
    """
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
    from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy

    class WithoutDatasets(TorchTrainer):
        unused: tuple[type, ...] = (DatasetsCallback,)

        def _create_default_callbacks(self) -> list[Any]:
            # A type checker sees the trainer of Ray Train's first version, here and below.
            callbacks = super()._create_default_callbacks()  # type: ignore[misc]
            return [callback for callback in callbacks if not isinstance(callback, self.unused)]

    class WithoutAutoscaler(FixedScalingPolicy):
        def after_controller_start(self, train_run_context: Any) -> None:
            """Ask for nothing, and so start no actor that would be asked."""

        def _maybe_send_resource_request(self) -> None:
            """As above."""

    class ForOneTraining(WithoutDatasets):
        unused = (DatasetsCallback, PlacementGroupCleanerCallback)

        def _initialize_and_run_controller(self, **settings: Any) -> Any:
            settings["scaling_policy"] = WithoutAutoscaler(settings["scaling_policy"].scaling_config)
            return super()._initialize_and_run_controller(**settings)  # type: ignore[misc]

    return WithoutDatasets if names_cluster() else ForOneTraining


def _build_sigterm_callback() -> Any:
    """Return a callback that lets SIGTERM to a worker end the training after the step under way.

    Ray Train trains in a thread of the worker, and Python gives signals to the main one, where actor methods run.
    """
    from ray.train.v2._internal.execution.callback import WorkerGroupCallback

    class SigtermCallback(WorkerGroupCallback):
        def after_worker_group_start(self, worker_group: Any) -> None:
            worker_group.execute(_handle_sigterm)

    return SigtermCallback()


def _handle_sigterm() -> None:
    from training.loop.preemption import handle_sigterm

    handle_sigterm()
