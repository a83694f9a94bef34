"""The one place where a record becomes a prompt, for training and for evaluation alike.

Each prompt has a version and a hash. Rows measured with different variants or hashes are never compared without saying so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from voc.labels.taxonomy import Taxonomy
from voc.records.records import Segment
from voc.store.manifest import digest_json

PROMPT_VERSION = 1
PromptVariant = Literal["internalized", "taxonomy"]
Message = dict[str, str]
_ENCODER = json.JSONEncoder(ensure_ascii=False)

COMMENT_PREFIX = "Comment: "
_TASK = (
    "You label customer feedback. Split the comment into segments and reply with a JSON list of objects "
    "with the keys content, L1, L2, L3, L4, emotion."
)
_LABELS = "Use only these labels, one per line, L1 > L2 > L3 > L4: description"

# The reference study's protocol: zero-shot chain of thought with a closing sentence that is matched strictly.
MMLU_CLOSING_SENTENCE = "The correct answer is ({letter})."
MMLU_INSTRUCTION = 'Think step by step and end with the sentence "The correct answer is (X)."'
MMLU_LETTERS = ("A", "B", "C", "D")
# The closing sentence up to its letter: what the letter-constrained reading begins for the model.
MMLU_LETTER_PREFIX = MMLU_CLOSING_SENTENCE.partition("{letter}")[0]


def render_messages(comment: str, variant: PromptVariant, taxonomy: Taxonomy) -> list[Message]:
    """Return the chat that asks for a comment's segments.

    The system turn is byte-identical for every comment, so an engine can keep its prefix.
    """
    return [
        {"role": "system", "content": render_system(variant, taxonomy)},
        {"role": "user", "content": f"{COMMENT_PREFIX}{comment}"},
    ]


def render_system(variant: PromptVariant, taxonomy: Taxonomy) -> str:
    """Return the system turn of a variant."""
    if variant == "internalized":
        return _TASK
    lines = [f"{' > '.join(leaf.path)}: {leaf.description}" for leaf in taxonomy.leaves]
    return "\n".join([_TASK, _LABELS, *lines])


def render_answer(segments: Sequence[Segment]) -> str:
    """Return the answer that the model is taught: a JSON list on one line."""
    return _ENCODER.encode([segment.to_json() for segment in segments])


def hash_prompt(variant: PromptVariant, taxonomy: Taxonomy) -> str:
    """Return the hash that identifies the classification prompt."""
    return digest_json([PROMPT_VERSION, render_messages("{comment}", variant, taxonomy)])


def hash_comment_prompt(prompt_hash: str, comment: str) -> str:
    """Return the hash of the whole prompt that asks about one comment: of the classification prompt and the comment.

    Args:
        prompt_hash: What `hash_prompt` returned; a prompt with all labels is long, so it is hashed once and not per comment.
        comment: The comment.
    """
    return digest_json([prompt_hash, comment])


def render_mmlu_question(question: str, choices: Sequence[str]) -> str:
    """Return question and lettered choices, one per line, as MMLU prints them."""
    options = [f"{letter}. {choice}" for letter, choice in zip(MMLU_LETTERS, choices, strict=True)]
    return "\n".join([question.strip(), *options])


def render_mmlu_log_likelihood(subject: str, question: str, choices: Sequence[str]) -> str:
    """Return the zero-shot text of lm-eval's stock `mmlu`; the scored continuations are ' A' to ' D'."""
    title = subject.replace("_", " ")
    head = f"The following are multiple choice questions (with answers) about {title}.\n\n"
    return f"{head}{render_mmlu_question(question, choices)}\nAnswer:"


def render_mmlu_generative(question: str, choices: Sequence[str]) -> str:
    """Return the user turn of the generative protocol."""
    return f"{MMLU_INSTRUCTION}\n\n{render_mmlu_question(question, choices)}"
