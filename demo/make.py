"""Make the demo world: tiny base model, VOC data, general data and multiple-choice questions.

Each folder is written with its manifest last; a folder whose manifest names the same recipe is not made again.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from demo.comments import make_records, make_taxonomy, score_look_up
from demo.corpus import CorpusWriter
from demo.recipe import Recipe
from demo.wordings import TEST_QUESTIONS, TRAIN_QUESTIONS, render_wording
from demo.world import SUBJECTS, Fact, World, make_world
from voc.errors import ConfigError
from voc.labels.taxonomy import format_taxonomy
from voc.prompts import MMLU_LETTERS
from voc.records.records import VocRecord
from voc.store.local import LocalStore
from voc.store.manifest import commit_folder, is_finished, read_manifest

_DEV_QUESTIONS_PER_SUBJECT = 5
CARD_NAME = "card.json"


def make_from_arguments(arguments: argparse.Namespace) -> None:
    """Make the world of `python -m demo make`, whose options are the output folder and the fields of the recipe."""
    make_demo(arguments.output, Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)}))


def make_demo(folder: Path, recipe: Recipe) -> None:
    """Make everything that is not there yet, then the card.

    Raises:
        ConfigError: If the recipe asks for more than the world has.
    """
    check_recipe(recipe)
    store = LocalStore(folder)
    inputs = recipe.to_inputs()
    world = make_world(recipe.seed)
    train, test = make_records(recipe.seed, recipe.train_comments, recipe.test_comments)
    facts: dict[str, Any] = {}
    writers = {
        "data": lambda path: write_data(path, world, train, test, recipe),
        "mmlu": lambda path: write_questions(path, world, recipe),
        "base": lambda path: write_base(path, world, train, recipe),
    }
    for name, write in writers.items():
        if is_finished(store, name, inputs):
            print(f"{folder / name}: finished before, same recipe", flush=True)
        else:
            with tempfile.TemporaryDirectory() as temporary:
                commit_folder(store, name, Path(temporary), inputs=inputs, facts=write(Path(temporary)))
            print(f"{folder / name}: made", flush=True)
        manifest = read_manifest(store, name)
        facts[name] = dict(manifest.facts) if manifest else {}
    card = {"inputs": inputs, "chance": 1 / len(MMLU_LETTERS), **facts}
    store.write_bytes(CARD_NAME, json.dumps(card, indent=1).encode())


def check_recipe(recipe: Recipe) -> None:
    """Check sizes before anything is made.

    Raises:
        ConfigError: With every size that cannot be.
    """
    most = len(list_questions(make_world(recipe.seed)))
    problems = [f"{name} is {value}" for name, value in recipe.to_inputs().items() if value < 0]
    problems += [f"{n} is 0" for n in ("train_comments", "test_comments", "general_rows") if not getattr(recipe, n)]
    if not 0 < recipe.questions <= most:
        problems.append(f"questions is {recipe.questions}, the world has 1 to {most}")
    if problems:
        raise ConfigError(
            f"the demo cannot be made: {'; '.join(problems)}", expected="sizes above 0 that the world has"
        )


def write_data(
    folder: Path, world: World, train: Sequence[VocRecord], test: Sequence[VocRecord], recipe: Recipe
) -> dict[str, Any]:
    """Write taxonomy, VOC records and general rows; return their figures."""
    taxonomy = make_taxonomy()
    (folder / "taxonomy.csv").write_text(format_taxonomy(taxonomy.leaves))
    _write_lines(folder / "train.jsonl", (record.to_json() for record in train))
    _write_lines(folder / "test.jsonl", (record.to_json() for record in test))
    writer = CorpusWriter(world, world.replayed, random.Random(f"{recipe.seed}/general"))
    rows = writer.write_rows(recipe.general_rows)
    _write_lines(folder / "general.jsonl", (row.to_json() for row in rows))
    return {
        "leaves": len(taxonomy.leaves),
        "train_comments": len(train),
        "test_comments": len(test),
        "train_segments": sum(len(record.segments) for record in train),
        "test_segments": sum(len(record.segments) for record in test),
        "general_rows": dict(sorted(Counter(row.category for row in rows).items())),
        "look_up_micro_f1": round(score_look_up(train, test), 4),
    }


def write_questions(folder: Path, world: World, recipe: Recipe) -> dict[str, Any]:
    """Write dev and test questions in the layout of cais/mmlu plus the column `slice`; return their figures."""
    rng = random.Random(f"{recipe.seed}/questions")
    questions = list_questions(world)
    rng.shuffle(questions)  # so that any first part is a fair sample
    test = questions[: recipe.questions]
    dev = [
        (rng.choice(TRAIN_QUESTIONS), fact)
        for subject in SUBJECTS
        for fact in rng.sample([f for f in world.replayed if f.subject == subject], _DEV_QUESTIONS_PER_SUBJECT)
    ]
    _write_parquet(folder / "test.parquet", test)
    _write_parquet(folder / "dev.parquet", dev)
    return {
        "facts": len(world.facts),
        "test_questions": len(test),
        "dev_questions": len(dev),
        "test_questions_by_slice": dict(sorted(Counter(fact.slice for _, fact in test).items())),
    }


def list_questions(world: World) -> list[tuple[str, Fact]]:
    """Return every fact in every test wording."""
    return [(wording, fact) for wording in TEST_QUESTIONS for fact in world.facts]


def write_base(folder: Path, world: World, train: Sequence[VocRecord], recipe: Recipe) -> dict[str, Any]:
    """Train tokenizer and model and save them in the Hugging Face layout; return their figures."""
    from demo.pretrain import build_model, pretrain
    from demo.tokenizer import train_tokenizer

    started = time.monotonic()
    tokenizer = train_tokenizer(world, train, make_taxonomy(), recipe.seed)
    model = build_model(tokenizer, recipe.seed)
    pretrain(model, tokenizer, world, recipe)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "pretrain_steps": recipe.pretrain_steps,
        "wall_s": round(time.monotonic() - started, 1),
    }


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))


def _write_parquet(path: Path, questions: Sequence[tuple[str, Fact]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = [
        {
            "question": render_wording(wording, fact),
            "subject": fact.subject,
            "choices": list(fact.options),
            "answer": fact.options.index(fact.value),
            "slice": fact.slice,
        }
        for wording, fact in questions
    ]
    parquet.write_table(pa.Table.from_pylist(rows), path)
