"""The preflight check of GPU memory: a training that would not fit is found before a GPU is asked for."""

from __future__ import annotations

from voc.config.night import NightforgeConfig
from voc.errors import ConfigError, ModelError
from voc.memory.advice import advise
from voc.memory.plan import GIB, plan_memory
from voc.memory.report import describe_verdict
from voc.memory.setup import read_setup
from voc.models.shapes import parse_shapes
from voc.store.uri import open_uri


def check_memory(config: NightforgeConfig) -> tuple[None, str]:
    """Plan the memory of one GPU (`voc.memory.plan`).

    Raises:
        ConfigError: If the training does not fit; the message says what to change.
    """
    training = config.training
    if not training.gpus_per_worker:
        return None, "not checked: training.gpus_per_worker is 0"
    if training.gpu_memory_gib is None:
        return None, "not checked: training.gpu_memory_gib is unset"
    uri = f"{config.model.base.rstrip('/')}/config.json"
    store, key = open_uri(uri)
    try:
        shapes = parse_shapes(store.read_bytes(key), uri)
    except ModelError as error:
        return None, f"not checked: {error}"
    memory_bytes = int(training.gpu_memory_gib * GIB)
    plan = plan_memory(shapes, read_setup(training, device="cuda"))
    if plan.fits(memory_bytes):
        return (
            None,
            f"{plan.peak.total / GIB:.1f} of {training.gpu_memory_gib:g} GiB per GPU at the peak ({plan.peak.name})",
        )
    advice = advise(plan, memory_bytes, gpus_per_node=training.num_workers)
    raise ConfigError(
        f"training needs {plan.peak.total / GIB:.1f} GiB on each of {training.num_workers} GPUs with "
        f"{training.gpu_memory_gib:g} GiB; it {describe_verdict(plan, memory_bytes, advice)}",
        remedy="change the settings, or correct training.gpu_memory_gib",
    )
