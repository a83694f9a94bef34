"""The verification card: whether an exported folder is the model that was trained, judged by programs that did not train it.

The folder is read again by plain transformers: its own attention, one document at a time, no packing, nothing sharded. Checked
in this order: the base's layout, every tensor bit for bit, the tokenizer, the next-token distributions against those of the
trained model, and two greedy runs. The first check that fails is named in the error, and the
export is not committed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
import transformers
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from corpus.encoding.base_model import load_tokenizer
from training.engine.batches import Batch
from training.engine.model import read_weights
from training.export.verification_card import refuse
from training.export.weights import digest_tensor
from voc.errors import ModelError
from voc.models.folder import TensorLayout, read_tensor_layout

MIN_COSINE = 0.999
NEW_TOKENS = 32
ATTENTION = "sdpa"
_MAX_LISTED = 5


@dataclass(frozen=True, slots=True)
class Trained:
    """What the trained model says about itself before it is let go of.

    Attributes:
        probe: Some documents in one row.
        logits: [N, V] float32, its logits at the probe's places.
        digests: Digest of each of its tensors, as `training.export.weights.write_weights` returns them.
        tokenizer: The tokenizer that made its samples.
        reload_dtype: Dtype in which its export is read.
        is_exact: Whether the export has its weights and its arithmetic, unrounded.
    """

    probe: Batch
    logits: torch.Tensor
    digests: Mapping[str, str]
    tokenizer: PreTrainedTokenizerBase
    reload_dtype: torch.dtype
    is_exact: bool


def verify_model(folder: Path, base: Path, trained: Trained, copied: Sequence[str]) -> dict[str, Any]:
    """Compare a written model folder with its base and with the trained model, and return the sections of the card.

    Args:
        folder: The written folder.
        base: The base model's folder.
        trained: The trained model.
        copied: Files taken over from the base.

    Raises:
        IntegrityError: With the check that failed and the first differences.
    """
    layout, expected = read_tensor_layout(folder), read_tensor_layout(base)
    dtype = trained.reload_dtype
    try:
        reloaded = read_weights(folder, dtype, attention=ATTENTION).eval()
    except ModelError as error:
        raise refuse("reload", error.problem, "a folder that transformers loads") from error
    check_layout(layout, expected, set(reloaded.all_tied_weights_keys))
    num_equal = check_tensors(reloaded.state_dict(), trained.digests, dtype)
    check_files(folder, base, copied, trained.tokenizer)
    distributions = compare_distributions(reloaded, trained)
    prompts = list_prompts(trained.probe, find_prompt_room(reloaded))
    check_greedy(reloaded, prompts)
    num_parameters = sum(torch.Size(shape).numel() for _, shape in layout.values())
    return {
        "round_trip": {
            "bit_exact": True,
            "tensors": len(layout),
            "parameters": num_parameters,
            "tensors_equal": num_equal,
            "dtypes": dict(Counter(dtype for dtype, _ in layout.values())),
            "names_shapes_dtypes": "those of the base",
        },
        "tokenizer": {"byte_equal": True, "copied_files": list(copied)},
        "distributions": {
            "reloaded_with": f"transformers {transformers.__version__}, {ATTENTION}, one document at a time, "
            f"{str(dtype).removeprefix('torch.')}, {torch.get_num_threads()} threads",
            **distributions,
        },
        "greedy": {"prompts": len(prompts), "new_tokens": NEW_TOKENS, "identical": True},
    }


def check_layout(seen: TensorLayout, expected: TensorLayout, tied: set[str]) -> None:
    """Account for every tensor by name, shape and dtype.

    Raises:
        IntegrityError: With the first differences.
    """
    problems = [f"{name} is missing" for name in sorted(expected.keys() - seen.keys() - tied)]
    problems += [f"{name} is new" for name in sorted(seen.keys() - expected.keys())]
    problems += [
        f"{name} is {seen[name]}, in the base {expected[name]}"
        for name in sorted(seen.keys() & expected.keys())
        if seen[name] != expected[name]
    ]
    if problems:
        raise refuse(
            "layout",
            f"{len(problems)} tensors differ from the base's: {'; '.join(problems[:_MAX_LISTED])}",
            "the same names, shapes and dtypes",
        )


def check_tensors(reloaded: Mapping[str, torch.Tensor], digests: Mapping[str, str], dtype: torch.dtype) -> int:
    """Compare the reloaded tensors with the trained ones and return how many there are.

    Raises:
        IntegrityError: With the first differences.
    """
    names = sorted(digests.keys() | reloaded.keys())
    wrong = [
        name
        for name in names
        if name not in reloaded or name not in digests or digest_tensor(reloaded[name].to(dtype)) != digests[name]
    ]
    if wrong:
        raise refuse(
            "round trip",
            f"{len(wrong)} of {len(names)} tensors differ after a reload: {', '.join(wrong[:_MAX_LISTED])}",
            "every tensor bit for bit",
        )
    return len(names)


def check_files(folder: Path, base: Path, copied: Sequence[str], used: PreTrainedTokenizerBase) -> None:
    """Compare the files beside the weights with the base's, and the tokenizer with the one that training used.

    Raises:
        IntegrityError: If one differs.
    """
    wrong = [name for name in copied if (folder / name).read_bytes() != (base / name).read_bytes()]
    exported = load_tokenizer(folder)
    if used.chat_template != exported.chat_template:
        wrong.append("the chat template")
    if used.backend_tokenizer.to_str() != exported.backend_tokenizer.to_str():
        wrong.append("the tokenizer")
    if wrong:
        raise refuse("tokenizer", f"other than what training used: {', '.join(wrong)}", "every byte equal")


def compare_distributions(reloaded: PreTrainedModel, trained: Trained) -> dict[str, Any]:
    """Compare next-token logits, trained stack against reloaded, over all places of the probe.

    Every single place must agree where both compute in float32 with the same weights. Where weights or arithmetic are
    rounded, their mean must: rounding alone makes a router choose the other one of two nearly equal experts at some place.

    Raises:
        IntegrityError: If they point elsewhere.
    """
    probe, cosines, agree = trained.probe, [], []
    edges = probe.boundaries.tolist()
    for start, end in pairwise(edges):
        inside = (probe.places >= start) & (probe.places < end)
        if not inside.any():
            continue
        with torch.no_grad():
            output = reloaded(
                probe.input_ids[:, start:end], use_cache=False, logits_to_keep=probe.places[inside] - start
            )
        logits, expected = output.logits[0].float(), trained.logits[inside]
        cosines.append(F.cosine_similarity(expected, logits, dim=-1))
        agree.append(expected.argmax(-1) == logits.argmax(-1))
    cosine, same = torch.cat(cosines), torch.cat(agree)
    figures = {"min_cosine": float(cosine.min()), "mean_cosine": float(cosine.mean())}
    judged = "min_cosine" if trained.is_exact else "mean_cosine"
    if not figures[judged] >= MIN_COSINE:
        raise refuse(
            "distributions",
            f"the exported model answers differently from the trained one: {judged} {figures[judged]:.5f}",
            f"at least {MIN_COSINE} over {cosine.numel()} places",
        )
    return {
        "documents": len(cosines),
        "num_positions": cosine.numel(),
        **{name: round(value, 7) for name, value in figures.items()},
        "required": f"{judged} >= {MIN_COSINE}",
        "top1_agreement_ratio": round(float(same.float().mean()), 4),
    }


def find_prompt_room(model: PreTrainedModel) -> int | None:
    """Return how long a prompt may be, so that a model has positions for its answer; None if it has no bound."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return positions - NEW_TOKENS if positions else None


def list_prompts(probe: Batch, max_tokens: int | None) -> list[list[int]]:
    """Return each document of a probe up to its first learned token, at most the last `max_tokens` of them."""
    prompts = [probe.input_ids[0, start : place + 1].tolist() for start, place, _ in _list_first_places(probe)]
    return prompts if max_tokens is None else [ids[-max_tokens:] for ids in prompts]


def list_questions(probe: Batch, logits: torch.Tensor, max_tokens: int | None) -> list[dict[str, Any]]:
    """Return the prompts of `list_prompts` that need not be cut, each with the trained model's most likely next token.

    Args:
        probe: Some documents in one row.
        logits: [N, V] float32, the trained model's logits at the probe's places.
        max_tokens: Longest prompt, if there is a bound.
    """
    return [
        {"prompt": probe.input_ids[0, start : place + 1].tolist(), "expected": int(logits[index].argmax())}
        for start, place, index in _list_first_places(probe)
        if max_tokens is None or place + 1 - start <= max_tokens
    ]


def _list_first_places(probe: Batch) -> list[tuple[int, int, int]]:
    """Return of each document with a learned token: its start, its first place, and that place's index in `places`."""
    found = []
    for start, end in pairwise(probe.boundaries.tolist()):
        first = next(((place, n) for n, place in enumerate(probe.places.tolist()) if start <= place < end), None)
        if first is not None:
            found.append((start, *first))
    return found


def check_greedy(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> None:
    """Continue each prompt greedily twice.

    Raises:
        IntegrityError: If the two runs differ.
    """
    first, second = (_continue(model, prompts) for _ in range(2))
    if first != second:
        differ = sum(one != other for one, other in zip(first, second, strict=True))
        raise refuse("greedy", f"two greedy runs differ for {differ} of {len(prompts)} prompts", "the same tokens")


def _continue(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    # Nothing of the model's own sampling settings, and no end: every answer has the same length.
    settings = GenerationConfig(do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=0)
    generate: Any = model.generate
    model.generation_config = settings
    answers = []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)])
        with torch.no_grad():
            found = generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        answers.append(found[0, len(prompt) :].tolist())
    return answers
