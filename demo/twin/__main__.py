"""The laptop twin's commands: `python -m demo.twin run|up|down`; `make demo`, `make up` and `make down` call them.

Reads a configuration from configs/, keeps everything it writes in `.nightforge/` of the current folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from voc.arguments import Command, argument, build_parser, run_command

HOME = argument("--home", type=Path, default=Path(".nightforge"), help="folder of the twin")
START = (
    HOME,
    argument("--config", type=Path, required=True, help="configuration file"),
    argument("--num-cpus", type=int, default=2, help="logical CPUs of the Ray head"),
)
NIGHT = (
    *START,
    argument("--conf", type=json.loads, default={}, help="trigger form values as JSON"),
    argument("--dag", default="voc_nightly", help="DAG to trigger"),
)
COMMANDS = {
    "run": Command("demo.twin.night:run_night", "run one night, print its table, end everything", NIGHT),
    "up": Command("demo.twin.night:bring_up", "start everything and leave it running", START),
    "hold": Command(
        "demo.twin.night:hold", "start everything and keep it until SIGTERM: the process behind `up`", START
    ),
    "down": Command("demo.twin.night:bring_down", "end what `up` started", (HOME,)),
}

if __name__ == "__main__":
    sys.exit(run_command(build_parser("python -m demo.twin", __doc__, COMMANDS)))
