"""A table stays a table, whatever the texts in it are."""

import pytest

from voc.text_table import format_columns, make_printable, measure_width, shorten


def test_texts_are_left_and_figures_right_under_their_heads():
    assert format_columns([["source", "rows"], ["a", "1"], ["customer", "12,000"]]) == (
        "source      rows\n--------  ------\na              1\ncustomer  12,000"
    )


def test_a_table_with_its_head_only_is_its_head_and_a_rule():
    assert format_columns([["a", "b"]]) == "a  b\n-  -"


def test_the_widest_text_is_shortened_in_its_middle_until_the_table_fits():
    table = format_columns([["a", "b", "n"], ["x" * 200, "short", "1"]], num_text_columns=2, max_width=60)
    assert max(map(len, table.splitlines())) == 60
    assert "short" in table
    assert "xxx…xxx" in table


def test_figures_are_never_cut_even_where_the_table_gets_too_wide():
    table = format_columns([["a", *(["n"] * 10)], ["name", *(["1,234,567"] * 10)]], max_width=40)
    assert table.count("1,234,567") == 10


def test_wide_and_combining_characters_are_counted_as_they_are_seen():
    assert [measure_width(text) for text in ("ab", "日本", "e\u0301", "📷")] == [2, 4, 1, 2]
    lines = format_columns([["a", "n"], ["日本", "1"], ["abcd", "2"]]).splitlines()
    assert lines[2] == "日本  1"
    assert lines[3] == "abcd  2"


@pytest.mark.parametrize(
    ("text", "printed"),
    [("a\nb", "a\\nb"), ("\x1b[31mred", "\\x1b[31mred"), ("\u202eabc", "\\u202eabc"), ("é 📷 עברית", "é 📷 עברית")],
)
def test_no_text_can_leave_its_line_or_turn_the_direction(text, printed):
    assert make_printable(text) == printed


@pytest.mark.parametrize("width", range(1, 12))
def test_a_shortened_text_keeps_both_ends_and_fits(width):
    cut = shorten("begin 日本日本 the end", width)
    assert measure_width(cut) <= width
    assert "…" in cut


def test_a_text_that_fits_is_left_as_it_is():
    assert shorten("fits", 4) == "fits"
