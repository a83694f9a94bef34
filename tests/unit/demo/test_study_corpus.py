"""The statistics of the study corpus, asserted on one written at scale 1."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from demo.__main__ import build_parser
from demo.study.distinct import list_shingles, split_words
from demo.study.planted import OTHER_NEAR_PAIRS, PLANTED
from demo.study.statistics import measure_corpus
from demo.study.taxonomy import EMOTIONS
from demo.study.write import FILES, make_study_corpus
from voc.arguments import USER_ERROR_EXIT, run_command
from voc.labels.taxonomy import parse_taxonomy
from voc.records.acceptance import read_general_rows, read_voc_rows
from voc.responses import looks_like_voc
from voc.store.local import LocalStore
from voc.store.manifest import verify_directory

CLOSED_SERVICE_CATEGORIES = {
    "chat", "math", "code", "stem", "instruction-following", "rag", "translation", "planning", "factuality",
    "reasoning-math", "reasoning-code", "reasoning-instruction-following",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "corpus"
    make_study_corpus(path)
    return path


@pytest.fixture(scope="module")
def taxonomy(folder):
    return parse_taxonomy((folder / "taxonomy.csv").read_text(), "taxonomy.csv")


@pytest.fixture(scope="module")
def facts(folder):
    return json.loads((folder / "manifest.json").read_text())["facts"]


@pytest.fixture(scope="module")
def comments(folder, taxonomy):
    return {name: read_voc_rows((folder / f"{name}.jsonl").read_bytes(), taxonomy) for name in ("train", "test")}


@pytest.fixture(scope="module")
def general(folder):
    return read_general_rows((folder / "general.jsonl").read_bytes())


@pytest.fixture(scope="module")
def planted(facts):
    return {(kind, copy, original) for kind, copy, original in facts["planted"]}


def test_the_taxonomy_has_1420_leaves_in_four_levels_each_with_its_own_sentence(taxonomy):
    assert len(taxonomy.leaves) == 1420
    assert [len({p[:depth] for p in taxonomy.paths}) for depth in (1, 2, 3, 4)] == [13, 49, 165, 1420]
    assert len({leaf.description for leaf in taxonomy.leaves}) == 1420
    assert all(re.fullmatch(r"[A-Z0-9].{40,160}\.", leaf.description) for leaf in taxonomy.leaves)


def test_the_prompt_with_all_leaves_is_estimated_at_35_to_60_thousand_tokens(facts):
    assert 35_000 < facts["prompt"]["tokens_estimate"] < 60_000


def test_the_readers_refuse_no_row(comments, general):
    assert len(comments["train"].rows) == 14_511
    assert len(comments["test"].rows) == 861
    assert len(general.rows) == 4_837
    assert not comments["train"].rejections
    assert not comments["test"].rejections
    assert not general.rejections


def test_a_folder_is_finished_by_a_manifest_that_matches_its_files(folder):
    manifest = verify_directory(LocalStore(folder.parent), folder.name)
    assert [entry.path for entry in manifest.files] == list(FILES)


def test_the_files_count_as_the_manifest_says(folder, taxonomy, facts):
    assert measure_corpus(folder, taxonomy) == {k: facts[k] for k in ("train", "test", "general", "classes", "prompt")}


def test_a_second_run_writes_the_same_bytes(folder, tmp_path):
    make_study_corpus(tmp_path / "corpus")
    for name in (*FILES, "manifest.json"):
        first, second = ((path / name).read_bytes() for path in (folder, tmp_path / "corpus"))
        assert hashlib.sha256(first).hexdigest() == hashlib.sha256(second).hexdigest(), name


def test_a_finished_folder_is_left_alone_and_an_unfinished_one_is_made_again(tmp_path, capsys):
    path = tmp_path / "corpus"
    make_study_corpus(path)
    made = (path / "train.jsonl").stat().st_mtime_ns
    make_study_corpus(path)
    assert (path / "train.jsonl").stat().st_mtime_ns == made
    (path / "manifest.json").unlink()
    make_study_corpus(path)
    assert (path / "train.jsonl").stat().st_mtime_ns > made
    assert capsys.readouterr().out.count("finished before") == 1


def test_a_larger_scale_goes_on_where_the_smaller_one_ends(folder, tmp_path):
    make_study_corpus(tmp_path / "corpus", scale=2)
    for name, rows in (("train", 14_511), ("general", 4_837)):
        lines = (tmp_path / "corpus" / f"{name}.jsonl").read_bytes().splitlines()
        assert len(lines) == 2 * rows
        assert lines[:rows] == (folder / f"{name}.jsonl").read_bytes().splitlines()
    assert (tmp_path / "corpus" / "test.jsonl").read_bytes() == (folder / "test.jsonl").read_bytes()


def test_a_scale_below_one_is_refused_with_a_message(tmp_path, capsys):
    arguments = ["study-corpus", "--output", str(tmp_path / "corpus"), "--scale", "0"]
    assert run_command(build_parser(), arguments) == USER_ERROR_EXIT
    assert "scale is 0" in capsys.readouterr().err
    assert not (tmp_path / "corpus").exists()


def test_classes_are_as_uneven_as_real_feedback(facts):
    classes = facts["classes"]
    assert 500 < classes["head"][0] < 1000
    assert classes["head"][9] > 300
    assert 90 < classes["without_examples"] < 200
    assert 150 < classes["with_one"] < 350
    assert classes["below_five"] > 1420 / 2


def test_most_but_not_all_test_labels_are_seen_in_training(facts):
    assert facts["classes"]["test_leaves_unseen_in_training"] >= 5
    assert 0.002 < facts["classes"]["test_segments_unseen_share"] < 0.03


def test_segments_are_verbatim_in_order_without_overlap_and_leave_little_but_greetings(comments, facts):
    for part in ("train", "test"):
        assert facts[part]["segments_not_verbatim_in_order"] == 0
        assert facts[part]["characters_in_segments_share"] > 0.95
        for record in comments[part].rows:
            rest, position = "", 0
            for segment in record.segments:
                start = record.comment.index(segment.content, position)
                rest += record.comment[position:start]
                position = start + len(segment.content)
            rest += record.comment[position:]
            if record.segments and record.extra["source"] != "support_mail" and len(record.comment) < 600:
                assert not split_words(rest), record.id


def test_comments_have_none_to_four_segments_and_named_emotions(comments, facts):
    assert set(facts["train"]["segments_per_comment"]) == {"0", "1", "2", "3", "4"}
    assert 0.01 < facts["train"]["unlabelled_share"] < 0.06
    assert {s.emotion for record in comments["train"].rows for s in record.segments} == set(EMOTIONS)


def test_eight_languages_have_uneven_shares(facts):
    counts = list(facts["train"]["languages"].values())
    assert len(counts) == 8
    assert counts[0] > 5 * counts[-1]
    assert counts[-1] > 400


def test_typos_emoji_mixed_languages_and_long_comments_are_there(facts):
    train, traits = facts["train"], facts["traits"]["train"]
    assert 0.1 < train["emoji_share"] < 0.25
    assert 0.08 < traits["typo"] / train["rows"] < 0.2
    assert 0.02 < traits["mixed"] / train["rows"] < 0.06
    assert sum(n for edge, n in zip(*train["lengths"].values(), strict=True) if edge >= 1000) > 20
    assert train["lengths"]["counts"][0] > 50
    assert set(train["sources"]) == {
        "app_store", "web_survey", "web_shop", "support_mail", "social_media", "call_notes",
    }  # fmt: skip


def test_days_are_spread_over_four_months(comments, facts):
    assert facts["train"]["days"] == ["2026-07-28", "2026-11-24", 120]
    moment = re.compile(r"2026-\d\d-\d\dT\d\d:\d\d:\d\dZ")
    assert all(moment.fullmatch(record.extra["created_at"]) for record in comments["train"].rows)


def test_a_comment_is_written_once_except_for_what_was_planted(comments, planted):
    words = Counter()
    for part in ("train", "test"):
        words.update(" ".join(split_words(record.comment)) for record in comments[part].rows)
    assert sum(count - 1 for count in words.values()) == PLANTED["exact"] + PLANTED["conflict"]
    assert Counter(kind for kind, _, _ in planted) == PLANTED


def test_planted_pairs_are_what_they_are_called(comments, planted):
    records = {record.id: record for record in comments["train"].rows}
    for kind, copy, original in planted:
        one, other = records[copy], records[original]
        assert (one.comment == other.comment) is (kind != "near")
        assert ([s.label for s in one.segments] == [s.label for s in other.segments]) is (kind != "conflict")


def test_near_duplicates_are_the_planted_and_a_few_in_training_and_none_with_the_test(comments, planted):
    pairs = find_near_pairs([record for part in ("test", "train") for record in comments[part].rows])
    planted_ids = {(original, copy) for _, copy, original in planted}
    assert planted_ids <= pairs
    assert len(pairs - planted_ids) == OTHER_NEAR_PAIRS
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


def test_general_rows_have_the_closed_services_categories_and_varied_lengths(facts, general):
    found = facts["general"]
    assert set(found["categories"]) == CLOSED_SERVICE_CATEGORIES
    assert set(found["assistant_turns"]) == {"1", "2", "3"}
    assert found["lengths"]["counts"][1] > 20
    assert found["lengths"]["counts"][-2] > 20
    assert all(row.messages for row in general.rows)


def test_general_rows_know_nothing_of_cameras_and_answer_nothing_in_voc_json(general):
    for row in general.rows:
        assert not any("camera" in message["content"].casefold() for message in row.messages)
        assert not any(looks_like_voc(message["content"]) for message in row.messages)


def test_the_card_needs_no_network_and_no_script_and_shows_every_language(folder, facts):
    page = (folder / "card.html").read_text()
    assert page.count("<svg") == 6
    assert "<script" not in page
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)|url\((?!#)|@import""", page)
    for code in facts["train"]["languages"]:
        assert f"<h3>{code}</h3>" in page
    assert page.count("<blockquote>") == 24
