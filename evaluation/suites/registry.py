"""Which suites there are: name -> address of the object, imported when it is first needed.

The rest of the pipeline knows suites through this module and `evaluation.suites.protocol` only.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from evaluation.suites.protocol import Gate, Metric, PlannedSuite, PreflightCheck, Suite
from voc.arguments import Command
from voc.config.night import NightforgeConfig
from voc.errors import ConfigError
from voc.run import Run, find_model

# In the order of tables.
SUITES = {
    "voc": "evaluation.suites.voc.suite:SUITE",
    "mmlu": "evaluation.suites.mmlu.suite:SUITE",
    "lm_eval": "evaluation.suites.lm_eval.suite:SUITE",
}


@cache
def _load(address: str) -> Suite:
    module, _, name = address.partition(":")
    suite: Suite = getattr(import_module(module), name)
    return suite


def list_suites() -> tuple[Suite, ...]:
    """Return every suite of the registry."""
    return tuple(_load(address) for address in SUITES.values())


def list_commands() -> dict[str, Command]:
    """Return the commands that ask a shard."""
    return {name: command for suite in list_suites() for name, command in suite.commands.items()}


def plan_suites(config: NightforgeConfig) -> tuple[PlannedSuite, ...]:
    """Return the suites of a configuration, in the order of tables."""
    return tuple(planned for suite in list_suites() for planned in suite.plan(config))


def find_suite(config: NightforgeConfig, name: str) -> Suite:
    """Return who planned a suite of a configuration.

    Raises:
        ConfigError: If nobody did.
    """
    for suite in list_suites():
        if any(planned.name == name for planned in suite.plan(config)):
            return suite
    known = ", ".join(planned.name for planned in plan_suites(config))
    raise ConfigError(f"the configuration has no suite {name!r}", expected=f"one of {known}")


def find_planned(config: NightforgeConfig, name: str) -> PlannedSuite:
    """Return one suite of a configuration.

    Raises:
        ConfigError: If it has none of that name.
    """
    return next(planned for planned in find_suite(config, name).plan(config) if planned.name == name)


def report_skip(run: Run, model: str, name: str) -> bool:
    """Tell whether a model has nothing to answer in a suite, and print why."""
    reason = find_planned(run.config, name).explain_skip(find_model(run, model))
    if reason is not None:
        print(reason, flush=True)
    return reason is not None


def list_checks(config: NightforgeConfig) -> list[PreflightCheck]:
    """Return what preflight checks for the suites: what each of them asks for, and the metrics that are gated on by name."""
    checks = [check for suite in list_suites() for check in suite.list_checks(config)]
    checks += [(f"decision.metrics.{i}", check_gated_metric, (config, i)) for i in range(len(config.decision.metrics))]
    return checks


def check_gated_metric(config: NightforgeConfig, number: int) -> tuple[None, str]:
    """Make sure that a metric of `decision.metrics` can be gated on.

    Raises:
        ConfigError: If the suite or the metric is unknown, or has no comparison by item.
    """
    gate = config.decision.metrics[number]
    offered = find_suite(config, gate.suite).list_metrics(config, gate.suite)
    if offered is None:
        return None, f"{gate.suite}: {gate.metric}; whether the task has it, its first shard tells before it asks"
    paired = [metric.name for metric in offered if metric.paired]
    if gate.metric not in paired:
        raise ConfigError(
            f"{gate.suite} has no metric {gate.metric!r} that is compared item by item",
            expected=f"one of {', '.join(paired) or 'none: it cannot be gated on by name'}",
            remedy="correct decision.metrics",
        )
    return None, f"{gate.suite}: {gate.metric} may lose {gate.max_loss:g}"


def list_gates(config: NightforgeConfig) -> list[Gate]:
    """Return every limit that a candidate must keep: those that the suites read from the decision section, and those by name."""
    gates = [gate for suite in list_suites() for gate in suite.list_gates(config)]
    for named in config.decision.metrics:
        is_gain = _find_metric(config, named.suite, named.metric).higher_is_better
        title = f"{named.suite} {named.metric}{'' if is_gain else ' (less is better)'} against"
        gates.append(Gate(named.suite, named.metric, title, -named.max_loss, ">=", "base", is_gain))
    return gates


def _find_metric(config: NightforgeConfig, suite: str, name: str) -> Metric:
    offered = find_suite(config, suite).list_metrics(config, suite) or ()
    return next((metric for metric in offered if metric.name == name), Metric(suite, name))
