from __future__ import annotations

import json

from tests.unit.voc.conftest import TAXONOMY_CSV
from voc.labels.taxonomy import Leaf, Taxonomy, parse_taxonomy
from voc.prompts import (
    MMLU_CLOSING_SENTENCE,
    MMLU_INSTRUCTION,
    hash_prompt,
    render_answer,
    render_messages,
    render_mmlu_generative,
    render_mmlu_log_likelihood,
    render_system,
)
from voc.records.records import Segment
from voc.responses import parse_response

TAXONOMY = parse_taxonomy(TAXONOMY_CSV, "x")


def test_the_taught_answer_is_one_line_of_json_that_parses_strictly_back() -> None:
    segments = (
        Segment('größe "XL"\n', ("a", "b", "c", "d"), "neutral"),
        Segment("x", ("a", "b", "c", "e"), "negative"),
    )
    answer = render_answer(segments)
    assert "\n" not in answer
    assert "größe" in answer
    assert parse_response(answer).segments == segments
    assert parse_response(answer).strict
    assert list(json.loads(answer)[0]) == ["content", "L1", "L2", "L3", "L4", "emotion"]


def test_no_segments_are_an_empty_list() -> None:
    assert parse_response(render_answer(())).segments == ()
    assert parse_response(render_answer(())).failure is None


def test_the_system_turn_is_the_same_for_every_comment() -> None:
    one, other = (render_messages(text, "taxonomy", TAXONOMY) for text in ("a", "b"))
    assert one[0] == other[0]
    assert one[1] != other[1]


def test_only_the_taxonomy_variant_lists_the_labels() -> None:
    assert "Product > Battery > Use > Runtime: how long it lasts" in render_system("taxonomy", TAXONOMY)
    assert "Battery" not in render_system("internalized", TAXONOMY)


def test_the_hash_separates_variants_and_taxonomies() -> None:
    other = Taxonomy((*TAXONOMY.leaves, Leaf(("a", "b", "c", "d"), "x")))
    hashes = {hash_prompt(v, t) for v in ("internalized", "taxonomy") for t in (TAXONOMY, other)}
    assert len(hashes) == 3  # the internalized prompt does not depend on the taxonomy


def test_the_voc_prompt_does_not_end_like_a_multiple_choice_question() -> None:
    assert not render_messages("x", "internalized", TAXONOMY)[-1]["content"].rstrip().endswith("Answer:")


def test_mmlu_texts_are_frozen() -> None:
    choices = ["one", "two", "three", "four"]
    assert render_mmlu_log_likelihood("high_school_biology", " What? ", choices) == (
        "The following are multiple choice questions (with answers) about high school biology.\n\n"
        "What?\nA. one\nB. two\nC. three\nD. four\nAnswer:"
    )
    assert render_mmlu_generative("What?", choices) == f"{MMLU_INSTRUCTION}\n\nWhat?\nA. one\nB. two\nC. three\nD. four"
    assert MMLU_CLOSING_SENTENCE.format(letter="X") in MMLU_INSTRUCTION
