"""Answers as models and networks spoil them, through the whole suite: each is counted under its name and stops nothing."""

import json
from typing import get_args

import pytest

from evaluation.intervals import Bootstrap
from evaluation.serving.endpoint import KEY_VARIABLE
from evaluation.shards.shard import Shard
from evaluation.suites.voc.answers import VocAnswer, load_test
from evaluation.suites.voc.ask import evaluate_voc
from evaluation.suites.voc.summary import TrainingLabels, measure_voc
from tests.unit.evaluation.endpoint_stand_in import KEY, StandIn
from tests.unit.evaluation.served_run import LABEL, announce, make_run, write_test_set
from voc.records.records import Segment
from voc.responses import Failure
from voc.store.manifest import read_manifest

SEGMENT = {"content": "comment", **LABEL, "emotion": "sad"}
GOOD = json.dumps([SEGMENT])
TEN_MB = 10_000_000

# What is wrong, the answer, and what it is counted as: a failure, a repair, or None for an answer that is read as it is.
CASES = [
    ("nothing", "", "empty"),
    ("only space", " \n\t ", "empty"),
    ("10 MB of prose", "all is well. " * (TEN_MB // 13), "too_long"),
    ("10 MB of brackets", "[" * TEN_MB, "too_long"),
    ("10 MB of segments", json.dumps([SEGMENT] * (TEN_MB // len(GOOD))), "too_long"),
    ("NaN for a text", GOOD.replace('"sad"', "NaN"), "not_a_number"),
    ("infinity in a further key", GOOD.replace('"sad"', '"sad", "score": -Infinity'), "not_a_number"),
    ("list in a list", json.dumps([[SEGMENT]]), "wrapped"),
    ("list in an object", json.dumps({"segments": [SEGMENT]}), "wrapped"),
    ("object without a list", json.dumps(SEGMENT), "single"),
    ("segments inside a segment", json.dumps([{**SEGMENT, "content": [SEGMENT]}]), "wrong_shape"),
    ("nested beyond reading", "[" * 50_000 + "]" * 50_000, "too_deep"),
    ("cut in a text", GOOD[:-6], "truncated"),
    ("cut after an object", json.dumps([SEGMENT, SEGMENT])[:-1], "truncated"),
    ("cut in a fence", "```json\n" + GOOD[:-6], "truncated"),
    ("half a surrogate pair", GOOD.replace("comment", "\\ud83d"), "damaged_text"),
    ("prose before", f"Here are the segments: {GOOD}", "prose"),
    ("prose after", f"{GOOD}\nLet me know if you need more.", "prose"),
    ("code fence", f"```json\n{GOOD}\n```", "fenced"),
    ("the same key twice", GOOD.replace('"L1"', '"L1": "Other", "L1"'), "duplicate_keys"),
    ("a key is missing", json.dumps([{k: v for k, v in SEGMENT.items() if k != "L3"}]), "wrong_shape"),
    ("no JSON", "The correct answer is (B).", "not_json"),
    ("good", GOOD, None),
    ("an emotion nobody has", GOOD.replace("sad", "melancholic"), None),
    ("a label nobody has", GOOD.replace("Battery", "Batteries"), None),
    ("replacement characters", GOOD.replace("comment", "comm\ufffdnt"), None),
    ("half a surrogate pair on the wire", GOOD.replace("comment", "comm\ud83dnt"), None),
    ("no segments", "[]", None),
]
FAILURES = set(get_args(Failure))


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """Every case asked once, by the real client over HTTP."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_VARIABLE, KEY)
        with StandIn(answer=lambda text: CASES[int(text.split()[-1])][1]).serving() as server:
            run = make_run(tmp_path_factory.mktemp("bad"))
            write_test_set(run, len(CASES))
            announce(run, server)
            evaluate_voc(run, "base", Shard(0, 1))
    prefix = run.layout.shard("base", "voc", 0, 1)
    lines = [json.loads(line) for line in run.store.read_bytes(f"{prefix}/predictions.jsonl").splitlines()]
    return run, lines, read_manifest(run.store, prefix)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[name.replace(" ", "-") for name, _, _ in CASES])
def test_it_is_counted_under_its_name(answered, number):
    line, (_, text, name) = answered[1][number], CASES[number]
    assert line["custom_id"] == f"c{number}"
    assert line["text"] == text.replace("\ud83d", "\ufffd")
    assert line["failure"] == (name if name in FAILURES else None)
    assert line["repair"] == (None if name in FAILURES else name)
    assert line["strict"] is (name is None)
    assert (line["segments"] is None) == (name in FAILURES)


def test_the_manifest_counts_all_of_them(answered):
    _, lines, manifest = answered
    names = [name for _, _, name in CASES if name]
    assert len(lines) == manifest.facts["items"] == len(CASES)
    assert manifest.facts["failures"] == {name: names.count(name) for name in sorted(FAILURES)}
    assert manifest.facts["repairs"] == {"fenced": 1, "prose": 2, "single": 1, "wrapped": 2}


def test_the_measures_say_what_was_wrong_and_never_only_zero(answered):
    run, lines, _ = answered
    taxonomy, records, _ = load_test(run)
    segments = [[_to_segment(value) for value in line["segments"] or ()] for line in lines]
    answers = [
        VocAnswer(record, tuple(found), line["failure"], line["strict"], line["repair"])
        for record, found, line in zip(records, segments, lines, strict=True)
    ]
    measured = measure_voc(answers, taxonomy, TrainingLabels({}, frozenset()), Bootstrap(10, 0.9, 0))
    rates = measured["rates"]
    num_failed = sum(name in FAILURES for _, _, name in CASES)
    assert sum(measured["failures"].values()) == rates["parse_failure"]["count"] == num_failed
    assert sum(measured["repairs"].values()) == rates["repaired"]["count"] == 6
    assert rates["strict_failure"]["count"] == num_failed + 6
    assert [
        rates[name]["count"] for name in ("unknown_emotion", "invented_label", "rewritten_content", "damaged_text")
    ] == [1, 1, 2, 2]
    readable = len(CASES) - num_failed
    # Of the readable answers one says nothing and one has a label nobody has.
    assert measured["levels"]["L4"]["micro"]["recall"] == pytest.approx((readable - 2) / len(CASES))
    assert measured["strict"]["levels"]["L4"]["micro"]["recall"] == pytest.approx((readable - 2 - 6) / len(CASES))


def _to_segment(value):
    return Segment(value["content"], tuple(value[level] for level in ("L1", "L2", "L3", "L4")), value["emotion"])
