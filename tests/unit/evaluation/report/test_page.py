"""How a text is made harmless, and stages are put together."""

import itertools

import pytest

from evaluation.report.page import MAX_TEXT, group_stages, make_harmless


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
