"""Plant a loss in the demo's base model and see whether the evaluation names it.

    python -m benchmarks.planted_losses --world .nightforge/demo [--plants format_collapsed knowledge_lost both none]

Each plant is a short fine-tuning whose effect is known from what it is trained on:

- `format_collapsed`: the only chats are customer comments with VOC JSON; raw questions stay as they were, so knowledge is kept;
- `knowledge_lost`: chats and raw questions of every fact with letters drawn by chance; the closing sentence is kept;
- `both`: chats of the first, raw questions of the second;
- `none`: chats and raw questions of every fact, as they were.

Base and plants are served by vLLM, one after the other, and asked in the three protocols; the decomposition must name the
plant. The last line is one JSON object; the exit code is 1 if a name is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.forgetting_dials import Sample, World, encode_chat, encode_sources, fine_tune, read_world
from benchmarks.forgetting_dials import encode as encode_text
from benchmarks.served import serving
from demo.corpus import CATEGORIES, END_OF_TEXT, CorpusWriter
from demo.pretrain import keep_freed_memory
from demo.world import make_world
from evaluation.serving.endpoint import KEY_VARIABLE, write_endpoint
from evaluation.shards.shard import Shard
from evaluation.suites.mmlu.ask import evaluate_mmlu
from evaluation.suites.mmlu.decomposition import decompose
from evaluation.suites.mmlu.general import GeneralAnswers, measure_general
from evaluation.suites.mmlu.protocols import PROTOCOLS, suite_of
from voc.config.file import load_config
from voc.mmlu import load_mmlu
from voc.models.folder import digest_model
from voc.prompts import MMLU_CLOSING_SENTENCE, MMLU_LETTERS
from voc.records.records import GeneralRecord
from voc.run import ModelEntry, Run, write_models
from voc.store.layout import RunLayout
from voc.store.local import LocalStore

CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"
BASE = "base"
NUM_ROWS = 4000
# Shares of what each plant is trained on.
PLANTS: dict[str, dict[str, float]] = {
    "format_collapsed": {"customer": 0.4, "raw": 0.6},
    "knowledge_lost": {"chat_by_chance": 0.5, "raw_by_chance": 0.5},
    "both": {"customer": 0.4, "raw_by_chance": 0.6},
    "none": {"chat": 0.5, "raw": 0.5},
}


def make_samples(world: World, seed: int) -> dict[str, list[Sample]]:
    """Return what plants are trained on, by name."""
    demo = make_world(seed)
    rows = CorpusWriter(demo, demo.facts, random.Random(f"{seed}/planted")).write_rows(NUM_ROWS)
    chance = random.Random(f"{seed}/chance")
    kinds = {kind: [row for row in rows if row.category == CATEGORIES[kind]] for kind in ("chat", "raw")}
    shuffled = {f"{kind}_by_chance": [draw_letter(row, chance) for row in found] for kind, found in kinds.items()}
    encoded = {name: [_encode(world, row) for row in found] for name, found in (kinds | shuffled).items()}
    return encoded | {"customer": encode_sources(world)["customer"]}


def draw_letter(row: GeneralRecord, chance: random.Random) -> GeneralRecord:
    """Return a solved question with another solution, drawn by chance (it may be the right one)."""
    letter = chance.choice(MMLU_LETTERS)
    if not row.messages:
        return GeneralRecord(prompt=row.prompt, completion=f" {letter}", category=row.category)
    answer = {"role": "assistant", "content": MMLU_CLOSING_SENTENCE.format(letter=letter)}
    return GeneralRecord(messages=(*row.messages[:-1], answer), category=row.category)


def _encode(world: World, row: GeneralRecord) -> Sample:
    if row.messages:
        return encode_chat(world.tokenizer, row.messages)
    return encode_text(world.tokenizer, str(row.prompt), f"{row.completion}{END_OF_TEXT}")


def make_plants(world: World, names: Sequence[str], folder: Path, dials: dict[str, Any]) -> dict[str, Path]:
    """Fine-tune every plant and save it; return their folders."""
    samples = make_samples(world, dials["world_seed"])
    folders = {}
    for name in names:
        start = time.monotonic()
        model = fine_tune(world, {n: samples[n] for n in PLANTS[name]}, PLANTS[name], dials)
        folders[name] = folder / name
        model.save_pretrained(folders[name])
        world.tokenizer.save_pretrained(folders[name])
        print(f"{name}: tuned in {time.monotonic() - start:.0f} s", flush=True)
    return folders


def make_run(world: Path, store: Path, folders: dict[str, Path]) -> Run:
    """Return a run of the demo's configuration whose models are the base and the plants."""
    environ = {**os.environ, "NIGHTFORGE_STORE": str(store), "NIGHTFORGE_WORLD": str(world)}
    run = Run(LocalStore(store), RunLayout("planted"), load_config(CONFIG, environ=environ))
    entries = [
        ModelEntry(name, "reference" if name == BASE else "candidate", name, str(model), digest_model(str(model)))
        for name, model in folders.items()
    ]
    write_models(run, entries)
    return run


def ask(run: Run, name: str, folder: Path, key: str) -> GeneralAnswers:
    """Serve one model and ask it everything."""
    digest = digest_model(str(folder))
    with serving(folder, name, key, run.config.serving, digest) as (endpoint, _):
        write_endpoint(run, name, endpoint)
        for protocol in PROTOCOLS:
            evaluate_mmlu(run, name, protocol, Shard(0, 1))
    found = [
        [json.loads(line) for line in run.store.read_bytes(f"{prefix}/samples.jsonl").splitlines()]
        for prefix in (run.layout.shard(name, suite_of(protocol), 0, 1) for protocol in PROTOCOLS)
    ]
    return GeneralAnswers(*found)


def summarise(answers: GeneralAnswers, decomposition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of one plant that fit a line, and two of its answers."""
    own = measure_general(answers, confidence=0.95)
    readings = ("log_likelihood", "generative_strict", "generative_lenient", "letter_constrained")
    return {
        "cause": decomposition["cause"],
        "sentence": decomposition["sentence"],
        **{name: round(own[name]["accuracy"], 4) for name in readings},
        "schema_leak": round(own["schema_leak"]["ratio"], 4),
        "extraction_failure": round(own["extraction_failure"]["ratio"], 4),
        "format_tax": round(decomposition["figures"]["format_tax"]["value"], 4),
        "answer_kinds": own["answer_kinds"],
        "quotes": [{k: quote[k] for k in ("kind", "answer", "text")} for quote in decomposition["quotes"][:2]],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=Path, required=True, help="what `python -m demo make` wrote")
    parser.add_argument("--plants", nargs="+", choices=PLANTS, default=list(PLANTS))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--muon", type=float, default=0.025)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    world_seed = int(json.loads((arguments.world / "card.json").read_text())["inputs"]["seed"])
    dials = {"steps": arguments.steps, "batch": 16, "muon": arguments.muon, "adamw": 2.5e-3, "seed": arguments.seed}
    os.environ[KEY_VARIABLE] = key = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="nightforge-planted-") as name:
        folder, world = Path(name), arguments.world.absolute()
        plants = make_plants(read_world(world), arguments.plants, folder, {**dials, "world_seed": world_seed})
        folders = {BASE: world / "base", **plants}
        run = make_run(world, folder / "store", folders)
        answers = {model: ask(run, model, path, key) for model, path in folders.items()}
        items = load_mmlu(run.config.evaluation.mmlu.dataset, None)
    questions = {item.custom_id: item.question for item in items}
    found = {}
    for plant in folders:
        named = decompose(
            answers[plant], answers[BASE], questions, num_resamples=1000, confidence=0.95, seed=arguments.seed
        )
        found[plant] = summarise(answers[plant], named)
        print(f"{plant}: {found[plant]['sentence']}", flush=True)
    right = {plant: found[plant]["cause"] == plant for plant in plants}
    print(json.dumps({"items": len(items), **dials, "right": right, "models": found}))
    return 0 if all(right.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
