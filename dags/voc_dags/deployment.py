"""What a deployment fixes for its DAGs: the configuration file, read when a DAG file is parsed.

Suites and shard counts are fixed at parse time, because an expansion inside an expanded task group is refused by Airflow.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from voc.config.file import load_config
from voc.config.night import NightforgeConfig
from voc.errors import ConfigError

CONFIG_VARIABLE = "NIGHTFORGE_CONFIG"
SCHEDULE_VARIABLE = "NIGHTFORGE_SCHEDULE"
DEFAULT_SCHEDULE = "0 2 * * *"


def config_path() -> str:
    """Return the address of this deployment's configuration.

    Raises:
        ConfigError: If the deployment names none; Airflow shows it as the import error of the DAG.
    """
    path = os.environ.get(CONFIG_VARIABLE)
    if not path:
        raise ConfigError(
            f"the environment variable {CONFIG_VARIABLE} is not set",
            expected="the path or URI of the nightly configuration",
            remedy="set it for the scheduler, the DAG processor and the workers alike",
        )
    return path


def deployment_config() -> NightforgeConfig:
    """Return the configuration that the DAGs of this deployment are built from."""
    return load_config(config_path())


def nightly_schedule() -> str | None:
    """Return the cron expression of the nightly run; an empty `NIGHTFORGE_SCHEDULE` means triggered by hand only."""
    return os.environ.get(SCHEDULE_VARIABLE, DEFAULT_SCHEDULE) or None


def form_overrides(params: Mapping[str, Any], config: NightforgeConfig) -> dict[str, Any]:
    """Turn what was entered in the trigger form into configuration overrides.

    Args:
        params: The values of the form, already checked against its schema by Airflow.
        config: The deployment's configuration, for the arms that were chosen.
    """
    overrides: dict[str, Any] = {}
    if params.get("seed") is not None:
        overrides["seed"] = params["seed"]
    if params.get("max_steps") is not None:
        overrides["training.max_steps"] = params["max_steps"]
    if params.get("promote") is not None:
        overrides["promotion.enabled"] = params["promote"]
    if params.get("arms"):
        chosen = [arm for arm in config.arms if arm.name in params["arms"]]
        overrides["arms"] = [arm.model_dump(mode="json") for arm in chosen]
    if params.get("model_uri"):
        name = params["model_name"]
        overrides["extra_models"] = [{"name": name, "title": name, "uri": params["model_uri"]}]
        overrides["arms"] = []
        overrides["promotion.enabled"] = False
    return overrides
