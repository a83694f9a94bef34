"""Where a model is served: the endpoint's record in the store, its key, and the check that it answers as that model.

The serve job writes the record once the server is healthy and removes it when the server ends; everybody else reads it.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any, Literal

from voc.errors import ConfigError, EndpointError, ObjectNotFoundError
from voc.run import Run

KEY_VARIABLE = "NIGHTFORGE_ENDPOINT_KEY"
CHECK_TIMEOUT_S = 5.0
CHECK_EVERY_S = 1.0
PIN_DIGITS = 16
# The addresses are inside the cluster: a proxy from the environment would only be in the way.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NotAnsweringError(EndpointError):
    """Nobody answers at the address, or not in the protocol."""


Kind = Literal["vllm", "openai", "bedrock"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Somebody who answers for a model; holds all that a client needs but the key.

    Attributes:
        url: Base of the API: of the OpenAI protocol it ends in `/v1`, of Bedrock it may be empty for the region's own.
        model: The name that requests must give. Of a model that is served here it ends in the digest of its folder, so
            that no answer of other weights is ever taken for this model's.
        model_digest: Manifest digest of the folder it serves; of a closed model, the hash of how it is addressed.
        engine: Name and version of the engine.
        started_at: ISO time, UTC, at which it was first healthy.
        kind: Which client talks to it.
        named: What its answers call the model, where that is not `model`.
        key_variable: Environment variable that holds its key.
        region: Of Bedrock.
        batch: Of Bedrock: how to ask in batches, or None (`evaluation.clients.bedrock_batch`).
        concurrency: Requests of one client in flight at most, whatever a suite would send; None: as many as the suite does.
        patience_s: How long clients wait for it while it cannot be reached or says "later".
        restarts: How often its engine was started again after a crash.
    """

    url: str
    model: str
    model_digest: str
    engine: str
    started_at: str
    kind: Kind = "vllm"
    named: str | None = None
    key_variable: str = KEY_VARIABLE
    region: str = ""
    batch: dict[str, Any] | None = None
    concurrency: int | None = None
    patience_s: float = 900.0
    restarts: int = 0

    @property
    def answers_as(self) -> str:
        """The model name that an answer must carry."""
        return self.named or self.model


def pin_name(model: str, digest: str) -> str:
    """Return the name under which a folder is served: the model's, with the beginning of the digest."""
    return f"{model}@{digest[:PIN_DIGITS]}"


def read_key(variable: str = KEY_VARIABLE) -> str:
    """Return the key that a server and its clients share.

    Raises:
        ConfigError: If it is not set.
    """
    key = os.environ.get(variable, "")
    if not key and variable != KEY_VARIABLE:
        raise ConfigError(
            f"the environment variable {variable} is not set",
            expected="the key of the endpoint that names this variable in external_models",
            remedy="set it where the Ray head and workers are started, and for Airflow's preflight",
        )
    if not key:
        raise ConfigError(
            f"the environment variable {KEY_VARIABLE} is not set",
            expected="the key that the model servers ask for, the same for every job of the cluster",
            remedy="set it where the Ray head and workers are started, to any long random text",
        )
    return key


def read_endpoint(run: Run, model: str) -> Endpoint | None:
    """Return the endpoint of a model, or None if it is not served."""
    try:
        return Endpoint(**json.loads(run.store.read_bytes(run.layout.endpoint(model))))
    except ObjectNotFoundError:
        return None


def find_endpoint(run: Run, model: str) -> Endpoint:
    """Return the endpoint of a model.

    Raises:
        EndpointError: If it is not served.
    """
    endpoint = read_endpoint(run, model)
    if endpoint is None:
        raise EndpointError(
            f"the model {model!r} is not served: {run.store.uri}/{run.layout.endpoint(model)} does not exist",
            expected="a running serve job",
            remedy=f"run `python -m evaluation serve --model {model}` with the same store and run id, and wait for it",
        )
    return endpoint


def find_served_model(run: Run, model: str, digest: str) -> Endpoint:
    """Return a model's endpoint.

    Raises:
        EndpointError: If it is not served, or the server was started from other weights than the run's.
    """
    endpoint = find_endpoint(run, model)
    if endpoint.model_digest != digest:
        raise EndpointError(
            f"{endpoint.url} serves {model} with the digest {endpoint.model_digest}",
            expected=digest,
            remedy="the model was made again after the server started: run serve again",
        )
    return endpoint


def write_endpoint(run: Run, model: str, endpoint: Endpoint) -> None:
    """Tell everybody where the model is served."""
    run.store.write_bytes(run.layout.endpoint(model), json.dumps(asdict(endpoint), indent=1).encode())


def remove_endpoint(run: Run, model: str, endpoint: Endpoint | None = None) -> None:
    """Remove the record; with `endpoint`, only if it is still that one and not a successor's."""
    if endpoint is None or read_endpoint(run, model) == endpoint:
        run.store.delete_key(run.layout.endpoint(model))


def get_text(url: str, key: str | None = None) -> str:
    """Fetch one document from a server.

    Raises:
        OSError: If the server cannot be reached or answers with an error status.
    """
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    with _OPENER.open(request, timeout=CHECK_TIMEOUT_S) as response:
        return str(response.read().decode("utf-8", "replace"))


def get_json(url: str, key: str | None = None) -> Any:
    """Fetch one JSON document from a server.

    Raises:
        OSError: If the server cannot be reached or answers with an error status.
        ValueError: If the answer is not JSON.
    """
    body = get_text(url, key)
    return json.loads(body) if body else None


def check_endpoint(url: str, model: str, key: str) -> dict[str, Any]:
    """Ask a server whether it is healthy and serves a model, with the key; return its card of the model.

    The card of a vLLM server has `max_model_len`.

    Raises:
        EndpointError: If it cannot be reached, is not healthy, refuses the key or serves something else.
    """
    try:
        get_json(f"{url.removesuffix('/v1')}/health")
        models = get_json(f"{url}/models", key)
        cards = {card["id"]: card for card in models["data"]}
    except urllib.error.HTTPError as error:
        refused = error.code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
        raise EndpointError(
            f"{url} answered {error.code} {error.reason}",
            expected="200",
            remedy=f"set the same {KEY_VARIABLE} for the server and its clients"
            if refused
            else "look at the serve job's log",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotAnsweringError(f"{url} does not answer: {error}", remedy="look at the serve job's log") from error
    if model not in cards:
        raise EndpointError(f"{url} serves {', '.join(cards) or 'nothing'}", expected=model)
    return dict(cards[model])


def read_card(endpoint: Endpoint, key: str) -> dict[str, Any]:
    """Return the card of a model that is served here; a server that is restarted just now is waited for.

    Of a model that others serve there is no such card: it is empty.

    Raises:
        EndpointError: As `check_endpoint`.
    """
    if endpoint.kind != "vllm":
        return {}
    deadline = time.monotonic() + endpoint.patience_s
    while True:
        try:
            return check_endpoint(endpoint.url, endpoint.model, key)
        except NotAnsweringError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(CHECK_EVERY_S)
