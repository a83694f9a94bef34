"""Full-parameter training steps of a Qwen3 shape on one bare machine: tokens/s, MFU, peak memory, time per phase.

    python -m benchmarks.engine.train_gpu --shape qwen3-4b --compile layers none --recompute none selective

needs torch, transformers and PyYAML and nothing of ours but the engine in `training/`: no Ray, no store, no weights. Several
values of an option are run one after the other, each combination in a process of its own. Weights are random, rows are packed
with the study's length distribution (`benchmarks.engine.packed_rows`), the optimizer really updates. Steps for tokens/s are
timed as a whole; phases are timed in further steps, with a wait for the device between them. The last line is one JSON object.

Source: MFU as in PaLM, arXiv:2204.02311, appendix B. Counted are 6 operations per parameter of the layers that a token
passes and 12 x layers x heads x head size per attended token; the output layer counts only where a loss is taken, and what is
computed again in the backward pass does not count. `mfu_6nd` takes the output layer for all tokens, as most tables do.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from benchmarks.engine.packed_rows import draw_rows
from training.engine.attention import PACKED
from training.engine.batches import Batch, build_batch
from training.engine.model import make_trainable
from training.engine.optim import build_optimizers, learning_rate_ratio, set_learning_rates
from training.engine.process_group import Ranks, join_ranks
from training.engine.step import compute_gradients, reduce_figures, update

# Dense bf16 of the SXM cards, NVIDIA's data sheets (989.4 with sparsity off).
PEAK_TFLOPS = {"H100": 989.4, "H200": 989.4, "A100": 312.0}
SWEPT = ("recompute", "compile", "loss_kernel", "master_dtype", "optimizer", "experts", "row_len", "rows_per_pass")


def make_settings(arguments: argparse.Namespace) -> Any:
    """Return the part of the training configuration that the engine reads, without the packages that check it."""
    optimizer = SimpleNamespace(
        name=arguments.optimizer, learning_rate=1e-5, muon_learning_rate=1e-3, beta1=0.9, beta2=0.95, weight_decay=0.1,
        warmup_steps=1, final_learning_rate_ratio=0.1, max_grad_norm=1.0,
    )  # fmt: skip
    experts = SimpleNamespace(implementation=arguments.experts, router_aux_loss_weight=0.0, parallel_size=1)
    return SimpleNamespace(
        param_dtype=arguments.param_dtype, master_dtype=arguments.master_dtype, compile=arguments.compile,
        activation_checkpointing=arguments.recompute, loss_kernel=arguments.loss_kernel,
        loss_chunk_tokens=arguments.loss_chunk_tokens, gradient_sync="last_pass", optimizer=optimizer, experts=experts,
    )  # fmt: skip


def build_model(arguments: argparse.Namespace, settings: Any, ranks: Ranks) -> PreTrainedModel:
    """Return a model of the shape with random weights on the device."""
    config = read_shape(arguments.shape, arguments.layers)
    torch.manual_seed(0)
    with torch.device(ranks.device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, settings.master_dtype), attn_implementation=PACKED
        )
    make_trainable(model, settings, ranks)
    return model


def read_shape(name: str, layers: int | None) -> Any:
    """Return the configuration of a preset in configs/models, with fewer layers if wished.

    Raises:
        ValueError: If there is no such preset, or it has fewer layers.
    """
    folder = Path(__file__).parents[2] / "configs" / "models"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"--shape {name}: expected one of {', '.join(sorted(p.stem for p in folder.glob('*.yaml')))}")
    architecture: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["architecture"]
    there = architecture["num_hidden_layers"]
    if layers is not None and not 1 <= layers <= there:
        raise ValueError(f"--layers {layers}: {name} has {there}")
    return AutoConfig.for_model(**architecture | {"num_hidden_layers": layers or there})


def count_operations(model: PreTrainedModel, batches: Sequence[Batch]) -> tuple[float, float]:
    """Return the floating-point operations of one step's forward and backward passes.

    Returns:
        Without the output layer where no loss is taken, and with it for all tokens.
    """
    config = model.config.get_text_config()
    head = model.get_output_embeddings().weight.numel()
    ends = {id(module.weight) for module in (model.get_input_embeddings(), model.get_output_embeddings())}
    inner = 0.0
    for parameter in model.parameters():
        if id(parameter) not in ends:
            is_expert = parameter.ndim == 3
            share = config.num_experts_per_tok / config.num_experts if is_expert else 1.0
            inner += share * parameter.numel()
    tokens = sum(batch.input_ids.numel() for batch in batches)
    learned = sum(batch.targets.numel() for batch in batches)
    attended = sum(float(batch.boundaries.diff().double().square().sum()) for batch in batches)
    per_pair = 12 * config.num_hidden_layers * config.num_attention_heads * config.head_dim
    fixed = 6 * inner * tokens + per_pair * attended
    return fixed + 6 * head * learned, fixed + 6 * head * tokens


class Stopwatch:
    """Times the phases of a step on a device that runs behind.

    Args:
        device: The device to wait for.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.phases: dict[str, list[float]] = {}
        self._start = self._now()

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def lap(self, phase: str) -> None:
        """End a phase."""
        now = self._now()
        self.phases.setdefault(phase, []).append(now - self._start)
        self._start = now


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one combination and return its figures."""
    settings = make_settings(arguments)
    with join_ranks(use_gpu=arguments.device == "cuda") as ranks:
        model = build_model(arguments, settings, ranks)
        optimizers = build_optimizers(model, settings.optimizer)
        rows = draw_rows(arguments.row_len, model.config.vocab_size, seed=0)
        pass_tokens = arguments.row_len * arguments.rows_per_pass

        def lay_out() -> list[Batch]:
            passes = []
            for _ in range(arguments.passes_per_step):
                documents = [d for row in itertools.islice(rows, arguments.rows_per_pass) for d in row]
                shape = (
                    {"padded_length": pass_tokens, "longest": arguments.row_len}
                    if arguments.compile == "layers"
                    else {}
                )
                passes.append(build_batch(documents, pad_id=0, **shape).to(ranks.device))
            return passes

        def step(number: int, watch: Stopwatch | None) -> tuple[int, float, float, float]:
            passes = lay_out()
            if watch:
                watch.lap("layout")
            targets = sum(batch.targets.numel() for batch in passes)
            tokens = sum(batch.num_tokens for batch in passes)
            loss_sum = compute_gradients(
                model, passes, num_targets=targets, num_tokens=tokens, world_size=1, syncs_every_pass=False
            )
            if watch:
                watch.lap("forward_backward")
            totals = reduce_figures(model, passes, loss_sum, targets)
            loss, norm = totals.loss, totals.grad_norm
            if watch:
                watch.lap("norm")
            set_learning_rates(optimizers, learning_rate_ratio(number, 1000, settings.optimizer))
            update(model, optimizers, norm, settings.optimizer.max_grad_norm)
            if watch:
                watch.lap("update")
            tokens = sum(int(batch.boundaries[-1]) for batch in passes)
            return tokens, *count_operations(model, passes), loss

        for number in range(arguments.warmup_steps):
            step(number, None)
        timed = Stopwatch(ranks.device)
        results = [step(arguments.warmup_steps + number, None) for number in range(arguments.steps)]
        timed.lap("all")
        wall_s = timed.phases["all"][0]
        watch = Stopwatch(ranks.device)
        for number in range(arguments.phase_steps):
            step(number, watch)
        return summarise(arguments, model, optimizers, results, wall_s) | {
            "phase_s": {name: round(sorted(laps)[len(laps) // 2], 5) for name, laps in watch.phases.items()}
        }


def summarise(
    arguments: argparse.Namespace,
    model: PreTrainedModel,
    optimizers: Sequence[torch.optim.Optimizer],
    results: Sequence[tuple[int, float, float, float]],
    wall_s: float,
) -> dict[str, Any]:
    """Return the figures of the timed steps."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    states = [
        value for optimizer in optimizers for state in optimizer.state.values() for value in state.values()
        if isinstance(value, torch.Tensor) and value.ndim
    ]  # fmt: skip
    held = sum(p.numel() * p.element_size() * 2 for p in model.parameters()) + sum(s.nbytes for s in states)
    on_gpu = arguments.device == "cuda"
    name = torch.cuda.get_device_name() if on_gpu else "cpu"
    peak = arguments.peak_tflops or next((v for key, v in PEAK_TFLOPS.items() if key in name), None)
    tokens = sum(result[0] for result in results)
    figures: dict[str, Any] = {swept: getattr(arguments, swept) for swept in SWEPT}
    figures |= {
        "shape": arguments.shape,
        "layers": model.config.num_hidden_layers,
        "parameters": parameters,
        "device": name,
        "torch": torch.__version__,
        "steps": len(results),
        "tokens_per_s": round(tokens / wall_s, 1),
        "step_s": round(wall_s / len(results), 4),
        "bytes_per_parameter": round(held / parameters, 2),
        "last_loss": round(results[-1][3], 4),
    }
    if on_gpu:
        figures["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        figures["reserved_gib"] = round(torch.cuda.max_memory_reserved() / 2**30, 2)
    else:
        figures["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    for key, index in (("mfu", 1), ("mfu_6nd", 2)):
        rate = sum(result[index] for result in results) / wall_s / 1e12
        figures[f"{key}_tflops"] = round(rate, 3)
        if peak:
            figures[key] = round(rate / peak, 4)
    return figures


def run_apart(arguments: argparse.Namespace, combination: dict[str, Any]) -> dict[str, Any]:
    """Run one combination in a process of its own; a failure is a figure too."""
    command = [sys.executable, "-m", "benchmarks.engine.train_gpu", "--here"]
    single = vars(arguments) | combination
    for key, value in single.items():
        if key != "here" and value is not None:
            command += [f"--{key.replace('_', '-')}", str(value)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        lines = (finished.stderr or finished.stdout).strip().splitlines() or ["no output"]
        return {**combination, "failed": lines[-1][:300]}
    figures: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return figures


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", required=True, help="name of a preset in configs/models")
    parser.add_argument("--layers", type=int, help="fewer decoder layers than the shape has, each at true width")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warmup-steps", type=int, default=3)
    parser.add_argument("--phase-steps", type=int, default=3)
    parser.add_argument("--passes-per-step", type=int, default=2)
    parser.add_argument("--param-dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--loss-chunk-tokens", type=int, default=1024)
    parser.add_argument("--peak-tflops", type=float, help="peak of the device; known for H100, H200, A100")
    parser.add_argument("--recompute", nargs="+", default=["selective"], choices=["none", "selective", "full"])
    parser.add_argument("--compile", nargs="+", default=["layers"], choices=["none", "layers"])
    parser.add_argument("--loss-kernel", nargs="+", default=["auto"], choices=["auto", "chunked", "liger", "plain"])
    parser.add_argument("--master-dtype", nargs="+", default=["bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--optimizer", nargs="+", default=["adamw"], choices=["adamw", "adamw_8bit", "muon"])
    parser.add_argument("--experts", nargs="+", default=["grouped_mm"], choices=["grouped_mm", "loop"])
    parser.add_argument("--row-len", nargs="+", type=int, default=[4096])
    parser.add_argument("--rows-per-pass", nargs="+", type=int, default=[4])
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run every combination and print a table and the JSON line."""
    arguments = build_parser().parse_args(argv)
    combinations = [
        dict(zip(SWEPT, values, strict=True))
        for values in itertools.product(*(getattr(arguments, name) for name in SWEPT))
    ]
    if arguments.here:
        print(json.dumps(run(argparse.Namespace(**vars(arguments) | combinations[0]))), flush=True)
        return
    results = []
    for combination in combinations:
        figures = run_apart(arguments, combination)
        results.append(figures)
        shown = ("tokens_per_s", "mfu", "mfu_6nd", "peak_gib", "bytes_per_parameter", "failed")
        what = ", ".join(f"{key} {value}" for key, value in combination.items() if len(getattr(arguments, key)) > 1)
        print(
            f"{what or arguments.shape}: " + ", ".join(f"{k} {figures[k]}" for k in shown if k in figures), flush=True
        )
    print(json.dumps({"benchmark": "train_gpu", "shape": arguments.shape, "results": results}))


if __name__ == "__main__":
    main()
