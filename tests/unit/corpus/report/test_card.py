"""The data card is one page for everybody: complete, safe with any text, and the same for the same figures."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from corpus.report.card import EXPLANATIONS, MAX_UNSEEN, explain, list_attention, list_headlines, percent, render_card
from corpus.report.card_plots import MAX_ARMS, MAX_LANGUAGES, PART_COLORS, draw_figures
from corpus.report.data_report import Figure, list_draws, list_figures, split_coverage
from tests.unit.corpus.report_examples import COMMENT, MINIMAL_REPORT, make_report

FIGURES = {"classes", "ranks", "coverage", "shares", "lengths", "languages"}
REFUSAL = r'(?:RowError|Rejection|reject|reject_rest)\([^"()]*"([a-z_]+)"'
VOID = {"meta", "br", "hr", "img", "input", "link"}


class _Page(HTMLParser):
    """Checks that tags nest, and keeps what a page must have or must not have."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.references, self.addresses = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            self.ids += [value] if name == "id" else []
            self.references += re.findall(r"url\(#([^)]*)\)", value or "")
            if name in ("href", "src"):
                (self.references if value.startswith("#") else self.addresses).append(value.removeprefix("#"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report():
    return make_report(num_leaves=300, num_train=1_500, num_test=90, num_general=400)


@pytest.fixture(scope="module")
def page(report):
    return render_card(report, title="Tonight <b>& more</b>", generated_for="run 7")


def test_the_page_is_well_formed_with_every_picture_named_and_every_reference_inside(page):
    parsed = _Page(page)
    assert parsed.open == []
    assert parsed.tags.count("svg") == len(FIGURES)
    assert page.count('role="img" aria-labelledby=') == len(FIGURES)
    assert {f"{name}-title" for name in FIGURES} <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids)), "ids of several pictures on one page must not meet"
    assert set(parsed.references) <= set(parsed.ids)


def test_the_page_asks_for_nothing_and_runs_nothing(page):
    parsed = _Page(page)
    assert parsed.addresses == []
    assert not {"script", "link", "img", "iframe", "object"} & set(parsed.tags)
    assert "@import" not in page
    assert "http" not in page


def test_texts_of_customers_are_escaped_in_tables_and_pictures(page):
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") > 1
    assert re.search(r"<text[^>]*>&lt;script", page), "a picture names the label too"
    assert "Tonight &lt;b&gt;&amp; more&lt;/b&gt;" in page
    assert "\x1b" not in page
    assert "\\x1b[31m" in page
    assert "עברית" in page


def test_comments_are_never_on_the_page(report, page):
    assert COMMENT in str(report), "the report's examples hold it, so the test can fail"
    assert COMMENT not in page


def test_the_same_report_gives_the_same_bytes(report, page):
    assert render_card(report, title="Tonight <b>& more</b>", generated_for="run 7") == page


def test_refusals_are_explained_and_an_unknown_reason_points_at_the_rows(page):
    assert "A label is not in the current list of labels." in page
    assert "a reason of tomorrow" in page
    assert "Look at the rows in the quarantine file." in page


def test_headline_figures_come_first(report, page):
    values = {headline.title: headline.value for headline in list_headlines(report)}
    assert values["Training rows"] == "1\u202f692", "accepted rows without those that were left out"
    assert values["Refused"] == "84"
    assert values["Left out"] == "298"
    assert page.index("Training rows") < page.index("What goes into the night") < page.index("<figure>")


def test_what_stands_out_is_said_with_what_to_do(report):
    findings = " ".join(item.finding for item in list_attention(report))
    for words in ("84 of 1\u202f584 rows", "1 file skipped", "3 training rows found in the test set", "10.5 times"):
        assert words in findings
    assert "general shares passages with 12 of 14\u202f042 items of mmlu_test." in findings
    assert all(item.remedy for item in list_attention(report))


def test_a_night_of_nothing_but_replayed_rows_says_so():
    files = {"customer": {"rows": 5, "replayed_rows": 5, "watermark": "2026-11-23"}}
    (attention,) = list_attention({"files": files})
    assert "no row is of a day after 2026-11-23" in attention.finding
    assert list_attention({"files": {"customer": {**files["customer"], "rows": 6}}}) == []


def test_weights_that_do_not_sum_to_a_whole_are_worth_a_look():
    (attention,) = list_attention({"arms": {"mix": {"notes": ["the weights of the sources sum to 1.5"]}}})
    assert attention.finding == "mix: the weights of the sources sum to 1.5."


def test_a_report_without_trouble_has_nothing_to_look_at():
    assert list_attention(MINIMAL_REPORT) == []
    assert "Nothing stands out" in render_card(MINIMAL_REPORT, title="t", generated_for="g")


@pytest.mark.parametrize("report", [MINIMAL_REPORT, {}], ids=["minimal", "empty"])
def test_what_is_absent_is_said_to_be_not_computed(report):
    page = render_card(report, title="t", generated_for="g")
    assert _Page(page).open == []
    assert "<figure>" not in page
    assert page.count("not computed") >= 6


@pytest.mark.parametrize("key", ["files", "classes", "coverage", "duplicates", "contamination", "packing", "arms"])
def test_every_part_may_be_absent_empty_or_null(key):
    report = make_report(num_leaves=9, num_train=20, num_test=5, num_general=5)
    without = {name: part for name, part in report.items() if name != key}
    for changed in (without, {**report, key: {}}, {**report, key: None}):
        assert _Page(render_card(changed, title="t", generated_for="g")).open == []


def test_three_leaves_are_named_and_need_no_ranks():
    figures = draw_figures(make_report(num_leaves=3, num_train=20, num_test=5, num_general=5))
    assert figures.keys() == FIGURES - {"ranks"}
    assert "group 2" in figures["classes"]


@pytest.mark.filterwarnings("error")
def test_1420_leaves_fit_on_the_page_and_the_unseen_ones_are_capped():
    report = make_report(num_train=3_000, num_general=50)
    page = render_card(report, title="t", generated_for="g")
    unseen = report["coverage"]["unseen"]
    assert page.count("<li><bdi>") == MAX_UNSEEN < len(unseen)
    assert f"and {len(unseen) - MAX_UNSEEN} more, all of them in data_report.json" in page
    assert len(page) < 1_000_000


def test_more_arms_sources_and_languages_than_can_be_told_apart_are_drawn_together():
    sources = [
        {"name": f"source-{i}", "category": None, "num_rows": 10, "num_samples": 10 + i}
        for i in range(len(PART_COLORS) + 3)
    ]
    arms = {f"arm-{i}": {"sources": sources} for i in range(MAX_ARMS + 2)}
    languages = {f"l{i}": 50 - i for i in range(MAX_LANGUAGES + 4)}
    figures = draw_figures({"arms": arms, "files": {"customer": {"rows": 1, "languages": languages}}})
    assert "2 more arms are not drawn" in figures["shares"]
    assert ">others<" in figures["shares"]
    assert "4 others" in figures["languages"]


def test_every_reason_that_the_code_refuses_a_row_for_is_explained(repository):
    files = [path for folder in ("voc", "corpus") for path in (repository / folder).rglob("*.py")]
    used = {name for path in files for name in re.findall(REFUSAL, Path(path).read_text("utf-8"))}
    assert used - EXPLANATIONS.keys() == set()
    assert all(explain(name).meaning and explain(name).remedy for name in used)


def test_only_numbers_and_names_are_taken_from_a_part_of_unknown_shape():
    part = {
        "source": "customer",
        "checked": 3,
        "is_complete": True,
        "text": COMMENT,
        "examples": [COMMENT, {"row": COMMENT}],
        "overlaps": [{"source": "general", "text": COMMENT, "found": 2}],
        "nothing": None,
    }
    assert list_figures(part) == [
        Figure(("customer",), "checked", 3),
        Figure(("customer",), "is_complete", True),
        Figure(("customer", "overlaps", "general"), "found", 2),
    ]


def test_shares_of_an_arm_need_every_figure():
    sources = [{"name": "a", "num_samples": 3, "num_tokens": 10}, {"name": "b", "num_samples": 1, "num_tokens": None}]
    first, second = list_draws({"sources": sources})
    assert (first.shares["samples"], second.shares["samples"]) == (0.75, 0.25)
    assert first.shares["tokens"] is None
    assert first.epochs is None


def test_below_five_holds_none_and_one_as_well():
    entry = {"labels": 10, "without_examples": 2, "with_one": 3, "below_five": 6}
    assert split_coverage(entry) == {"none": 2, "one": 3, "few": 1, "enough": 4}
    assert split_coverage({"labels": 10}) is None


@pytest.mark.parametrize(
    ("value", "text"), [(None, "not computed"), (0, "0.0 %"), (0.0001, "< 0.1 %"), (0.25, "25.0 %")]
)
def test_a_small_share_is_not_shown_as_none(value, text):
    assert percent(value) == text
