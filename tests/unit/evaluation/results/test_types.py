"""What the stages write is what the types say: no key is missing, none is more, every value is of its type."""

import pytest

from evaluation.decision.decide import decide
from evaluation.decision.promote import promote
from evaluation.gather import gather
from evaluation.results.decided import Decision, Promotion, read_decision, read_promotion
from evaluation.results.gathered import ModelResults, read_results
from evaluation.results.lines import GenerativeLine, LetterLine, LogLikelihoodLine, VocLine
from tests.unit.evaluation.strict import check_type

LINES = {
    "voc": VocLine,
    "mmlu_log_likelihood": LogLikelihoodLine,
    "mmlu_generative": GenerativeLine,
    "mmlu_letter": LetterLine,
}


@pytest.fixture(scope="module")
def finished(fake_run_class, tmp_path_factory):
    """A run whose candidate was promoted, that tests only read."""
    fake = fake_run_class(tmp_path_factory.mktemp("finished"))
    lines = fake.read_shard("base", "voc", 0)
    cache = {"hit": True, "measured_in": "night-0", "measured_at": "2026-01-01"}
    fake.write_shard("base", "voc", 0, lines, cache=cache)
    gather(fake.run)
    decide(fake.run)
    promote(fake.run)
    return fake


@pytest.mark.parametrize("model", ["base", "customer-only", "mix-75-25"])
def test_results_are_of_their_type(finished, model):
    results = read_results(finished.run, model)
    check_type(ModelResults, results)
    assert results["general"]["decomposition"]["cause"]


def test_decision_and_promotion_are_of_their_types(finished):
    check_type(Decision, read_decision(finished.run))
    promotion = read_promotion(finished.run)
    check_type(Promotion, promotion)
    assert promotion["outcome"] == "promoted"


@pytest.mark.parametrize("suite", LINES)
def test_lines_are_of_their_types(finished, suite):
    for line in finished.read_shard("customer-only", suite, 0):
        check_type(LINES[suite], line)


def test_the_check_sees_a_missing_and_a_further_key(finished):
    results = read_results(finished.run, "base")
    results["voc"]["rates"]["new_rate"] = results["voc"]["rates"].pop("overlap")
    with pytest.raises(ValueError, match=r"2 validation errors[\s\S]*rates\.overlap[\s\S]*rates\.new_rate"):
        check_type(ModelResults, results)
