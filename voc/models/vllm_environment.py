"""In which environment a vLLM engine runs, be it a server or a check of an export. Pure.

Source: https://docs.vllm.ai/en/latest/configuration/env_vars/
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from voc.config.serving import ServingConfig

GIB = 1 << 30
# An engine gets none of the pipeline's own secrets, and must not find the Ray cluster that it runs in.
_PRIVATE_PREFIXES = ("NIGHTFORGE_", "AWS_", "RAY_")


def build_engine_environment(serving: ServingConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """Return an engine's environment: the machine's, without our secrets, offline.

    The CPU build gets one engine process instead of an engine and a worker (20 s and 0.6 GB less per server), with the
    OpenMP threads of `omp_num_threads` and without pinning, which would put two servers of one machine on the same cores.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith(_PRIVATE_PREFIXES)}
    kept |= {
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
    """Tell whether an engine runs on GPUs."""
    return serving.num_gpus > 0
