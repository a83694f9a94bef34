"""The light objects that plan and the heavy modules that ask and measure use the same names."""

import pytest

from evaluation.suites.lm_eval import suite as lm_eval
from evaluation.suites.lm_eval.tasks import suite_name
from evaluation.suites.mmlu import protocols
from evaluation.suites.mmlu import suite as mmlu
from evaluation.suites.registry import find_suite, list_commands, list_suites, plan_suites
from evaluation.suites.voc import ask, label_scores
from evaluation.suites.voc import suite as voc
from tests.unit.evaluation.conftest import config_tree
from voc.config.file import check_config
from voc.errors import ConfigError
from voc.run import ModelEntry


@pytest.fixture
def config(tmp_path):
    return check_config(config_tree(tmp_path, evaluation__lm_eval_tasks=[{"name": "ifeval", "shards": 3}]), "test")


def test_names_stand_for_the_same_in_planning_and_asking():
    assert (voc.VOC, voc.AVERAGES) == (ask.SUITE, label_scores.AVERAGES)
    assert mmlu.PROTOCOLS == protocols.PROTOCOLS
    assert list(mmlu.KINDS) == [protocols.suite_of(protocol) for protocol in protocols.PROTOCOLS]
    assert f"{lm_eval.PREFIX}t" == suite_name("t")


def test_a_configuration_has_a_suite_per_protocol_and_task(config):
    planned = {suite.name: suite for suite in plan_suites(config)}
    assert list(planned) == ["voc", "mmlu_log_likelihood", "mmlu_generative", "mmlu_letter", "lm_eval_ifeval"]
    assert (planned["lm_eval_ifeval"].num_shards, planned["lm_eval_ifeval"].options) == (3, ("--task", "ifeval"))
    assert {suite.command for suite in planned.values()} <= set(list_commands())
    with pytest.raises(ConfigError, match=r"no suite 'mmlu'.*mmlu_generative"):
        find_suite(config, "mmlu")


@pytest.mark.parametrize(
    ("kind", "measured"),
    [
        ("vllm", ["voc", "mmlu_log_likelihood", "mmlu_generative", "mmlu_letter", "lm_eval_ifeval"]),
        ("openai", ["voc", "mmlu_generative"]),
        ("bedrock", ["voc", "mmlu_generative"]),
        ("imported", ["voc"]),
    ],
)
def test_whom_a_suite_measures_stands_once(config, kind, measured):
    entry = ModelEntry("m", "external", "M", "u", "d", kind=kind)
    assert [suite.name for suite in plan_suites(config) if suite.measures(entry)] == measured
    skipped = [suite.explain_skip(entry) for suite in plan_suites(config)]
    if kind == "imported":
        assert skipped[0] == "voc m: its answers are imported, nothing to ask"
    assert all(
        reason is None
        for reason, suite in zip(skipped, plan_suites(config), strict=True)
        if suite.measures(entry) and kind != "imported"
    )


def test_every_limit_is_on_a_metric_that_its_suite_offers(config):
    for suite in list_suites():
        for gate in suite.list_gates(config):
            offered = {metric.name: metric for metric in suite.list_metrics(config, gate.suite)}
            assert offered[gate.metric].paired == (gate.against is not None)
