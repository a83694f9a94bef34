"""The training stages: `python -m training prepare | run | show --store-uri URI --run-id ID [--arm NAME]`, and `plan`.

`run` ends with exit code 75 where the machine was taken away (`training.loop.preemption`): the same command goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from training.start.plan import add_plan_arguments, run_plan
from voc.arguments import run_command
from voc.run import add_run_arguments, open_run


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


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Prepare data, train an arm, look at it.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    prepare = commands.add_parser("prepare", help="check and encode the data, plan the mixtures")
    prepare.set_defaults(run=run_prepare)
    prepare.add_argument(
        "--without-ray", action="store_true", help="read and encode in this process, however much it is"
    )
    train = commands.add_parser("run", help="train one arm and export its model")
    train.set_defaults(run=run_training)
    train.add_argument(
        "--without-ray",
        action="store_true",
        help="train in this process; under torchrun every process is one rank",
    )
    train.add_argument(
        "--resume-from",
        metavar="CHECKPOINT",
        help="begin with this checkpoint: a folder in the store, as a key (runs/RUN/arms/ARM/checkpoints/step-00000100) or "
        "a URI; without it, with the arm's newest one, else with the base",
    )
    show = commands.add_parser("show", help="print one training sample, learned tokens marked")
    show.set_defaults(run=run_show)
    show.add_argument("--row", type=int, default=0, help="position in the arm's training order, from 0")
    plan = commands.add_parser("plan", help="predict the memory of one GPU, and say what to change if it does not fit")
    plan.set_defaults(run=run_plan)
    add_plan_arguments(plan)
    for command in (prepare, train, show):
        add_run_arguments(command)
    for command in (train, show):
        command.add_argument("--arm", required=True, help="name of the arm in the configuration")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage; return the exit code."""
    return run_command(build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
