"""What all worker processes of this machine share: imported, and the tokenizer loaded, once, before they are forked.

The fork server (`corpus.worker_pool`) imports this module. It runs nothing but these imports, so no thread of Arrow or of the
tokenizer holds a lock while it forks, and pages that are only read - code, tables, a vocabulary of 150,000 tokens - are in memory
once however many workers there are.
"""

from __future__ import annotations

import contextlib
import gc
import os
from pathlib import Path

import corpus.comparison.contamination
import corpus.comparison.duplicates
import corpus.ingest
import corpus.samples  # noqa: F401
from corpus.base_model import load_tokenizer
from corpus.worker_pool import TOKENIZER_VARIABLE
from voc.errors import ModelError

if folder := os.environ.get(TOKENIZER_VARIABLE):
    # Without it no worker would start; the task that needs the tokenizer fails in the same way, and its message arrives.
    with contextlib.suppress(ModelError, OSError):
        load_tokenizer(Path(folder))
gc.collect()
gc.freeze()  # the collector would write into every shared page
