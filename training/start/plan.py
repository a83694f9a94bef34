"""`python -m training plan --model ... --nodes N --gpus-per-node G --gpu-memory-gib M`: will it fit, and if not, what to change.

Pure arithmetic (`voc.memory.plan`): no torch, no GPU, no weights. Exit code 1 if it does not fit.
"""

from __future__ import annotations

import argparse
import json

from voc.arguments import parse_overrides
from voc.config.file import Preset, list_presets, load_training, parse_training, read_preset
from voc.config.training import TrainingConfig
from voc.errors import ConfigError
from voc.memory.advice import advise, describe_plan, plan_to_json
from voc.memory.plan import GIB, plan_memory, read_setup
from voc.models.shapes import ModelShapes, parse_shapes, read_shapes
from voc.store.uri import open_uri

NO_FIT_EXIT = 1
# What a training section must state and a plan does not depend on, or a common value of it.
_PLAIN = {"max_steps": 1, "global_batch_size": 64, "max_seq_len": 4096, "optimizer": {"learning_rate": 1e-5}}


def run_plan(arguments: argparse.Namespace) -> int:
    """Print the plan; return 1 if it does not fit.

    Raises:
        ConfigError: If the settings or the machine make no sense.
        ModelError: If the model's shapes are not known.
    """
    for name in ("nodes", "gpus_per_node", "gpu_memory_gib"):
        if getattr(arguments, name) <= 0:
            raise ConfigError(f"--{name.replace('_', '-')} is {getattr(arguments, name)}", expected="more than 0")
    preset = read_preset(arguments.model) if _is_preset(arguments.model) else None
    training = _read_training(arguments, preset)
    shapes = read_shapes(preset.architecture, preset.origin) if preset else _read_folder(arguments.model)
    num_gpus = arguments.nodes * arguments.gpus_per_node
    if num_gpus % training.experts.parallel_size:
        raise ConfigError(
            f"training.experts.parallel_size {training.experts.parallel_size} does not divide {num_gpus} GPUs"
        )
    memory_bytes = int(arguments.gpu_memory_gib * GIB)
    plan = plan_memory(shapes, read_setup(training, device="cuda", num_workers=num_gpus))
    fits = plan.fits(memory_bytes)
    advice = None if fits else advise(plan, memory_bytes, gpus_per_node=arguments.gpus_per_node)
    if arguments.json:
        print(json.dumps(plan_to_json(plan, memory_bytes, advice)))
    else:
        print(describe_plan(plan, memory_bytes, advice))
    return 0 if fits else NO_FIT_EXIT


def _is_preset(model: str) -> bool:
    return model in list_presets() or model.endswith((".yaml", ".yml"))


def _read_training(arguments: argparse.Namespace, preset: Preset | None) -> TrainingConfig:
    overrides = parse_overrides(arguments.set)
    odd = sorted(key for key in overrides if not key.startswith("training."))
    if odd:
        raise ConfigError(f"--set {', '.join(odd)} changes nothing in a plan", expected="keys of training")
    if arguments.config:
        return load_training(arguments.config, overrides=overrides)
    base = {**_PLAIN, **preset.training} if preset else _PLAIN
    return parse_training({"training": base}, arguments.model, overrides=overrides)


def _read_folder(model: str) -> ModelShapes:
    uri = f"{model.rstrip('/')}/config.json"
    store, key = open_uri(uri)
    if not store.exists(key):
        raise ConfigError(
            f"--model {model!r} is neither a preset nor a folder with config.json",
            expected=f"one of {', '.join(list_presets())}, or the path or URI of a model folder",
        )
    return parse_shapes(store.read_bytes(key), uri)
