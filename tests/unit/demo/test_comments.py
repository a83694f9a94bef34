import json
from collections import Counter

import pytest

from demo.comments import comment_words, make_records, make_taxonomy, score_look_up
from voc.labels.taxonomy import format_taxonomy, parse_taxonomy
from voc.records.acceptance import read_voc_rows
from voc.records.records import Segment, VocRecord


@pytest.fixture(scope="module")
def records():
    return make_records(0, 1000, 200)


def test_the_taxonomy_has_60_described_leaves_and_survives_its_file():
    taxonomy = make_taxonomy()
    assert len(taxonomy.leaves) == 60
    assert all(leaf.description for leaf in taxonomy.leaves)
    assert parse_taxonomy(format_taxonomy(taxonomy.leaves), "taxonomy.csv") == taxonomy


def test_no_record_is_refused(records):
    lines = "".join(f"{json.dumps(record.to_json())}\n" for part in records for record in part)
    accepted = read_voc_rows(lines.encode(), make_taxonomy())
    assert accepted.rejections == ()
    assert accepted.rows == (*records[0], *records[1])


def test_the_same_seed_gives_the_same_records(records):
    assert make_records(0, 1000, 200) == records
    assert make_records(1, 1000, 200) != records


def test_test_comments_are_unseen(records):
    train, test = records
    assert len({record.comment for record in (*train, *test)}) == 1200


def test_segments_cover_the_comment_without_overlap_and_have_different_labels(records):
    for record in records[0]:
        assert " ".join(segment.content for segment in record.segments) == record.comment
        assert len({segment.label for segment in record.segments}) == len(record.segments)


def test_classes_are_as_uneven_as_zipf(records):
    counts = Counter(segment.label for record in records[0] for segment in record.segments).most_common()
    assert counts[0][1] > 20 * counts[-1][1]


def test_looking_up_training_segments_is_a_weak_classifier(records):
    assert 0.2 < score_look_up(*records) < 0.6


def test_the_look_up_knows_what_it_has_seen():
    label = make_taxonomy().leaves[0].path
    seen = VocRecord("a", "The box failed.", (Segment("The box failed.", label, "negative"),))
    unseen = VocRecord("b", "The map failed.", (Segment("The map failed.", label, "negative"),))
    assert score_look_up([seen], [seen]) == 1.0
    assert score_look_up([seen], [unseen]) == 0.0


def test_comment_words_are_all_that_comments_hold_after_their_first(records):
    words = {word.rstrip(".") for record in records[0] for s in record.segments for word in s.content.split()[1:]}
    assert words <= set(comment_words())
