import json

import pytest

from evaluation.serving.endpoint import KEY_VARIABLE, Endpoint
from evaluation.shards.shard import Shard
from evaluation.suites.voc.answers import load_test
from evaluation.suites.voc.ask import (
    count_primers,
    describe_engine,
    describe_hits,
    evaluate_voc,
    parse_counters,
    prime_prompts,
)
from tests.unit.evaluation.endpoint_stand_in import KEY, StandIn
from tests.unit.evaluation.served_run import LABEL, announce, make_run, write_test_set
from voc.prompts import render_system
from voc.store.manifest import read_manifest

PAGE = """# HELP vllm:prefix_cache_queries_total Prefix cache queries, in terms of number of queried tokens.
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1000.0
vllm:prefix_cache_queries_total{engine="1",model_name="m"} 500.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 900.0
vllm:prefix_cache_hits_total{engine="1",model_name="m"} 1.5e2
vllm:external_prefix_cache_hits_total{engine="0",model_name="m"} 7.0
"""


def usage(prompt, cached):
    return {"prompt_tokens": prompt, "cached_tokens": cached}


def test_the_share_leaves_the_first_rows_out():
    usages = [usage(1000, 0), usage(1000, 0), usage(1000, 960), usage(1000, 990)]
    assert describe_hits(usages, 2)["hit_ratio"] == (960 + 990) / 2000
    assert describe_hits(usages, 0)["rows"] == 3  # the very first row always computes


def test_a_server_that_does_not_tell_gives_no_share():
    assert describe_hits([usage(10, None)] * 5, 1) is None
    assert describe_hits([usage(10, 0)], 1) is None


def test_counters_of_all_copies_are_added():
    assert parse_counters(PAGE) == {"queries": 1500.0, "hits": 1050.0}
    assert parse_counters("nothing here") is None


def test_an_engine_that_was_restarted_meanwhile_gives_no_share():
    before, after = {"queries": 100.0, "hits": 50.0}, {"queries": 300.0, "hits": 240.0}
    assert describe_engine(before, after) == {"prompt_tokens": 200.0, "cached_tokens": 190.0, "hit_ratio": 0.95}
    assert describe_engine(after, before) is None
    assert describe_engine(None, after) is None


def test_only_long_beginnings_are_primed_once_per_copy():
    served = Endpoint("u", "m", "d", "e", "t")
    closed = Endpoint("u", "m", "d", "e", "t", kind="bedrock")
    assert count_primers(served, "taxonomy", 4) == 4
    assert count_primers(served, "internalized", 4) == 0
    assert count_primers(closed, "taxonomy", 4) == 0


@pytest.mark.parametrize(
    ("variant", "copies", "alone"), [("taxonomy", 1, 1), ("taxonomy", 2, 2), ("internalized", 1, 6)]
)
def test_the_wave_waits_for_the_primers_and_every_prompt_begins_alike(tmp_path, monkeypatch, variant, copies, alone):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    answer = json.dumps([{"content": "comment", **LABEL, "emotion": "sad"}])
    with StandIn(answer=lambda text: answer, delay_s=0.1).serving() as server:
        run = make_run(tmp_path, prompt=variant, serving={"data_parallel_size": copies})
        write_test_set(run, 6)
        announce(run, server)
        evaluate_voc(run, "base", Shard(0, 1))
    assert len(server.requests) == 6
    assert server.most_in_flight == max(alone, 6 - alone)
    assert server.in_flight_of_first == alone
    assert len({json.dumps(body["messages"][0]) for body in server.requests}) == 1
    assert ("Product > Battery" in server.requests[0]["messages"][0]["content"]) == (variant == "taxonomy")
    assert "retries" in read_manifest(run.store, run.layout.shard("base", "voc", 0, 1)).facts


@pytest.mark.parametrize(
    ("variant", "copies", "sent"), [("taxonomy", 1, 1), ("taxonomy", 3, 3), ("internalized", 3, 0)]
)
def test_waiting_ends_with_the_shared_beginning_computed_once_per_copy(
    tmp_path, monkeypatch, variant, copies, sent, capsys
):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with StandIn(delay_s=0.05).serving() as server:
        run = make_run(tmp_path, prompt=variant, serving={"data_parallel_size": copies})
        write_test_set(run, 1)
        prime_prompts(run, announce(run, server))
        assert server.most_in_flight == len(server.requests) == sent  # together, so that each copy gets one
        for body in server.requests:
            assert body["messages"][0]["content"] == render_system("taxonomy", load_test(run)[0])
            assert body["max_tokens"] == 1
    assert ("tokens computed" in capsys.readouterr().out) == bool(sent)


def test_a_beginning_that_does_not_fit_is_said_and_left_to_the_shards(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with StandIn(too_long=lambda body: True).serving() as server:
        run = make_run(tmp_path, prompt="taxonomy")
        write_test_set(run, 1)
        prime_prompts(run, announce(run, server))
    assert "not primed" in capsys.readouterr().out
