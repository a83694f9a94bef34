"""Everything about a night that can be wrong before it starts: `python -m voc preflight --config FILE --run-id ID`.

Runs `voc.preflight.checks` and, if all is well, creates `runs/<run_id>/config.json`, which is what the
stages open. It runs in the Airflow environment, so it needs neither torch nor ray nor pyarrow. Ray's own address is
checked by the task that calls this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from voc.config.file import dump_config, hash_config
from voc.config.night import NightforgeConfig
from voc.errors import ConfigError, ObjectExistsError, PreflightError
from voc.preflight import checks
from voc.preflight import data as data_checks
from voc.preflight.checks import Checklist, Finding
from voc.preflight.external import check_external
from voc.store.base import Store
from voc.store.layout import RunLayout
from voc.store.uri import open_store

# Who knows what the suites need: by its address, as commands are, because this package imports no stage.
SUITE_CHECKS = "evaluation.suites.registry:list_checks"


@dataclass(frozen=True, slots=True)
class PreflightResult:
    """What the stages of a run need to know, small enough for XCom.

    Attributes:
        store_uri: Where the run is.
        run_id: Its id.
        config_hash: SHA-256 of the resolved configuration.
        arms: Names of the arms to train, in the configuration's order.
        findings: What was checked; all passed.
    """

    store_uri: str
    run_id: str
    config_hash: str
    arms: tuple[str, ...]
    findings: tuple[Finding, ...]


def run_preflight(config: NightforgeConfig, run_id: str) -> PreflightResult:
    """Check all that a run needs and create the run.

    The same run id with the same configuration is fine, as often as one likes: a retry.

    Raises:
        PreflightError: With every problem that was found. Nothing is written then.
        ConfigError: If the run id is not usable, or the run exists with another configuration.
    """
    layout = RunLayout(run_id)
    findings = tuple(check_night(config))
    problems = [f"{finding.subject}: {finding.detail}" for finding in findings if not finding.passed]
    if problems:
        raise PreflightError(
            f"{len(problems)} of {len(findings)} checks failed:\n  - " + "\n  - ".join(problems),
            remedy="correct what is listed; nothing was started and nothing was written",
        )
    store = open_store(config.store.uri)
    create_run(store, layout, config)
    return PreflightResult(store.uri, run_id, hash_config(config), tuple(arm.name for arm in config.arms), findings)


def create_run(store: Store, layout: RunLayout, config: NightforgeConfig) -> None:
    """Write the run's configuration, create-only.

    Raises:
        ConfigError: If the run exists with another configuration.
    """
    try:
        store.create_bytes(layout.config, dump_config(config))
    except ObjectExistsError as error:
        if store.read_bytes(layout.config) != dump_config(config):
            raise ConfigError(
                f"the run {layout.run_id!r} exists in {store.uri} with another configuration",
                expected="a new run id, or the configuration that the run was created with",
                remedy=f"choose another run id, or look at {layout.config}",
            ) from error


def check_night(config: NightforgeConfig) -> list[Finding]:
    """Run every check and return what each one saw; no check stops another."""
    todo = Checklist()
    store = todo.attempt("store.uri", checks.check_store, config.store.uri)
    reader = todo.attempt("data.taxonomy", data_checks.check_taxonomy, config.data)
    test = todo.attempt("data.test", data_checks.check_test, config.data, reader)
    sources = {
        source.name: todo.attempt(
            f"data.sources.{source.name}", data_checks.check_source, source, config.data, reader, test or frozenset()
        )
        for source in config.data.sources
    }
    num_rows = {stratum: count for counts in sources.values() for stratum, count in (counts or {}).items()}
    for arm in config.arms:
        if all(sources.get(source.name) is not None for source in arm.sources):  # else the source is already a finding
            todo.attempt(f"arms.{arm.name}", data_checks.check_arm, arm, config, num_rows)
    todo.attempt("model.base", checks.check_model, config.model.base, config, bool(config.arms))
    if config.arms and todo.findings[-1].passed:  # else there is nothing to plan for
        todo.attempt("training.gpu_memory_gib", checks.check_memory, config)
    for model in config.extra_models:
        todo.attempt(f"extra_models.{model.name}", checks.check_model, model.uri, config, False)
    for external in config.external_models.rows:
        todo.attempt(f"external_models.{external.name}", check_external, external)
    if store is not None:
        todo.attempt("champion", checks.check_champion, store, config)
    for subject, check, arguments in _list_suite_checks(config):
        todo.attempt(subject, check, *arguments)
    todo.attempt("serving", checks.check_serving, config)
    return todo.findings


def _list_suite_checks(
    config: NightforgeConfig,
) -> Sequence[tuple[str, Callable[..., tuple[Any, str]], tuple[Any, ...]]]:
    """Return subject, check and arguments of what the suites of the evaluation need."""
    module, _, name = SUITE_CHECKS.partition(":")
    checks: Sequence[tuple[str, Callable[..., tuple[Any, str]], tuple[Any, ...]]]
    checks = getattr(import_module(module), name)(config)
    return checks
