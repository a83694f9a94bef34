"""Let vLLM load a model folder and continue some prompts greedily: `python -m training.export.vllm_answers REQUEST ANSWERS`.

A process of its own, because an engine keeps its devices and its settings until its process ends. REQUEST is a JSON file with
`folder`, `engine` (arguments of `vllm.LLM`), `prompts` (token ids) and `new_tokens`; ANSWERS gets the engine's version and one
object per prompt: `tokens`, and for the first of them `logprobs`, {token id: log-probability} of the most likely ones.

Sources: https://docs.vllm.ai/en/latest/serving/offline_inference/ and Linux `Documentation/arch/x86/xstate.rst` (AMX).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

NUM_LIKELY = 5


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Return what ANSWERS holds."""
    import vllm

    allow_tiles()
    engine = vllm.LLM(model=request["folder"], **request["engine"])
    sampling = vllm.SamplingParams(temperature=0.0, max_tokens=request["new_tokens"], logprobs=NUM_LIKELY)
    prompts = [vllm.TokensPrompt(prompt_token_ids=ids) for ids in request["prompts"]]
    outputs = engine.generate(prompts, sampling, use_tqdm=False)
    answers = []
    for output in outputs:
        (completion,) = output.outputs
        first = completion.logprobs[0] if completion.logprobs else {}
        answers.append(
            {
                "tokens": list(completion.token_ids),
                "logprobs": {str(token): float(entry.logprob) for token, entry in first.items()},
            }
        )
    return {"version": vllm.__version__, "answers": answers}


def allow_tiles() -> None:
    """Ask the kernel for the tile registers of AMX, where the processor has them; a process may not use them unasked.

    vLLM's CPU kernel for experts (0.32, bfloat16) does not ask: an engine whose first prompt has few tokens dies of an illegal
    instruction.
    """
    import torch

    if torch.cpu._is_amx_tile_supported():
        torch.cpu._init_amx()


if __name__ == "__main__":
    answers = answer(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    Path(sys.argv[2]).write_text(json.dumps(answers), encoding="utf-8")
