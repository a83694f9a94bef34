"""The verdict on a whole run."""

import pytest

from evaluation.decision.decide import decide
from evaluation.gather import gather
from evaluation.report.text_tables import format_decision
from tests.unit.evaluation.conftest import SUITES
from voc.errors import ConfigError, IntegrityError
from voc.run import ModelEntry, read_models, write_models
from voc.store.champion import ChampionRecord, append_champion

MIX, CUSTOMER = "mix-75-25", "customer-only"


def _decided(fake_run):
    gather(fake_run.run)
    return decide(fake_run.run)


def _candidate(decision, name):
    return next(candidate for candidate in decision["candidates"] if candidate["name"] == name)


def test_the_mix_goes_and_the_collapsed_model_does_not_although_its_f1_is_higher(fake_run):
    decision = _decided(fake_run)
    mix, customer = _candidate(decision, MIX), _candidate(decision, CUSTOMER)
    assert (decision["verdict"], decision["promoted"]) == ("GO", MIX)
    assert customer["voc_f1"] > mix["voc_f1"]
    assert customer["verdict"] == "NO-GO"
    failed = [reason.split(":")[0] for reason in customer["reasons"]]
    assert failed == ["log-likelihood accuracy against base", "strict generative accuracy against base", "schema leaks"]
    assert mix["reasons"][0].startswith("VOC micro F1 gain over base: PASS: change +0.")
    assert decision["confidence_per_interval"] == pytest.approx(0.975)
    assert "Bonferroni over 2 candidates" in decision["multiplicity"]
    assert decision["champion_number"] == 0


def test_of_two_candidates_that_go_the_higher_f1_is_promoted(make_fake_run):
    fake_run = make_fake_run(decision__max_general_drop=1.0, decision__max_schema_leak_ratio=1.0)
    assert _decided(fake_run)["promoted"] == CUSTOMER


def test_a_threshold_inside_an_interval_is_inconclusive(make_fake_run):
    decision = _decided(make_fake_run(decision__max_schema_leak_ratio=0.001))
    assert (decision["verdict"], decision["promoted"]) == ("INCONCLUSIVE", None)
    assert [reason.split(":")[0] for reason in _candidate(decision, MIX)["reasons"]] == ["schema leaks"]


def test_no_candidate_above_a_high_bar_is_no_go(make_fake_run):
    decision = _decided(make_fake_run(decision__min_voc_gain=0.999))
    assert (decision["verdict"], decision["promoted"]) == ("NO-GO", None)


def test_a_second_decision_is_the_first_one(fake_run, capsys):
    first = _decided(fake_run)
    append_champion(fake_run.store, _champion("0" * 64), after=0)
    assert decide(fake_run.run) == first
    assert "decided before" in capsys.readouterr().out


def _champion(digest):
    return ChampionRecord("file:///elsewhere", digest, "night-0", "mix", "better", "2026-01-01T00:00:00+00:00")


def test_a_champion_that_was_not_compared_stops_a_go(fake_run):
    append_champion(fake_run.store, _champion("0" * 64), after=0)
    decision = _decided(fake_run)
    assert decision["verdict"] == "INCONCLUSIVE"
    assert "the champion is now mix of run night-0" in _candidate(decision, MIX)["reasons"][-1]


def test_the_champion_is_a_reference_that_must_be_beaten(fake_run):
    # A champion that answers as the mix does: nothing is gained over it.
    digest = fake_run.commit("champion-model", {"config.json": '{"champion": 1}'}).digest
    append_champion(fake_run.store, _champion(digest), after=0)
    models = read_models(fake_run.run)
    entry = ModelEntry("champion", "reference", "champion", f"{fake_run.store.uri}/champion-model", digest)
    write_models(fake_run.run, [models[0], entry, *models[1:]])
    for suite in SUITES:
        for shard in range(2):
            fake_run.write_shard(
                "champion", suite, shard, fake_run.read_shard(MIX, suite, shard), inputs={"model_digest": digest}
            )
    decision = _decided(fake_run)
    mix = _candidate(decision, MIX)
    assert mix["verdict"] == "NO-GO"
    assert [reason.split(":")[0] for reason in mix["reasons"]] == ["VOC micro F1 gain over champion"]
    assert [check["binding"] for check in mix["checks"] if "against champion" in check["name"]] == [False, False]
    assert decision["champion_number"] == 1


def test_a_decision_without_results_is_refused(fake_run):
    with pytest.raises(IntegrityError, match=r"results has no manifest\.json"):
        decide(fake_run.run)


def test_a_run_without_candidates_is_refused(fake_run):
    write_models(fake_run.run, read_models(fake_run.run)[:1])
    with pytest.raises(ConfigError, match="at least one candidate"):
        decide(fake_run.run)


def test_the_decision_reads_well_in_a_terminal(fake_run):
    lines = format_decision(_decided(fake_run))
    assert lines[0] == "decision: GO: mix-75-25 may be promoted"
    assert "  customer only: NO-GO" in lines
