"""The last section of the verification card, with answers that are made up; vLLM itself is in tests/integration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from training.export.vllm_smoke import QUESTIONS_NAME, complete_card, describe_engine, has_draft, judge_answers
from training.job import TrainingJob, is_trained
from training.loop.train import train
from voc.config.night import ServingConfig
from voc.errors import IntegrityError
from voc.store.manifest import read_manifest, verify_directory

MakeJob = Callable[..., TrainingJob]
LIKELY = {"3": -0.1, "4": -2.0}


def answer(*tokens: int, logprobs: dict[str, float] | None = None) -> dict[str, Any]:
    return {"tokens": list(tokens), "logprobs": LIKELY if logprobs is None else logprobs}


def test_the_section_counts_prompts_whose_first_token_is_the_trained_models() -> None:
    section = judge_answers({"version": "0.1", "answers": [answer(3, 9), answer(3)]}, [3, 4])
    assert section == {
        "engine": "vllm 0.1",
        "prompts": 2,
        "answered": 2,
        "next_token_among_likely": 2,
        "next_token_equal": 1,
        "new_tokens": 3,
    }


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([answer(3)], "1 answers to 2 prompts"),
        ([answer(3), answer()], r"no tokens or no finite log-probabilities for prompts \[1\]"),
        ([answer(3, logprobs={"3": float("nan")}), answer(3)], r"no finite log-probabilities for prompts \[0\]"),
        ([answer(3), answer(7, logprobs={"7": -0.1})], r"not among the engine's most likely ones for prompts \[1\]"),
    ],
)
def test_an_answer_that_the_trained_model_would_not_give_is_refused(answers: list[Any], message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        judge_answers({"version": "0.1", "answers": answers}, [3, 4])


def test_a_training_counts_once_vllm_has_answered_and_the_question_alone_is_asked_again(make_job: MakeJob) -> None:
    job = make_job(training={"export": {"vllm_smoke": True}})
    train(job)
    prefix = job.run.layout.training(job.arm)
    assert has_draft(job)
    assert not is_trained(job)
    assert read_manifest(job.run.store, prefix) is None
    asked: list[Any] = []

    def fail(uri: str, prompts: Any, serving: ServingConfig) -> dict[str, Any]:
        asked.append(prompts)
        return {"version": "0.1", "answers": [answer() for _ in prompts]}

    def agree(uri: str, prompts: Any, serving: ServingConfig) -> dict[str, Any]:
        assert uri.endswith(job.run.layout.export(job.arm))
        everything = {str(token): -1.0 for token in range(500)}
        return {"version": "0.1", "answers": [answer(3, logprobs=everything) for _ in prompts]}

    with pytest.raises(IntegrityError, match="the export failed its check 'vllm'"):
        complete_card(job, fail)
    assert asked[0]
    assert has_draft(job)
    complete_card(job, agree)
    assert is_trained(job)
    verify_directory(job.run.store, prefix)
    card = yaml.safe_load(job.run.store.read_bytes(f"{prefix}/verification.yaml"))
    assert card["vllm"]["answered"] == len(asked[0])
    assert list(card)[-1] == "vllm"
    assert not job.run.store.exists(f"{prefix}/{QUESTIONS_NAME}")
    assert job.run.store.exists(f"{prefix}/metrics.jsonl")


def test_a_draft_of_another_export_is_none(make_job: MakeJob) -> None:
    job = make_job(training={"export": {"vllm_smoke": True}})
    train(job)
    key = f"{job.run.layout.training(job.arm)}/verification.yaml"
    card = yaml.safe_load(job.run.store.read_bytes(key))
    job.run.store.write_bytes(key, yaml.safe_dump(card | {"model_digest": "0" * 64}).encode())
    assert not has_draft(job)


def test_the_engine_gets_the_servings_devices() -> None:
    gpus = describe_engine(ServingConfig(max_model_len=4096, num_gpus=2, tensor_parallel_size=2), 300)
    assert gpus["tensor_parallel_size"] == 2
    assert gpus["max_model_len"] == 300
    cpu = describe_engine(ServingConfig(max_model_len=4096, kv_cache_gib=0.5), 300)
    assert cpu["kv_cache_memory_bytes"] == 1 << 29
    assert not {"trust_remote_code", "tensor_parallel_size"} & cpu.keys()
