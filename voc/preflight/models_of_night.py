"""Who is evaluated tonight: the one place that decides what `models.json` lists."""

from __future__ import annotations

from voc.champion import read_champion
from voc.models.folder import digest_model
from voc.preflight.external_models import list_external_entries
from voc.run import ModelEntry, Run


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
