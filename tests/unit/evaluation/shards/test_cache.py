"""The same question to the same model is asked once; anything else is asked again."""

from dataclasses import replace

import pytest

from evaluation.serving.endpoint import KEY_VARIABLE, Endpoint, write_endpoint
from evaluation.shards import cache as result_cache
from evaluation.shards import shard as shard_run
from evaluation.shards.cache import ResultCache, digest_code, find_imported, summarise_hits
from evaluation.shards.shard import Shard
from evaluation.suites.lm_eval.ask import evaluate_task
from evaluation.suites.mmlu.ask import evaluate_mmlu
from evaluation.suites.voc.ask import evaluate_voc
from tests.unit.evaluation.endpoint_stand_in import KEY, StandIn
from tests.unit.evaluation.lm_eval_examples import write_tasks
from tests.unit.evaluation.served_run import DIGEST, make_run, write_questions, write_test_set
from tests.unit.evaluation.suites.mmlu.test_ask import make_tokenizer
from voc.config.night import LmEvalTaskConfig
from voc.run import ModelEntry, write_models
from voc.store.layout import CACHE_PREFIX, RunLayout
from voc.store.manifest import Manifest, read_manifest

SHARD = Shard(0, 1)
SUITES = {
    "voc": lambda run: evaluate_voc(run, "base", SHARD),
    "mmlu_log_likelihood": lambda run: evaluate_mmlu(run, "base", "log_likelihood", SHARD),
    "mmlu_generative": lambda run: evaluate_mmlu(run, "base", "generative", SHARD),
    "mmlu_letter": lambda run: evaluate_mmlu(run, "base", "letter", SHARD),
    "lm_eval_t": lambda run: evaluate_task(run, "base", "t", SHARD),
}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with StandIn().serving() as stand_in:
        yield stand_in


class Nights:
    """Runs of one store, one after the other."""

    def __init__(self, root, server):
        self.root, self.server, self.count = root, server, 0
        (root / "base").mkdir()
        make_tokenizer().save(str(root / "base" / "tokenizer.json"))
        write_questions(root / "mmlu", 9)
        self.tasks = write_tasks(root / "tasks", 4)

    def run(self, *, digest=DIGEST, engine="stand-in 0", kind="vllm", serving=None, voc=None, cache=True, **mmlu):
        self.count += 1
        run = make_run(self.root, serving=serving, voc=voc, mmlu={"max_tokens": 16, **mmlu})
        task = LmEvalTaskConfig(name="t", task="echo_words", folder=self.tasks)
        evaluation = run.config.evaluation.model_copy(update={"lm_eval_tasks": (task,), "cache": cache})
        config = run.config.model_copy(update={"evaluation": evaluation})
        run = replace(run, layout=RunLayout(f"night-{self.count}"), config=config)
        write_models(run, [ModelEntry("base", "reference", "base", str(self.root / "base"), digest)])
        write_test_set(run, 5)
        write_endpoint(run, "base", Endpoint(self.server.url, self.server.model, digest, engine, "", kind=kind))
        return run

    def asks(self, suite, run):
        """Evaluate and return how many requests that took."""
        before = len(self.server.requests)
        SUITES[suite](run)
        return len(self.server.requests) - before


@pytest.fixture
def nights(tmp_path, server):
    return Nights(tmp_path, server)


def shard_of(run, suite):
    prefix = run.layout.shard("base", suite, 0, 1)
    name = "predictions.jsonl" if suite == "voc" else "samples.jsonl"
    return run.store.read_bytes(f"{prefix}/{name}"), read_manifest(run.store, prefix)


@pytest.mark.parametrize("suite", SUITES)
def test_a_second_night_asks_nothing_and_says_so(nights, suite):
    first, second = nights.run(), nights.run()
    assert nights.asks(suite, first) > 0
    assert nights.asks(suite, second) == 0
    (data, manifest), (copy, copied) = shard_of(first, suite), shard_of(second, suite)
    assert data == copy
    assert manifest.inputs == copied.inputs
    assert manifest.files == copied.files
    assert "cache" not in manifest.facts
    assert copied.facts["cache"]["hit"]
    assert copied.facts["cache"]["measured_in"] == "night-1"
    assert copied.facts["items"] == manifest.facts["items"]


@pytest.mark.parametrize(
    ("suite", "change"),
    [
        *[(suite, {"digest": "e" * 64}) for suite in SUITES],
        *[(suite, {"engine": "stand-in 1"}) for suite in SUITES],
        *[(suite, {"serving": {"dtype": "float16"}}) for suite in SUITES],
        *[(suite, {"cache": False}) for suite in SUITES],
        *[(suite, {"kind": "openai"}) for suite in SUITES if suite == "mmlu_generative"],
        ("mmlu_generative", {"max_tokens": 17}),
        ("mmlu_generative", {"system_prompt": "Be brief."}),
        ("mmlu_log_likelihood", {"num_fewshot": 1}),
        ("mmlu_log_likelihood", {"scoring": "echo"}),
        ("mmlu_log_likelihood", {"limit": 8}),
        ("voc", {"voc": {"max_tokens": 99}}),
    ],
)
def test_anything_else_is_asked(nights, suite, change):
    nights.asks(suite, nights.run())
    assert nights.asks(suite, nights.run(**change)) > 0


def test_other_questions_are_asked(nights):
    nights.asks("mmlu_generative", nights.run())
    write_questions(nights.root / "mmlu", 10)
    assert nights.asks("mmlu_generative", nights.run()) == 10


def test_other_code_asks_again(nights, monkeypatch):
    nights.asks("voc", nights.run())
    monkeypatch.setattr(shard_run, "digest_code", lambda module: "another deployment")
    assert nights.asks("voc", nights.run()) == 5


def test_a_damaged_entry_is_thrown_away_and_measured_again(nights, capsys):
    run = nights.run()
    nights.asks("voc", run)
    key = next(key for key in run.store.list_keys(f"{CACHE_PREFIX}/evaluation/voc") if key.endswith(".jsonl"))
    run.store.write_bytes(key, run.store.read_bytes(key).replace(b"c0", b"c9"))
    assert nights.asks("voc", nights.run()) == 5
    assert "is damaged and removed" in capsys.readouterr().out
    assert nights.asks("voc", nights.run()) == 0  # the third night has the second one's


def test_a_damaged_manifest_is_thrown_away_too(nights):
    run = nights.run()
    nights.asks("voc", run)
    key = next(key for key in run.store.list_keys(f"{CACHE_PREFIX}/evaluation/voc") if key.endswith("manifest.json"))
    run.store.write_bytes(key, b"{")
    assert nights.asks("voc", nights.run()) == 5


def test_content_that_was_made_from_something_else_is_not_taken(nights):
    """A folder that somebody copied to the key by hand."""
    run, other = nights.run(), nights.run(digest="e" * 64)
    nights.asks("voc", run)
    key = next(key for key in run.store.list_keys(f"{CACHE_PREFIX}/evaluation/voc") if key.endswith(".json"))
    source = key.rpartition("/")[0]
    inputs = shard_of(run, "voc")[1].inputs | {"model_digest": "e" * 64}
    endpoint = Endpoint("", "base", "e" * 64, "stand-in 0", "")
    target = ResultCache(other, inputs, endpoint, digest_code("evaluation.suites.voc.ask")).prefix
    assert target != source
    for found in list(run.store.list_keys(source)):
        run.store.write_bytes(f"{target}{found.removeprefix(source)}", run.store.read_bytes(found))
    assert nights.asks("voc", other) == 5


def test_an_endpoint_of_other_weights_has_no_place_in_the_cache(nights):
    run = nights.run()
    inputs = {"suite": "voc", "model_digest": DIGEST}
    assert ResultCache(run, inputs, Endpoint("", "base", DIGEST, "e", ""), "c").prefix is not None
    assert ResultCache(run, inputs, Endpoint("", "base", "f" * 64, "e", ""), "c").prefix is None


def test_hits_are_counted_per_suite():
    def manifest(**cache):
        return Manifest((), {}, {"cache": cache} if cache else {})

    hit = {"hit": True, "measured_in": "night-1", "measured_at": "t"}
    assert summarise_hits({"voc": [manifest(**hit), manifest()], "mmlu": [manifest()]}) == {
        "voc": {"hits": 1, "shards": 2, "measured_in": ["night-1"], "measured_at": ["t"]}
    }


def test_the_digest_of_code_follows_its_sources_and_nothing_else(tmp_path, monkeypatch):
    package = tmp_path / "package"
    (package / "tasks").mkdir(parents=True)
    (package / "a.py").write_text("x = 1")
    (package / "tasks" / "t.yaml").write_text("task: t")
    (package / "report.py").write_text("title = 'F1'")
    monkeypatch.setattr(result_cache, "ROOT", tmp_path)

    def digest():
        digest_code.cache_clear()
        return digest_code("package.a")

    before = digest()
    (package / "a.pyc").write_text("compiled")
    (package / "report.py").write_text("title = 'F1 score'")
    assert digest() == before
    (package / "tasks" / "t.yaml").write_text("task: u")
    changed = digest()
    assert changed != before
    (package / "b.py").write_text("")
    assert digest() == changed
    (package / "a.py").write_text("def f():\n    from package import b")
    imported = digest()
    assert imported != changed
    (package / "b.py").write_text("y = 2")
    assert digest() != imported
    digest_code.cache_clear()


@pytest.mark.parametrize("module", ["voc.ask", "mmlu.ask", "lm_eval.ask"])
def test_answers_depend_on_who_asks_and_reads_and_not_on_the_report(module):
    found = set(find_imported(f"evaluation.suites.{module}", result_cache.ROOT))
    assert {
        "evaluation.shards.shard",
        "evaluation.clients.openai_compatible",
        "voc.prompts",
        "voc.store.manifest",
    } <= found
    shown = ("evaluation.report", "evaluation.decision", "evaluation.gather", "corpus", "training")
    assert not [name for name in found if name.startswith(shown) or name.endswith((".report", ".suite"))]
    readers = {"voc.ask": "voc.responses", "mmlu.ask": "evaluation.suites.mmlu.readings"}
    assert readers.get(module, "evaluation.suites.lm_eval.scoring") in found
    assert "evaluation.suites.lm_eval.models" in found or module == "voc.ask"
