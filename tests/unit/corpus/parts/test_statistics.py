"""Counts of parts add up to the counts of the whole, in any order, and in bounded memory."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.parts import statistics
from corpus.parts.statistics import (
    LENGTH_EDGES,
    OTHER_NAMES,
    PartStatistics,
    cover_leaves,
    merge_statistics,
)
from voc.errors import DataError
from voc.labels.taxonomy import Leaf, Taxonomy
from voc.records.records import GeneralRecord, Segment, VocRecord

PATHS = [("app", "log in", "password", code) for code in ("reset", "length")] + [("camera", "night", "image", "dark")]
TAXONOMY = Taxonomy(tuple(Leaf(path, "what it means") for path in PATHS))


def _voc(*labels, emotion="anger"):
    segments = tuple(Segment("text", label, emotion) for label in labels)
    return VocRecord("id", "text", segments)


def _general(category):
    return GeneralRecord(prompt="p", completion="c", category=category)


def _count(rows):
    part = PartStatistics()
    for record, tokens, assistant, lang in rows:
        part.add(record, tokens, assistant, lang)
    return part


def _write(part):
    return json.dumps([part.describe_file(), part.describe_classes()])


ROWS = [
    (_voc(PATHS[0], PATHS[2]), 40, 12, "en"),
    (_voc(PATHS[0], emotion="joy"), 15, 4, "de"),
    (_voc(), 17, 2, "en"),
    (_general("math"), 900, 700, None),
]


def test_every_level_counts_segments_and_comments_are_counted_by_their_segments():
    classes = _count(ROWS).describe_classes()
    assert classes["L1"] == {"app": 2, "camera": 1}
    assert (
        classes["L4"] == classes["path"] == {"app > log in > password > reset": 2, "camera > night > image > dark": 1}
    )
    assert classes["emotion"] == {"anger": 2, "joy": 1}
    assert classes["segments"] == {"0": 1, "1": 1, "2": 1}


def test_a_file_is_described_with_tokens_lengths_categories_and_languages():
    described = _count(ROWS).describe_file()
    assert {name: described[name] for name in ("rows", "tokens", "assistant_tokens", "longest_tokens")} == {
        "rows": 4,
        "tokens": 972,
        "assistant_tokens": 718,
        "longest_tokens": 900,
    }
    assert described["categories"] == {"math": 1}
    assert described["languages"] == {"en": 2, "de": 1}
    counts, edges = described["lengths"]["counts"], described["lengths"]["edges"]
    assert sum(counts) == 4
    assert counts[0] == 1, "15 tokens are below the first edge, 16"
    assert all(count == 0 or edges[i] <= 900 for i, count in enumerate(counts))


def test_a_test_set_that_is_not_encoded_has_no_tokens_rather_than_zero():
    part = PartStatistics()
    part.add(_voc(PATHS[0]), lang="en")
    described = part.describe_file()
    assert described["rows"] == 1
    assert not {"tokens", "assistant_tokens", "longest_tokens", "lengths"} & described.keys()


@pytest.mark.parametrize("tokens", [0, 1, 15, 16, 17, LENGTH_EDGES[-2], LENGTH_EDGES[-1], LENGTH_EDGES[-1] * 9])
def test_every_length_has_one_bin_with_its_upper_edge_exclusive(tokens):
    part = _count([(_general("x"), tokens, 0, None)])
    index = part.lengths.index(1)
    assert sum(part.lengths) == 1
    assert LENGTH_EDGES[index] <= tokens
    assert tokens < LENGTH_EDGES[index + 1] or index == len(part.lengths) - 1


@given(st.lists(st.integers(0, len(ROWS) - 1), max_size=30), st.integers(1, 6), st.randoms(use_true_random=False))
def test_parts_merge_to_the_whole_in_any_order(picks, num_parts, shuffle):
    rows = [ROWS[pick] for pick in picks]
    parts = [_count(rows[i::num_parts]) for i in range(num_parts)]
    shuffle.shuffle(parts)
    merged, whole = merge_statistics(*parts), _count(rows)
    assert merged == whole
    assert _write(merged) == _write(whole), "the order of names is the same too"


def test_merging_leaves_the_parts_as_they_were():
    parts = [_count(ROWS[:2]), _count(ROWS[2:])]
    before = [_write(part) for part in parts]
    merge_statistics(*parts)
    assert [_write(part) for part in parts] == before


def test_nothing_merged_is_no_rows():
    assert merge_statistics() == PartStatistics()


def test_free_names_are_bounded_and_no_row_is_lost(monkeypatch):
    monkeypatch.setattr(statistics, "MAX_NAMES", 3)
    parts = [_count([(_general(f"id-{i}"), 1, 1, "en") for i in range(begin, begin + 5)]) for begin in (0, 5)]
    merged = merge_statistics(*parts)
    assert merged.categories[OTHER_NAMES] > 0
    assert sum(merged.categories.values()) == 10
    assert len(merged.categories) <= 4


def test_coverage_counts_leaves_without_with_one_and_with_few_examples():
    coverage = cover_leaves(TAXONOMY, {"app > log in > password > reset": 1, "app > log in > password > length": 4})
    assert {name: coverage[name] for name in ("leaves", "without_examples", "with_one", "below_five")} == {
        "leaves": 3,
        "without_examples": 1,
        "with_one": 1,
        "below_five": 3,
    }
    assert coverage["by_level"]["L1"] == {"labels": 2, "without_examples": 1, "with_one": 0, "below_five": 1}
    assert coverage["by_level"]["L4"]["labels"] == 3
    assert coverage["unseen"] == ["camera > night > image > dark"]


def test_coverage_without_training_labels_lists_every_leaf_in_taxonomy_order():
    coverage = cover_leaves(TAXONOMY, {})
    assert coverage["without_examples"] == coverage["below_five"] == 3
    assert coverage["unseen"] == [" > ".join(path) for path in PATHS]


def test_a_counted_label_outside_the_taxonomy_is_an_error():
    with pytest.raises(DataError, match=r"1 counted labels are not in the taxonomy, the first is 'a > b > c > d'"):
        cover_leaves(TAXONOMY, {"a > b > c > d": 2})


def test_coverage_of_1420_leaves_agrees_with_a_plain_count():
    paths = [(f"a{i % 8}", f"b{i % 40}", f"c{i % 280}", f"d{i}") for i in range(1420)]
    taxonomy = Taxonomy(tuple(Leaf(path, "") for path in paths))
    shuffle = random.Random(7)
    counts = {" > ".join(path): shuffle.choice([0, 1, 3, 5, 90]) for path in paths}
    coverage = cover_leaves(taxonomy, counts)
    assert coverage["without_examples"] == len(coverage["unseen"]) == sum(n == 0 for n in counts.values())
    assert coverage["with_one"] == sum(n == 1 for n in counts.values())
    assert coverage["below_five"] == sum(n < 5 for n in counts.values())
    assert [coverage["by_level"][level]["labels"] for level in ("L1", "L2", "L3", "L4")] == [8, 40, 280, 1420]
