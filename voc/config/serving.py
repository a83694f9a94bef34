"""The section of the configuration about the servers of models under evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from voc.config.data import PositiveInt, Ratio, Section

WILDCARDS = frozenset({"0.0.0.0", "::", "[::]", "", "*"})  # noqa: S104 - refused, not bound
CLUSTER_HOST = "cluster"


class ServingConfig(Section):
    """One vLLM server per model under evaluation."""

    num_cpus: float = Field(
        1, ge=0, description="CPUs that a server reserves in Ray: bounds how many models are up at once"
    )
    num_gpus: float = Field(
        0,
        ge=0,
        description="GPUs that a server uses, reserved in Ray by its job, or by the engine with num_nodes above 1",
    )
    tensor_parallel_size: PositiveInt = Field(1, description="GPUs that share one copy of the weights")
    data_parallel_size: PositiveInt = Field(1, description="copies of the weights behind the endpoint")
    num_nodes: PositiveInt = Field(
        1, description="nodes that share the copies, equally; more than 1: the engine places them with Ray"
    )
    host: str = Field(
        "127.0.0.1",
        description="address the server binds; `cluster`: this machine's address in the Ray cluster. No wildcard: some "
        "routes of the server ask for no key",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="dtype of the weights in the engine"
    )
    max_model_len: PositiveInt = Field(description="tokens of prompt and answer")
    max_num_seqs: PositiveInt = Field(128, description="sequences in one batch")
    max_num_batched_tokens: PositiveInt = Field(8192, description="tokens in one engine step")
    kv_cache_gib: float = Field(
        1.0, gt=0, description="key-value cache of the CPU build; GPUs use gpu_memory_utilization"
    )
    gpu_memory_utilization: Ratio = Field(0.9, description="share of a GPU's memory that the engine takes")
    enforce_eager: bool = Field(False, description="no graph capture: faster start for small models")
    omp_num_threads: PositiveInt | None = Field(None, description="OpenMP threads of the CPU build; unset: all")
    start_timeout_s: PositiveInt = Field(900, description="wait from the server's start until it is healthy")
    queue_timeout_s: PositiveInt = Field(14400, description="wait until Ray has room for the server")
    max_restarts: int = Field(2, ge=0, description="times that a server which crashed or hangs is started again")
    client_patience_s: PositiveInt = Field(
        900,
        description='how long clients wait for a server that cannot be reached or says "later"; longer than a restart takes',
    )

    @field_validator("host")
    @classmethod
    def _refuse_wildcards(cls, host: str) -> str:
        if host in WILDCARDS:
            raise ValueError(
                f"{host!r} binds every network of the machine, and routes outside /v1 ask for no key: "
                "use `cluster`, or one address"
            )
        return host

    @property
    def job_gpus(self) -> float:
        """GPUs that the serve job itself reserves: none across nodes, where the engine's placement groups do."""
        return self.num_gpus if self.num_nodes == 1 else 0
