"""How a vLLM server is started: its command line and its environment, from the serving section. Pure.

The key travels in the environment only, never on a command line that every user of the machine can read.

Source: https://docs.vllm.ai/en/latest/configuration/ (engine arguments, environment variables).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from voc.config import ServingConfig

# `vllm serve` asks the package metadata for "vllm", which the CPU build does not have; the module works in both builds.
SERVER_MODULE = "vllm.entrypoints.openai.api_server"
_GIB = 1 << 30
# The server gets none of the pipeline's own secrets, and must not find the Ray cluster that it runs in.
_PRIVATE_PREFIXES = ("NIGHTFORGE_", "AWS_", "RAY_")


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
        options["--kv-cache-memory-bytes"] = int(serving.kv_cache_gib * _GIB)
    switches = ["--enable-prefix-caching", "--disable-uvicorn-access-log", "--disable-fastapi-docs"]
    if serving.enforce_eager:
        switches.append("--enforce-eager")
    words = [str(word) for pair in options.items() for word in pair]
    return [sys.executable, "-m", SERVER_MODULE, *words, *switches]


def build_environment(serving: ServingConfig, key: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the server's environment: the machine's, without our secrets, offline, with the key.

    The CPU build gets one engine process instead of an engine and a worker (20 s and 0.6 GB less per server), with the
    OpenMP threads of `omp_num_threads` and without pinning, which would put two servers of one machine on the same cores.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith(_PRIVATE_PREFIXES)}
    kept |= {
        "VLLM_API_KEY": key,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_PLUGINS": "",  # none, whatever else is installed
        "VLLM_HOST_IP": "127.0.0.1",  # the processes of one server are on one machine
        "VLLM_DISABLE_LOG_LOGO": "1",
    }
    if not uses_gpu(serving):
        kept |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(serving.omp_num_threads or len(os.sched_getaffinity(0))),
        }
    return kept


def uses_gpu(serving: ServingConfig) -> bool:
    """Tell whether a server runs on GPUs."""
    return serving.num_gpus > 0
