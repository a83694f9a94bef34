"""Rows of models that others serve: complete in what can be measured, in every table, and out of every decision."""

import json
import random

import pytest

from evaluation.decision.decide import decide
from evaluation.gather import gather
from evaluation.report.write import write_report
from evaluation.results.gathered import ModelResults, read_results
from evaluation.suites.voc.import_outputs import import_outputs
from tests.unit.evaluation.conftest import NUM_MMLU, NUM_SHARDS, NUM_TEST, Skill
from tests.unit.evaluation.strict import check_type
from voc.errors import CoverageError
from voc.prompts import render_answer
from voc.run import find_model, list_external_entries, read_models, write_models
from voc.store.manifest import read_manifest

BEDROCK = {"name": "lite", "title": "Closed base", "model": "us.amazon.nova-2-lite-v1:0", "region": "us-east-1"}


@pytest.fixture
def mixed_run(make_fake_run, tmp_path):
    """The finished run with a Bedrock row and a row of imported answers."""
    uri = tmp_path / "inference_output.jsonl"
    uri.write_text("{}")
    rows = {"bedrock": [BEDROCK], "imported": [{"name": "tuned", "title": "Closed tuned", "uri": str(uri)}]}
    fake = make_fake_run(external_models=rows)
    outputs = [
        {"prompt": f"Comment: {r.comment}", "inference": render_answer(r.segments), "metadata": r.id} for r in fake.test
    ]
    uri.write_text("".join(json.dumps(row) + "\n" for row in outputs))
    write_models(fake.run, [*read_models(fake.run), *list_external_entries(fake.run.config.external_models)])
    import_outputs(fake.run, find_model(fake.run, "tuned"), str(uri))
    entry = find_model(fake.run, "lite")
    skill = Skill(voc=0.5, known=0.9, written=0.9)
    lines = {
        "voc": [fake._voc_line(r, skill, random.Random(i)) for i, r in enumerate(fake.test)],
        "mmlu_generative": [fake._written_line(i, q, skill, random.Random(i)) for i, q in enumerate(fake.questions)],
    }
    for suite, found in lines.items():
        for shard in range(NUM_SHARDS):
            fake.write_shard("lite", suite, shard, found[shard::NUM_SHARDS], inputs={"model_digest": entry.digest})
    return fake


def test_every_measured_suite_is_covered_and_the_others_are_left_out_by_name(mixed_run):
    gather(mixed_run.run)
    lite, tuned = (read_results(mixed_run.run, name) for name in ("lite", "tuned"))
    assert lite["coverage"] == {
        "voc": f"{NUM_TEST} / {NUM_TEST}",
        "mmlu_generative": f"{NUM_MMLU} / {NUM_MMLU}",
    }
    assert tuned["coverage"] == {"voc": f"{NUM_TEST} / {NUM_TEST}"}
    assert lite["general"]["log_likelihood"] is lite["general"]["against_base"] is None
    assert lite["general"]["generative_strict"]["n"] == NUM_MMLU
    assert tuned["general"]["generative_strict"] is None
    assert tuned["voc"]["levels"]["L4"]["micro"]["f1"] == 1.0
    assert tuned["voc"]["prompt"]["variant"] == "imported"
    assert lite["voc"]["prompt"]["variant"] == "internalized"


def test_what_cannot_be_measured_is_null_and_no_key_is_missing(mixed_run):
    gather(mixed_run.run)
    for name in ("base", "lite", "tuned"):
        check_type(ModelResults, read_results(mixed_run.run, name))


def test_a_missing_shard_of_an_external_model_is_refused_like_any_other(mixed_run):
    mixed_run.forget_manifest(mixed_run.shard("lite", "mmlu_generative", 1))
    with pytest.raises(CoverageError, match="lite, mmlu_generative: shard 1 of 2 is not finished"):
        gather(mixed_run.run)


def test_no_external_model_is_a_candidate_or_a_reference(mixed_run):
    gather(mixed_run.run)
    decision = decide(mixed_run.run)
    named = {entry["name"] for part in ("candidates", "references") for entry in decision[part]}
    assert named == {"base", "customer-only", "mix-75-25"}


def test_the_report_shows_the_rows_and_says_what_was_not_measured(mixed_run):
    run = mixed_run.run
    gather(run)
    decide(run)
    write_report(run)
    assert read_manifest(run.store, run.layout.report) is not None
    text = run.store.read_bytes(f"{run.layout.report}/report.txt").decode()
    row = next(line for line in text.splitlines() if line.startswith("Closed tuned"))
    assert row.split()[-3:] == ["-", "-", "-"]
    assert next(line for line in text.splitlines() if line.startswith("Closed base")).count("[") == 2
    page = run.store.read_bytes(f"{run.layout.report}/index.html").decode()
    study = page[page.index('id="study"') : page.index('id="history"')]
    assert study.count("not measured") == 4
    assert "but Closed tuned answered in an evaluation of the service" in page
