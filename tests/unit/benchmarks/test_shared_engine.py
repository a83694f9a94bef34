import json

import pytest

from benchmarks.shared_engine import _TOKENS, Served, describe, make_run
from evaluation.suites.voc.ask import load_test
from voc.mmlu import load_mmlu
from voc.run import find_model


def test_a_side_is_the_sum_of_its_engines():
    engines = [
        Served(start_s=40, suites_s=10, wall_s=52, tokens=600),
        Served(start_s=38, suites_s=20, wall_s=60, tokens=400),
    ]
    figures = describe(engines)
    assert (figures["engines"], figures["wall_s"], figures["starts_s"], figures["suites_s"]) == (2, 112, 78, 30)
    assert figures["tokens_per_wall_s"] == pytest.approx(1000 / 112, abs=0.05)
    assert figures["tokens_per_suites_s"] == pytest.approx(1000 / 30, abs=0.05)


def test_tokens_of_prompts_and_answers_are_counted_and_nothing_else():
    page = """vllm:prompt_tokens_total{engine="0",model_name="m"} 120.0
vllm:generation_tokens_total{engine="0",model_name="m"} 30.0
vllm:prompt_tokens_cached_total{engine="0"} 7.0
"""
    assert sum(float(value) for _, value in _TOKENS.findall(page)) == 150


def test_both_sides_ask_the_same_and_keep_no_results(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    runs = [make_run(tmp_path / side, model, comments=5, questions=7, threads=1) for side in ("a", "b")]
    records = [load_test(run)[1] for run in runs]
    assert records[0] == records[1]
    assert len({record.comment for record in records[0]}) == 5
    questions = [load_mmlu(run.config.evaluation.mmlu.dataset, None) for run in runs]
    assert questions[0] == questions[1]
    assert len(questions[0]) == 7
    assert [run.config.evaluation.cache for run in runs] == [False, False]
    assert json.loads(runs[0].store.read_bytes(runs[0].layout.models))[0]["digest"] == find_model(runs[1], "m").digest
