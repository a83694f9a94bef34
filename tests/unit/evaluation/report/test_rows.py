"""Rows of other nights: beside this night's where the same was asked in the same way, else named with the reason."""

import io
import json
import random

import pyarrow.parquet as pq
import pytest

from evaluation.gather import gather
from evaluation.report.content import build_report
from evaluation.report.rows import Measured, explain_differences, find_frontier, judge_history
from evaluation.report.write import write_report
from voc.config.night import DecisionConfig

MICRO = DecisionConfig(voc_average="micro")
SUITES = ("voc", "mmlu_log_likelihood", "mmlu_generative", "mmlu_letter")
ASKED = {
    "voc": {"data_digest": "a" * 64, "asked": {"system_prompt_hash": None}, "parser": "2", "limit": None},
    "mmlu_log_likelihood": {"data_digest": "b" * 64, "max_model_len": 256},
    "mmlu_letter": {"data_digest": "b" * 64},
    "mmlu_generative": {"data_digest": "b" * 64, "max_tokens": 300, "asked": {"chat_template_hash": "c" * 64}},
}


def _night(fake_run_class, root, run_id, *, changes=None, lucky=False):
    """Write a gathered run whose shards declare how they asked; `lucky` gives its mix one more right answer."""
    night = fake_run_class(root, run_id)
    if lucky:
        lines = night.read_shard("mix-75-25", "mmlu_generative", 0)
        wrong = next(line for line in lines if not line["correct"])
        wrong |= {"correct": True, "strict": wrong["answer"], "lenient": wrong["answer"]}
        night.write_shard("mix-75-25", "mmlu_generative", 0, lines)
    for model in ("base", "customer-only", "mix-75-25"):
        for suite in SUITES:
            for shard in range(2):
                night.touch_manifest(
                    night.shard(model, suite, shard), **(ASKED[suite] | (changes or {}).get(suite, {}))
                )
    gather(night.run)
    return night


@pytest.fixture
def make_night(fake_run_class, tmp_path):
    return lambda run_id, **settings: _night(fake_run_class, tmp_path, run_id, **settings)


def _history(night):
    return build_report(night.run)["history"]


def test_a_row_with_the_same_figures_of_the_same_weights_is_no_row_of_its_own(make_night):
    make_night("night-1")
    history = _history(make_night("night-2"))
    assert history["rows"] == []
    assert history["repeated"] == {name: ["night-1"] for name in ("base", "customer-only", "mix-75-25")}


def test_another_row_of_an_earlier_night_is_comparable_and_in_page_text_and_parquet(make_night):
    make_night("night-0", lucky=True)
    make_night("night-1", lucky=True)
    night = make_night("night-2")
    (row,) = _history(night)["rows"]
    assert (row["name"], row["run_ids"], row["reasons"]) == ("mix-75-25", ["night-1", "night-0"], {})
    write_report(night.run)
    files = {name: night.store.read_bytes(f"{night.layout.report}/{name}") for name in ("index.html", "report.parquet")}
    assert "and 1 more with the same figures" in files["index.html"].decode()
    rows = pq.read_table(io.BytesIO(files["report.parquet"])).to_pylist()
    assert [(r["run_id"], r["is_this_run"]) for r in rows][-2:] == [("night-2", True), ("night-1", False)]
    assert rows[-1]["generative_strict"] == pytest.approx(rows[-2]["generative_strict"] + 1 / 280)
    assert (
        "other runs of this store: 1 comparable rows"
        in night.store.read_bytes(f"{night.layout.report}/report.txt").decode()
    )


def test_a_night_with_another_prompt_lends_its_general_figures_only(make_night):
    make_night("night-1", changes={"voc": {"prompt_hash": "d" * 64, "limit": 100}})
    history = _history(make_night("night-2"))
    assert [row["name"] for row in history["rows"]] == ["base", "customer-only", "mix-75-25"]
    row = history["rows"][0]
    assert row["reasons"] == {"voc": ["limit: 100 there, not declared here", "another prompt hash"]}
    assert row["voc_f1"] is None
    assert row["log_likelihood"]["n"] == 280


@pytest.mark.parametrize("suites", [SUITES, SUITES[:3]])
def test_a_night_that_asked_everything_of_the_table_otherwise_is_listed_with_reasons_and_without_figures(
    make_night, suites
):
    make_night("night-1", changes={suite: {"data_digest": "e" * 64} for suite in suites})
    night = make_night("night-2")
    history = _history(night)
    assert history["rows"] == []
    assert [entry["reasons"] for entry in history["not_comparable"]] == [
        {suite: ["another data digest"] for suite in suites}
    ] * 3
    assert all("voc_f1" not in entry for entry in history["not_comparable"])
    write_report(night.run)
    page = night.store.read_bytes(f"{night.layout.report}/index.html").decode()
    assert "Not comparable" in page
    assert "log-likelihood: another data digest" in page


def test_the_chat_template_is_the_models_own_and_a_longer_context_counts_only_where_prompts_were_cut(make_night):
    changes = {
        "mmlu_generative": {"asked": {"chat_template_hash": "f" * 64}},
        "mmlu_log_likelihood": {"max_model_len": 512},
    }
    make_night("night-1", changes=changes)
    assert _history(make_night("night-2"))["repeated"].keys() == {"base", "customer-only", "mix-75-25"}


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"model": {}, "voc": {}, "general": {}}', b'{"voc": NaN}'])
def test_results_of_another_run_that_cannot_be_read_are_said_and_fail_nothing(make_night, damage):
    earlier = make_night("night-1")
    earlier.store.write_bytes(f"{earlier.layout.results('base')}/results.json", damage)
    history = _history(make_night("night-2"))
    (entry,) = history["not_comparable"]
    assert (entry["run_id"], entry["name"]) == ("night-1", "base")
    assert entry["reasons"]["results"]


def test_a_run_without_a_time_is_the_oldest(make_night):
    make_night("night-9", lucky=True).store.delete_key("runs/night-9/timings/gather.json")
    make_night("night-1", lucky=True)
    history = _history(make_night("night-2"))
    assert history["rows"][0]["run_ids"] == ["night-1", "night-9"]


def test_the_frontier_takes_rows_of_other_nights_in(make_night):
    make_night("night-1", lucky=True)
    frontier = build_report(make_night("night-2").run)["frontier"]
    assert [(point["title"], point["run_ids"]) for point in frontier] == [
        ("75 % customer + 25 % general", ["night-1"]),
        ("customer only", None),
    ]


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, None, ["not measured there"]),
        (None, {"a": 1}, ["not measured here"]),
        ({"decoding.max_tokens": 5}, {"decoding.max_tokens": 7}, ["decoding.max tokens: 7 there, 5 here"]),
        ({"a": "0" * 64, "b": 1}, {"b": 1}, ["another a"]),
        ({}, {"a": 1}, ["how it was asked is not declared"]),
        ({"a": True, "b": 0}, {"a": True, "b": None}, ["b: not declared there, 0 here"]),
    ],
)
def test_differences_are_said_with_both_values(here, there, said):
    assert explain_differences(here, there) == said


def test_the_report_is_json_that_can_be_read_again(make_night):
    make_night("night-1", lucky=True)
    night = make_night("night-2")
    assert json.loads(json.dumps(build_report(night.run))) == build_report(night.run)


def test_the_base_says_what_was_asked_here_whatever_other_models_of_the_run_were_asked(make_night):
    night = make_night("night-2")
    results = json.loads(night.store.read_bytes(f"{night.layout.results('mix-75-25')}/results.json"))
    voc = {"voc": {"data_digest": "a" * 64}}
    full = {**voc, "mmlu_generative": {"data_digest": "b" * 64}}
    mine = [Measured("n2", "a-closed-one", "", None, voc), Measured("n2", "base", "", None, full)]
    history = judge_history(mine, [Measured("n1", "mix-75-25", "", results, full)], SUITES[:3], MICRO)
    assert [(row["run_ids"], row["reasons"]) for row in history["rows"]] == [(["n1"], {})]


def test_a_row_that_declares_nothing_is_not_comparable_and_says_so(make_night):
    night = make_night("night-2")
    results = json.loads(night.store.read_bytes(f"{night.layout.results('base')}/results.json"))
    mine, others = Measured("n2", "base", "", None, {}), Measured("n1", "base", "", results, {})
    history = judge_history([mine], [others], SUITES[:3], MICRO)
    assert [entry["reasons"] for entry in history["not_comparable"]] == [
        {"results": ["no suite declares how it asked"]}
    ]


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
