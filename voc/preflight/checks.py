"""The checks behind preflight: each looks at one part of a configuration and returns what it read, with a line about it.

A check raises a named error for what a run cannot use; the checklist turns it into a finding and goes on.
A training that would not fit is found before a GPU is asked for (`check_memory`). lm-eval is not in this environment: of a
further task it is only seen whether the files that it names are there; that it exists, and its packages do, its first shard
finds before it asks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from voc.config.night import LmEvalTaskConfig, NightforgeConfig
from voc.config.serving import CLUSTER_HOST, ServingConfig
from voc.errors import ConfigError, DataError, ModelError, VocError
from voc.memory.advice import advise, describe_verdict
from voc.memory.plan import GIB, plan_memory, read_setup
from voc.models.folder import check_model_folder, check_trainable, check_weight_files
from voc.models.shapes import parse_shapes
from voc.store.base import Store
from voc.store.champion import read_champion
from voc.store.manifest import read_manifest
from voc.store.uri import open_store, open_uri

CHAT_TEMPLATE_FILE = "chat_template.jinja"
MMLU_FILES = ("dev.parquet", "test.parquet")
_PARQUET_MAGIC = b"PAR1"
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+")

P = ParamSpec("P")
T = TypeVar("T")
_TASK_SUFFIXES = (".yaml", ".yml", ".py")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw.

    Attributes:
        subject: What was looked at, as a key path of the configuration.
        passed: Whether the run can use it.
        detail: The figures, or the problem with what to do about it.
    """

    subject: str
    passed: bool
    detail: str


@dataclass(slots=True)
class Checklist:
    """Runs checks and keeps what they saw."""

    findings: list[Finding] = field(default_factory=list)

    def attempt(self, subject: str, check: Callable[P, tuple[T, str]], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Run one check; return its value, or None if it failed."""
        try:
            value, detail = check(*args, **kwargs)
        except VocError as error:
            self.findings.append(Finding(subject, passed=False, detail=str(error)))
            return None
        self.findings.append(Finding(subject, passed=True, detail=detail))
        return value


def check_store(uri: str) -> tuple[Store, str]:
    """Write, read, list and delete in the store.

    Raises:
        StoreError: If any of it fails.
    """
    store = open_store(uri)
    store.check()
    return store, f"{store.uri} can be written, read and listed"


def check_model(uri: str, config: NightforgeConfig, trained: bool) -> tuple[None, str]:
    """Look at a model folder: files, chat template, a manifest if it is remote, and the positions it was made for.

    The headers of a folder's weights are read too; what a bucket holds is verified by its manifest when it is fetched.

    Raises:
        ModelError: With everything that is wrong.
    """
    check_model_folder(uri)
    store, key = open_uri(uri)
    if store.local_path(key) is None and read_manifest(store, key) is None:
        raise ModelError(
            f"the model {uri} has no manifest.json, so a download of it cannot be verified",
            expected="a finished export, or a model put there with `python -m voc put-model`",
        )
    tokenizer = _read_json(store, f"{key}/tokenizer_config.json")
    if not tokenizer.get("chat_template") and not store.exists(f"{key}/{CHAT_TEMPLATE_FILE}"):
        raise ModelError(
            f"the model {uri} has no chat template",
            expected=f"{CHAT_TEMPLATE_FILE}, or chat_template in tokenizer_config.json",
            remedy="put the template of the model's family there",
        )
    settings = _read_json(store, f"{key}/config.json")
    folder = store.local_path(key)
    if folder is not None:
        layout = check_weight_files(uri, folder)
        if trained:
            check_trainable(uri, layout, settings)
    positions = settings.get("max_position_embeddings") or settings.get("text_config", {}).get(
        "max_position_embeddings"
    )
    wanted = {"serving.max_model_len": config.serving.max_model_len}
    if trained:
        wanted["training.max_seq_len"] = config.training.max_seq_len
    too_long = [f"{name} is {value}" for name, value in wanted.items() if positions is not None and value > positions]
    if too_long:
        raise ModelError(
            f"{' and '.join(too_long)}, but the model {uri} has {positions} positions",
            expected="at most max_position_embeddings of its config.json",
            remedy="lower the setting, or choose a model with a longer context",
        )
    return None, f"{uri}: complete, {positions or 'an unstated number of'} positions"


def check_champion(store: Store, config: NightforgeConfig) -> tuple[None, str]:
    """Look at the champion's model, which is served as a reference.

    Raises:
        ModelError: If its folder is gone or cannot be served with these settings.
    """
    champion = read_champion(store)
    if champion is None:
        return None, "none yet: base is the only reference"
    check_model(champion.model_uri, config, trained=False)
    return None, f"{champion.candidate} of {champion.run_id}"


def check_mmlu(dataset: str) -> tuple[None, str]:
    """Look for the two files of the dataset, if it is a folder or URI.

    Raises:
        DataError: If one is missing or is no Parquet file.
    """
    if _HUB_ID.fullmatch(dataset) and not Path(dataset).exists():
        return None, f"{dataset} is not a folder here, so it is taken as a hub dataset; that it exists was not checked"
    store, key = open_uri(dataset)
    problems = []
    for name in MMLU_FILES:
        if not store.exists(f"{key}/{name}"):
            problems.append(f"{name} is missing")
            continue
        data = store.read_bytes(f"{key}/{name}")
        if not (data.startswith(_PARQUET_MAGIC) and data.endswith(_PARQUET_MAGIC)):
            problems.append(f"{name} is not a Parquet file ({len(data)} bytes)")
    if problems:
        raise DataError(
            f"the dataset {dataset}: {'; '.join(problems)}",
            expected=f"a folder with {' and '.join(MMLU_FILES)} in the layout of cais/mmlu, or a hub dataset id",
        )
    return None, f"{dataset}: {' and '.join(MMLU_FILES)}"


def check_serving(config: NightforgeConfig) -> tuple[None, str]:
    """Check that answers fit beside prompts, and that a server reserves the GPUs it uses.

    Raises:
        ConfigError: If not.
    """
    serving, suites = config.serving, config.evaluation
    problems = [
        f"evaluation.{name}.max_tokens {tokens} leaves no room for a prompt in serving.max_model_len {serving.max_model_len}"
        for name, tokens in (("voc", suites.voc.max_tokens), ("mmlu", suites.mmlu.max_tokens))
        if tokens >= serving.max_model_len
    ]
    engine_gpus = serving.tensor_parallel_size * serving.data_parallel_size
    if 0 < serving.num_gpus < engine_gpus:
        problems.append(
            f"serving.num_gpus {serving.num_gpus:g} is less than tensor_parallel_size x data_parallel_size = {engine_gpus}"
        )
    if serving.num_nodes > 1:
        problems += _list_node_problems(serving)
    if problems:
        raise ConfigError("; ".join(problems), remedy="correct the settings")
    return None, f"answers of {suites.voc.max_tokens} and {suites.mmlu.max_tokens} tokens fit {serving.max_model_len}"


def _list_node_problems(serving: ServingConfig) -> list[str]:
    problems = []
    if not serving.num_gpus:
        problems.append(f"serving.num_nodes {serving.num_nodes} needs GPUs: copies across nodes are placed by them")
    if serving.data_parallel_size % serving.num_nodes:
        problems.append(
            f"serving.data_parallel_size {serving.data_parallel_size} is not a multiple of num_nodes {serving.num_nodes}"
        )
    if serving.host != CLUSTER_HOST:
        problems.append(f"serving.host {serving.host} cannot be reached from other nodes: use {CLUSTER_HOST!r}")
    return problems


def _read_json(store: Store, key: str) -> dict[str, Any]:
    try:
        value = json.loads(store.read_bytes(key))
    except ValueError as error:
        raise ModelError(f"{store.uri}/{key} is not JSON: {error}", remedy="put the model there again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{store.uri}/{key} holds {type(value).__name__}", expected="a JSON object")
    return value


def check_memory(config: NightforgeConfig) -> tuple[None, str]:
    """Plan the memory of one GPU (`voc.memory.plan`).

    Raises:
        ConfigError: If the training does not fit; the message says what to change.
    """
    training = config.training
    if not training.gpus_per_worker:
        return None, "not checked: training.gpus_per_worker is 0"
    if training.gpu_memory_gib is None:
        return None, "not checked: training.gpu_memory_gib is unset"
    uri = f"{config.model.base.rstrip('/')}/config.json"
    store, key = open_uri(uri)
    try:
        shapes = parse_shapes(store.read_bytes(key), uri)
    except ModelError as error:
        return None, f"not checked: {error}"
    memory_bytes = int(training.gpu_memory_gib * GIB)
    plan = plan_memory(shapes, read_setup(training, device="cuda"))
    if plan.fits(memory_bytes):
        return (
            None,
            f"{plan.peak.total / GIB:.1f} of {training.gpu_memory_gib:g} GiB per GPU at the peak ({plan.peak.name})",
        )
    advice = advise(plan, memory_bytes, gpus_per_node=training.num_workers)
    raise ConfigError(
        f"training needs {plan.peak.total / GIB:.1f} GiB on each of {training.num_workers} GPUs with "
        f"{training.gpu_memory_gib:g} GiB; it {describe_verdict(plan, memory_bytes, advice)}",
        remedy="change the settings, or correct training.gpu_memory_gib",
    )


def check_lm_eval_task(task: LmEvalTaskConfig, max_model_len: int) -> tuple[None, str]:
    """Look for a task's files, and whether its longest answer leaves room for a question.

    Raises:
        DataError: If a file or the folder is not there, or there is no room.
    """
    problems = []
    for split, uri in task.data_files.items():
        store, key = open_uri(uri)
        if not store.exists(key):
            problems.append(f"data_files.{split}: {uri} is not there")
    if task.folder is not None:
        store, key = open_uri(task.folder)
        if not any(found.endswith(_TASK_SUFFIXES) for found in store.list_keys(key)):
            problems.append(f"folder: {task.folder} has no task file")
    if (task.max_tokens or 0) >= max_model_len:
        problems.append(f"max_tokens {task.max_tokens} leaves no room in serving.max_model_len {max_model_len}")
    if problems:
        raise DataError("; ".join(problems), remedy=f"correct evaluation.lm_eval_tasks, {task.name}")
    source = ", ".join(task.data_files.values()) or "its own data set, which was not looked for"
    return None, f"{task.task_name} on {source}"
