"""The table says what a night would draw, and what it does not know."""

import copy

import pytest

from corpus.report.mix_table import format_mix
from tests.unit.corpus.report_examples import COMMENT, MINIMAL_REPORT, make_report
from voc.text_table import measure_width


@pytest.fixture(scope="module")
def report():
    return make_report(num_leaves=200, num_train=600, num_test=80, num_general=200)


def _find_line(text, *words):
    return next(line for line in text.splitlines() if all(word in line for word in words))


def test_every_arm_lists_what_it_draws_of_every_source_and_category(report):
    text = format_mix(report)
    assert "arm mix-75-25: 18,957 samples, weights in samples, seed 7" in text
    line = _find_line(text, "general", "math")
    for figure in ("5.00%", "1,000", "949", "640,000", "320,000", "12.19%", "0.95", "51", "under"):
        assert figure in line.split()
    assert _find_line(text, "(together)").split()[1:] == ["19,904", "5,249,000", "2,233,000"]


def test_a_source_that_is_repeated_says_how_often(report):
    assert _find_line(format_mix(report), "over", "10.53").split()[-4:] == ["10.53", "11", "0", "over"]


def test_every_source_says_what_was_read_refused_left_out_and_used(report):
    figures = _find_line(format_mix(report), "customer", "684", "600").split()
    assert figures[:6] == ["customer", "684", "84", "600", "298", "302"]


def test_every_reason_is_counted_with_its_files(report):
    text = format_mix(report)
    assert _find_line(text, "label_not_in_taxonomy").split() == [
        "refused",
        "label_not_in_taxonomy",
        "customer",
        "61",
        "61",
    ]
    assert _find_line(text, "leakage_exact").startswith("left out")
    for word in (
        "carried over  merge",
        "redacted      order_number",
        "skipped s3://bucket",
        "damaged_file",
        "2026-11-24",
    ):
        assert word in text


def test_coverage_contamination_and_packing_are_there(report):
    text = format_mix(report)
    coverage = report["coverage"]
    assert _find_line(text, "L4 ").split()[1:4] == [
        str(coverage[name] if name != "leaves" else 200) for name in ("leaves", "without_examples", "with_one")
    ]
    assert _find_line(text, "overlaps / general / mmlu_test", "found items").split()[-1] == "12"
    assert _find_line(text, "2048").split()[1:] == ["1,620", "98.71%", "0"]
    assert "0 everywhere:" in text


def test_the_study_sized_report_fits_120_columns():
    assert max(map(measure_width, format_mix(make_report()).splitlines())) <= 120


def test_no_comment_and_no_control_character_gets_into_the_table(report):
    text = format_mix(report)
    assert COMMENT not in text
    assert "\x1b" not in text


def test_what_is_absent_is_not_computed_and_never_0():
    text = format_mix(MINIMAL_REPORT)
    for part in ("leaf coverage", "duplicates and leakage", "contamination with the evaluation sets", "packing"):
        assert f"{part}: not computed" in text
    assert "left out, warning, carried over, redacted: not computed" in text
    assert "customer, languages: not computed" in text
    assert _find_line(text, "customer  (all)").split()[2:] == ["-"] * 10


def test_an_empty_report_is_all_not_computed():
    lines = [line for line in format_mix({}).splitlines() if line]
    assert len(lines) == 8
    assert all(line.endswith(": not computed") for line in lines)


@pytest.mark.parametrize("key", ["files", "classes", "coverage", "duplicates", "contamination", "packing", "arms"])
def test_every_part_may_be_absent_empty_or_null(report, key):
    without = {name: part for name, part in report.items() if name != key}
    for changed in (without, {**report, key: {}}, {**report, key: None}):
        assert format_mix(changed)


def test_the_report_is_left_as_it_was(report):
    before = copy.deepcopy(report)
    format_mix(report)
    assert report == before
