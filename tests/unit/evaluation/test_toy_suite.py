"""A new suite is one file and one line: planned, checked, run, gathered, reported and gated on, and nothing else knows of it."""

import json
import re
from pathlib import Path

import pytest

from evaluation.decision.decide import decide
from evaluation.gather import gather
from evaluation.items import read_items
from evaluation.report.rows import build_row
from evaluation.report.write import write_report
from evaluation.serving.endpoint import KEY_VARIABLE, Endpoint, write_endpoint
from evaluation.shards.shard import Shard
from evaluation.suites import registry
from tests.unit.evaluation.endpoint_stand_in import KEY, StandIn
from tests.unit.evaluation.toy_suite import WORDS
from voc.arguments import build_parser, run_command
from voc.errors import ConfigError, CoverageError
from voc.run import read_models
from voc.store.manifest import read_manifest

MIX, CUSTOMER = "mix-75-25", "customer-only"
GATE = {"suite": "toy", "metric": "right", "max_loss": 0.2}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(registry.SUITES, "toy", "tests.unit.evaluation.toy_suite:SUITE")


@pytest.fixture
def evaluated(make_fake_run, monkeypatch):
    """A run whose models have answered everything, the toy's questions through its own command."""
    fake_run = make_fake_run(decision__metrics=[GATE])
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with pytest.raises(CoverageError, match=r"base, toy: shard 0 of 2 is not finished"):
        gather(fake_run.run)
    parser = build_parser("test", "", registry.list_commands())
    with StandIn().serving() as server:
        for model in read_models(fake_run.run):
            server.model = model.name
            server.answer = lambda text, name=model.name: "nothing" if name == CUSTOMER else text.split()[-1]
            digest = fake_run.model_digest(model.name)
            write_endpoint(fake_run.run, model.name, Endpoint(server.url, model.name, digest, "stand-in 0", ""))
            for shard in ("0", "1"):
                place = ["--store-uri", fake_run.store.uri, "--run-id", fake_run.layout.run_id]
                words = ["toy", *place, "--model", model.name, "--shard", shard, "--num-shards", "2"]
                assert run_command(parser, words) == 0
    return fake_run


def _read(fake_run, model, name):
    return fake_run.store.read_bytes(f"{fake_run.layout.results(model)}/{name}")


def test_it_is_planned_beside_the_others(make_fake_run):
    planned = registry.plan_suites(make_fake_run().config)
    assert [suite.name for suite in planned] == ["voc", "mmlu_log_likelihood", "mmlu_generative", "mmlu_letter", "toy"]
    assert (planned[-1].num_shards, planned[-1].command, planned[-1].kinds) == (2, "toy", {"vllm"})


def test_it_is_run_gathered_reported_and_gated_on(evaluated):
    manifest = read_manifest(evaluated.store, evaluated.layout.shard("base", "toy", 0, 2))
    assert manifest.facts["items"] == len(WORDS) / 2
    gather(evaluated.run)
    results = json.loads(_read(evaluated, MIX, "results.json"))
    assert results["toy"] == {"value": 1.0, "n": len(WORDS)}
    assert results["coverage"]["toy"] == f"{len(WORDS)} / {len(WORDS)}"
    assert read_items(_read(evaluated, CUSTOMER, "items.parquet")).values("toy", "right") == [False] * len(WORDS)
    toy = next(suite for suite in registry.list_suites() if suite.name == "toy")
    assert toy.report.build_figures(results, evaluated.config.decision) == {"toy_right": results["toy"]}
    write_report(evaluated.run)
    text, page = (
        evaluated.store.read_bytes(f"{evaluated.layout.report}/{name}").decode()
        for name in ("report.txt", "index.html")
    )
    assert re.search(r"^customer only .* 0\.000$", text, re.MULTILINE)
    night_before = json.loads(_read(evaluated, MIX, "results.json"))
    del night_before["toy"]
    row = build_row(night_before, evaluated.config.decision, {"voc"})
    assert (row["toy_right"], row["voc_f1"]["n"]) == (None, 150)
    assert f'<th colspan="1">Toy<span class="quiet">n = {len(WORDS)}</span></th>' in page
    decision = decide(evaluated.run)
    checks = {
        candidate["name"]: next(c for c in candidate["checks"] if c["name"] == "toy right against base")
        for candidate in decision["candidates"]
    }
    assert (checks[MIX]["outcome"], checks[CUSTOMER]["outcome"]) == ("pass", "fail")
    assert checks[CUSTOMER]["value"] == -1
    assert checks[CUSTOMER]["binding"]
    assert checks[CUSTOMER]["detail"].startswith(f"gained 0, lost {len(WORDS)}")
    assert decision["thresholds"]["metrics"] == [GATE]


def test_a_finished_shard_is_found_again_by_a_second_command(evaluated, capsys):
    from tests.unit.evaluation.toy_suite import ask_toy

    ask_toy(evaluated.run, "base", Shard(0, 2))
    assert "finished already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suite": "toys"}, r"no suite 'toys'.*toy"),
        ({"metric": "wrong"}, r"toy has no metric 'wrong'.*right"),
        ({"suite": "voc", "metric": "parse_failure"}, r"voc has no metric 'parse_failure'.*micro_f1"),
    ],
)
def test_an_unknown_suite_or_metric_is_refused_before_the_night(make_fake_run, change, message):
    config = make_fake_run(decision__metrics=[{**GATE, **change}]).config
    checks = {subject: (check, arguments) for subject, check, arguments in registry.list_checks(config)}
    check, arguments = checks["decision.metrics.0"]
    with pytest.raises(ConfigError, match=message):
        check(*arguments)


def test_a_known_metric_passes_preflight_and_an_lm_eval_task_s_is_left_to_its_first_shard(make_fake_run):
    gates = [GATE, {"suite": "lm_eval_ifeval", "metric": "prompt_level_strict_acc,none", "max_loss": 0.05}]
    config = make_fake_run(decision__metrics=gates, evaluation__lm_eval_tasks=[{"name": "ifeval"}]).config
    assert registry.check_gated_metric(config, 0) == (None, "toy: right may lose 0.2")
    assert "its first shard tells" in registry.check_gated_metric(config, 1)[1]
    assert [gate.title for gate in registry.list_gates(config)][-2:] == [
        "toy right against",
        "lm_eval_ifeval prompt_level_strict_acc,none against",
    ]


def test_planning_needs_nothing_heavy():
    """The DAG processor plans in the Airflow environment, again and again."""
    import subprocess
    import sys

    code = (
        "import sys; from evaluation.suites.registry import list_suites; list_suites(); "
        "print([m for m in ('numpy', 'scipy', 'pyarrow', 'torch', 'ray', 'lm_eval', 'httpx') if m in sys.modules])"
    )
    root = Path(registry.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
