"""The pure parts of the report: rows, frontier, costs, labels, and how a text is made harmless."""

import itertools
import random

import pytest

from evaluation.report.labels import build_label_views, list_invented, list_missed
from evaluation.report.page import MAX_TEXT, make_harmless
from evaluation.report.rows import find_frontier
from evaluation.report.suites import add_up_shards, group_stages


@pytest.mark.parametrize("seed", range(20))
def test_the_frontier_is_what_no_other_point_beats(seed):
    generator = random.Random(seed)
    points = [(generator.randrange(6) / 5, generator.randrange(6) / 5) for _ in range(15)]

    def is_beaten(point):
        return any(o != point and o[0] >= point[0] and o[1] >= point[1] for o in points)

    kept = [points[index] for index in find_frontier(points)]
    assert kept == sorted({point for point in points if not is_beaten(point)})


def test_of_equal_points_the_first_stays_on_the_frontier():
    assert find_frontier([(1.0, 0.5), (1.0, 0.5), (0.5, 1.0)]) == [2, 0]
    assert find_frontier([]) == []


def test_costs_are_added_up_and_what_no_shard_says_is_not_zero():
    shards = [
        {
            "items": 3,
            "wall_s": 2.0,
            "prompt_tokens": 30,
            "completion_tokens": 10,
            "resumed_items": 0,
            "engine": "vllm 1",
        },
        {
            "items": 2,
            "wall_s": 5.0,
            "prompt_tokens": 20,
            "completion_tokens": 15,
            "resumed_items": 0,
            "engine": "vllm 1",
        },
    ]
    found = add_up_shards(shards)
    assert (found["items"], found["wall_s"], found["prompt_tokens"], found["engines"]) == (5, 5.0, 50, ["vllm 1"])
    assert found["completion_tokens_per_s"] == 5.0
    assert found["cached_prompt_ratio"] is None
    bare = add_up_shards([{"items": 3}])
    assert [bare[name] for name in ("wall_s", "prompt_tokens", "completion_tokens_per_s")] == [None] * 3


def test_a_resumed_shard_has_no_rate_and_cache_hits_are_weighted_by_tokens():
    caches = [{"prompt_tokens": 900, "cached_tokens": 900}, {"prompt_tokens": 100, "cached_tokens": 0}]
    shards = [{"wall_s": 1.0, "completion_tokens": 9, "resumed_items": 4, "prefix_cache": cache} for cache in caches]
    found = add_up_shards([*shards, {"prefix_cache": None}])
    assert found["completion_tokens_per_s"] is None
    assert found["cached_prompt_ratio"] == 0.9


def test_requests_sent_again_are_added_up_by_reason_and_shards_of_the_cache_are_counted():
    cache = {"hit": True, "measured_in": "night-0"}
    shards = [
        {"retries": {"429": 2}, "cache": cache},
        {"retries": {"429": 1, "timeout": 1}, "cache": {"hit": False}},
        {},
    ]
    found = add_up_shards(shards)
    assert found["retries"] == {"429": 3, "timeout": 1}
    assert (found["cached_shards"], found["measured_in"]) == (1, ["night-0"])


def test_shards_of_a_suite_are_one_line_of_the_stages():
    timings = [
        {"stage": "prepare", "wall_s": 3.0},
        {"stage": "voc-base-000-of-002", "wall_s": 4.0},
        {"stage": "voc-base-001-of-002", "wall_s": 6.0},
    ]
    assert group_stages(timings) == [
        {"stage": "prepare", "shards": 1, "wall_s": 3.0, "sum_s": 3.0},
        {"stage": "voc-base", "shards": 2, "wall_s": 6.0, "sum_s": 10.0},
    ]


def _label(name, support, hits, *, predicted=None, bucket="tail", training=1):
    return {
        "label": ["A", "B", "C", name],
        "support": support,
        "predicted": hits if predicted is None else predicted,
        "true_positive": hits,
        "f1": 0.5,
        "training_support": training,
        "bucket": bucket,
    }


def test_the_labels_missed_most_come_first_with_their_interval():
    missed = list_missed([_label("x", 5, 4), _label("y", 9, 2), _label("z", 3, 3), _label("w", 1, 0, training=0)], 0.95)
    assert [(row["label"][3], row["missed"]) for row in missed] == [("y", 7), ("w", 1), ("x", 1)]
    assert missed[0]["recall"]["low"] < missed[0]["recall"]["value"] == 2 / 9 < missed[0]["recall"]["high"]
    assert missed[0]["recall"]["n"] == 9


def test_invented_labels_are_counted_apart_from_those_of_the_test_set():
    rows = [_label("x", 5, 4), *(_label(f"new {i}", 0, 0, predicted=i, bucket="invented") for i in range(1, 6))]
    views = build_label_views({"m": {"voc": {"labels": rows}}, "old": {"voc": {}}}, 0.95)
    assert [row["label"][3] for row in views["all"]] == ["x"]
    assert views["all"][0]["models"].keys() == {"m"}
    assert views["missed"].keys() == {"m"}
    assert list_invented(rows)["count"] == 5
    assert [entry["predicted"] for entry in views["invented"]["m"]["most"]] == [5, 4, 3]


def test_the_label_table_goes_from_the_head_to_the_tail():
    rows = [_label(f"l{n}", 1, 0, training=n) for n in (3, 9, 1)]
    found = build_label_views({"m": {"voc": {"labels": rows}}}, 0.95)["all"]
    assert [row["training_support"] for row in found] == [9, 3, 1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("a\x00b\x1b[31m", "a\\x00b\\x1b[31m"),
        ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
        ("half \ud800", "half \\ud800"),
        ("\u2028", "\\u2028"),
        ("שלום", "שלום"),
    ],
)
def test_control_characters_and_marks_of_direction_are_spelled_out(text, shown):
    assert make_harmless(text) == shown


def test_a_text_of_any_length_is_bounded():
    assert len(make_harmless("x" * 10_000_000)) < MAX_TEXT + 50
    assert make_harmless("x" * MAX_TEXT) == "x" * MAX_TEXT


def test_the_bound_counts_before_anything_is_spelled_out():
    texts = ["".join(pair) for pair in itertools.product("\x00\u202e", repeat=2)]
    assert all("\x00" not in make_harmless(text * MAX_TEXT) for text in texts)
