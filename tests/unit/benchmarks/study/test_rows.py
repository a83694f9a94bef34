"""The statistics of the study corpus, asserted on one written in its own size, and what the benchmarks' rows add."""

import hashlib
import re
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.study.comments import EMOJI
from benchmarks.study.distinct import list_shingles, split_words
from benchmarks.study.rows import (
    GENERAL_ROWS,
    SPOILED_EVERY,
    TRAIN_COMMENTS,
    draw_comments,
    write_corpus,
    write_rows,
)
from benchmarks.study.taxonomy import EMOTIONS
from voc.labels.taxonomy import parse_taxonomy
from voc.prompts import render_system
from voc.records.acceptance import read_general_rows, read_voc_rows
from voc.responses import looks_like_voc

FILES = ("taxonomy.csv", "test.jsonl", "train.jsonl", "general.jsonl")
# The prompt with all leaves, 206,874 characters, was 42,260 tokens with Qwen's vocabulary (measured once).
CHARACTERS_PER_TOKEN = 4.895
# Pairs of training comments with a Jaccard of 0.8 or more: short ones that differ in their first or last words.
NEAR_PAIRS = 28
CLOSED_SERVICE_CATEGORIES = {
    "chat", "math", "code", "stem", "instruction-following", "rag", "translation", "planning", "factuality",
    "reasoning-math", "reasoning-code", "reasoning-instruction-following",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "corpus"
    return write_corpus(path)


@pytest.fixture(scope="module")
def taxonomy(folder):
    return parse_taxonomy((folder / "taxonomy.csv").read_text(), "taxonomy.csv")


@pytest.fixture(scope="module")
def comments(folder, taxonomy):
    return {name: read_voc_rows((folder / f"{name}.jsonl").read_bytes(), taxonomy) for name in ("train", "test")}


@pytest.fixture(scope="module")
def general(folder):
    return read_general_rows((folder / "general.jsonl").read_bytes())


@pytest.fixture(scope="module")
def support(comments, taxonomy):
    """Training segments of each leaf, the most frequent first."""
    counts = Counter(segment.label for record in comments["train"].rows for segment in record.segments)
    return {path: counts[path] for path in sorted(taxonomy.paths, key=lambda path: -counts[path])}


def test_the_taxonomy_has_1420_leaves_in_four_levels_each_with_its_own_sentence(taxonomy):
    assert len(taxonomy.leaves) == 1420
    assert [len({p[:depth] for p in taxonomy.paths}) for depth in (1, 2, 3, 4)] == [13, 49, 165, 1420]
    assert len({leaf.description for leaf in taxonomy.leaves}) == 1420
    assert all(re.fullmatch(r"[A-Z0-9].{40,160}\.", leaf.description) for leaf in taxonomy.leaves)


def test_the_prompt_with_all_leaves_is_estimated_at_35_to_60_thousand_tokens(taxonomy):
    assert 35_000 < len(render_system("taxonomy", taxonomy)) / CHARACTERS_PER_TOKEN < 60_000


def test_the_readers_refuse_no_row(comments, general):
    assert len(comments["train"].rows) == 14_511
    assert len(comments["test"].rows) == 861
    assert len(general.rows) == 4_837
    assert not comments["train"].rejections
    assert not comments["test"].rejections
    assert not general.rejections


def test_a_second_run_writes_the_same_bytes(folder, tmp_path):
    write_corpus(tmp_path / "corpus")
    for name in FILES:
        first, second = ((path / name).read_bytes() for path in (folder, tmp_path / "corpus"))
        assert hashlib.sha256(first).hexdigest() == hashlib.sha256(second).hexdigest(), name


def test_a_larger_corpus_goes_on_where_the_smaller_one_ends(folder, tmp_path):
    write_corpus(tmp_path / "corpus", 2 * TRAIN_COMMENTS, 2 * GENERAL_ROWS)
    for name, rows in (("train", 14_511), ("general", 4_837)):
        lines = (tmp_path / "corpus" / f"{name}.jsonl").read_bytes().splitlines()
        assert len(lines) == 2 * rows
        assert lines[:rows] == (folder / f"{name}.jsonl").read_bytes().splitlines()
    assert (tmp_path / "corpus" / "test.jsonl").read_bytes() == (folder / "test.jsonl").read_bytes()


def test_rows_for_a_peer_are_three_quarters_comments_of_which_one_in_500_is_refused(folder, taxonomy, tmp_path):
    rows = write_rows(tmp_path / "rows", 4000)
    found = read_voc_rows((rows / "train.jsonl").read_bytes(), taxonomy)
    assert len((rows / "general.jsonl").read_bytes().splitlines()) == 1000
    assert len(found.rows) + len(found.rejections) == 3000
    assert len(found.rejections) == 3000 // SPOILED_EVERY
    assert (rows / "test.jsonl").read_bytes() == (folder / "test.jsonl").read_bytes()


def test_classes_are_as_uneven_as_real_feedback(support):
    counts = list(support.values())
    assert 500 < counts[0] < 1000
    assert counts[9] > 300
    assert 90 < counts.count(0) < 200
    assert 150 < counts.count(1) < 350
    assert sum(count < 5 for count in counts) > 1420 / 2


def test_most_but_not_all_test_labels_are_seen_in_training(comments, support):
    labels = [segment.label for record in comments["test"].rows for segment in record.segments]
    unseen = [label for label in labels if not support[label]]
    assert len(set(unseen)) >= 5
    assert 0.002 < len(unseen) / len(labels) < 0.03


def test_segments_are_verbatim_in_order_without_overlap_and_leave_little_but_greetings(comments):
    for part in ("train", "test"):
        covered = characters = 0
        for record in comments[part].rows:
            rest, position = "", 0
            for segment in record.segments:
                start = record.comment.index(segment.content, position)
                rest += record.comment[position:start]
                position = start + len(segment.content)
                covered += len(segment.content)
            rest += record.comment[position:]
            characters += len(record.comment) if record.segments else 0
            if record.segments and record.extra["source"] != "support_mail" and len(record.comment) < 600:
                assert not split_words(rest), record.id
        assert covered / characters > 0.95


def test_comments_have_none_to_four_segments_and_named_emotions(comments):
    sizes = Counter(len(record.segments) for record in comments["train"].rows)
    assert set(sizes) == {0, 1, 2, 3, 4}
    assert 0.01 < sizes[0] / TRAIN_COMMENTS < 0.06
    assert {s.emotion for record in comments["train"].rows for s in record.segments} == set(EMOTIONS)


def test_eight_languages_have_uneven_shares(comments):
    counts = sorted(Counter(record.extra["lang"] for record in comments["train"].rows).values(), reverse=True)
    assert len(counts) == 8
    assert counts[0] > 5 * counts[-1]
    assert counts[-1] > 400


def test_typos_emoji_mixed_languages_and_long_comments_are_there(comments):
    records = comments["train"].rows
    emoji = {sign for signs in EMOJI.values() for sign in signs}
    assert 0.1 < sum(any(sign in record.comment for sign in emoji) for record in records) / len(records) < 0.25
    traits = Counter(trait for comment in islice(draw_comments()[1], TRAIN_COMMENTS) for trait in comment.traits)
    assert 0.08 < traits["typo"] / len(records) < 0.2
    assert 0.02 < traits["mixed"] / len(records) < 0.06
    assert sum(len(record.comment) >= 1000 for record in records) > 20
    assert sum(len(record.comment) < 25 for record in records) > 50
    assert {record.extra["source"] for record in records} == {
        "app_store", "web_survey", "web_shop", "support_mail", "social_media", "call_notes",
    }  # fmt: skip


def test_days_are_spread_over_four_months(comments):
    moments = [record.extra["created_at"] for record in comments["train"].rows]
    days = {moment[:10] for moment in moments}
    assert (min(days), max(days), len(days)) == ("2026-07-28", "2026-11-24", 120)
    assert all(re.fullmatch(r"2026-\d\d-\d\dT\d\d:\d\d:\d\dZ", moment) for moment in moments)


def test_a_comment_is_written_once(comments):
    words = [" ".join(split_words(record.comment)) for part in ("train", "test") for record in comments[part].rows]
    assert len(set(words)) == len(words)


def test_near_duplicates_are_a_few_in_training_and_none_with_the_test(comments):
    pairs = find_near_pairs([record for part in ("test", "train") for record in comments[part].rows])
    assert len(pairs) == NEAR_PAIRS
    assert not [pair for pair in pairs if pair[0].startswith("test-") and pair[1].startswith("train-")]


def find_near_pairs(records):
    """Find all pairs with a Jaccard of 0.8 or more: they share one of the rarest fifth of their shingles."""
    shingles = [list_shingles(split_words(record.comment)) for record in records]
    frequency = Counter(shingle for found in shingles for shingle in found)
    holders, pairs = defaultdict(list), set()
    for number, found in enumerate(shingles):
        rarest = sorted(found, key=lambda shingle: (frequency[shingle], shingle))[: len(found) // 5 + 1]
        for other in {holder for shingle in rarest for holder in holders[shingle]}:
            shared = len(found & shingles[other])
            if shared >= 0.8 * (len(found) + len(shingles[other]) - shared):
                pairs.add((records[other].id, records[number].id))
        for shingle in rarest:
            holders[shingle].append(number)
    return pairs


def test_general_rows_have_the_closed_services_categories_and_varied_lengths(general):
    lengths = [sum(len(message["content"]) for message in row.messages) for row in general.rows]
    turns = {sum(message["role"] == "assistant" for message in row.messages) for row in general.rows}
    assert {row.category for row in general.rows} == CLOSED_SERVICE_CATEGORIES
    assert turns == {1, 2, 3}
    assert sum(25 <= length < 50 for length in lengths) > 20
    assert sum(1000 <= length < 2000 for length in lengths) > 20
    assert all(row.messages for row in general.rows)


def test_general_rows_know_nothing_of_cameras_and_answer_nothing_in_voc_json(general):
    for row in general.rows:
        assert not any("camera" in message["content"].casefold() for message in row.messages)
        assert not any(looks_like_voc(message["content"]) for message in row.messages)
