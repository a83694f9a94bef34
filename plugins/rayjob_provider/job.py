"""What a Ray job is on the wire: the request that submits it and the details the cluster answers with.

Source: Ray Jobs REST API, ray.dashboard.modules.job (`JobSubmitRequest`, `JobDetails`), Ray 2.60.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PENDING = "PENDING"
RUNNING = "RUNNING"
SUCCEEDED = "SUCCEEDED"
FAILED = "FAILED"
STOPPED = "STOPPED"
TERMINAL_STATUSES = frozenset({SUCCEEDED, FAILED, STOPPED})

LOG_START_KEY = "rayjob_provider/log_start"
"""Metadata key: where a job's own log begins. Ray appends the log of a resubmitted id to the file of the run before."""

MAX_VARIABLE_BYTES = 120_000
"""One environment variable of a Linux process may not be longer than 128 KiB."""

_TEMPLATE_MARK = re.compile(r"\{\{|\{%|\{#")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class JobDetails:
    """One answer of `GET /api/jobs/<id>`, reduced to what the provider reads.

    Attributes:
        ended_at_s: Unix time, by the head's clock; None while the job is not terminal.
        log_start: Number of characters at the begin of the log file that belong to earlier runs of the same id.
    """

    submission_id: str
    status: str
    message: str = ""
    error_type: str | None = None
    exit_code: int | None = None
    ended_at_s: float | None = None
    log_start: int = 0

    @property
    def is_terminal(self) -> bool:
        """Whether the job is over."""
        return self.status in TERMINAL_STATUSES

    @property
    def is_name_collision(self) -> bool:
        """Whether Ray failed this job at once because the supervisor actor of its predecessor was still alive."""
        return (
            self.status == FAILED
            and self.error_type == "JOB_SUPERVISOR_ACTOR_START_FAILURE"
            and "already taken" in self.message
        )

    @classmethod
    def from_response(cls, body: Mapping[str, Any]) -> JobDetails:
        """Read the JSON of a response.

        Raises:
            KeyError: If the body is not that of a job.
        """
        metadata = body.get("metadata") or {}
        log_start = str(metadata.get(LOG_START_KEY, "0"))
        ended_ms = body.get("end_time")
        return cls(
            submission_id=body["submission_id"],
            status=body["status"],
            message=body.get("message") or "",
            error_type=body.get("error_type"),
            exit_code=body.get("driver_exit_code"),
            ended_at_s=ended_ms / 1000 if ended_ms else None,
            log_start=int(log_start) if log_start.isdigit() else 0,
        )


@dataclass(frozen=True)
class JobRequest:
    """What is to run, with every value final; `env_vars` stays out of `repr` because it may carry secrets."""

    submission_id: str
    entrypoint: str
    env_vars: Mapping[str, str] = field(default_factory=dict, repr=False)
    num_cpus: float = 0
    num_gpus: float = 0
    memory_bytes: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def to_body(self, *, log_start: int = 0) -> dict[str, Any]:
        """Return the JSON body of `POST /api/jobs/`."""
        metadata = dict(self.metadata)
        if log_start:
            metadata[LOG_START_KEY] = str(log_start)
        body: dict[str, Any] = {"submission_id": self.submission_id, "entrypoint": self.entrypoint}
        optional = {
            "runtime_env": {"env_vars": dict(self.env_vars)} if self.env_vars else None,
            "metadata": metadata,
            "entrypoint_num_cpus": self.num_cpus,
            "entrypoint_num_gpus": self.num_gpus,
            "entrypoint_memory": self.memory_bytes,
            "entrypoint_resources": dict(self.resources),
        }
        return body | {key: value for key, value in optional.items() if value}


def join_entrypoint(words: Sequence[str]) -> str:
    """Join the fixed words of an entrypoint into the one shell line that Ray runs, each word quoted.

    Raises:
        ValueError: If it is a text instead of words, empty, or holds a template: what a person types into a form must
            travel in `arguments`, never in a command line.
    """
    if isinstance(words, (str, bytes)) or not isinstance(words, Sequence) or not words:
        raise ValueError(f"entrypoint must be a list of words such as ['python', '-m', 'training'], got {words!r}.")
    for word in words:
        if not isinstance(word, str) or not word.strip():
            raise ValueError(f"entrypoint must hold plain words, got {word!r} in {list(words)!r}.")
        if _TEMPLATE_MARK.search(word):
            raise ValueError(
                f"entrypoint must be fixed, got the template {word!r}: put values that vary into `arguments`."
            )
    return shlex.join(words)


def encode_arguments(arguments: Sequence[object]) -> str:
    """Encode arguments as the JSON list of texts that the job reads from its environment.

    Raises:
        ValueError: If one is not a text or number, or all together do not fit into one environment variable.
    """
    if isinstance(arguments, (str, bytes)) or not isinstance(arguments, Sequence):
        raise ValueError(f"arguments must be a list of texts, got {type(arguments).__name__} {arguments!r:.200}.")
    wrong = [repr(item) for item in arguments if isinstance(item, bool) or not isinstance(item, (str, int, float))]
    if wrong:
        raise ValueError(
            f"arguments must be texts or numbers, got {', '.join(wrong):.300}; write True as 'true', leave None out."
        )
    encoded = json.dumps([str(item) for item in arguments])
    if len(encoded) > MAX_VARIABLE_BYTES:
        raise ValueError(
            f"arguments take {len(encoded)} bytes as JSON, at most {MAX_VARIABLE_BYTES} fit: pass a URI to a file instead."
        )
    return encoded


def check_variables(env_vars: Mapping[str, object], *, reserved: str) -> dict[str, str]:
    """Return environment variables as texts once their names are valid. Values appear in no message.

    Raises:
        ValueError: If a name is not an identifier or is the reserved one, or a value is not a text or number.
    """
    wrong = [name for name in env_vars if not isinstance(name, str) or not _VARIABLE_NAME.fullmatch(name)]
    if wrong:
        raise ValueError(f"env_vars holds names that are no identifiers: {wrong!r}.")
    if reserved in env_vars:
        raise ValueError(f"env_vars must not set {reserved}: the operator's `arguments` travel in it.")
    untyped = [
        name for name, value in env_vars.items() if isinstance(value, bool) or not isinstance(value, (str, int, float))
    ]
    if untyped:
        raise ValueError(f"env_vars must map to texts or numbers; these do not: {untyped!r}.")
    return {name: str(value) for name, value in env_vars.items()}


def to_number(name: str, value: object) -> float:
    """Return a quantity that may have come through a template as text; None counts as 0.

    Raises:
        ValueError: If it is no finite number of at least 0.
    """
    try:
        number = float(value if isinstance(value, (str, int, float)) else 0 if value is None else str(value))
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0) or isinstance(value, bool):
        raise ValueError(f"{name} must be a number of at least 0, got {value!r}.")
    return number
