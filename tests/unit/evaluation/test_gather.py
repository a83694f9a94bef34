"""Gathering refuses what is incomplete and computes the rest once."""

import json

import pytest

from evaluation.gather import describe_inputs, gather, load_answers, load_questions, measure_model
from evaluation.items import check_pairing, read_items
from evaluation.suites.protocol import MAX_CHARACTERS
from evaluation.suites.registry import find_suite, plan_suites
from voc.errors import ConfigError, CoverageError, IntegrityError
from voc.prompts import hash_prompt
from voc.run import find_model, read_models, write_models

MIX, CUSTOMER = "mix-75-25", "customer-only"


def _expected(fake_run):
    run, base = fake_run.run, find_model(fake_run.run, "base")
    questions = load_questions(run)
    owners = {planned.name: find_suite(run.config, planned.name) for planned in plan_suites(run.config)}
    return {suite: owner.expect(questions[owner.name], suite, base, []) for suite, owner in owners.items()}


def _results(fake_run, model):
    return json.loads(fake_run.store.read_bytes(f"{fake_run.layout.results(model)}/results.json"))


def test_results_show_a_collapse_in_writing_that_log_likelihood_does_not_see(fake_run):
    gather(fake_run.run)
    base, customer = _results(fake_run, "base"), _results(fake_run, CUSTOMER)
    assert base["voc"]["levels"]["L4"]["micro"]["f1"] == 0
    assert base["voc"]["failures"] == {"not_json": 150}
    assert customer["voc"]["levels"]["L4"]["micro"]["f1"] > 0.9
    assert customer["general"]["log_likelihood"]["accuracy"] > 0.4
    assert customer["general"]["generative_strict"]["below_chance"]
    assert customer["general"]["schema_leak"]["ratio"] > 0.8
    assert customer["general"]["against_base"]["format_tax"]["low"] > 0.4
    assert set(customer["general"]["log_likelihood"]["slices"]) == {"replayed", "not_replayed"}
    assert customer["coverage"] == {
        "voc": "150 / 150",
        "mmlu_log_likelihood": "280 / 280",
        "mmlu_generative": "280 / 280",
        "mmlu_letter": "280 / 280",
    }
    assert customer["voc"]["usage"] == {"prompt_tokens": 6000, "completion_tokens": 4500, "wall_s": 2.5}
    assert customer["voc"]["finish_reasons"] == {"stop": 150}
    assert 0 < customer["voc"]["lookup_floor"]["micro"]["f1"] < 1


def test_items_can_be_paired_over_models(fake_run):
    gather(fake_run.run)
    base, mix = (
        read_items(fake_run.store.read_bytes(f"{fake_run.layout.results(name)}/items.parquet"))
        for name in ("base", MIX)
    )
    check_pairing(MIX, mix, "base", base)
    assert base.gold == mix.gold == [frozenset(s.label for s in record.segments) for record in fake_run.test]
    assert [sum(correct) for correct in mix.correct.values()] == [
        _results(fake_run, MIX)["general"][name]["n"] * _results(fake_run, MIX)["general"][name]["accuracy"]
        for name in ("log_likelihood", "generative_strict", "letter_constrained")
    ]
    mix.ids["voc"].pop()
    with pytest.raises(CoverageError, match="do not have the same items in voc"):
        check_pairing(MIX, mix, "base", base)


def test_results_name_the_kind_of_loss_with_raw_answers(fake_run):
    gather(fake_run.run)
    customer, mix = (_results(fake_run, name)["general"]["decomposition"] for name in (CUSTOMER, MIX))
    assert customer["cause"] == "both"
    assert customer["figures"]["schema_leak_change"]["value"] > 0.8
    assert next(iter(customer["lost_answers"])) == "schema_leak"
    leak = next(quote for quote in customer["quotes"] if quote["kind"] == "schema_leak")
    assert leak["text"].startswith('[{"content"')
    assert "The correct answer is" in leak["base_text"]
    assert mix["cause"] in {"none", "unclear"}
    assert _results(fake_run, "base")["general"]["decomposition"]["cause"] == "none"


def test_models_that_were_scored_in_different_ways_are_not_compared(fake_run):
    for shard in (0, 1):
        lines = fake_run.read_shard(MIX, "mmlu_log_likelihood", shard)
        fake_run.write_shard(MIX, "mmlu_log_likelihood", shard, [{**line, "scoring": "echo"} for line in lines])
    message = _refused(fake_run)
    assert f"{MIX}: echo" in message
    assert "base: logprob_token_ids" in message
    assert "evaluation.mmlu.scoring" in message


def test_results_say_what_was_taken_from_an_earlier_run(fake_run):
    lines = fake_run.read_shard("base", "voc", 1)
    cache = {"hit": True, "measured_in": "night-0", "measured_at": "2026-01-01T00:00:00+00:00"}
    fake_run.write_shard("base", "voc", 1, lines, cache=cache)
    gather(fake_run.run)
    assert _results(fake_run, "base")["cache"]["voc"]["hits"] == 1
    assert _results(fake_run, "base")["cache"]["voc"]["measured_in"] == ["night-0"]
    assert _results(fake_run, MIX)["cache"] == {}


def test_a_second_gather_computes_nothing(fake_run, capsys):
    gather(fake_run.run)
    path = fake_run.root / fake_run.layout.results(MIX) / "manifest.json"
    before = path.stat().st_mtime_ns
    gather(fake_run.run)
    assert path.stat().st_mtime_ns == before
    assert capsys.readouterr().out.count("finished already") == 3


def test_only_the_model_with_new_answers_is_computed_again(fake_run, capsys):
    gather(fake_run.run)
    lines = fake_run.read_shard(MIX, "mmlu_generative", 0)
    lines[0]["correct"] = not lines[0]["correct"]
    fake_run.write_shard(MIX, "mmlu_generative", 0, lines)
    gather(fake_run.run)
    out = capsys.readouterr().out
    assert "the results of base are finished already" in out
    assert f"the results of {MIX} are finished already" not in out


def _refused(fake_run, error=CoverageError):
    with pytest.raises(error) as caught:
        gather(fake_run.run)
    assert not any(
        fake_run.store.exists(f"{fake_run.layout.results(m.name)}/manifest.json") for m in read_models(fake_run.run)
    )
    return str(caught.value)


def test_a_missing_item_is_refused(fake_run):
    lines = fake_run.read_shard(MIX, "voc", 1)
    fake_run.write_shard(MIX, "voc", 1, lines[:-1])
    assert f"{MIX}, voc: 1 of 150 expected items missing ({lines[-1]['custom_id']})" in _refused(fake_run)


def test_a_duplicate_item_is_refused(fake_run):
    lines = fake_run.read_shard(MIX, "mmlu_generative", 0)
    fake_run.write_shard(MIX, "mmlu_generative", 0, [*lines, lines[0]])
    assert "1 of 280 expected items duplicate (mmlu-000000)" in _refused(fake_run)


def test_a_foreign_item_is_refused(fake_run):
    lines = fake_run.read_shard(MIX, "mmlu_log_likelihood", 0)
    fake_run.write_shard(MIX, "mmlu_log_likelihood", 0, [*lines, {**lines[0], "custom_id": "mmlu-999999"}])
    assert "1 foreign items (mmlu-999999)" in _refused(fake_run)


@pytest.mark.parametrize("suite", ["voc", "mmlu_log_likelihood", "mmlu_generative", "mmlu_letter"])
def test_an_answer_to_another_prompt_is_refused(fake_run, suite):
    lines = fake_run.read_shard(MIX, suite, 0)
    lines[2]["prompt_hash"] = "0" * 64
    fake_run.write_shard(MIX, suite, 0, lines)
    assert f"asked with another prompt ({lines[2]['custom_id']})" in _refused(fake_run)


def test_problems_of_several_models_come_in_one_message(fake_run):
    for name in (MIX, CUSTOMER):
        lines = fake_run.read_shard(name, "voc", 0)
        fake_run.write_shard(name, "voc", 0, lines[1:])
    message = _refused(fake_run)
    assert f"{MIX}, voc" in message
    assert f"{CUSTOMER}, voc" in message


def test_an_unfinished_shard_is_refused(fake_run):
    fake_run.forget_manifest(fake_run.shard(MIX, "voc", 1))
    assert f"{MIX}, voc: shard 1 of 2 is not finished" in _refused(fake_run)


def test_a_changed_file_is_refused(fake_run):
    path = fake_run.root / fake_run.shard(MIX, "voc", 1) / "predictions.jsonl"
    path.write_bytes(path.read_bytes().replace(b"true", b"true "))
    assert "has SHA-256" in _refused(fake_run, IntegrityError)


def test_a_shard_file_that_is_cut_in_the_middle_is_refused(fake_run):
    path = fake_run.root / fake_run.shard(MIX, "voc", 1) / "predictions.jsonl"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "has SHA-256" in _refused(fake_run, IntegrityError)


def test_a_comment_that_was_changed_after_it_was_asked_is_refused(fake_run):
    changed = [
        r.to_json() | {"comment": r.comment + "!"} if i == 4 else r.to_json() for i, r in enumerate(fake_run.test)
    ]
    path = fake_run.root / fake_run.layout.data / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in changed))
    fake_run.commit_data()
    assert f"voc: 1 of 150 expected items asked with another prompt ({fake_run.test[4].id})" in _refused(fake_run)


@pytest.mark.parametrize("change", [{"structured_output": True, "schema_hash": "a"}, {"max_tokens": 7}])
def test_a_shard_answered_with_other_decoding_is_refused(fake_run, change):
    decoding = load_questions(fake_run.run)["voc"].decoding
    for shard in range(2):
        fake_run.touch_manifest(fake_run.shard(MIX, "voc", shard), decoding=decoding)
    load_answers(fake_run.run, find_model(fake_run.run, MIX), load_questions(fake_run.run))
    fake_run.touch_manifest(fake_run.shard(MIX, "voc", 1), decoding={**decoding, **change})
    assert "a row holds answers of one kind of decoding" in _refused(fake_run, IntegrityError)


def test_results_declare_decoding_and_prompt_and_have_every_table(fake_run):
    gather(fake_run.run)
    voc = json.loads(fake_run.store.read_bytes(f"{fake_run.layout.results(MIX)}/results.json"))["voc"]
    assert voc["decoding"] == {"structured_output": False, "schema_hash": None, "max_tokens": 1024, "temperature": 0}
    assert voc["prompt"]["hash"] == hash_prompt("internalized", fake_run.taxonomy)
    assert {"labels", "languages", "segmentation", "confusion", "strict", "repairs", "level_intervals"} <= voc.keys()
    assert sum(row["support"] for row in voc["labels"]) == voc["levels"]["L4"]["gold"]


def test_rows_that_no_arm_may_draw_teach_nothing(fake_run):
    before = load_questions(fake_run.run)["voc"].training
    rows = [{"source": "customer", "row": row, "id": before[row].id, "reason": "held_out"} for row in (0, 5)]
    path = fake_run.root / fake_run.layout.data / "dropped.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fake_run.commit_data()
    after = load_questions(fake_run.run)["voc"].training
    assert after == (*before[1:5], *before[6:])
    path.write_text(json.dumps({**rows[0], "id": "another"}) + "\n")
    fake_run.commit_data()
    with pytest.raises(IntegrityError, match="row 0 of customer is 'another'"):
        load_questions(fake_run.run)


def test_a_damaged_manifest_is_refused(fake_run):
    (fake_run.root / fake_run.shard(MIX, "voc", 1) / "manifest.json").write_text("{")
    assert "shard-001-of-002/manifest.json" in _refused(fake_run, IntegrityError)


def test_a_shard_of_another_model_is_refused(fake_run):
    fake_run.touch_manifest(fake_run.shard(MIX, "voc", 1), model_digest="0" * 64)
    assert "measured the model 000" in _refused(fake_run, IntegrityError)


def test_a_run_without_the_base_is_refused(fake_run):
    write_models(fake_run.run, [model for model in read_models(fake_run.run) if model.name != "base"])
    with pytest.raises(ConfigError, match="no model 'base'"):
        gather(fake_run.run)


def test_a_damaged_test_row_is_refused(fake_run):
    key = fake_run.layout.data
    taxonomy = fake_run.store.read_bytes(f"{key}/taxonomy.csv")
    fake_run.commit(key, {"taxonomy.csv": taxonomy, "test.jsonl": '{"id": "a"}\n'})
    with pytest.raises(IntegrityError, match=r"test\.jsonl, row 1 is not an accepted row"):
        load_questions(fake_run.run)


def test_limits_reduce_what_is_expected(make_fake_run):
    fake_run = make_fake_run(evaluation__voc__limit=10, evaluation__mmlu__limit=7)
    expect = _expected(fake_run)
    assert {suite: len(expected) for suite, expected in expect.items()} == {
        "voc": 10,
        "mmlu_log_likelihood": 7,
        "mmlu_generative": 7,
        "mmlu_letter": 7,
    }
    assert list(expect["mmlu_generative"])[-1] == "mmlu-000006"


def test_answers_come_back_in_the_order_of_the_questions(fake_run):
    questions = load_questions(fake_run.run)
    answers, problems = load_answers(fake_run.run, find_model(fake_run.run, MIX), questions)
    assert problems == []
    for suite, expected in _expected(fake_run).items():
        assert [line["custom_id"] for line in answers.lines[suite]] == list(expected)


def test_results_depend_on_the_base_they_are_compared_with(fake_run):
    run = fake_run.run
    before = describe_inputs(run, read_models(run), "d")
    fake_run.write_shard("base", "voc", 0, fake_run.read_shard("base", "voc", 0)[::-1])
    after = describe_inputs(run, read_models(run), "d")
    assert before[MIX] != after[MIX]
    assert before[MIX]["shards"] == after[MIX]["shards"]


def test_examples_are_few_of_each_kind_and_say_where_they_are_cut(fake_run):
    lines = fake_run.read_shard(CUSTOMER, "mmlu_generative", 0)
    lines[0] |= {"text": "x" * 5000, "strict": None, "correct": False, "schema_leak": False}
    fake_run.write_shard(CUSTOMER, "mmlu_generative", 0, lines)
    questions = load_questions(fake_run.run)
    answers, _ = load_answers(fake_run.run, find_model(fake_run.run, CUSTOMER), questions)
    examples = measure_model(fake_run.run, answers, answers, questions)["examples"]
    kinds = [example["kind"] for example in examples]
    assert kinds.count("schema_leak") == 2
    cut = next(example for example in examples if example["custom_id"] == "mmlu-000000")
    assert cut["kind"] == "no_closing_sentence"
    assert cut["text"] == "x" * MAX_CHARACTERS + " [cut: 5000 characters]"
