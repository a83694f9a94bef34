"""Make an external model ready: check that it answers and tell the suites where, or import the answers that it gave elsewhere.

    python -m evaluation connect --store-uri URI --run-id ID --model NAME

Reads: models.json. Of a Bedrock model, the AWS credentials of the environment; of an OpenAI-compatible one, its key variable.
Writes: evaluation/<model>/endpoint.json, or for imported answers evaluation/<model>/voc/.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from evaluation.serving.endpoint import Endpoint, write_endpoint
from evaluation.suites.registry import list_suites
from voc.config.external import BedrockModelConfig, ImportedModelConfig, OpenAIModelConfig
from voc.errors import ConfigError
from voc.preflight.external import check_external
from voc.run import ModelEntry, Run, find_external, find_model, open_run


def run_connect(arguments: argparse.Namespace) -> None:
    """Open the run and connect."""
    connect(open_run(arguments.store_uri, arguments.run_id), arguments.model)


def connect(run: Run, name: str) -> None:
    """Make one external model ready.

    Raises:
        ConfigError: If the run serves the model itself, or a key is not set.
        EndpointError: If it does not answer.
        CoverageError: If imported answers are incomplete.
    """
    entry = find_model(run, name)
    if entry.role != "external":
        raise ConfigError(f"{name!r} is served by this run", expected="an external model", remedy="use serve")
    settings = find_external(run.config.external_models, name)
    if isinstance(settings, ImportedModelConfig):
        for suite in list_suites():
            suite.import_answers(run, entry, settings.uri)
        return
    _, seen = check_external(settings)
    write_endpoint(run, name, describe_endpoint(entry, settings, float(run.config.serving.client_patience_s)))
    print(f"connect: {seen}", flush=True)


def describe_endpoint(
    entry: ModelEntry, settings: OpenAIModelConfig | BedrockModelConfig, patience_s: float
) -> Endpoint:
    """Return what a client must know to ask an external model."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    digest = entry.digest or ""
    if isinstance(settings, BedrockModelConfig):
        return Endpoint(
            settings.url or "",
            settings.model,
            digest,
            "bedrock",
            now,
            kind="bedrock",
            region=settings.region,
            batch=settings.batch.model_dump(mode="json") if settings.batch else None,
            concurrency=settings.concurrency,
            patience_s=patience_s,
        )
    return Endpoint(
        settings.url.rstrip("/"),
        settings.model,
        digest,
        f"openai-compatible {settings.url}",
        now,
        kind="openai",
        named=settings.named,
        key_variable=settings.key_variable,
        concurrency=settings.concurrency,
        patience_s=patience_s,
    )
