"""One run as a stage sees it: the store, the keys, the configuration, the models it evaluates, and its timings.

Models that others serve are entries too: they have a row in every table and are not served here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal, TypedDict

from voc.config.external import BedrockModelConfig, ExternalModelsConfig, ImportedModelConfig, OpenAIModelConfig
from voc.config.file import parse_config
from voc.config.night import NightforgeConfig
from voc.errors import ConfigError, ObjectNotFoundError
from voc.models.folder import digest_model
from voc.store.base import Store
from voc.store.champion import read_champion
from voc.store.layout import RunLayout, check_name
from voc.store.manifest import digest_bytes, digest_json
from voc.store.uri import open_store, read_uri

ModelKind = Literal["vllm", "openai", "bedrock", "imported"]
ExternalModelConfig = OpenAIModelConfig | BedrockModelConfig | ImportedModelConfig
# How a row is called, paid for and called how fast does not change what it answers.
_NOT_IDENTITY = {"name", "title", "key_variable", "concurrency", "batch"}


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model under evaluation.

    Attributes:
        name: Part of object keys: `base`, `champion`, an arm's name or that of an external model.
        role: References are compared against, candidates may be promoted, external models only have a row.
        title: How tables call it.
        uri: Folder of the model; of an external one, where it is or what was imported.
        digest: Manifest digest of the folder; None for a candidate that is not trained yet. Of an external model, the hash of
            how it is addressed or of the imported file: what is behind the address of a closed model nobody can pin.
        kind: Who answers for it: a server of ours, somebody else's, or a file of answers that were given elsewhere.
    """

    name: str
    role: Literal["reference", "candidate", "external"]
    title: str
    uri: str
    digest: str | None
    kind: ModelKind = "vllm"


class Timing(TypedDict):
    """What `timings/<stage>.json` holds.

    Attributes:
        stage: The stage, with the model or arm where it has one.
        started_at: ISO time, UTC.
        wall_s: Seconds from its begin to its end.
    """

    stage: str
    started_at: str
    wall_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """An opened run."""

    store: Store
    layout: RunLayout
    config: NightforgeConfig

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Write the wall time of a stage when it ends well; a stage that fails leaves none."""
        started_at, start = datetime.now(UTC), time.monotonic()
        yield
        document = Timing(stage=stage, started_at=started_at.isoformat(), wall_s=round(time.monotonic() - start, 3))
        self.store.write_bytes(
            f"{self.layout.timings}/{check_name(stage, 'stage')}.json", json.dumps(document).encode()
        )


def open_run(store_uri: str, run_id: str) -> Run:
    """Open a run that preflight has created.

    Raises:
        ConfigError: If the run has no configuration yet, or a damaged one.
    """
    store, layout = open_store(store_uri), RunLayout(run_id)
    try:
        data = store.read_bytes(layout.config)
    except ObjectNotFoundError as error:
        raise ConfigError(
            f"the run {run_id!r} has no {layout.config} in {store.uri}",
            expected="a run that was created before its stages are started",
            remedy="run `python -m voc preflight` with this run id first",
        ) from error
    return Run(store, layout, parse_config(data, f"{store.uri}/{layout.config}"))


def write_models(run: Run, models: Sequence[ModelEntry]) -> None:
    """Write the list of models that this run evaluates."""
    run.store.write_bytes(run.layout.models, json.dumps([asdict(model) for model in models], indent=1).encode())


def read_models(run: Run) -> list[ModelEntry]:
    """Return the models that this run evaluates, references first.

    Raises:
        ObjectNotFoundError: If the data was not prepared yet.
    """
    return [ModelEntry(**entry) for entry in json.loads(run.store.read_bytes(run.layout.models))]


def find_model(run: Run, name: str) -> ModelEntry:
    """Return one of the run's models.

    Raises:
        ConfigError: If the run has no model of that name.
    """
    models = read_models(run)
    for model in models:
        if model.name == name:
            return model
    raise ConfigError(f"the run has no model {name!r}", expected=f"one of {', '.join(m.name for m in models)}")


def list_models(run: Run, base_digest: str) -> list[ModelEntry]:
    """Return what this run evaluates: base, the champion if it is another model, the arms, the extra and external models.

    Args:
        run: The run.
        base_digest: Digest of the base model's folder.

    Raises:
        ModelError: If an extra model's folder has no files.
        ObjectNotFoundError: If a file of an imported model is not there.
    """
    config, store = run.config, run.store
    models = [ModelEntry("base", "reference", "base", config.model.base, base_digest)]
    champion = read_champion(store)
    if champion is not None and champion.model_digest != base_digest:
        models.append(ModelEntry("champion", "reference", "champion", champion.model_uri, champion.model_digest))
    models += [
        ModelEntry(arm.name, "candidate", arm.title, f"{store.uri}/{run.layout.export(arm.name)}", None)
        for arm in config.arms
    ]
    models += [
        ModelEntry(extra.name, "candidate", extra.title, extra.uri, digest_model(extra.uri))
        for extra in config.extra_models
    ]
    return models + list_external_entries(config.external_models)


def list_external_entries(models: ExternalModelsConfig) -> list[ModelEntry]:
    """Return the entries of all external models.

    Raises:
        ObjectNotFoundError: If a file to import is not there.
    """
    return [_describe(model) for model in models.rows]


def find_external(models: ExternalModelsConfig, name: str) -> ExternalModelConfig:
    """Return the settings of one external model.

    Raises:
        ConfigError: If there is none of that name.
    """
    for model in models.rows:
        if model.name == name:
            return model
    raise ConfigError(
        f"external_models has no {name!r}", expected=f"one of {', '.join(m.name for m in models.rows) or 'none'}"
    )


def _describe(model: ExternalModelConfig) -> ModelEntry:
    if isinstance(model, ImportedModelConfig):
        digest = digest_bytes(read_uri(model.uri))
        return ModelEntry(model.name, "external", model.title, model.uri, digest, "imported")
    identity = digest_json(model.model_dump(mode="json", exclude=_NOT_IDENTITY))
    if isinstance(model, BedrockModelConfig):
        uri = f"bedrock://{model.region}/{model.model}"
        return ModelEntry(model.name, "external", model.title, uri, identity, "bedrock")
    return ModelEntry(model.name, "external", model.title, f"{model.url}#{model.model}", identity, "openai")
