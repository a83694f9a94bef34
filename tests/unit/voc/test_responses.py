from __future__ import annotations

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from voc.prompts import render_answer
from voc.records.records import Segment
from voc.responses import looks_like_voc, parse_response

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SEGMENTS = st.lists(st.builds(Segment, TEXT, st.tuples(TEXT, TEXT, TEXT, TEXT), TEXT), max_size=4).map(tuple)
PROSE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="[]"), max_size=30)
GOOD = {"content": "a", "L1": "b", "L2": "c", "L3": "d", "L4": "e", "emotion": "f"}


@given(SEGMENTS)
def test_every_taught_answer_parses_strictly_back(segments: tuple[Segment, ...]) -> None:
    parsed = parse_response(render_answer(segments))
    assert (parsed.segments, parsed.failure, parsed.strict, parsed.repair) == (segments, None, True, None)


@given(PROSE, SEGMENTS, PROSE)
@example("Infinity", (), "")
def test_a_list_inside_prose_is_found_and_marked_as_repaired(
    before: str, segments: tuple[Segment, ...], after: str
) -> None:
    parsed = parse_response(f"{before}x{render_answer(segments)}{after}")
    assert (parsed.segments, parsed.failure, parsed.strict, parsed.repair) == (segments, None, False, "prose")


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda b: b.decode("utf-8", "surrogateescape")))
def test_any_text_gives_segments_or_the_name_of_a_failure(text: str) -> None:
    parsed = parse_response(text)
    assert (parsed.failure is None) or (parsed.segments == () and not parsed.strict)
    assert (parsed.repair is None) == (parsed.strict or parsed.failure is not None)
    json.dumps([s.to_json() for s in parsed.segments], ensure_ascii=False).encode()


@given(SEGMENTS.filter(bool), st.data())
def test_a_cut_answer_is_never_parsed_strictly(segments: tuple[Segment, ...], data: st.DataObject) -> None:
    answer = render_answer(segments)
    cut = answer[: data.draw(st.integers(1, len(answer) - 1))]
    assert not parse_response(cut).strict


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("I do not know.", "not_json"),
        ("The correct answer is (B).", "not_json"),
        ('[{"content": "a", "L1": "b"', "truncated"),
        ('[{"content": "a"', "truncated"),
        ("{}", "wrong_shape"),
        ("null", "wrong_shape"),
        ("[1, 2]", "wrong_shape"),
        ("[NaN]", "not_a_number"),
        (json.dumps([{**GOOD, "score": float("nan")}]), "not_a_number"),
        (json.dumps([{**GOOD, "score": float("-inf")}]), "not_a_number"),
        (json.dumps([{**GOOD, "L3": None}]), "wrong_shape"),
        (json.dumps([{k: v for k, v in GOOD.items() if k != "emotion"}]), "wrong_shape"),
        (json.dumps([GOOD])[:-2] + ', "L1": "again"}]', "duplicate_keys"),
        ("Sure: " + json.dumps([GOOD])[:-2] + ', "L1": "again"}]', "duplicate_keys"),
        (json.dumps([{**GOOD, "content": "\ud800"}]), "damaged_text"),
        (json.dumps([{**GOOD, "emotion": {"name": "sad"}}]), "wrong_shape"),
        (json.dumps([[GOOD], [GOOD]]), "wrong_shape"),
        (json.dumps({"segments": [GOOD], "count": 1}), "wrong_shape"),
        ("[" * 100_000, "too_deep"),
        ("[" * 100_000 + "]" * 100_000, "too_deep"),
        ("Here it is: " + json.dumps([GOOD, GOOD])[:-20], "truncated"),
        ("```json\n" + json.dumps([GOOD])[:-9] + "\n```", "truncated"),
        ('{"segments": ' + json.dumps([GOOD])[:-9], "truncated"),
        ("x" * 10_000_000, "too_long"),
        (json.dumps([GOOD] * 100_000), "too_long"),
        ("[1, " * 200_000, "too_deep"),
    ],
)
def test_failures_have_names(text: str, failure: str) -> None:
    parsed = parse_response(text)
    assert (parsed.failure, parsed.segments, parsed.strict) == (failure, (), False)


@pytest.mark.parametrize(
    ("text", "repair"),
    [
        (f"```json\n{json.dumps([GOOD], indent=1)}\n```", "fenced"),
        (f"```{json.dumps([GOOD])}```", "fenced"),
        (f"Here it is:\n```json\n{json.dumps([GOOD], indent=1)}\n```", "prose"),
        (f"{json.dumps([GOOD])}\nI hope this helps.", "prose"),
        (json.dumps({"segments": [GOOD]}), "wrapped"),
        (json.dumps([[GOOD]]), "wrapped"),
        (json.dumps(GOOD), "single"),
    ],
)
def test_the_lenient_parse_names_what_it_looked_past(text: str, repair: str) -> None:
    parsed = parse_response(text)
    assert (len(parsed.segments), parsed.failure, parsed.strict, parsed.repair) == (1, None, False, repair)


def test_ten_megabytes_of_brackets_do_not_hold_up_a_suite() -> None:
    started = time.monotonic()
    for text in ("[" * 10_000_000, "[1, " * 250_000, '["a' * 300_000, "[{" * 400_000, "[" + "1," * 450_000):
        assert parse_response(text).failure in {"too_long", "too_deep", "truncated"}
    assert time.monotonic() - started < 20


def test_a_list_of_numbers_before_the_answer_is_passed_over() -> None:
    assert len(parse_response(f"As in [1]: {json.dumps([GOOD])}").segments) == 1


def test_more_keys_than_asked_are_tolerated() -> None:
    assert parse_response(json.dumps([{**GOOD, "confidence": 0.5}])).strict


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        (json.dumps([GOOD]), True),
        ('[{"content": "x", "L1": "y', True),
        ('"L2" : 1 "emotion":', True),
        ('{"content": "a chat message"}', False),
        ("L1 and L2 and emotion: content", False),
        ("The correct answer is (A).", False),
    ],
)
def test_a_schema_leak_needs_two_quoted_keys_of_the_contract(text: str, leaks: bool) -> None:
    assert looks_like_voc(text) is leaks
