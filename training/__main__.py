"""The training stages: `python -m training prepare | run | show --store-uri URI --run-id ID [--arm NAME]`, and `plan`.

`run` ends with exit code 75 where the machine was taken away (`training.loop.preemption`): the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from voc.arguments import RUN_ARGUMENTS, Command, argument, build_parser, run_command
from voc.config.file import list_presets

_ARM = argument("--arm", required=True, help="name of the arm in the configuration")
COMMANDS = {
    "prepare": Command(
        "training.stages:run_prepare",
        "check and encode the data, plan the mixtures",
        (
            argument("--without-ray", action="store_true", help="read and encode in this process, however much it is"),
            *RUN_ARGUMENTS,
        ),
    ),
    "run": Command(
        "training.stages:run_training",
        "train one arm and export its model",
        (
            argument(
                "--without-ray",
                action="store_true",
                help="train in this process; under torchrun every process is one rank",
            ),
            argument(
                "--resume-from",
                metavar="CHECKPOINT",
                help="begin with this checkpoint: a folder in the store, as a key (runs/RUN/arms/ARM/checkpoints/step-00000100) "
                "or a URI; without it, with the arm's newest one, else with the base",
            ),
            *RUN_ARGUMENTS,
            _ARM,
        ),
    ),
    "show": Command(
        "training.stages:run_show",
        "print one training sample, learned tokens marked",
        (
            argument("--row", type=int, default=0, help="position in the arm's training order, from 0"),
            *RUN_ARGUMENTS,
            _ARM,
        ),
    ),
    "plan": Command(
        "training.start.plan:run_plan",
        "predict the memory of one GPU, and say what to change if it does not fit",
        (
            argument(
                "--model",
                required=True,
                help=f"a preset ({', '.join(list_presets())}), or the path or URI of a folder with config.json",
            ),
            argument("--nodes", type=int, required=True, help="machines"),
            argument("--gpus-per-node", type=int, required=True, help="GPUs of one machine, each one rank"),
            argument("--gpu-memory-gib", type=float, required=True, help="memory of one GPU"),
            argument(
                "--config",
                help="configuration whose training section is planned; else the preset's, else its defaults in bf16",
            ),
            argument(
                "--set",
                action="append",
                default=[],
                metavar="KEY=VALUE",
                help="override one key of training; repeatable",
            ),
            argument("--json", action="store_true", help="print JSON in place of the table"),
        ),
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage; return the exit code."""
    return run_command(build_parser("python -m training", "Prepare data, train an arm, look at it.", COMMANDS), argv)


if __name__ == "__main__":
    sys.exit(main())
