"""What suites cost: shards are added up, and what none of them says is not zero."""

from evaluation.report.content import add_up_shards


def test_costs_are_added_up_and_what_no_shard_says_is_not_zero():
    shards = [
        {
            "items": 3,
            "wall_s": 2.0,
            "prompt_tokens": 30,
            "completion_tokens": 10,
            "resumed_items": 0,
            "engine": "vllm 1",
        },
        {
            "items": 2,
            "wall_s": 5.0,
            "prompt_tokens": 20,
            "completion_tokens": 15,
            "resumed_items": 0,
            "engine": "vllm 1",
        },
    ]
    found = add_up_shards(shards)
    assert (found["items"], found["wall_s"], found["prompt_tokens"], found["engines"]) == (5, 5.0, 50, ["vllm 1"])
    assert found["completion_tokens_per_s"] == 5.0
    assert found["cached_prompt_ratio"] is None
    bare = add_up_shards([{"items": 3}])
    assert [bare[name] for name in ("wall_s", "prompt_tokens", "completion_tokens_per_s")] == [None] * 3


def test_a_resumed_shard_has_no_rate_and_cache_hits_are_weighted_by_tokens():
    caches = [{"prompt_tokens": 900, "cached_tokens": 900}, {"prompt_tokens": 100, "cached_tokens": 0}]
    shards = [{"wall_s": 1.0, "completion_tokens": 9, "resumed_items": 4, "prefix_cache": cache} for cache in caches]
    found = add_up_shards([*shards, {"prefix_cache": None}])
    assert found["completion_tokens_per_s"] is None
    assert found["cached_prompt_ratio"] == 0.9


def test_requests_sent_again_are_added_up_by_reason_and_shards_of_the_cache_are_counted():
    cache = {"hit": True, "measured_in": "night-0"}
    shards = [
        {"retries": {"429": 2}, "cache": cache},
        {"retries": {"429": 1, "timeout": 1}, "cache": {"hit": False}},
        {},
    ]
    found = add_up_shards(shards)
    assert found["retries"] == {"429": 3, "timeout": 1}
    assert (found["cached_shards"], found["measured_in"]) == (1, ["night-0"])
