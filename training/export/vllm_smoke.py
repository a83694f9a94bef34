"""The last section of the verification card: vLLM loads the export and answers a smoke set.

An engine wants a device for itself, so it is asked once the workers have let go of theirs: the first rank commits the export and
leaves a draft of the training's folder, the process that started the workers asks vLLM, adds the section and commits. If
that fails, or never happens, the next try of the stage does this part alone.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from training.export.verification_card import CARD_NAME, format_card, refuse
from training.job import TrainingJob
from voc.config.night import ServingConfig
from voc.errors import IntegrityError, ModelError
from voc.models.folder import localise_model
from voc.models.vllm_environment import GIB, build_engine_environment, uses_gpu
from voc.store.base import Store
from voc.store.manifest import commit_folder, is_finished, read_manifest

QUESTIONS_NAME = "smoke.json"  # only in a draft
NEW_TOKENS = 16
_ROOT = Path(__file__).resolve().parents[2]
_TAIL_CHARS = 3000

Ask = Callable[[str, Sequence[Sequence[int]], ServingConfig], dict[str, Any]]


def write_draft(store: Store, prefix: str, folder: Path, questions: Sequence[Mapping[str, Any]]) -> None:
    """Put the training's folder into the store without its manifest, with what vLLM is to be asked.

    Args:
        store: The store.
        prefix: The training's directory there.
        folder: Its files.
        questions: Each with `prompt`, token ids, and `expected`, the trained model's most likely next token.
    """
    store.delete_prefix(prefix)
    store.write_bytes(f"{prefix}/{QUESTIONS_NAME}", json.dumps(list(questions)).encode())
    for path in sorted(folder.iterdir()):
        if path.name != CARD_NAME:
            store.upload_file(path, f"{prefix}/{path.name}")
    store.upload_file(folder / CARD_NAME, f"{prefix}/{CARD_NAME}")  # last: a draft with a card is whole


def has_draft(job: TrainingJob) -> bool:
    """Tell whether an arm's export is finished, from the same inputs, and waits for vLLM alone."""
    store, layout = job.run.store, job.run.layout
    if not is_finished(store, layout.export(job.arm), job.inputs):
        return False
    key = f"{layout.training(job.arm)}/{CARD_NAME}"
    export = read_manifest(store, layout.export(job.arm))
    if export is None or not store.exists(key):
        return False
    return bool(yaml.safe_load(store.read_bytes(key)).get("model_digest") == export.digest)


def complete_card(job: TrainingJob, ask: Ask) -> None:
    """Ask vLLM, add what it said to the draft's card, and commit the training.

    Args:
        job: An arm with a draft.
        ask: `ask_vllm`, wherever it runs: gets the model's URI, prompts of token ids and the serving section.

    Raises:
        ModelError: If vLLM does not load the export.
        IntegrityError: If it answers something else than the trained model.
    """
    store, layout = job.run.store, job.run.layout
    prefix = layout.training(job.arm)
    questions = json.loads(store.read_bytes(f"{prefix}/{QUESTIONS_NAME}"))
    uri = f"{store.uri}/{layout.export(job.arm)}"
    said = ask(uri, [question["prompt"] for question in questions], job.config.serving)
    section = judge_answers(said, [question["expected"] for question in questions])
    export = read_manifest(store, layout.export(job.arm))
    if export is None:
        raise ModelError(f"{uri} has no manifest any more", remedy="run the same stage again")
    with tempfile.TemporaryDirectory(prefix="nightforge-card-") as name:
        folder = Path(name)
        for key in store.list_keys(prefix):
            if key != f"{prefix}/{QUESTIONS_NAME}":
                store.download_file(key, folder / key.removeprefix(f"{prefix}/"))
        card = yaml.safe_load((folder / CARD_NAME).read_text(encoding="utf-8")) | {"vllm": section}
        (folder / CARD_NAME).write_text(format_card(card), encoding="utf-8")
        commit_folder(store, prefix, folder, inputs=job.inputs, facts=export.facts)
    print(f"{job.arm}: {section['engine']} loads the export and answers {section['answered']} prompts", flush=True)


def ask_vllm(uri: str, prompts: Sequence[Sequence[int]], serving: ServingConfig) -> dict[str, Any]:
    """Let a vLLM engine on this machine continue prompts of token ids; return what `training.export.vllm_answers` writes.

    Raises:
        ModelError: If it does not; with the last of what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="nightforge-vllm-") as name:
        request, answers, log = (Path(name) / part for part in ("request.json", "answers.json", "log.txt"))
        engine = describe_engine(serving, max(map(len, prompts)) + NEW_TOKENS)
        document = {"folder": str(localise_model(uri)), "engine": engine, "prompts": prompts, "new_tokens": NEW_TOKENS}
        request.write_text(json.dumps(document), encoding="utf-8")
        environment = build_engine_environment(serving, os.environ)
        command = [sys.executable, "-m", "training.export.vllm_answers", str(request), str(answers)]
        with log.open("wb") as output:
            done = subprocess.run(
                command,
                env=environment,
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=serving.start_timeout_s,
            )
        if done.returncode or not answers.exists():
            tail = log.read_text(encoding="utf-8", errors="replace")[-_TAIL_CHARS:]
            raise ModelError(
                f"vLLM ended with status {done.returncode} on {uri}; its last lines:\n{tail}",
                expected="an engine that loads the export and answers",
                remedy="the export is kept and the same stage asks again; training.export.vllm_smoke: false leaves it out",
            )
        return dict(json.loads(answers.read_text(encoding="utf-8")))


def describe_engine(serving: ServingConfig, max_model_len: int) -> dict[str, Any]:
    """Return the arguments of the engine: the server's dtype and devices, as few sequences as there are questions."""
    engine: dict[str, Any] = {
        "dtype": serving.dtype,
        "max_model_len": max_model_len,
        "max_num_seqs": 8,
        "enforce_eager": True,
        "generation_config": "vllm",
        "seed": 0,
    }
    if uses_gpu(serving):
        return engine | {
            "tensor_parallel_size": serving.tensor_parallel_size,
            "gpu_memory_utilization": serving.gpu_memory_utilization,
        }
    return engine | {"kv_cache_memory_bytes": int(serving.kv_cache_gib * GIB)}


def judge_answers(said: Mapping[str, Any], expected: Sequence[int]) -> dict[str, Any]:
    """Return the card's section.

    The engine's kernels round otherwise than ours, so the trained model's most likely token must be among the engine's most
    likely ones and need not be the first; how often it is, is told.

    Raises:
        IntegrityError: If a prompt has no answer, or one that the trained model would hardly give.
    """
    answers = said["answers"]
    if len(answers) != len(expected):
        raise _refuse(f"{len(answers)} answers to {len(expected)} prompts", "one each")
    empty = [n for n, answer in enumerate(answers) if not answer["tokens"] or not _is_finite(answer["logprobs"])]
    if empty:
        raise _refuse(f"no tokens or no finite log-probabilities for prompts {empty}", "an answer to every prompt")
    far = [n for n, (a, token) in enumerate(zip(answers, expected, strict=True)) if str(token) not in a["logprobs"]]
    if far:
        raise _refuse(
            f"the trained model's next token is not among the engine's most likely ones for prompts {far}",
            f"it is for all {len(expected)}",
        )
    return {
        "engine": f"vllm {said['version']}",
        "prompts": len(expected),
        "answered": len(answers),
        "next_token_among_likely": len(expected),
        "next_token_equal": sum(a["tokens"][0] == token for a, token in zip(answers, expected, strict=True)),
        "new_tokens": sum(len(answer["tokens"]) for answer in answers),
    }


def _refuse(problem: str, expected: str) -> IntegrityError:
    return refuse("vllm", problem, expected, kept="the export is there but does not count; the checkpoint")


def _is_finite(logprobs: Mapping[str, float]) -> bool:
    return bool(logprobs) and all(math.isfinite(value) for value in logprobs.values())
