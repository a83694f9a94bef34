"""Writes the study corpus into a folder: taxonomy, comments, general rows, a card to read, and the manifest last.

Everything is a function of `scale` and the seed, so two runs give the same bytes. Rows go to disk as they are drawn; memory
does not grow with `scale`, and the training rows of a smaller scale are the first rows of a larger one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from demo.study.card import render_card
from demo.study.comments import Comment, write_comments
from demo.study.distinct import NearTexts, SeenTexts, split_words
from demo.study.general import write_general
from demo.study.planted import PlantedPair, plant_duplicates
from demo.study.statistics import CommentCounter, GeneralCounter, summarise
from demo.study.taxonomy import make_taxonomy
from voc.errors import ConfigError
from voc.labels.taxonomy import format_taxonomy
from voc.records.records import GeneralRecord, VocRecord
from voc.store.local import LocalStore
from voc.store.manifest import MANIFEST_NAME, FileEntry, Manifest, digest_file, is_finished, write_manifest

TRAIN_COMMENTS, TEST_COMMENTS, GENERAL_ROWS = 14_511, 861, 4_837
VERSION = 1  # of the texts: the same version, seed and scale mean the same bytes
SEED = 0
FILES = ("card.html", "general.jsonl", "taxonomy.csv", "test.jsonl", "train.jsonl")
_SAMPLES_PER_LANGUAGE = 3
_ENCODE = json.JSONEncoder(ensure_ascii=False).encode


def make_study_corpus(folder: Path, scale: int = 1) -> None:
    """Write the corpus, unless the folder's manifest says that it is there.

    Args:
        folder: Where to write; other files in it stay as they are.
        scale: Multiplies the training and the general rows; the test and the taxonomy stay.

    Raises:
        ConfigError: If the scale is below 1.
    """
    if scale < 1:
        raise ConfigError(f"scale is {scale}", expected="a whole number of 1 or more")
    folder = folder.absolute()
    store, name = LocalStore(folder.parent), folder.name
    inputs = {"version": VERSION, "seed": SEED, "scale": scale}
    if is_finished(store, name, inputs) and all((folder / file).is_file() for file in FILES):
        print(f"{folder}: finished before, same scale", flush=True)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        facts = _write_files(folder, scale)
        entries = tuple(FileEntry(n, (folder / n).stat().st_size, digest_file(folder / n)) for n in FILES)
        write_manifest(store, name, Manifest(entries, inputs, facts))
        print(f"{folder}: made, {facts['train']['rows']:,} + {facts['test']['rows']} comments", flush=True)


def _write_files(folder: Path, scale: int) -> dict[str, Any]:
    taxonomy = make_taxonomy()
    (folder / "taxonomy.csv").write_text(format_taxonomy(taxonomy.leaves), encoding="utf-8", newline="")
    seen = SeenTexts()
    train, test, general = CommentCounter(), CommentCounter(), GeneralCounter()
    traits: dict[str, Counter[str]] = {"train": Counter(), "test": Counter()}
    samples: dict[str, list[VocRecord]] = {}
    pairs: list[PlantedPair] = []
    tests = list(islice(write_comments("test", SEED, seen, NearTexts()), TEST_COMMENTS))
    avoided = NearTexts()
    for comment in tests:
        avoided.add(split_words(comment.record.comment))
    _write_lines(folder / "test.jsonl", _count_comments(tests, test, traits["test"]))
    trains = _keep_samples(plant_duplicates(write_comments("train", SEED, seen, avoided), SEED, pairs), samples)
    trains = islice(trains, TRAIN_COMMENTS * scale)
    _write_lines(folder / "train.jsonl", _count_comments(trains, train, traits["train"]))
    rows = islice(write_general(SEED, SeenTexts()), GENERAL_ROWS * scale)
    _write_lines(folder / "general.jsonl", _count_general(rows, general))
    facts = summarise(train, test, general, taxonomy)
    facts["traits"] = {part: dict(sorted(counter.items())) for part, counter in traits.items()}
    facts["planted"] = [list(pair) for pair in pairs]
    (folder / "card.html").write_text(render_card(facts, samples), encoding="utf-8", newline="")
    return facts


def _count_comments(
    comments: Iterable[Comment], counter: CommentCounter, traits: Counter[str]
) -> Iterator[dict[str, Any]]:
    for comment in comments:
        counter.add(comment.record)
        traits.update(comment.traits)
        yield comment.record.to_json()


def _count_general(rows: Iterable[GeneralRecord], counter: GeneralCounter) -> Iterator[dict[str, Any]]:
    for row in rows:
        counter.add(row)
        yield row.to_json()


def _keep_samples(comments: Iterable[Comment], samples: dict[str, list[VocRecord]]) -> Iterator[Comment]:
    """Keep the first comments of each language that have two segments or more, for the card."""
    for comment in comments:
        kept = samples.setdefault(comment.record.extra["lang"], [])
        if len(kept) < _SAMPLES_PER_LANGUAGE and len(comment.record.segments) > 1:
            kept.append(comment.record)
        yield comment


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{_ENCODE(row)}\n" for row in rows)
