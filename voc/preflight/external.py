"""Whether external models answer, or outputs of theirs can be read, before a night depends on them."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Any

from voc.config.external import BedrockModelConfig, ImportedModelConfig, OpenAIModelConfig
from voc.errors import ConfigError, DataError, EndpointError
from voc.preflight.bedrock import check_bedrock
from voc.store.uri import open_store, read_uri

TIMEOUT_S = 60.0
_MAX_SHOWN = 300


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The key must not follow a redirect to somebody else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def check_external(model: OpenAIModelConfig | BedrockModelConfig | ImportedModelConfig) -> tuple[None, str]:
    """Look at one external model.

    Raises:
        ConfigError: If its key is not in the environment.
        EndpointError: If it does not answer.
        StoreError: If the folder of its batches cannot be written, read and listed.
        DataError: If its outputs are empty.
        ObjectNotFoundError: If they are not there.
    """
    if isinstance(model, OpenAIModelConfig):
        return check_openai(model)
    if isinstance(model, BedrockModelConfig):
        if model.batch is not None:
            open_store(model.batch.folder).check()
        return check_bedrock(model)
    lines = [line for line in read_uri(model.uri).splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{model.uri} is empty", expected="inference_output.jsonl of the service's evaluation")
    return None, f"{model.uri}: {len(lines)} lines"


def check_openai(model: OpenAIModelConfig) -> tuple[None, str]:
    """Ask the model for one token.

    Raises:
        ConfigError: If its key is not in the environment.
        EndpointError: If it does not answer, or another model does.
    """
    key = os.environ.get(model.key_variable, "")
    if not key:
        raise ConfigError(
            f"the environment variable {model.key_variable} is not set",
            expected=f"the key of {model.url}",
            remedy="set it for Airflow's preflight and where the Ray head and workers are started",
        )
    chat = {"model": model.model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    request = urllib.request.Request(
        f"{model.url.rstrip('/')}/chat/completions",
        data=json.dumps(chat).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as response:
            answer = json.loads(response.read())
    except urllib.error.HTTPError as error:
        message = " ".join(error.read(2000).decode("utf-8", "replace").split())[:_MAX_SHOWN].replace(key, "***")
        raise EndpointError(
            f"{model.url} answered {error.code}: {message}", remedy="check url, model and key"
        ) from None
    except (OSError, ValueError) as error:
        raise EndpointError(f"{model.url} does not answer: {error}", remedy="check url and network") from error
    wanted, seen = model.named or model.model, answer.get("model") if isinstance(answer, dict) else None
    if seen != wanted:
        raise EndpointError(
            f"{model.url} answered as {seen!r}",
            expected=wanted,
            remedy="if that is the model's full name, set external_models.openai[].named to it",
        )
    return None, f"{model.model} at {model.url} answers"
