"""The report of a whole run: complete, closed in itself, safe to open."""

import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pyarrow.parquet as pq
import pytest

import evaluation.report.text_tables
from evaluation.decision.decide import decide
from evaluation.decision.promote import promote
from evaluation.gather import gather
from evaluation.report.content import build_report
from evaluation.report.page import format_duration
from evaluation.report.text_tables import format_columns, format_figure, format_table
from evaluation.report.write import write_report
from voc.errors import ObjectNotFoundError
from voc.store.manifest import Manifest, write_manifest

CUSTOMER = "customer-only"


def _read(fake_run, name):
    return fake_run.store.read_bytes(f"{fake_run.layout.report}/{name}")


def _reported(fake_run):
    gather(fake_run.run)
    decide(fake_run.run)
    write_report(fake_run.run)
    return fake_run


@pytest.fixture(scope="module")
def finished_run(fake_run_class, tmp_path_factory):
    """A reported run that tests only read."""
    return _reported(fake_run_class(tmp_path_factory.mktemp("finished")))


@pytest.fixture
def reported_run(fake_run):
    return _reported(fake_run)


class _Addresses(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.found += [value for name, value in attrs if name in {"src", "href", "action", "data"}]


def _parse(html):
    parser = _Addresses()
    parser.feed(html)
    return parser


def test_the_table_holds_the_study_with_floor_and_chance(finished_run):
    table = json.loads(_read(finished_run, "report.json"))["table"]
    rows = {row["name"]: row for row in table["rows"]}
    assert list(rows) == ["base", CUSTOMER, "mix-75-25"]
    assert rows[CUSTOMER]["voc_f1"]["value"] > 0.9
    assert rows[CUSTOMER]["below_chance"] == ["generative_strict", "generative_lenient"]
    assert rows[CUSTOMER]["schema_leak"]["value"] > 0.8
    assert rows["mix-75-25"]["verdict"] == "GO"
    assert (table["chance"], table["num_comments"], table["num_questions"]) == (0.25, 150, 280)
    assert 0 < table["lookup_floor"]["f1"] < rows[CUSTOMER]["voc_f1"]["value"]
    assert all(row["voc_f1"]["low"] <= row["voc_f1"]["value"] <= row["voc_f1"]["high"] for row in table["rows"])


def test_parquet_has_one_row_per_model_with_intervals(finished_run):
    rows = pq.read_table(io.BytesIO(_read(finished_run, "report.parquet"))).to_pylist()
    assert [row["title"] for row in rows] == ["base", "customer only", "75 % customer + 25 % general"]
    assert rows[1]["voc_f1_low"] <= rows[1]["voc_f1"] <= rows[1]["voc_f1_high"]
    assert {(row["run_id"], row["is_this_run"]) for row in rows} == {("night-1", True)}
    assert {row["voc_f1_n"] for row in rows} == {150}
    assert all(row["letter_constrained_low"] <= row["letter_constrained"] for row in rows)


def test_the_page_asks_for_nothing_from_outside(finished_run):
    html = _read(finished_run, "index.html").decode()
    parser = _parse(html)
    assert parser.found
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in parser.found)
    assert "script" not in parser.tags
    assert "link" not in parser.tags
    assert not re.search(r"@import|url\(", html)


def test_the_page_has_every_part(finished_run):
    html = _read(finished_run, "index.html").decode()
    for text in (
        "75 % customer + 25 % general may be promoted",
        "look-up floor",
        "not_replayed",
        "Question answered in VOC JSON",
        "label not in taxonomy 2",
        "depends on optimizer and learning rate",
        "do not quote a single seed",
        "train-mix-75-25",
        "1 min 01 s",
        "Hierarchical F1",
        "torso",
        "Knowledge lost and format collapsed",
        "No loss: knowledge kept, form kept",
        "still known by log-likelihood",
        "The base knows it, this model does not",
    ):
        assert text in html, text


def test_the_data_card_is_linked_only_where_there_is_one(reported_run):
    assert "This run has no data card" in _read(reported_run, "index.html").decode()
    reported_run.store.write_bytes(f"{reported_run.layout.data}/data_card.html", b"<p>card</p>")
    write_report(reported_run.run)
    page = reported_run.root / reported_run.layout.report / "index.html"
    links = [address for address in _parse(page.read_text()).found if not address.startswith(("data:", "#"))]
    assert [(page.parent / link).resolve().read_text() for link in links] == ["<p>card</p>"]


def test_what_a_model_wrote_is_shown_and_never_run(fake_run):
    lines = fake_run.read_shard(CUSTOMER, "mmlu_generative", 0)
    lines[0] |= {"text": '<script>alert("x")</script>', "strict": None, "correct": False, "schema_leak": False}
    fake_run.write_shard(CUSTOMER, "mmlu_generative", 0, lines)
    html = _read(_reported(fake_run), "index.html").decode()
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in html
    assert "script" not in _parse(html).tags


def test_a_title_with_markup_or_formula_signs_is_plain_text(make_fake_run):
    arms = [{"name": CUSTOMER, "title": "<b>$x_$ & co</b>", "sources": [{"name": "customer", "weight": 1}]}]
    arms.append({**arms[0], "name": "mix-75-25", "title": "mix"})
    html = _read(_reported(make_fake_run(arms=arms)), "index.html").decode()
    assert "&lt;b&gt;$x_$ &amp; co&lt;/b&gt;" in html
    assert "<b>$" not in html


def test_pictures_are_png_beside_the_page(finished_run):
    for name in ("voc_vs_mmlu.png", "classes.png"):
        assert _read(finished_run, name).startswith(b"\x89PNG\r\n")


def test_a_second_report_of_the_same_figures_writes_nothing(reported_run, capsys):
    path = reported_run.root / reported_run.layout.report / "manifest.json"
    before = path.stat().st_mtime_ns
    write_report(reported_run.run)
    assert path.stat().st_mtime_ns == before
    assert "written before" in capsys.readouterr().out


def test_a_promotion_after_the_report_brings_a_new_report(reported_run):
    promote(reported_run.run)
    write_report(reported_run.run)
    assert "mix-75-25 is champion number 1" in _read(reported_run, "index.html").decode()
    assert "promotion: promoted" in _read(reported_run, "report.txt").decode()


def test_a_report_before_the_decision_says_nothing_about_one(fake_run):
    gather(fake_run.run)
    write_report(fake_run.run)
    assert json.loads(_read(fake_run, "report.json"))["decision"] is None
    assert "Verdict" not in _read(fake_run, "index.html").decode()


def test_a_report_without_results_is_refused(fake_run):
    with pytest.raises(ObjectNotFoundError, match=r"results\.json does not exist"):
        write_report(fake_run.run)


def test_prompts_that_did_not_fit_are_said(fake_run):
    for suite, fact in (("voc", "prompts_too_long"), ("mmlu_log_likelihood", "truncated_prompts")):
        fake_run.write_shard(CUSTOMER, suite, 0, fake_run.read_shard(CUSTOMER, suite, 0), **{fact: 2})
    gather(fake_run.run)
    notes = build_report(fake_run.run)["notes"]
    assert "Prompts that did not fit the model's context (serving.max_model_len): customer only 4." in notes


def test_repeated_test_comments_are_said(fake_run):
    gather(fake_run.run)
    key = f"{fake_run.layout.data}/data_report.json"
    report = json.loads(fake_run.store.read_bytes(key))
    report["duplicates"] = {
        "found": {"customer": {"leakage_exact": 3, "leakage_near": 2}},
        "dropped": {"customer": {"leakage_exact": 1}},
    }
    fake_run.store.write_bytes(key, json.dumps(report).encode())
    notes = build_report(fake_run.run)["notes"]
    assert any(note.startswith("4 training comments are in the test set") for note in notes)


def test_text_is_aligned_and_names_floor_chance_and_alarm(finished_run):
    text = _read(finished_run, "report.txt").decode()
    lines = text.splitlines()
    assert "VOC F1 (micro)" in lines[2]
    assert lines[3].startswith("----")
    assert any(line.startswith("(look-up floor)") for line in lines)
    assert any(line.startswith("(chance)") for line in lines)
    assert re.search(r"^customer only .* !", text, re.MULTILINE)
    assert "! below chance" in text
    assert "decision: GO: mix-75-25 may be promoted" in text
    assert max(map(len, lines[:8])) <= 130


def test_the_table_can_be_printed_with_the_standard_library_alone(finished_run):
    script = "import json, runpy, sys; print(runpy.run_path(sys.argv[1])['format_table'](json.load(open(sys.argv[2]))), end='')"
    path = finished_run.root / finished_run.layout.report
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, evaluation.report.text_tables.__file__, str(path / "report.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == _read(finished_run, "report.txt").decode()


def test_format_table_needs_no_slices_no_decision_and_no_timings(fake_run):
    gather(fake_run.run)
    report = build_report(fake_run.run) | {"slices": [], "decision": None, "timings": []}
    text = format_table(report)
    assert "decision" not in text
    assert "stage" not in text


def test_losses_on_held_out_rows_are_shown_for_each_trained_arm(fake_run):
    gather(fake_run.run)
    losses = [{"loss": 2.0, "strata": {"customer": a, "general/chat": b}} for a, b in ((3.25, 1.5), (0.5, 1.75))]
    facts = {"steps": 40, "stopped_by": "early_stop", "validation_before": losses[0], "validation": losses[1]}
    write_manifest(fake_run.store, fake_run.layout.training(CUSTOMER), Manifest((), {}, facts))
    write_report(fake_run.run)
    text = _read(fake_run, "report.txt").decode()
    assert re.search(r"40 steps \(early stop\) +customer +3\.250 +0\.500", text)
    assert re.search(r"\n +general/chat +1\.500 +1\.750", text)
    page = _read(fake_run, "index.html").decode()
    assert "after 40 steps, by early stop" in page
    assert "<td>1.500</td><td>1.750</td>" in page


def test_a_training_without_held_out_rows_has_no_table_of_losses(fake_run):
    gather(fake_run.run)
    write_manifest(fake_run.store, fake_run.layout.training(CUSTOMER), Manifest((), {}, {"steps": 40}))
    write_report(fake_run.run)
    assert "held-out" not in _read(fake_run, "report.txt").decode()
    assert "Held-out" not in _read(fake_run, "index.html").decode()


def test_columns_are_as_wide_as_their_widest_cell():
    assert (
        format_columns([["a", "long head"], ["wide cell", "b"]])
        == "a          long head\n---------  ---------\nwide cell  b"
    )


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0.12345, "0.123")])
def test_a_figure_that_does_not_exist_is_a_dash(value, text):
    assert format_figure(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(4.21, "4.2 s"), (185, "3 min 05 s"), (3720, "1 h 02 min")])
def test_durations_read_well(seconds, text):
    assert format_duration(seconds) == text


def test_results_without_a_decomposition_say_that_the_cause_was_not_measured(fake_run):
    gather(fake_run.run)
    key = f"{fake_run.layout.results(CUSTOMER)}/results.json"
    results = json.loads(fake_run.store.read_bytes(key))
    del results["general"]["decomposition"]
    fake_run.store.write_bytes(key, json.dumps(results).encode())
    write_report(fake_run.run)
    html = _read(fake_run, "index.html").decode()
    assert html.count("The cause was not measured") == 1


def test_shards_from_the_cache_are_shown_as_such(fake_run):
    lines = fake_run.read_shard("base", "voc", 0)
    cache = {"hit": True, "measured_in": "night-0", "measured_at": "2026-01-01"}
    fake_run.write_shard("base", "voc", 0, lines, cache=cache)
    html = _read(_reported(fake_run), "index.html").decode()
    assert html.count("1 from the cache, measured in night-0") == 1
