import json

import pytest

from evaluation.results.lines import GenerativeLine, LetterLine, LogLikelihoodLine
from evaluation.serving.endpoint import KEY_VARIABLE
from evaluation.shards.shard import Shard
from evaluation.suites.lm_eval import models
from evaluation.suites.mmlu.ask import evaluate_mmlu
from tests.tiny_model import DEFAULT_TEXTS, train_bpe
from tests.unit.evaluation.endpoint_stand_in import KEY, StandIn
from tests.unit.evaluation.served_run import announce, make_run, write_questions, write_test_set
from tests.unit.evaluation.strict import check_type
from voc.errors import EndpointError
from voc.store.manifest import digest_bytes, read_manifest

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
    (tmp_path / "base").mkdir(parents=True, exist_ok=True)
    make_tokenizer().save(str(tmp_path / "base" / "tokenizer.json"))
    announce(run, server)
    return run


def evaluate(run, protocol):
    evaluate_mmlu(run, "base", protocol, Shard(0, 1))
    prefix = run.layout.shard("base", f"mmlu_{protocol}", 0, 1)
    text = run.store.read_bytes(f"{prefix}/samples.jsonl")
    return [json.loads(line) for line in text.splitlines()], read_manifest(run.store, prefix)


def score_in(folder, server, **mmlu):
    server.requests.clear()
    lines, manifest = evaluate(make_served_run(folder, server, **mmlu), "log_likelihood")
    return lines, manifest.facts["scoring"], len(server.requests)


def letter_ids():
    return [make_tokenizer().encode(f"Answer: {letter}").ids[-1] for letter in "ABCD"]


@pytest.mark.parametrize(
    ("protocol", "kind"),
    [("log_likelihood", LogLikelihoodLine), ("generative", GenerativeLine), ("letter", LetterLine)],
)
def test_every_line_is_of_its_type(tmp_path, server, protocol, kind):
    for line in evaluate(make_served_run(tmp_path, server), protocol)[0]:
        check_type(kind, line)


def test_every_way_of_scoring_gives_the_same_numbers(tmp_path, server):
    lines, way, requests = score_in(tmp_path / "ids", server)
    assert (way, requests) == ("logprob_token_ids", -(-NUM // 8))
    server.knows_choice_scoring = False
    server.top_tokens = lambda prompt: [7, *letter_ids(), 9]
    top, way, requests = score_in(tmp_path / "top", server)
    assert (way, requests) == ("top_logprobs", 1 + -(-NUM // 8))
    server.top_tokens = lambda prompt: letter_ids()[:3]
    echoed, way, requests = score_in(tmp_path / "echo", server)
    assert way == "echo"
    assert [x["log_probabilities"] for x in lines] == [x["log_probabilities"] for x in echoed]
    assert [x["log_probabilities"] for x in lines] == [x["log_probabilities"] for x in top]
    assert len({line["prediction"] for line in lines}) > 1
    for line in lines:
        best = max(line["log_probabilities"])
        assert line["log_probabilities"]["ABCD".index(line["prediction"])] == best
        assert line["correct"] == (line["prediction"] == line["answer"])


def test_a_server_that_ignores_the_field_and_names_tokens_by_text_is_scored_the_second_way(tmp_path, server):
    server.knows_choice_scoring = None
    server.top_tokens = lambda prompt: letter_ids()
    server.token_names = lambda token: make_tokenizer().decode([token])
    lines, way, _ = score_in(tmp_path, server)
    assert way == "top_logprobs"
    assert len(lines) == NUM


def test_one_missing_letter_sends_the_whole_shard_down_the_ladder(tmp_path, server):
    server.knows_choice_scoring = False
    late = []
    server.top_tokens = lambda prompt: letter_ids()[: 4 if late.append(1) or len(late) < NUM else 3]
    lines, way, _ = score_in(tmp_path, server)
    assert way == "echo"
    assert {line["scoring"] for line in lines} == {"echo"}


def test_choices_of_several_tokens_are_all_echoed(tmp_path, server):
    run = make_served_run(tmp_path, server)
    train_bpe(["x"], 40).save(str(tmp_path / "base" / "tokenizer.json"))
    lines, manifest = evaluate(run, "log_likelihood")
    assert manifest.facts["scoring"] == "echo"
    assert not any("logprob_token_ids" in body for body in server.requests)
    assert len(lines) == NUM


def test_a_way_that_is_asked_for_is_taken_or_refused(tmp_path, server):
    _, way, _ = score_in(tmp_path / "a", server, scoring="echo")
    assert way == "echo"
    server.knows_choice_scoring = False
    with pytest.raises(EndpointError, match=r"cannot be scored: logprob_token_ids.*evaluation\.mmlu\.scoring"):
        score_in(tmp_path / "b", server, scoring="logprob_token_ids")


def test_lines_that_were_scored_in_another_way_are_asked_again(tmp_path, server):
    """A killed shard left lines of the first way; its server was replaced by one that only echoes."""
    run = make_served_run(tmp_path, server, concurrency=1)
    server.refuse_after = 2
    with pytest.raises(EndpointError, match="404"):
        evaluate(run, "log_likelihood")
    server.refuse_after, server.knows_choice_scoring = None, False
    lines, manifest = evaluate(run, "log_likelihood")
    assert manifest.facts["scoring"] == "echo"
    assert {line["scoring"] for line in lines} == {"echo"}


def test_a_killed_shard_that_echoes_goes_on_where_it_stopped(tmp_path, server, monkeypatch):
    monkeypatch.setattr(models, "QUESTIONS_PER_ECHO", 5)
    monkeypatch.setattr(models, "LM_EVAL_RETRIES", 1)
    run = make_served_run(tmp_path, server, scoring="echo", concurrency=1)
    server.refuse_after = 10 * 4
    with pytest.raises(Exception, match="404"):
        evaluate(run, "log_likelihood")
    server.refuse_after = None
    lines, manifest = evaluate(run, "log_likelihood")
    assert manifest.facts["resumed_items"] == 10
    assert sum(len(body["prompt"]) for body in server.requests) == 4 * NUM
    assert len(lines) == NUM


def test_the_letter_protocol_continues_the_closing_sentence(tmp_path, server):
    server.answer = lambda text: "C"
    lines, manifest = evaluate(make_served_run(tmp_path, server, system_prompt="Be brief."), "letter")
    body = server.requests[0]
    assert body["structured_outputs"] == {"choice": ["A", "B", "C", "D"]}
    assert (body["add_generation_prompt"], body["continue_final_message"]) == (False, True)
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant"]
    assert [line["correct"] for line in lines[:4]] == [False, False, True, False]
    assert all(line["is_letter"] for line in lines)
    assert manifest.facts["accuracy"] == 5 / 21


def test_the_manifest_says_how_it_was_asked(tmp_path, server):
    def asked(name, protocol="generative", template="T", **mmlu):
        folder = tmp_path / name
        (folder / "base").mkdir(parents=True)
        (folder / "base" / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        return evaluate(make_served_run(folder, server, **mmlu), protocol)[1].inputs["asked"]

    plain = asked("plain")
    assert plain["num_fewshot"] == 0
    assert plain["system_prompt_hash"] is None
    assert plain["chat_template_hash"] == digest_bytes(b"T")
    assert asked("template", template="U")["chat_template_hash"] != plain["chat_template_hash"]
    system = asked("system", system_prompt="Be brief.")
    assert system["system_prompt_hash"] == digest_bytes(b"Be brief.")
    assert system["prompts_hash"] != plain["prompts_hash"]
    raw, shot = asked("raw", "log_likelihood"), asked("shot", "log_likelihood", num_fewshot=2)
    assert (raw["num_fewshot"], shot["num_fewshot"], raw["chat_template_hash"]) == (0, 2, None)
    assert raw["prompts_hash"] != shot["prompts_hash"]


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


@pytest.mark.parametrize(("protocol", "per_request"), [("log_likelihood", 8), ("generative", 1), ("letter", 1)])
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
