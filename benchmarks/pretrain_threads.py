"""Time a pretraining step of the demo's base model: torch's own threads against a part of the batch per thread.

    python -m benchmarks.pretrain_threads --threads 2 --rounds 5

Both ways take the same batches in turn, in one process; the gradients agree (a test holds that). Prints the median
milliseconds of forward and backward per way and the ratio, as one JSON line.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from itertools import islice

import torch

from demo.comments import make_records, make_taxonomy
from demo.corpus import CorpusWriter
from demo.pretrain import BatchGradients, build_model, draw_batches, keep_freed_memory
from demo.recipe import Recipe
from demo.tokenizer import train_tokenizer
from demo.world import make_world

STEPS_PER_ROUND = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    keep_freed_memory()
    recipe = Recipe()
    world = make_world(recipe.seed)
    train, _ = make_records(recipe.seed, recipe.train_comments, recipe.test_comments)
    tokenizer = train_tokenizer(world, train, make_taxonomy(), recipe.seed)
    model = build_model(tokenizer, recipe.seed)
    documents = CorpusWriter(world, world.facts, random.Random(0)).write_documents()
    drawn = draw_batches(documents, tokenizer, recipe.pretrain_batch_size, random.Random(0))
    batches = list(islice(drawn, STEPS_PER_ROUND))
    ways = {
        "torch_threads": (arguments.threads, BatchGradients(model, 1)),
        "one_thread": (1, BatchGradients(model, 1)),
        "parts_of_a_batch": (1, BatchGradients(model, arguments.threads)),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(arguments.rounds + 1):
        for name, (torch_threads, gradients) in ways.items():
            torch.set_num_threads(torch_threads)
            for ids, weights in batches:
                start = time.perf_counter()
                gradients.compute(ids, weights)
                if round_number:  # the first round warms up
                    times[name].append(time.perf_counter() - start)
                model.zero_grad(set_to_none=True)
    figures = {f"{name}_ms": round(1e3 * statistics.median(found), 1) for name, found in times.items()}
    ratio = figures["torch_threads_ms"] / figures["parts_of_a_batch_ms"]
    print(
        json.dumps({"threads": arguments.threads, "n": len(times["one_thread"]), **figures, "ratio": round(ratio, 2)})
    )


if __name__ == "__main__":
    main()
