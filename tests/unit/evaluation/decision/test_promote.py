"""The champion log is written once, by one run, for the model that was measured."""

import pytest

from evaluation.decision.decide import decide
from evaluation.decision.promote import promote
from evaluation.gather import gather
from voc.errors import IntegrityError, PromotionError
from voc.store.champion import ChampionRecord, append_champion, last_number, read_champion

MIX = "mix-75-25"


def _decided(fake_run):
    gather(fake_run.run)
    decide(fake_run.run)
    return fake_run


@pytest.fixture
def decided_run(fake_run):
    return _decided(fake_run)


def _winner():
    return ChampionRecord("file:///elsewhere", "0" * 64, "night-0", "other", "better", "2026-01-01T00:00:00+00:00")


def test_a_go_becomes_the_next_champion(decided_run):
    promotion = promote(decided_run.run)
    champion = read_champion(decided_run.store)
    assert (promotion["outcome"], promotion["champion_number"]) == ("promoted", 1)
    assert (champion.candidate, champion.run_id) == (MIX, "night-1")
    assert champion.model_digest == decided_run.model_digest(MIX)
    assert champion.reason.startswith("VOC micro F1 gain over base")


def test_a_retry_writes_no_second_record(decided_run):
    first = promote(decided_run.run)
    assert promote(decided_run.run) == first
    assert last_number(decided_run.store) == 1


def test_a_try_that_died_before_it_could_say_so_is_found_again(decided_run):
    promote(decided_run.run)
    (decided_run.root / decided_run.layout.promotion).unlink()
    assert promote(decided_run.run)["outcome"] == "promoted"
    assert last_number(decided_run.store) == 1


def test_a_lost_race_names_the_winner(decided_run):
    append_champion(decided_run.store, _winner(), after=0)
    with pytest.raises(PromotionError, match="other of run night-0 became champion number 1"):
        promote(decided_run.run)
    assert read_champion(decided_run.store).run_id == "night-0"
    with pytest.raises(PromotionError, match="another promotion was first"):
        promote(decided_run.run)


def test_a_rollback_after_the_promotion_is_not_undone_by_a_retry(decided_run):
    promote(decided_run.run)
    append_champion(decided_run.store, _winner(), after=1)
    assert promote(decided_run.run)["outcome"] == "promoted"
    assert read_champion(decided_run.store).run_id == "night-0"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"decision__min_voc_gain": 0.999}, "the verdict is NO-GO"),
        ({"decision__max_schema_leak_ratio": 0.001}, "the verdict is INCONCLUSIVE"),
        ({"promotion__enabled": False}, "promotion.enabled is false"),
    ],
)
def test_without_a_go_or_when_disabled_it_says_why_and_writes_no_champion(make_fake_run, changes, reason):
    fake_run = _decided(make_fake_run(**changes))
    promotion = promote(fake_run.run)
    assert (promotion["outcome"], promotion["reason"]) == ("skipped", reason)
    assert last_number(fake_run.store) == 0


def test_another_model_than_the_measured_one_is_not_promoted(decided_run):
    decided_run.commit(decided_run.layout.export(MIX), {"config.json": "changed"})
    with pytest.raises(IntegrityError, match="the model that was measured"):
        promote(decided_run.run)
    assert last_number(decided_run.store) == 0


def test_promotion_needs_a_decision(fake_run):
    with pytest.raises(PromotionError, match="run decide first"):
        promote(fake_run.run)
