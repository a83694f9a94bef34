"""Decoder layers of a mixture-of-experts model, forward and backward, by each kernel of the experts: tokens/s in turns.

    python -m benchmarks.moe_kernels                                       # narrow layers on a CPU
    python -m benchmarks.moe_kernels --device cuda --hidden 2048 --experts 128 --moe-intermediate 768 --top-k 8 --layers 4 \
        --tokens 4096                                                      # Qwen3-30B-A3B's width, fewer layers

Random weights and tokens, so routing is near to equal; attention and norms are part of the time. The kernels take turns within
each repeat and share one model, so a pair is measured under the same load. `batched_mm` copies an expert's weights for every
choice and is left out, with the reason, where that passes `--max-batched-gib`. Needs torch and transformers only. The last
line is one JSON object.

Source: the shape is that of https://huggingface.co/Qwen/Qwen3-30B-A3B (config.json); target: grouped at least 3x the loop.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from training.attention import PACKED

KERNELS = {"grouped_mm": "grouped_mm", "loop": "eager", "batched_mm": "batched_mm"}  # ours: transformers'
GIB = 1 << 30


def build_layers(arguments: argparse.Namespace) -> Qwen3MoeForCausalLM:
    config = Qwen3MoeConfig(  # type: ignore[call-arg]  # it takes more than its signature says
        vocab_size=1024,
        hidden_size=arguments.hidden,
        moe_intermediate_size=arguments.moe_intermediate,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.heads,
        num_key_value_heads=max(1, arguments.heads // 8),
        head_dim=128,
        num_experts=arguments.experts,
        num_experts_per_tok=arguments.top_k,
        norm_topk_prob=True,
        max_position_embeddings=arguments.tokens,
        attn_implementation=PACKED,
    )
    torch.manual_seed(0)
    with torch.device(arguments.device):
        return Qwen3MoeForCausalLM(config).to(getattr(torch, arguments.dtype)).train()


def run_once(model: Qwen3MoeForCausalLM, arguments: argparse.Namespace) -> tuple[float, float]:
    """Return the seconds of one forward and backward pass, and its loss."""
    device = torch.device(arguments.device)
    ids = torch.randint(0, 1024, (1, arguments.tokens), generator=torch.Generator().manual_seed(1)).to(device)
    document = min(512, arguments.tokens)
    boundaries = torch.arange(0, arguments.tokens + document, document, dtype=torch.int32).clamp(max=arguments.tokens)
    boundaries = boundaries.unique().to(torch.int32).to(device)
    positions = (torch.arange(arguments.tokens) % document).unsqueeze(0).to(device)
    model.zero_grad(set_to_none=True)
    _wait(device)
    start = time.perf_counter()
    hidden = model.model(
        input_ids=ids,
        position_ids=positions,
        cu_seq_lens_q=boundaries,
        cu_seq_lens_k=boundaries,
        max_length_q=document,
        max_length_k=document,
        use_cache=False,
    ).last_hidden_state
    loss = hidden.float().square().mean()
    loss.backward()
    _wait(device)
    return time.perf_counter() - start, float(loss)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(arguments: argparse.Namespace) -> dict:
    model = build_layers(arguments)
    element = torch.finfo(getattr(torch, arguments.dtype)).bits // 8
    copied = arguments.tokens * arguments.top_k * 3 * arguments.moe_intermediate * arguments.hidden * element
    left_out = {}
    kernels = list(arguments.kernels)
    if "batched_mm" in kernels and copied > arguments.max_batched_gib * GIB:
        kernels.remove("batched_mm")
        left_out["batched_mm"] = f"copies {copied / GIB:.0f} GiB of weights in each layer"
    seconds: dict[str, list[float]] = {kernel: [] for kernel in kernels}
    losses = {}
    for repeat in range(arguments.warmup + arguments.repeats):
        for kernel in kernels:
            model.set_experts_implementation(KERNELS[kernel])
            wall_s, losses[kernel] = run_once(model, arguments)
            if repeat >= arguments.warmup:
                seconds[kernel].append(wall_s)
    pairs = {
        f"{kernel}_over_loop": round(statistics.median(b / a for a, b in zip(times, seconds["loop"], strict=True)), 3)
        for kernel, times in seconds.items()
        if kernel != "loop" and "loop" in seconds
    }
    return {
        "device": torch.cuda.get_device_name()
        if arguments.device == "cuda"
        else f"cpu, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        **{
            name: getattr(arguments, name)
            for name in ("dtype", "hidden", "experts", "moe_intermediate", "top_k", "layers", "tokens", "repeats")
        },
        "tokens_per_s": {k: round(arguments.tokens / statistics.median(times), 1) for k, times in seconds.items()},
        "range_s": {k: [round(min(times), 4), round(max(times), 4)] for k, times in seconds.items()},
        **pairs,
        "loss": {kernel: round(loss, 6) for kernel, loss in losses.items()},
        "left_out": left_out,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Kernels of the experts, tokens/s forward and backward.")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="float32 on a CPU, bfloat16 on CUDA")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--heads", type=int, help="query heads of 128 numbers; hidden / 64")
    parser.add_argument("--experts", type=int, default=64)
    parser.add_argument("--moe-intermediate", type=int, default=96)
    parser.add_argument("--top-k", type=int, default=8)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--kernels", nargs="+", choices=list(KERNELS), default=list(KERNELS))
    parser.add_argument("--max-batched-gib", type=float, default=4.0)
    arguments = parser.parse_args()
    arguments.dtype = arguments.dtype or ("bfloat16" if arguments.device == "cuda" else "float32")
    arguments.heads = arguments.heads or max(1, arguments.hidden // 64)
    print(json.dumps(measure(arguments)))


if __name__ == "__main__":
    main()
