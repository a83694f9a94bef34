import json

import pytest

from evaluation.endpoint import KEY_VARIABLE
from evaluation.mmlu_suite import evaluate_mmlu
from evaluation.shards import Shard
from tests.tiny_model import DEFAULT_TEXTS, train_bpe
from tests.unit.evaluation.endpoint_stand_in import KEY, StandIn
from tests.unit.evaluation.served_run import announce, make_run, write_questions, write_test_set
from voc.errors import EndpointError
from voc.manifest import read_manifest

NUM = 21


def make_tokenizer():
    return train_bpe([*DEFAULT_TEXTS, *[f"Answer: {letter}" for letter in "ABCD"] * 4], 400)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with StandIn().serving() as stand_in:
        yield stand_in


def make_served_run(tmp_path, server, **mmlu):
    run = make_run(tmp_path, mmlu={"max_tokens": 16, **mmlu})
    write_test_set(run, 1)
    write_questions(tmp_path / "mmlu", NUM)
    make_tokenizer().save(str(tmp_path / "base" / "tokenizer.json"))
    announce(run, server)
    return run


def evaluate(run, protocol):
    evaluate_mmlu(run, "base", protocol, Shard(0, 1))
    prefix = run.layout.shard("base", f"mmlu_{protocol}", 0, 1)
    text = run.store.read_bytes(f"{prefix}/samples.jsonl")
    return [json.loads(line) for line in text.splitlines()], read_manifest(run.store, prefix)


@pytest.fixture(autouse=True)
def model_folder(tmp_path):
    (tmp_path / "base").mkdir()


def test_choices_are_scored_together_and_as_lm_eval_would(tmp_path, server):
    lines, manifest = evaluate(make_served_run(tmp_path, server), "log_likelihood")
    together = len(server.requests)
    server.knows_choice_scoring = False
    other = tmp_path / "other"
    (other / "base").mkdir(parents=True)
    echoed, other_manifest = evaluate(make_served_run(other, server), "log_likelihood")
    assert together == -(-NUM // 8)
    assert manifest.facts["questions_by_scoring"] == {"logprob_token_ids": NUM, "echo": 0}
    assert other_manifest.facts["questions_by_scoring"] == {"logprob_token_ids": 0, "echo": NUM}
    assert [line["log_probabilities"] for line in lines] == [line["log_probabilities"] for line in echoed]
    assert len({line["prediction"] for line in lines}) > 1
    for line in lines:
        best = max(line["log_probabilities"])
        assert line["log_probabilities"]["ABCD".index(line["prediction"])] == best
        assert line["correct"] == (line["prediction"] == line["answer"])


def test_lines_are_in_file_order_with_what_gather_needs(tmp_path, server):
    server.answer = lambda text: "Well. The correct answer is (B)."
    lines, manifest = evaluate(make_served_run(tmp_path, server), "generative")
    assert [line["custom_id"] for line in lines] == [f"mmlu-{i:06d}" for i in range(NUM)]
    assert [line["correct"] for line in lines[:4]] == [False, True, False, False]
    assert (lines[0]["strict"], lines[0]["lenient"], lines[0]["schema_leak"]) == ("B", "B", False)
    assert manifest.facts["items"] == NUM
    assert server.requests[0]["max_tokens"] == 16


def test_an_answer_in_voc_json_is_a_schema_leak(tmp_path, server):
    server.answer = lambda text: '[{"content": "x", "L1": "y", "L2'
    lines, _ = evaluate(make_served_run(tmp_path, server, limit=2), "generative")
    assert [line["schema_leak"] for line in lines] == [True, True]
    assert lines[0]["strict"] is None


def test_a_context_that_is_too_long_keeps_its_end_and_is_counted(tmp_path, server):
    server.max_model_len = 40
    _, manifest = evaluate(make_served_run(tmp_path, server), "log_likelihood")
    assert manifest.facts["truncated_prompts"] == NUM
    sent = [prompt for body in server.requests for prompt in body["prompt"]]
    assert {len(prompt) for prompt in sent} == {38}
    assert make_tokenizer().decode(sent[0]).endswith("Answer:")


@pytest.mark.parametrize("fault", ["too_long", "leaves_little_room"])
def test_a_chat_that_is_too_long_keeps_its_end_and_is_counted(tmp_path, server, fault):
    """Too long for the context, or so long that the answer would be cut short."""
    setattr(server, fault, lambda body: "What is 3?" in body["messages"][-1]["content"])
    _, manifest = evaluate(make_served_run(tmp_path, server), "generative")
    assert manifest.facts["truncated_prompts"] == 1
    assert [b["truncate_prompt_tokens"] for b in server.requests if "truncate_prompt_tokens" in b] == [512 - 16]


@pytest.mark.parametrize(("protocol", "per_request"), [("log_likelihood", 8), ("generative", 1)])
def test_a_killed_shard_asks_only_what_is_missing(tmp_path, server, protocol, per_request):
    run = make_served_run(tmp_path, server, concurrency=1)
    server.refuse_after = 2
    with pytest.raises(EndpointError, match="404"):
        evaluate(run, protocol)
    server.refuse_after = None
    lines, manifest = evaluate(run, protocol)
    asked = sum(len(body.get("prompt", [1])) for body in server.requests)
    assert asked == NUM
    assert manifest.facts["resumed_items"] == 2 * per_request
    assert len(lines) == NUM


def test_a_finished_shard_is_not_asked_again(tmp_path, server):
    run = make_served_run(tmp_path, server, limit=3)
    first, _ = evaluate(run, "generative")
    again, _ = evaluate(run, "generative")
    assert first == again
    assert len(server.requests) == 3


def test_the_key_is_not_left_in_the_environment(tmp_path, server, monkeypatch):
    import os

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server.knows_choice_scoring = False
    evaluate(make_served_run(tmp_path, server, limit=2), "log_likelihood")
    assert "OPENAI_API_KEY" not in os.environ
