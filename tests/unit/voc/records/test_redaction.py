from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.voc.conftest import TAXONOMY_CSV, voc_row
from voc.config.data import RedactionConfig
from voc.labels.taxonomy import parse_taxonomy
from voc.records.records import parse_general_record, parse_voc_record
from voc.records.redaction import Redactor

PATTERN = RedactionConfig().order_number_pattern
ALL = Redactor(("email", "phone", "order_number"), PATTERN)
NONE = Redactor((), PATTERN)
TAXONOMY = parse_taxonomy(TAXONOMY_CSV, "x")
# Independent of the pattern that redacts: what anybody would call an address.
ADDRESS = re.compile(r"[A-Za-z0-9._+-]*[A-Za-z0-9]@[A-Za-z0-9-]+\.[A-Za-z]{2,}")


def row(comment: str, *contents: str) -> dict:
    made = voc_row("a", comment)
    made["segments"] = [{**made["segments"][0], "content": content} for content in contents]
    return made


def contents(value: dict) -> list[str]:
    return [segment["content"] for segment in value["segments"]]


def test_each_kind_is_replaced_and_counted() -> None:
    text = "Order AB-1234567: write to max@example.org or sue@example.org, or call +49 171 1234567."
    redacted, counts = ALL.redact(text)
    assert redacted == "Order [order number]: write to [email] or [email], or call [phone]."
    assert counts == {"email": 2, "phone": 1, "order_number": 1}


def test_only_the_chosen_kinds_are_replaced() -> None:
    text = "AB-1234567 max@example.org +49 171 1234567"
    assert Redactor(("phone",), PATTERN).redact(text) == ("AB-1234567 max@example.org [phone]", {"phone": 1})
    assert NONE.redact(text) == (text, {})


def test_the_pattern_of_order_numbers_is_the_teams_own() -> None:
    redactor = Redactor(("order_number", "phone"), r"\b0\d{10}\b")
    assert redactor.redact("order 01711234567")[0] == "order [order number]"


def test_a_pattern_that_matches_nothing_at_all_replaces_nothing() -> None:
    assert Redactor(("order_number",), r"x*").redact("abc") == ("abc", {})


def test_a_redacted_text_is_left_alone_the_second_time() -> None:
    redacted, _ = ALL.redact("AB-1234567 max@example.org +49 171 1234567")
    assert ALL.redact(redacted) == (redacted, {})


def test_segments_are_redacted_in_step_with_their_comment() -> None:
    given = row(
        "battery is bad, mail me@x.org. Screen too, call 0171 1234567", "battery is bad, mail me@x.org.", "Screen too"
    )
    redacted, counts = ALL.redact_voc(given)
    assert redacted["comment"] == "battery is bad, mail [email]. Screen too, call [phone]"
    assert contents(redacted) == ["battery is bad, mail [email].", "Screen too"]
    assert counts == {"email": 1, "phone": 1}
    assert given["comment"].startswith("battery is bad, mail me@"), "the given row is not changed"


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["bad, me@x", ".org good"], ["bad, [email]", " good"]),
        (["me@x.org", "good"], ["[email]", "good"]),
        (["x.org good"], [" good"]),
        (["@x"], ["[email]"]),
        ([".org"], ["[email]"]),
        ([".org "], ["[email] "]),
    ],
)
def test_a_border_through_a_match_gives_the_placeholder_to_the_segment_in_which_it_begins(
    pieces: list[str], expected: list[str]
) -> None:
    redacted, _ = ALL.redact_voc(row("bad, me@x.org good", *pieces))
    assert contents(redacted) == expected
    assert all(content in redacted["comment"] for content in expected)


def test_repeated_contents_stand_for_one_occurrence_after_the_other() -> None:
    redacted, _ = ALL.redact_voc(row("x.org is bad, me@x.org", "x.org", "x.org"))
    assert contents(redacted) == ["x.org", "[email]"]


def test_a_segment_that_is_not_a_piece_of_the_comment_is_redacted_by_itself() -> None:
    redacted, counts = ALL.redact_voc(row("bad battery", "me@x.org"))
    assert (contents(redacted), counts) == (["[email]"], {})


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"comment": None, "segments": None},
        {"comment": 3, "segments": ["x", {"content": 4}, {}]},
        {"comment": "me@x.org", "segments": "x"},
        {"comment": "me@x.org", "segments": ["x", {"content": None}, {"content": ""}]},
        {"segments": [{"content": "me@x.org"}]},
    ],
)
def test_a_row_of_any_shape_survives(value: dict) -> None:
    redacted, _ = ALL.redact_voc(value)
    assert "me@x.org" not in json.dumps(redacted)
    assert redacted.keys() == value.keys()


def test_what_holds_nothing_personal_is_the_same_object() -> None:
    given = row("battery is bad", "battery")
    assert ALL.redact_voc(given)[0] is given
    assert ALL.redact_general(given)[0] is given
    assert NONE.redact_voc(row("me@x.org"))[0]["comment"] == "me@x.org"


def test_chats_and_prompts_are_redacted() -> None:
    chat = [
        {"role": "user", "content": "I am me@x.org"},
        {"role": "assistant", "content": "Hi me@x.org, call 0171 1234567"},
    ]
    redacted, counts = ALL.redact_general({"messages": chat, "category": "chat"})
    assert [message["content"] for message in redacted["messages"]] == ["I am [email]", "Hi [email], call [phone]"]
    assert (parse_general_record(redacted).category, counts) == ("chat", {"email": 2, "phone": 1})
    assert ALL.redact_general({"prompt": "me@x.org", "completion": " AB-1234567"})[0] == {
        "prompt": "[email]",
        "completion": " [order number]",
    }
    parts = {"messages": [{"role": "user", "content": [{"type": "text", "text": "me@x.org"}]}]}
    assert "me@x.org" not in json.dumps(ALL.redact_general(parts)[0])


def test_endless_nesting_is_no_trap() -> None:
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    assert ALL.redact_general({"messages": nested})[1] == {}
    assert ALL.redact_raw("[" * 100_000 + '"me@x.org"') == "[" * 100_000 + '"[email]"'


@pytest.mark.parametrize(
    ("raw", "redacted"),
    [
        ('{"comment": "caf\u00e9"}', '{"comment": "caf\u00e9"}'),
        ('{"id": "me@x.org", "n": NaN}', '{"id": "[email]", "n": NaN}'),
        (r'{"comment": "a\u0040b.org\n0171 1234567"}', r'{"comment": "[email]\n[phone]"}'),
        (r'{"comment": "a\nme@x.org', '{"comment": "a [email]'),
        (r'{"comment": "me\u0040x.org\n0171 1234567', '{"comment": "[email] [phone]'),
        (r'{"comment": "a\u00e9', r'{"comment": "a\u00e9'),
        ('{"comment": "mail first.last@exam', '{"comment": "mail [email]'),
        (r'{"a": "\ud800 me@x.org', r'{"a": "\ud800 [email]'),
        ("plain me@x.org", "plain [email]"),
    ],
)
def test_a_raw_line_is_redacted_behind_its_escapes_too(raw: str, redacted: str) -> None:
    assert ALL.redact_raw(raw) == redacted
    assert NONE.redact_raw(raw) == raw


WORDS = st.sampled_from(
    [
        "bad",
        "app",
        "a",
        "@",
        ".",
        " ",
        "x.org",
        "me@x.org",
        "b@c.de",
        "0171 1234567",
        "+49 30 123456",
        "AB-1234567",
        "é",
        "\n",
        "-",
    ]
)


@given(
    st.lists(WORDS, min_size=1, max_size=10), st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=4)
)
def test_segments_stay_verbatim_and_no_address_remains(words: list[str], cuts: list[tuple[int, int]]) -> None:
    comment = "".join(words)
    pieces = [piece for start, length in cuts if (piece := comment[start : start + length])]
    redacted, counts = ALL.redact_voc(row(comment, *pieces))
    for content in contents(redacted):
        assert content
        assert content in redacted["comment"]
    for text in (redacted["comment"], *contents(redacted)):
        assert ADDRESS.search(text) is None
    assert redacted["comment"].count("[email]") == counts["email"]
    if redacted["comment"].strip():
        assert len(parse_voc_record(redacted, TAXONOMY).segments) == len(pieces)


@given(st.text("ab@.- 0+", max_size=40), st.text("ab@.- 0+", max_size=12))
def test_no_address_remains_in_any_line(text: str, more: str) -> None:
    for raw in (text, json.dumps({"comment": text, more: [more]}), json.dumps({"comment": text})[:-3]):
        assert ADDRESS.search(ALL.redact_raw(raw)) is None
