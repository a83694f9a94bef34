"""Train one arm on Ray: a worker group that is started, watched and restarted by Ray Train, around the pure loop.

Checkpoints and the model go straight to our store; Ray Train's own storage holds only its bookkeeping. Each
`ray.train.report` blocks for about one health-check interval, so it is called at checkpoints only.

Source: https://docs.ray.io/en/latest/train/getting-started-pytorch.html
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from typing import Any

from corpus.ray_session import ray_session
from training.job import TrainingJob, is_trained, open_job
from voc.errors import TrainingError, VocError
from voc.run import open_run

HEALTH_CHECK_INTERVAL_S = 0.5


def train_on_ray(job: TrainingJob) -> None:
    """Train an arm with Ray Train on the cluster that `RAY_ADDRESS` names, else on a local one.

    Raises:
        TrainingError: If the workers failed more often than `training.max_failures` allows, or for a named reason.
    """
    training = job.training
    _set_train_variables(training.start_timeout_s)
    with ray_session(), tempfile.TemporaryDirectory(prefix="nightforge-ray-train-") as storage:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        trainer = TorchTrainer(
            train_worker,
            train_loop_config={
                "store_uri": job.run.store.uri,
                "run_id": job.run.layout.run_id,
                "arm": job.arm,
                "base_digest": job.base.digest,
            },
            scaling_config=ScalingConfig(
                num_workers=training.num_workers,
                use_gpu=training.gpus_per_worker > 0,
                resources_per_worker={"CPU": float(training.cpus_per_worker), "GPU": float(training.gpus_per_worker)},
            ),
            run_config=RunConfig(
                name=f"{job.run.layout.run_id}-{job.arm}",
                storage_path=storage,
                failure_config=FailureConfig(max_failures=training.max_failures),
            ),
        )
        _fit(trainer, job)
    if not is_trained(job):
        raise TrainingError(f"the workers of arm {job.arm!r} ended without a finished export")


def train_worker(settings: Mapping[str, Any]) -> None:
    """Train on one Ray Train worker."""
    import ray.train

    from training.loop import train

    logging.getLogger("ray.train").setLevel(logging.WARNING)  # each report prints all of its figures on every rank
    run = open_run(settings["store_uri"], settings["run_id"])
    job = open_job(run, settings["arm"], base_digest=settings["base_digest"])
    train(job, lambda figures: ray.train.report(dict(figures)))


def _fit(trainer: Any, job: TrainingJob) -> None:
    from ray.train import TrainingFailedError

    try:
        trainer.fit()
    except TrainingFailedError as error:
        named = next((e for e in getattr(error, "worker_failures", {}).values() if isinstance(e, VocError)), None)
        if named is not None:
            raise named from error
        raise TrainingError(
            f"arm {job.arm!r} failed on Ray: {error}",
            expected=f"at most {job.training.max_failures} restarts (training.max_failures)",
            remedy="see the workers' messages above; the same stage continues from the newest checkpoint",
        ) from error


def _set_train_variables(start_timeout_s: int) -> None:
    """Set what Ray Train reads when it is imported and hands on to its workers."""
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(HEALTH_CHECK_INTERVAL_S))
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # else every line of a worker comes twice
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(start_timeout_s)
