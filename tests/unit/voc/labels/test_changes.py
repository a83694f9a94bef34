from __future__ import annotations

import json
import pickle
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.voc.conftest import voc_row
from voc.errors import TaxonomyError
from voc.labels.changes import TaxonomyChanges, parse_changes
from voc.labels.taxonomy import Leaf, Taxonomy
from voc.records.checks import RowChecks
from voc.records.records import parse_voc_record
from voc.records.refusals import RowError

NOW = Taxonomy(
    tuple(
        Leaf((a, b, c, d), "")
        for a, b, c, d in (
            ("Product", "Power", "Use", "Runtime"),
            ("Product", "Power", "Use", "Charging"),
            ("Product", "Screen", "Build", "Colours"),
            ("Product", "Screen", "Build", "Glare"),
            ("Service", "Support", "Use", "Speed"),
        )
    )
)
BATTERY, POWER = ["Product", "Battery"], ["Product", "Power"]
SPEED, GLARE = ["Service", "Support", "Use", "Speed"], ["Product", "Screen", "Build", "Glare"]
COLOURS = ["Product", "Screen", "Build", "Colours"]


def old(name: str) -> list[str]:
    return ["Old", "Old", "Old", name]


def changes(*lines: dict | str) -> TaxonomyChanges:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    return parse_changes(text, "changes.jsonl", NOW)


def mistakes(*lines: dict | str) -> str:
    with pytest.raises(TaxonomyError) as caught:
        changes(*lines)
    return str(caught.value)


def carry(known: TaxonomyChanges, *label: str, forgiving: bool = False) -> tuple:
    carried = known.carry_over((label[0], label[1], label[2], label[3]), forgiving=forgiving)
    return carried.reason or carried.label, carried.change


def test_every_kind_of_change_does_what_it_says() -> None:
    known = changes(
        {"change": "add", "to": GLARE, "version": "2", "date": "2026-01-01"},
        {"change": "rename", "from": old("Quick"), "to": SPEED},
        {"change": "merge", "from": [old("a"), old("b"), COLOURS], "to": COLOURS},
        {"change": "split", "from": old("c"), "to": [GLARE, COLOURS]},
        {"change": "split", "from": old("d"), "to": [GLARE, COLOURS], "rule": {"to": GLARE}},
        {"change": "retire", "from": [old("e"), ["Gone"]]},
        {"change": "move", "from": BATTERY, "to": POWER},
    )
    assert carry(known, *old("Quick")) == (tuple(SPEED), "rename")
    assert carry(known, *old("a")) == carry(known, *old("b")) == (tuple(COLOURS), "merge")
    assert carry(known, *COLOURS) == (tuple(COLOURS), None)
    assert carry(known, *old("c")) == ("label_split", "split")
    assert carry(known, *old("d")) == (tuple(GLARE), "split")
    assert carry(known, *old("e")) == carry(known, "Gone", "x", "y", "z") == ("label_retired", "retire")
    assert carry(known, "Product", "Battery", "Use", "Runtime") == (("Product", "Power", "Use", "Runtime"), "move")
    assert carry(known, *old("never heard of")) == (tuple(old("never heard of")), None)


def test_changes_follow_one_another_and_are_counted_once_under_what_changes_most() -> None:
    known = changes(
        {"change": "rename", "from": [*BATTERY, "Use", "Life"], "to": [*BATTERY, "Use", "Time"]},
        {"change": "rename", "from": BATTERY, "to": ["Product", "Energy"]},
        {
            "change": "merge",
            "from": [["Product", "Energy", "Use", "Time"]],
            "to": ["Product", "Energy", "Use", "Runtime"],
        },
        {"change": "rename", "from": ["Product", "Energy"], "to": POWER},
    )
    runtime = ("Product", "Power", "Use", "Runtime")
    assert carry(known, *BATTERY, "Use", "Life") == carry(known, *BATTERY, "Use", "Time") == (runtime, "merge")
    assert carry(known, *BATTERY, "Use", "Runtime") == (runtime, "rename")
    assert carry(known, *runtime) == (runtime, None)


def test_older_labels_are_matched_forgivingly_only_if_asked() -> None:
    known = changes({"change": "rename", "from": BATTERY, "to": POWER})
    label = ("product", "battery ", "Use", "Runtime")
    assert carry(known, *label) == (label, None)
    assert carry(known, *label, forgiving=True) == (("Product", "Power", "Use", "Runtime"), "rename")


def test_what_is_set_aside_says_by_which_line_and_version() -> None:
    known = changes({"change": "retire", "from": old("e"), "version": "2026.2", "date": "2026-02-01"})
    assert known.carry_over(("Old", "Old", "Old", "e")).detail == (
        "the label 'Old > Old > Old > e' was retired by line 1 of the changes (version 2026.2, 2026-02-01)"
    )


def test_a_parsed_row_is_carried_over_counted_or_set_aside() -> None:
    known, notes = (
        changes({"change": "rename", "from": BATTERY, "to": POWER}, {"change": "retire", "from": ["Product", "Fan"]}),
        Counter[str](),
    )
    record = parse_voc_record(voc_row("a"), NOW, changes=known, notes=notes)
    assert record.segments[0].label == ("Product", "Power", "Use", "Runtime")
    assert notes == {"carried_over:rename": 1}
    with pytest.raises(RowError, match="was retired by line 2") as caught:
        parse_voc_record(voc_row("a", L2="Fan"), NOW, changes=known, notes=notes)
    assert caught.value.reason == "label_retired"
    with pytest.raises(RowError, match=r"nearest is 'Runtime'.*carried over from 'Product > Battery > Use > Runtim'"):
        parse_voc_record(voc_row("a", L4="Runtim"), NOW, changes=known, notes=notes)
    assert notes == {"carried_over:rename": 1}
    parse_voc_record(voc_row("a", L4="RUNTIME"), NOW, changes=known, checks=RowChecks("forgiving"), notes=notes)
    assert notes == {"carried_over:rename": 2, "repaired_labels": 1}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "change is None"),
        ({"change": "delete", "from": old("a")}, "change is 'delete', expected one of add, rename"),
        ({"change": "rename", "from": old("a")}, "to is missing"),
        ({"change": "retire", "from": old("a"), "to": SPEED}, "'to' is not a key of retire"),
        ({"change": "merge", "from": [old("a")], "to": SPEED, "rule": "set_aside"}, "'rule' is not a key of merge"),
        ({"change": "rename", "from": "Battery", "to": SPEED}, "from is 'Battery', expected a path"),
        ({"change": "rename", "from": [], "to": SPEED}, "from is []"),
        ({"change": "rename", "from": ["a", "b", "c", "d", "e"], "to": SPEED}, "expected a path of 1 to 4"),
        ({"change": "rename", "from": ["a", "b", "c", " d"], "to": SPEED}, "without outer spaces"),
        ({"change": "rename", "from": ["a", "b", "c", None], "to": SPEED}, "from is ['a', 'b', 'c', None]"),
        ({"change": "rename", "from": [old("a")], "to": SPEED}, "expected a path"),
        ({"change": "merge", "from": [old("a"), "b"], "to": SPEED}, "or a list of such paths"),
        ({"change": "rename", "from": BATTERY, "to": SPEED}, "different numbers of names"),
        ({"change": "rename", "from": old("a"), "to": old("a")}, "changed into itself"),
        ({"change": "merge", "from": SPEED, "to": SPEED}, "merged into itself only"),
        ({"change": "merge", "from": [old("a"), old("a")], "to": SPEED}, "'Old > Old > Old > a' is listed twice"),
        ({"change": "split", "from": old("a"), "to": [SPEED]}, "two or more paths"),
        ({"change": "split", "from": old("a"), "to": [SPEED, GLARE], "rule": "guess"}, "rule is 'guess'"),
        (
            {"change": "split", "from": old("a"), "to": [SPEED, GLARE], "rule": {"to": COLOURS}},
            "one of the paths under to",
        ),
        ({"change": "split", "from": BATTERY, "to": [SPEED, GLARE]}, "full paths of 4 names"),
        ({"change": "split", "from": GLARE, "to": [SPEED, GLARE]}, "give what is left of it a new name"),
        ({"change": "add", "to": POWER}, "added by its full path"),
        (
            {"change": "rename", "from": old("a"), "to": old("b")},
            "the target 'Old > Old > Old > b' is not in the taxonomy",
        ),
        ({"change": "rename", "from": BATTERY, "to": ["Product", "Pwr"]}, "the target 'Product > Pwr' is not"),
        ({"change": "rename", "from": old("a"), "to": [*POWER, "Use", "Runtme"]}, "the nearest is 'Runtime'"),
        (
            {"change": "rename", "from": GLARE, "to": SPEED},
            "still in the taxonomy, so a row could mean the old or the new",
        ),
        ({"change": "retire", "from": ["Product"]}, "'Product' is still in the taxonomy"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(line: dict | str, said: str) -> None:
    message = mistakes({"change": "add", "to": GLARE}, line)
    assert "changes.jsonl has " in message
    assert "line 2: " in message
    assert said in message


def test_all_mistakes_are_told_at_once_with_their_lines() -> None:
    message = mistakes("{", "", {"change": "x"}, {"change": "retire", "from": GLARE}, *["]"] * 20)
    assert "has 23 mistakes" in message
    assert all(f"line {number}:" in message for number in (1, 3, 4, 5))
    assert "and 13 more" in message


def test_a_chain_that_comes_back_is_a_circle() -> None:
    a, b, c = old("a"), old("b"), old("c")
    message = mistakes(
        {"change": "rename", "from": a, "to": b},
        {"change": "rename", "from": b, "to": c},
        {"change": "move", "from": c, "to": a},
    )
    assert "line 3: the changes go in a circle" in message
    for name in "abc":
        assert f"'Old > Old > Old > {name}'" in message
    back = mistakes({"change": "rename", "from": a, "to": SPEED}, {"change": "rename", "from": SPEED, "to": a})
    assert "line 2: the changes go in a circle" in back


def test_a_circle_through_an_inner_node_is_found() -> None:
    message = mistakes(
        {"change": "rename", "from": BATTERY, "to": ["Product", "Fan"]},
        {"change": "move", "from": ["Product", "Fan", "x", "y"], "to": [*BATTERY, "x", "y"]},
    )
    assert "line 2: the changes go in a circle" in message


def test_a_path_goes_one_way_only_and_its_name_is_not_used_again() -> None:
    twice = mistakes({"change": "rename", "from": old("a"), "to": SPEED}, {"change": "retire", "from": old("a")})
    assert "line 2: 'Old > Old > Old > a' was changed by line 1 already" in twice
    below = mistakes({"change": "retire", "from": ["Old"]}, {"change": "rename", "from": old("a"), "to": SPEED})
    assert "line 2: 'Old > Old > Old > a' was changed by line 1 already" in below
    again = mistakes(
        {"change": "rename", "from": old("a"), "to": SPEED}, {"change": "rename", "from": old("b"), "to": old("a")}
    )
    assert "line 2: 'Old > Old > Old > a' was given up by line 1" in again


def test_a_target_may_have_gone_on_since() -> None:
    changes(
        {"change": "add", "to": old("a")},
        {"change": "rename", "from": old("b"), "to": old("c")},
        {"change": "rename", "from": old("a"), "to": SPEED},
        {"change": "retire", "from": old("c")},
    )


def test_a_byte_order_mark_windows_ends_and_no_changes_at_all_do_no_harm() -> None:
    assert parse_changes("", "x", NOW).changes == ()
    known = parse_changes("\ufeff" + json.dumps({"change": "retire", "from": old("a")}) + "\r\n\r\n", "x", NOW)
    assert carry(pickle.loads(pickle.dumps(known)), *old("a")) == ("label_retired", "retire")  # noqa: S301 - as Ray does


NAMES = st.sampled_from(["a", "b", "c", "d", "e"])


@given(st.lists(st.tuples(st.sampled_from(["rename", "merge", "retire"]), NAMES, NAMES), max_size=6))
def test_whatever_is_accepted_leads_into_the_taxonomy_or_out_of_it(steps: list[tuple[str, str, str]]) -> None:
    taxonomy = Taxonomy(tuple(Leaf(("Old", "Old", "Old", name), "") for name in "ab"))
    lines = [
        {"change": kind, "from": old(before), **({} if kind == "retire" else {"to": old(after)})}
        for kind, before, after in steps
    ]
    try:
        known = parse_changes("\n".join(map(json.dumps, lines)), "x", taxonomy)
    except TaxonomyError:
        return
    for name in "ab":
        assert carry(known, *old(name)) == (tuple(old(name)), None), "a current label stays"
    for _, before, _ in steps:
        ended, _ = carry(known, *old(before))
        assert ended == "label_retired" or ended in taxonomy.paths
