"""Tasks by name: asked through the same clients, resumable, whole samples kept."""

import json
from dataclasses import replace
from functools import cache

import pytest

from evaluation.decision.decide import decide
from evaluation.gather import gather
from evaluation.results.gathered import TaskResults
from evaluation.results.lines import TaskLine
from evaluation.serving.endpoint import KEY_VARIABLE, Endpoint, write_endpoint
from evaluation.shards.shard import Shard
from evaluation.suites.lm_eval.ask import evaluate_task
from evaluation.suites.lm_eval.suite import SUITE
from evaluation.suites.lm_eval.tasks import check_needs, load_tasks
from evaluation.suites.protocol import ModelAnswers
from tests.unit.evaluation.endpoint_stand_in import KEY, StandIn
from tests.unit.evaluation.lm_eval_examples import write_ifeval, write_tasks
from tests.unit.evaluation.served_run import DIGEST, announce, make_run, write_questions
from tests.unit.evaluation.strict import check_type
from tests.unit.evaluation.suites.mmlu.test_ask import make_tokenizer
from voc.config.night import GatedMetricConfig, LmEvalTaskConfig
from voc.errors import ConfigError, CoverageError, DataError, EndpointError
from voc.run import find_model, read_models
from voc.store.manifest import read_manifest

NUM = 10


@pytest.fixture(scope="module", autouse=True)
def one_index_of_own_tasks():
    """Index lm-eval's own tasks once: it parses thousands of files for that, and keeps the index of no earlier manager."""
    import lm_eval.tasks

    manager = lm_eval.tasks.TaskManager
    own = cache(manager)

    def choose(include_path=None, include_defaults=True):
        return (
            own()
            if include_defaults and include_path is None
            else manager(include_path=include_path, include_defaults=include_defaults)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lm_eval.tasks, "TaskManager", choose)
        yield


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with StandIn().serving() as stand_in:
        yield stand_in


def make_task_run(root, server, **task):
    (root / "base").mkdir(parents=True)
    make_tokenizer().save(str(root / "base" / "tokenizer.json"))
    run = make_run(root)
    write_questions(root / "mmlu", 4)
    config = LmEvalTaskConfig(**{"name": "t", "folder": write_tasks(root / "tasks", NUM), **task})
    evaluation = run.config.evaluation.model_copy(update={"lm_eval_tasks": (config,)})
    announce(run, server)
    return replace(run, config=run.config.model_copy(update={"evaluation": evaluation}))


def evaluate(run, name="t", shards=1):
    found = []
    for number in range(shards):
        evaluate_task(run, "base", name, Shard(number, shards))
        prefix = run.layout.shard("base", f"lm_eval_{name}", number, shards)
        found += map(json.loads, run.store.read_bytes(f"{prefix}/samples.jsonl").splitlines())
    return found, read_manifest(run.store, prefix)


def measured(run):
    answers = load_base(run)
    assert SUITE.list_problems(run.config, [answers]) == []
    return SUITE.measure(run, None, answers, answers)["lm_eval_tasks"]["t"]


def load_base(run):
    """The base's lines and manifests of the one task."""
    task = run.config.evaluation.lm_eval_tasks[0]
    places = [run.layout.shard("base", "lm_eval_t", number, task.shards) for number in range(task.shards)]
    lines = [json.loads(x) for p in places for x in run.store.read_bytes(f"{p}/samples.jsonl").splitlines()]
    shards = [read_manifest(run.store, place) for place in places]
    return ModelAnswers(find_model(run, "base"), DIGEST, {"lm_eval_t": lines}, {"lm_eval_t": shards})


def test_a_task_that_generates_is_asked_as_a_chat_with_its_own_settings(tmp_path, server):
    server.answer = lambda text: text.removeprefix("Say ") if text.endswith("3") else f"I say {text.split()[-1]}"
    lines, manifest = evaluate(make_task_run(tmp_path, server, task="echo_words"))
    body = server.requests[0]
    assert (body["stop"], body["max_tokens"], body["temperature"]) == (["."], 7, 0)
    assert [line["custom_id"] for line in lines] == [f"echo_words-{i:06d}" for i in range(NUM)]
    assert lines[3]["filters"]["first"]["metrics"] == {"exact_match": 1.0}
    assert lines[4]["filters"]["first"]["metrics"] == {"exact_match": 0.0}
    assert lines[4]["filters"]["letters"]["metrics"] == {"exact_match": 1.0}
    assert lines[4]["doc"] == {"word": "w4"}
    assert lines[4]["resps"] == [["I say w4"]]
    assert lines[4]["finish_reason"] == "stop"
    assert "Say w4" in json.dumps(lines[4]["arguments"])
    assert manifest.inputs["tasks"]["echo_words"]["version"] == 1
    assert manifest.facts["figures"]["echo_words"]["exact_match,letters"] == 1.0


def test_a_group_is_all_of_its_tasks_and_choices_are_scored_together(tmp_path, server):
    run = make_task_run(tmp_path, server, task="colours", max_tokens=3)
    lines, manifest = evaluate(run)
    assert {line["task"] for line in lines} == {"colours_warm", "colours_cold"}
    assert manifest.facts["num_docs"] == {"colours_warm": NUM, "colours_cold": NUM}
    assert manifest.facts["scoring"] == "logprob_token_ids"
    assert {line["scoring"] for line in lines} == {"logprob_token_ids"}
    figures = measured(run)["figures"]
    assert set(figures) == {"colours_warm", "colours_cold", "all"}
    for name in ("colours_warm", "colours_cold"):
        assert figures[name]["acc,none"]["value"] == manifest.facts["figures"][name]["acc,none"]
        assert figures[name]["acc,none"]["against_base"]["value"] == 0
    assert figures["all"]["acc,none"]["n"] == 2 * NUM


@pytest.mark.parametrize("task", ["echo_words", "colours"])
def test_shards_together_are_the_whole(tmp_path, server, task):
    whole, _ = evaluate(make_task_run(tmp_path / "one", server, task=task))
    run = make_task_run(tmp_path / "three", server, task=task, shards=3)
    parts, _ = evaluate(run, shards=3)
    kept = ("custom_id", "doc", "resps", "filters", "doc_hash")
    ordered = sorted(parts, key=lambda line: line["custom_id"])
    assert [[x[k] for k in kept] for x in ordered] == [
        [x[k] for k in kept] for x in sorted(whole, key=lambda line: line["custom_id"])
    ]
    assert measured(run)["items"] == len(whole)
    check_type(TaskResults, measured(run))
    for line in whole:
        check_type(TaskLine, line)


def test_a_shard_without_a_question_is_empty(tmp_path, server):
    lines, manifest = evaluate(make_task_run(tmp_path, server, task="echo_words", limit=2, shards=3), shards=3)
    assert len(lines) == 2
    assert manifest.facts["items"] == 0


def test_a_killed_shard_asks_only_what_is_missing_and_a_finished_one_nothing(tmp_path, server):
    run = make_task_run(tmp_path, server, task="echo_words", concurrency=1)
    server.refuse_after = 4
    with pytest.raises(EndpointError, match="404"):
        evaluate(run)
    server.refuse_after = None
    _, manifest = evaluate(run)
    assert manifest.facts["resumed_items"] == 4
    evaluate(run)
    assert len(server.requests) == NUM


def test_other_settings_of_a_task_are_other_inputs(tmp_path, server):
    def inputs(name, **task):
        return evaluate(make_task_run(tmp_path / name, server, task="echo_words", **task))[1].inputs

    plain = inputs("plain")["tasks"]["echo_words"]
    assert inputs("again")["tasks"]["echo_words"] == plain
    limited = inputs("limited", limit=3)["tasks"]["echo_words"]
    assert limited["data_hash"] != plain["data_hash"]
    short = inputs("short", max_tokens=5)["tasks"]["echo_words"]
    assert short["settings_hash"] != plain["settings_hash"]
    assert short["data_hash"] == plain["data_hash"]


def test_gather_asks_for_the_shards_of_every_task(make_fake_run, server, tmp_path):
    task = {"name": "t", "task": "echo_words", "folder": write_tasks(tmp_path / "tasks", NUM)}
    fake_run = make_fake_run(evaluation__lm_eval_tasks=[task])
    with pytest.raises(CoverageError, match=r"base, lm_eval_t: shard 0 of 1 is not finished"):
        gather(fake_run.run)
    server.answer = lambda text: text.removeprefix("Say ")
    for model in read_models(fake_run.run):
        server.model = model.name
        digest = fake_run.model_digest(model.name)
        write_endpoint(fake_run.run, model.name, Endpoint(server.url, model.name, digest, "stand-in 0", ""))
        evaluate_task(fake_run.run, model.name, "t", Shard(0, 1))
    gather(fake_run.run)
    for model in read_models(fake_run.run):
        results = json.loads(fake_run.store.read_bytes(f"{fake_run.layout.results(model.name)}/results.json"))
        figure = results["lm_eval_tasks"]["t"]["figures"]["echo_words"]["exact_match,first"]
        assert (figure["value"], figure["n"], figure["against_base"]["value"]) == (1.0, NUM, 0.0)


@pytest.mark.parametrize(("max_loss", "outcome"), [(0.05, "fail"), (1.0, "pass")])
def test_a_task_is_gated_on_by_name(make_fake_run, server, tmp_path, max_loss, outcome):
    task = {"name": "t", "task": "echo_words", "folder": write_tasks(tmp_path / "tasks", 60)}
    gate = {"suite": "lm_eval_t", "metric": "exact_match,first", "max_loss": max_loss}
    fake_run = make_fake_run(evaluation__lm_eval_tasks=[task], decision__metrics=[gate])
    for model in read_models(fake_run.run):
        server.model = model.name
        server.answer = lambda text, name=model.name: "no" if name == "mix-75-25" else text.removeprefix("Say ")
        digest = fake_run.model_digest(model.name)
        write_endpoint(fake_run.run, model.name, Endpoint(server.url, model.name, digest, "stand-in 0", ""))
        evaluate_task(fake_run.run, model.name, "t", Shard(0, 1))
    gather(fake_run.run)
    mix = next(c for c in decide(fake_run.run)["candidates"] if c["name"] == "mix-75-25")
    check = next(check for check in mix["checks"] if check["name"] == "lm_eval_t exact_match,first against base")
    assert (check["outcome"], check["value"], check["n"]) == (outcome, -1.0, 60)
    assert mix["verdict"] == ("NO-GO" if outcome == "fail" else "GO")


def test_a_metric_that_the_task_has_not_is_refused_before_a_question_is_asked(tmp_path, server):
    run = make_task_run(tmp_path, server, task="echo_words")
    decision = run.config.decision.model_copy(
        update={"metrics": (GatedMetricConfig(suite="lm_eval_t", metric="accuracy", max_loss=0.1),)}
    )
    with pytest.raises(ConfigError, match=r"no metric 'accuracy'.*exact_match,first, exact_match,letters"):
        evaluate(replace(run, config=run.config.model_copy(update={"decision": decision})))
    assert server.requests == []


def test_a_task_may_name_its_own_way_of_scoring(tmp_path, server):
    _, manifest = evaluate(make_task_run(tmp_path, server, task="colours", max_tokens=3, scoring="echo"))
    assert manifest.facts["scoring"] == manifest.inputs["decoding"]["scoring"] == "echo"


def test_missing_questions_of_one_model_are_refused(tmp_path, server):
    run = make_task_run(tmp_path, server, task="echo_words")
    lines, _ = evaluate(run)
    answers = load_base(run)
    from evaluation.suites.lm_eval.results import list_task_problems

    found = {"base": lines, "mix": [*lines[:-1], {**lines[0], "custom_id": "echo_words-000099"}]}
    problems = list_task_problems("lm_eval_t", {"echo_words": NUM}, found, "base")
    assert any("mix, lm_eval_t: 1 of 10 expected items missing (echo_words-000009)" in problem for problem in problems)
    assert any("1 foreign items" in problem for problem in problems)
    other = [{**line, "prompt_hash": "x"} for line in lines]
    assert (
        "asked with another prompt"
        in list_task_problems("t", {"echo_words": NUM}, {"base": lines, "mix": other}, "base")[0]
    )
    assert answers.lines["lm_eval_t"] == lines


@pytest.mark.parametrize(
    ("task", "error", "message"),
    [
        ({"task": "nothing_of_that_name"}, ConfigError, "no lm-eval task 'nothing_of_that_name'"),
        ({"task": "colours", "data_files": {"test": "x.jsonl"}}, ConfigError, "is a group of tasks"),
        ({"task": "echo_words", "folder": "/nowhere/at/all"}, ConfigError, "is no folder"),
        ({"task": "arc_easy", "folder": None}, DataError, r"arc_easy cannot be loaded.*data_files"),
    ],
)
def test_a_task_that_cannot_be_asked_is_named(tmp_path, server, task, error, message):
    with pytest.raises(error, match=message):
        evaluate(make_task_run(tmp_path, server, **task))
    assert server.requests == []


def test_an_unknown_name_is_refused(tmp_path, server):
    with pytest.raises(ConfigError, match="no task 'other'; there are t"):
        evaluate(make_task_run(tmp_path, server), "other")


def test_what_a_task_needs_is_looked_for_first(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"ifeval needs the packages langdetect, immutabledict, nltk.*pip install"):
        check_needs("ifeval")
    check_needs("arc_easy")


def test_languages_are_told_alike_in_every_process(monkeypatch, tmp_path):
    langdetect = pytest.importorskip("langdetect", reason="a package of the Ray image")
    import nltk

    (tmp_path / "tokenizers" / "punkt_tab").mkdir(parents=True)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(langdetect.DetectorFactory, "seed", None)
    check_needs("ifeval")
    assert langdetect.DetectorFactory.seed == 0


def test_missing_data_of_nltk_is_named(monkeypatch, tmp_path):
    import importlib.util

    import nltk

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(ConfigError, match=r"nltk's punkt_tab.*NLTK_DATA"):
        check_needs("leaderboard_ifeval")


def test_ifeval_takes_its_questions_from_a_file(tmp_path, server, monkeypatch):
    pytest.importorskip("langdetect", reason="a package of the Ray image")
    pytest.importorskip("immutabledict", reason="a package of the Ray image")
    import nltk

    if not any("punkt_tab" in path for path in nltk.data.path):
        (tmp_path / "nltk" / "tokenizers" / "punkt_tab").mkdir(parents=True)  # none of these questions reads it
        monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk")])
    answers = {"comma": "The Rhine and the Elbe", "rain": "Wet. That is all.", "bread": "bread is good", "lamp": "No."}
    server.answer = lambda text: next(answer for word, answer in answers.items() if word in text)
    path = write_ifeval(tmp_path / "ifeval.jsonl")
    task = {"task": "ifeval", "folder": None, "data_files": {"train": path}}
    run = make_task_run(tmp_path / "whole", server, **task)
    lines, manifest = evaluate(run)
    whole = manifest.facts["figures"]["ifeval"]
    assert 0 < whole["prompt_level_strict_acc,none"] < 1
    assert whole["inst_level_strict_acc,none"] != whole["prompt_level_strict_acc,none"]
    assert lines[0]["filters"]["none"]["metrics"]["inst_level_strict_acc"] == [True]
    sharded = make_task_run(tmp_path / "sharded", server, shards=3, **task)
    evaluate(sharded, shards=3)
    figures = measured(sharded)["figures"]["ifeval"]
    for key in ("prompt_level_strict_acc", "inst_level_strict_acc", "prompt_level_loose_acc", "inst_level_loose_acc"):
        figure = figures[f"{key},none"]
        assert figure["value"] == pytest.approx(whole[f"{key},none"])
        assert figure["low"] <= figure["value"] <= figure["high"]


def test_tasks_are_loaded_with_few_shot_and_without(tmp_path):
    folder = write_tasks(tmp_path / "tasks", NUM)
    with load_tasks(LmEvalTaskConfig(name="echo_words", folder=folder, num_fewshot=0), seed=1) as loaded:
        assert (loaded.kind, dict(loaded.num_docs)) == ("chat", {"echo_words": NUM})
        assert loaded.describes["echo_words"]["num_fewshot"] == 0
