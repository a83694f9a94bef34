"""Predicted against measured peaks of training steps.

    python -m benchmarks.engine.memory_plan_check [--device cuda] [--cases ...]

Every case runs in processes of its own: a tiny model makes a step first, so that libraries and kernels are loaded, then the
baseline is read, the model is built and makes its steps. On a CPU the measure is the resident peak above that baseline
(`VmHWM`, reset through `/proc/self/clear_refs`) with a malloc that gives freed blocks back at once and without oneDNN's cache
of products, on CUDA `torch.cuda.max_memory_allocated`; the plan's share for the CUDA context and the allocator is left out
there. Needs torch and transformers (and torchao for the 8-bit case), nothing else. The last line of output is one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from voc.memory.plan import MemoryPlan, plan_memory, read_setup
from voc.models.shapes import read_shapes

MIB = 1 << 20
TOLERANCE = 0.15
MASTER_ADDRESS = "127.0.0.1"
CASE_TIMEOUT_S = 280
STEPS = 2
# What is resident and no tensor: freed blocks of up to 32 MiB, which glibc keeps (a fifth to a third of the peak,
# docs/measurements.md), and oneDNN's compiled products, one for each shape, of which experts have hundreds.
_GIVES_BACK = {
    "MALLOC_MMAP_THRESHOLD_": "262144",
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "MALLOC_TOP_PAD_": "0",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration of model and training."""

    name: str
    hidden: int = 512
    layers: int = 8
    inner: int = 1536
    heads: int = 8
    vocab: int = 32_000
    tied: bool = False
    experts: int = 0
    tokens: int = 1024
    documents: int = 4
    passes: int = 1
    ranks: int = 1
    param_dtype: str = "float32"
    master_dtype: str = "float32"
    recompute: str = "none"
    sync: str = "last_pass"
    loss: str = "chunked"
    optimizer: str = "adamw"


CASES = (
    Case("fp32, nothing recomputed"),
    Case("fp32, long rows, all recomputed", recompute="full", tokens=3072),
    Case("fp32, tied, two passes", tied=True, passes=2, hidden=640),
    Case("fp32, all logits", loss="plain", tokens=512),
    Case("fp32, Muon", optimizer="muon", tokens=256),
    Case("fp32, 8-bit AdamW", optimizer="adamw_8bit", tokens=512),
    Case("bf16, nothing recomputed", param_dtype="bfloat16", tokens=512),
    Case("bf16, selective, one reduction of two passes", param_dtype="bfloat16", recompute="selective", tokens=512, passes=2),
    Case("bf16 throughout, all recomputed", param_dtype="bfloat16", master_dtype="bfloat16", recompute="full", tokens=512),
    Case("experts, bf16, selective", param_dtype="bfloat16", recompute="selective", experts=8, inner=512, layers=6, tokens=512),
    Case("two ranks, bf16, all recomputed", param_dtype="bfloat16", recompute="full", tokens=256, ranks=2),
)  # fmt: skip


def describe_model(case: Case) -> dict[str, Any]:
    """Return the numbers of a config.json."""
    common = {
        "vocab_size": case.vocab,
        "hidden_size": case.hidden,
        "intermediate_size": case.inner,
        "num_hidden_layers": case.layers,
        "num_attention_heads": case.heads,
        "num_key_value_heads": max(case.heads // 2, 1),
        "head_dim": 64,
        "tie_word_embeddings": case.tied,
        "model_type": "qwen3_moe" if case.experts else "qwen3",
    }
    if not case.experts:
        return common
    return {**common, "num_experts": case.experts, "num_experts_per_tok": 2, "moe_intermediate_size": case.inner}


def describe_training(case: Case) -> Any:
    """Return the training section of a case (a bare CUDA machine has no pydantic)."""
    return SimpleNamespace(
        num_workers=case.ranks,
        batch_unit="rows",
        global_batch_size=case.ranks * case.passes,
        micro_batch_size=1,
        max_seq_len=case.tokens,
        param_dtype=case.param_dtype,
        master_dtype=case.master_dtype,
        activation_checkpointing=case.recompute,
        compile="none",
        gradient_sync=case.sync,
        loss_kernel=case.loss,
        loss_chunk_tokens=256,
        experts=SimpleNamespace(implementation="grouped_mm", parallel_size=1, router_aux_loss_weight=0.0),
        optimizer=SimpleNamespace(
            name=case.optimizer,
            learning_rate=1e-4,
            muon_learning_rate=0.02,
            beta1=0.9,
            beta2=0.95,
            weight_decay=0.0,
        ),
    )


def predict(case: Case, device: str) -> MemoryPlan:
    """Return the plan of a case."""
    return plan_memory(read_shapes(describe_model(case), case.name), read_setup(describe_training(case), device=device))


def measure(case: Case, device: str) -> dict[str, float]:
    """Run a case in this process and return its baseline and peak in bytes."""
    import torch

    from training.engine.process_group import join_ranks

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    with join_ranks(use_gpu=device == "cuda") as ranks:
        tiny = replace(case, hidden=64, layers=1, inner=64, heads=1, vocab=128, tokens=64)
        run_steps(tiny, ranks, lambda: None)
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
            baseline = torch.cuda.memory_allocated()
            run_steps(case, ranks, torch.cuda.reset_peak_memory_stats)
            return {"baseline": baseline, "peak": torch.cuda.max_memory_allocated()}
        baseline = read_status("VmRSS")
        run_steps(case, ranks, reset_peak)
        return {"baseline": baseline, "peak": read_status("VmHWM")}


def run_steps(case: Case, ranks: Any, before_steps: Any) -> None:
    """Build the model of a case and make a few optimizer steps."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from training.engine.attention import PACKED
    from training.engine.model import make_trainable
    from training.engine.optim import build_optimizers
    from training.engine.step import compute_gradients, reduce_figures, update

    training = describe_training(case)
    numbers = describe_model(case)
    config = AutoConfig.for_model(numbers.pop("model_type"), **numbers)
    model = AutoModelForCausalLM.from_config(
        config, dtype=getattr(torch, case.master_dtype), attn_implementation=PACKED
    )
    if case.experts:
        model.set_experts_implementation("grouped_mm")
    make_trainable(model, training, ranks)
    optimizers = build_optimizers(model, training.optimizer)
    before_steps()
    for step in range(STEPS):
        batches = [make_batch(case, seed=step * case.passes + index).to(ranks.device) for index in range(case.passes)]
        num_targets = sum(len(batch.targets) for batch in batches) * ranks.world_size
        num_tokens = sum(batch.num_tokens for batch in batches) * ranks.world_size
        loss_sum = compute_gradients(
            model,
            batches,
            num_targets=num_targets,
            num_tokens=num_tokens,
            world_size=ranks.world_size,
            syncs_every_pass=case.sync == "every_pass",
        )
        totals = reduce_figures(model, batches, loss_sum, num_targets)
        update(model, optimizers, totals.grad_norm, 1.0)


def make_batch(case: Case, *, seed: int) -> Any:
    """Return a full pass of random documents in which every token is learned."""
    import numpy as np

    from training.engine.batches import Document, build_batch

    ids = np.random.default_rng(seed).integers(0, case.vocab, case.tokens)
    return build_batch([Document(part, part) for part in np.split(ids, case.documents)], pad_id=0)


def read_status(name: str) -> int:
    """Return a size of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def reset_peak() -> None:
    """Make `VmHWM` start again from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def run_case(case: Case, device: str) -> dict[str, Any]:
    """Measure a case in fresh processes, one per rank, and compare it with its plan."""
    start = time.monotonic()
    with socket.socket() as probe:
        probe.bind((MASTER_ADDRESS, 0))
        port = probe.getsockname()[1]
    processes = []
    for rank in range(case.ranks):
        environment = os.environ | (_GIVES_BACK if device == "cpu" else {})
        if case.ranks > 1:
            environment |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(case.ranks),
                "MASTER_ADDR": MASTER_ADDRESS, "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
            }  # fmt: skip
        options = ["--device", device, "--worker", case.name]
        command = [sys.executable, "-m", "benchmarks.engine.memory_plan_check", *options]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    try:
        outputs = [process.communicate(timeout=CASE_TIMEOUT_S)[0] for process in processes]
    except subprocess.TimeoutExpired:
        return {"name": case.name, "error": f"not done in {CASE_TIMEOUT_S} s"}
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if any(process.returncode for process in processes):
        return {"name": case.name, "error": f"exit codes {[process.returncode for process in processes]}"}
    figures = [json.loads(output.splitlines()[-1]) for output in outputs]
    measured = max(f["peak"] - f["baseline"] for f in figures)
    plan = predict(case, device)
    items = {item: size for item, size in plan.peak.items.items() if item not in ("context", "allocator slack")}
    predicted = sum(items.values())
    return {
        "name": case.name,
        "parameters_m": round(plan.shapes.num_parameters / 1e6, 1),
        "predicted_mib": round(predicted / MIB, 1),
        "measured_mib": round(measured / MIB, 1),
        "ratio": round(predicted / measured, 3),
        "baseline_mib": round(figures[0]["baseline"] / MIB, 1),
        "moment": plan.peak.name,
        "items_mib": {item: round(size / MIB, 1) for item, size in items.items()},
        "wall_s": round(time.monotonic() - start, 1),
        "case": asdict(case),
    }


def main() -> int:
    """Run the cases; return 1 if a prediction is further off than the tolerance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--cases", nargs="*", help="parts of the names of the cases to run; all if not given")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        case = next(case for case in CASES if case.name == arguments.worker)
        print(json.dumps(measure(case, arguments.device)), flush=True)
        return 0
    chosen = [case for case in CASES if not arguments.cases or any(part in case.name for part in arguments.cases)]
    results = []
    for case in chosen:
        result = run_case(case, arguments.device)
        results.append(result)
        if "error" in result:
            print(f"{case.name:46} {result['error']}", flush=True)
            continue
        print(
            f"{case.name:46} {result['parameters_m']:6.1f} M  predicted {result['predicted_mib']:7.1f} MiB  "
            f"measured {result['measured_mib']:7.1f} MiB  ratio {result['ratio']:.3f}  ({result['wall_s']} s)",
            flush=True,
        )
    passed = all(abs(result.get("ratio", 0) - 1) <= TOLERANCE for result in results)
    print(json.dumps({"device": arguments.device, "within": TOLERANCE, "passed": passed, "cases": results}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
