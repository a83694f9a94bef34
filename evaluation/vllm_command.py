"""How a vLLM server is started: its command line and its environment, from the serving section. Pure.

The key travels in the environment only, never on a command line that every user of the machine can read.

Source: https://docs.vllm.ai/en/latest/configuration/ (engine arguments, environment variables).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from voc.config import ServingConfig
from voc.vllm_environment import GIB, build_engine_environment, uses_gpu

# `vllm serve` asks the package metadata for "vllm", which the CPU build does not have; the module works in both builds.
SERVER_MODULE = "vllm.entrypoints.openai.api_server"


def build_command(serving: ServingConfig, folder: Path, name: str, port: int) -> list[str]:
    """Return the command line that serves a local model folder under a name.

    Sampling defaults come from vLLM and not from the model's generation_config.json, so that greedy is greedy for every
    model. On a machine without GPUs (`num_gpus` 0) the cache has a fixed size, which also skips the profiling run.
    """
    options: dict[str, str | int | float] = {
        "--model": str(folder),
        "--served-model-name": name,
        "--host": serving.host,
        "--port": port,
        "--dtype": serving.dtype,
        "--max-model-len": serving.max_model_len,
        "--max-num-seqs": serving.max_num_seqs,
        "--max-num-batched-tokens": max(serving.max_num_batched_tokens, serving.max_num_seqs),
        "--generation-config": "vllm",
        "--uvicorn-log-level": "warning",
    }
    if uses_gpu(serving):
        options |= {
            "--tensor-parallel-size": serving.tensor_parallel_size,
            "--data-parallel-size": serving.data_parallel_size,
            "--gpu-memory-utilization": serving.gpu_memory_utilization,
        }
    else:
        options["--kv-cache-memory-bytes"] = int(serving.kv_cache_gib * GIB)
    switches = ["--enable-prefix-caching", "--disable-uvicorn-access-log", "--disable-fastapi-docs"]
    if serving.enforce_eager:
        switches.append("--enforce-eager")
    words = [str(word) for pair in options.items() for word in pair]
    return [sys.executable, "-m", SERVER_MODULE, *words, *switches]


def build_environment(serving: ServingConfig, key: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the server's environment: an engine's, with the key."""
    return build_engine_environment(serving, environ) | {"VLLM_API_KEY": key}
