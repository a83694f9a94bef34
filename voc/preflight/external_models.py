"""External models as entries of a run: what `models.json` says about rows that are not served here."""

from __future__ import annotations

from voc.config.external import BedrockModelConfig, ExternalModelsConfig, ImportedModelConfig, OpenAIModelConfig
from voc.errors import ConfigError
from voc.run import ModelEntry
from voc.store.manifest import digest_bytes, digest_json
from voc.store.uri import read_uri

ExternalModelConfig = OpenAIModelConfig | BedrockModelConfig | ImportedModelConfig
# How a row is called, paid for and asked how fast does not change what it answers.
_NOT_IDENTITY = {"name", "title", "key_variable", "concurrency", "batch"}


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
