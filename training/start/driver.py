"""Train one arm on Ray: a worker group that is started, watched and restarted by Ray Train, around the pure loop.

Checkpoints and the model go straight to our store; Ray Train's own storage holds only its bookkeeping. Each
`ray.train.report` blocks for about one health-check interval, so it is called at checkpoints only.

Ray Train restarts workers that fail; a group that finds no room it would ask for again and again, so a start that timed out
ends the training here, and what comes too late is left to the next try of the stage.

Source: https://docs.ray.io/en/latest/train/getting-started-pytorch.html
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from corpus.ground.tasks import names_cluster, ray_session
from training.export.vllm_smoke import ask_vllm, complete_card, has_draft
from training.job import TrainingJob, is_trained, open_job
from training.start.capacity import WorkerRequest, check_capacity, explain_shortage, read_cluster
from training.start.ray_trainer import build_trainer, set_train_variables
from training.start.startup import ENTER_WORKER, StartupClock
from voc.config.night import ServingConfig
from voc.errors import TrainingError, VocError
from voc.models.vllm_environment import uses_gpu
from voc.run import open_run


def train_on_ray(job: TrainingJob, clock: StartupClock, resume_from: str | None = None) -> None:
    """Train an arm with Ray Train on the cluster that `RAY_ADDRESS` names, else on a local one.

    Args:
        job: The arm's job.
        clock: The marks of this start so far.
        resume_from: Key or URI of the checkpoint to begin with.

    Raises:
        TrainingError: If the cluster has no room for the workers and cannot get it, if they failed more often than
            `training.max_failures` allows, or for a named reason.
    """
    training = job.training
    request = WorkerRequest(training.num_workers, training.cpus_per_worker, training.gpus_per_worker)
    set_train_variables(training.start_timeout_s)
    with ray_session(), tempfile.TemporaryDirectory(prefix="nightforge-ray-train-") as storage:
        clock.mark("start_ray")
        if not has_draft(job):
            waiting = check_capacity(request, read_cluster(started_here=not names_cluster()), training.start_timeout_s)
            if waiting is not None:
                print(f"{job.arm}: {waiting}", flush=True)
            import ray.train.torch  # noqa: F401  # seconds, and so a mark of their own

            clock.mark("import_ray_train")
            for attempt in range(training.max_failures + 1):
                if _fit(job, request, storage, clock, resume_from, is_last=attempt == training.max_failures):
                    break
        if training.export.vllm_smoke and has_draft(job):
            complete_card(job, partial(_ask_vllm_on_ray, job))
    if not is_trained(job):
        raise TrainingError(f"the workers of arm {job.arm!r} ended without a finished export")


def _ask_vllm_on_ray(
    job: TrainingJob, uri: str, prompts: Sequence[Sequence[int]], serving: ServingConfig
) -> dict[str, Any]:
    """Run `ask_vllm` where Ray has the devices of one engine; the workers' are free by now.

    Raises:
        TrainingError: If there is no such place, or the engine does not answer in time.
    """
    import ray

    gpus = serving.tensor_parallel_size if uses_gpu(serving) else 0
    cpus = job.training.cpus_per_worker
    task = ray.remote(ask_vllm).options(num_cpus=cpus, num_gpus=gpus, max_retries=0)
    timeout_s = job.training.start_timeout_s + serving.start_timeout_s
    found: Any = task.remote(uri, prompts, serving)
    try:
        return dict(ray.get(found, timeout=timeout_s))
    except ray.exceptions.GetTimeoutError as error:
        ray.cancel(found, force=True)
        raise TrainingError(
            f"vLLM gave no answers about the export of arm {job.arm!r} within {timeout_s} s",
            expected=f"a node with {cpus} CPUs and {gpus} GPUs, and an engine that starts",
            remedy="the export is kept and the same stage asks again; see serving.tensor_parallel_size and "
            "serving.start_timeout_s, or set training.export.vllm_smoke to false",
        ) from error
    except ray.exceptions.RayTaskError as error:
        named = error.cause
        raise (named if isinstance(named, VocError) else error) from None


def train_worker(settings: Mapping[str, Any]) -> None:
    """Train on one Ray Train worker."""
    clock = StartupClock(settings["marks"])
    clock.mark(ENTER_WORKER)
    import ray.train

    from training.loop.train import train

    clock.mark("import_loop")
    logging.getLogger("ray.train").setLevel(logging.WARNING)  # each report prints all of its figures on every rank
    run = open_run(settings["store_uri"], settings["run_id"])
    job = open_job(run, settings["arm"], base_digest=settings["base_digest"])
    clock.mark("open_job_in_worker")
    train(job, lambda figures: ray.train.report(dict(figures)), clock, resume_from=settings["resume_from"])


def _fit(
    job: TrainingJob,
    request: WorkerRequest,
    storage: str,
    clock: StartupClock,
    resume_from: str | None,
    *,
    is_last: bool,
) -> bool:
    """Train with one Ray Train controller.

    Returns:
        False if workers were lost before they were ready and this was not the last attempt: the controller counts these
        together with starts that timed out, so it makes no second attempt at either.
    """
    from ray.train import TrainingFailedError
    from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError

    try:
        settings = {
            "store_uri": job.run.store.uri,
            "run_id": job.run.layout.run_id,
            "arm": job.arm,
            "base_digest": job.base.digest,
            "marks": clock.marks,
            "resume_from": resume_from,
        }
        name = f"{job.run.layout.run_id}-{job.arm}"
        max_failures = job.training.max_failures
        build_trainer(train_worker, settings, request, name=name, storage=storage, max_failures=max_failures).fit()
    except TrainingFailedError as error:
        cause = getattr(error, "controller_failure", None)
        if isinstance(cause, WorkerGroupStartupFailedError) and not is_last:
            return False
        if isinstance(cause, WorkerGroupStartupTimeoutError):
            cluster = read_cluster(started_here=False)
            circumstance = f"it was waited for {job.training.start_timeout_s} s (training.start_timeout_s)"
            raise explain_shortage(request, cluster, circumstance) from error
        named = next((e for e in getattr(error, "worker_failures", {}).values() if isinstance(e, VocError)), None)
        if named is not None:
            raise named from error
        raise TrainingError(
            f"arm {job.arm!r} failed on Ray: {error}",
            expected=f"at most {job.training.max_failures} restarts (training.max_failures)",
            remedy="see the workers' messages above; the same stage continues from the newest checkpoint",
        ) from error
    return True
