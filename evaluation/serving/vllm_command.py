"""How a vLLM server is started: its command line and its environment, from the serving section.

The key travels in the environment only, never on a command line that every user of the machine can read.

Copies of the weights (`data_parallel_size`) are vLLM's own: one address, one queue that its balancer shares out. On one node
they are processes of the server; across nodes they are actors that vLLM places with Ray, on the GPUs of the same cluster.

Source: https://docs.vllm.ai/en/latest/configuration/ (engine arguments, environment variables);
https://docs.vllm.ai/en/latest/serving/data_parallel_deployment/ (internal load balancing, Ray backend).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from voc.config.serving import ServingConfig
from voc.models.vllm_environment import GIB, build_engine_environment, uses_gpu

# `vllm serve` asks the package metadata for "vllm", which the CPU build does not have; the module works in both builds.
SERVER_MODULE = "vllm.entrypoints.openai.api_server"
_RAY_PREFIX = "RAY_"
_KEY_VARIABLE = "VLLM_API_KEY"
_NOT_CARRIED_FILE = "ray_non_carry_over_env_vars.json"


def build_command(serving: ServingConfig, folder: Path, name: str, *, host: str, port: int) -> list[str]:
    """Return the command line that serves a local model folder under a name.

    Sampling defaults come from vLLM and not from the model's generation_config.json, so that greedy is greedy for every
    model. On a machine without GPUs (`num_gpus` 0) the cache has a fixed size, which also skips the profiling run.
    """
    options: dict[str, str | int | float] = {
        "--model": str(folder),
        "--served-model-name": name,
        "--host": host,
        "--port": port,
        "--dtype": serving.dtype,
        "--max-model-len": serving.max_model_len,
        "--max-num-seqs": serving.max_num_seqs,
        "--max-num-batched-tokens": max(serving.max_num_batched_tokens, serving.max_num_seqs),
        "--generation-config": "vllm",
        "--uvicorn-log-level": "warning",
        "--tensor-parallel-size": serving.tensor_parallel_size,
        "--data-parallel-size": serving.data_parallel_size,
    }
    if serving.num_nodes > 1:
        options |= {
            "--data-parallel-backend": "ray",
            "--data-parallel-size-local": serving.data_parallel_size // serving.num_nodes,
            "--data-parallel-address": host,
        }
    if uses_gpu(serving):
        options["--gpu-memory-utilization"] = serving.gpu_memory_utilization
    else:
        options["--kv-cache-memory-bytes"] = int(serving.kv_cache_gib * GIB)
    switches = [
        "--enable-prefix-caching",
        "--enable-prompt-tokens-details",
        "--disable-uvicorn-access-log",
        "--disable-fastapi-docs",
    ]
    if serving.enforce_eager:
        switches.append("--enforce-eager")
    words = [str(word) for pair in options.items() for word in pair]
    return [sys.executable, "-m", SERVER_MODULE, *words, *switches]


def write_settings(folder: Path) -> Path:
    """Write what keeps the key out of the actors of a server that runs across nodes, and return the folder.

    vLLM copies every variable that begins with VLLM_ into the runtime environment of its actors, which anybody who may read
    Ray's dashboard can read. Only the server's own process checks the key.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _NOT_CARRIED_FILE).write_text(json.dumps([_KEY_VARIABLE]), encoding="utf-8")
    return folder


def build_environment(
    serving: ServingConfig, key: str, environ: Mapping[str, str], *, settings: Path | None = None
) -> dict[str, str]:
    """Return the server's environment: an engine's, with the key.

    Across nodes it also has the address and the token of the Ray cluster, whose nodes reach it at the machine's own address,
    and `settings` (`write_settings`).
    """
    kept = build_engine_environment(serving, environ) | {_KEY_VARIABLE: key}
    if serving.num_nodes > 1:
        del kept["VLLM_HOST_IP"]
        kept |= {name: value for name, value in environ.items() if name.startswith(_RAY_PREFIX)}
    if settings is not None:
        kept["VLLM_CONFIG_ROOT"] = str(settings)
    return kept
