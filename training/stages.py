"""What the commands of `python -m training` do; heavy imports happen where they are needed.

`run_training` looks first at what is done already, so that a second call costs neither torch nor Ray.
"""

from __future__ import annotations

import argparse

from voc.run import open_run


def run_prepare(arguments: argparse.Namespace) -> None:
    """Prepare the run's data."""
    from corpus.ground.tasks import TaskRunner, map_here
    from corpus.prepare import prepare

    run = open_run(arguments.store_uri, arguments.run_id)
    with run.timed("prepare"):
        if arguments.without_ray:
            prepare(run, map_here)
        else:
            with TaskRunner() as runner:
                prepare(run, runner)


def run_training(arguments: argparse.Namespace) -> None:
    """Train one arm and export its model."""
    from training.checkpointing.folders import check_start
    from training.export.vllm_smoke import has_draft
    from training.job import is_trained, open_job
    from training.start.startup import StartupClock

    clock = StartupClock()
    run = open_run(arguments.store_uri, arguments.run_id)
    job = open_job(run, arguments.arm)
    if is_trained(job):
        print(f"arm {arguments.arm!r} of {arguments.run_id} is trained already, from the same inputs", flush=True)
        return
    if not has_draft(job):
        check_start(job, arguments.resume_from)
    clock.mark("open_job")
    with run.timed(f"train-{arguments.arm}"):
        if arguments.without_ray:
            from training.start.local import train_here

            clock.mark("import_loop")
            train_here(job, clock, arguments.resume_from)
        else:
            from training.start.driver import train_on_ray

            train_on_ray(job, clock, arguments.resume_from)


def run_show(arguments: argparse.Namespace) -> None:
    """Print one training sample as the model sees it."""
    from training.show import show_sample

    run = open_run(arguments.store_uri, arguments.run_id)
    print(show_sample(run, arguments.arm, arguments.row))
