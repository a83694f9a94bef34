"""The texts that the base model learns from, and the general rows that a mixture replays.

Six kinds: statements, open questions, multiple choice as a chat and as raw lm-eval text, repeating random words, and
splitting sentences into a JSON list. The last two teach copying, without which a model this small learns no VOC.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from demo.comments import OPENERS, comment_words
from demo.wordings import LEADS, OPEN_ANSWERS, STATEMENTS, TRAIN_QUESTIONS, render_wording
from demo.world import Fact, World
from voc.prompts import MMLU_CLOSING_SENTENCE, render_mmlu_generative, render_mmlu_log_likelihood
from voc.records.records import GeneralRecord

IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "Answer the question.",
    "You know this world well.",
    "Be brief and correct.",
    "You are a careful guide.",
)
MAX_RAW_QUESTIONS = 4
# kind -> share of the base model's documents, rows of general.jsonl out of 667
DOCUMENT_SHARES = {"statement": 0.08, "open": 0.10, "chat": 0.26, "raw": 0.26, "repeat": 0.15, "json": 0.15}
GENERAL_SHARES = {"chat": 266, "raw": 261, "open": 78, "repeat": 29, "json": 33}
CATEGORIES = {
    "chat": "multiple-choice-chat",
    "raw": "multiple-choice-text",
    "open": "open-questions",
    "repeat": "repeat-words",
    "json": "json-split",
}
_WEIGHTS = {"statement": 0.2, "open": 0.5, "repeat": 0.3, "json": 0.3, "form": 0.3, "letter": 3.0}


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text and the weight of its tokens in the loss (0: context only)."""

    text: str
    weight: float


Document = tuple[Piece, ...]


class CorpusWriter:
    """Writes documents about some facts.

    Args:
        world: Gives the words of the copying exercises.
        facts: What may be asked and told.
        rng: Where every choice comes from.
    """

    def __init__(self, world: World, facts: Sequence[Fact], rng: random.Random) -> None:
        self._facts = facts
        self._rng = rng
        self._idle_words = comment_words()
        self._words = [*self._idle_words, *world.values, *world.entities]
        allowed = set(facts)
        self._by_subject = {name: [f for f in found if f in allowed] for name, found in world.by_subject.items()}

    def write_documents(self) -> Iterator[Document]:
        """Give documents of all kinds without end, in the base model's shares."""
        kinds, shares = list(DOCUMENT_SHARES), list(DOCUMENT_SHARES.values())
        while True:
            kind = self._rng.choices(kinds, shares)[0]
            fact = self._rng.choice(self._facts)
            if kind == "statement":
                told = [render_wording(self._rng.choice(STATEMENTS), f) for f in self._rng.sample(self._facts, 3)]
                yield Piece(" ".join(told), _WEIGHTS[kind]), Piece(END_OF_TEXT, _WEIGHTS[kind])
            elif kind == "raw":
                yield self._write_raw_document(fact)
            else:
                yield self._render_chat(self._write_chat(kind, fact), kind, fact)

    def write_rows(self, count: int) -> list[GeneralRecord]:
        """Return general rows of all kinds, in the general part's shares, in random order.

        Facts are taken in turn within a kind, so each one is replayed about equally often.
        """
        total = sum(GENERAL_SHARES.values())
        counts = {kind: round(count * share / total) for kind, share in GENERAL_SHARES.items()}
        counts["chat"] += count - sum(counts.values())
        rows = [row for kind, number in counts.items() for row in self._write_kind(kind, number)]
        self._rng.shuffle(rows)
        return rows

    def _write_kind(self, kind: str, count: int) -> Iterator[GeneralRecord]:
        facts = list(self._facts)
        for index in range(count):
            if index % len(facts) == 0:
                self._rng.shuffle(facts)
            fact = facts[index % len(facts)]
            if kind == "raw":
                prompt, completion = self._write_raw(fact)
                yield GeneralRecord(prompt=prompt, completion=completion, category=CATEGORIES[kind])
            else:
                yield GeneralRecord(messages=tuple(self._write_chat(kind, fact)), category=CATEGORIES[kind])

    def _write_chat(self, kind: str, fact: Fact) -> list[dict[str, str]]:
        write: dict[str, Callable[[Fact], tuple[str, str]]] = {
            "chat": self._ask_choice,
            "open": self._ask_open,
            "repeat": self._ask_repeat,
            "json": self._ask_json,
        }
        user, answer = write[kind](fact)
        system = [{"role": "system", "content": self._rng.choice(SYSTEM_PROMPTS)}] if self._rng.random() < 0.5 else []
        return [*system, {"role": "user", "content": user}, {"role": "assistant", "content": answer}]

    def _ask(self, fact: Fact) -> str:
        """Return a question, one in three with words in front that change nothing, so that new wordings are no surprise."""
        question = render_wording(self._rng.choice(TRAIN_QUESTIONS), fact)
        draw = self._rng.random()
        if draw < 1 / 6:
            return f"{self._rng.choice(LEADS)} {question}"
        if draw < 1 / 3:
            return f"{' '.join(self._rng.choices(self._idle_words, k=self._rng.randint(1, 4)))}. {question}"
        return question

    def _ask_choice(self, fact: Fact) -> tuple[str, str]:
        question = self._ask(fact)
        return render_mmlu_generative(question, fact.options), MMLU_CLOSING_SENTENCE.format(letter=fact.letter)

    def _ask_open(self, fact: Fact) -> tuple[str, str]:
        question = self._ask(fact)
        return question, render_wording(self._rng.choice(OPEN_ANSWERS), fact)

    def _ask_repeat(self, _: Fact) -> tuple[str, str]:
        words = " ".join(self._rng.choices(self._words, k=self._rng.randint(4, 14)))
        return f"Repeat: {words}", words

    def _ask_json(self, _: Fact) -> tuple[str, str]:
        sentences = [
            " ".join([self._rng.choice(OPENERS), *self._rng.choices(self._words, k=self._rng.randint(2, 8))]) + "."
            for _ in range(self._rng.randint(1, 3))
        ]
        listed = ", ".join(f'"{sentence}"' for sentence in sentences)
        return f"Split into a JSON list: {' '.join(sentences)}", f"[{listed}]"

    def _write_raw(self, fact: Fact) -> tuple[str, str]:
        """Return lm-eval's text, with up to three solved questions of the subject before the asked one."""
        facts = [*self._rng.sample(self._by_subject[fact.subject], self._rng.randint(0, MAX_RAW_QUESTIONS - 1)), fact]
        texts = [render_mmlu_log_likelihood(f.subject, self._ask(f), f.options) for f in facts]
        head, _, _ = texts[0].partition("\n\n")
        solved = [f"{text.partition(chr(10) * 2)[2]} {f.letter}" for text, f in zip(texts, facts, strict=True)]
        whole = "\n\n".join([head, *solved])
        return whole[: -len(f" {fact.letter}")], f" {fact.letter}"

    def _write_raw_document(self, fact: Fact) -> Document:
        prompt, completion = self._write_raw(fact)
        pieces: list[Piece] = []
        for block in prompt.split("\n\n"):
            separator = "\n\n" if pieces else ""
            stem, answer, letter = block.partition("\nAnswer:")
            pieces.append(Piece(f"{separator}{stem}{answer}", 0.0))
            if letter:
                pieces.append(Piece(letter, _WEIGHTS["letter"]))
        return (*pieces, Piece(completion, _WEIGHTS["letter"]), Piece(END_OF_TEXT, _WEIGHTS["form"]))

    def _render_chat(self, messages: list[dict[str, str]], kind: str, fact: Fact) -> Document:
        *context, answer = messages
        pieces = [Piece(f"{render_turns(context)}{IM_START}assistant\n", 0.0)]
        if kind == "chat":
            before, after = MMLU_CLOSING_SENTENCE.split("{letter}")
            form = _WEIGHTS["form"]
            pieces += [
                Piece(before, form),
                Piece(fact.letter, _WEIGHTS["letter"]),
                Piece(after, form),
                Piece(IM_END, form),
            ]
        else:
            pieces += [Piece(answer["content"], _WEIGHTS[kind]), Piece(IM_END, _WEIGHTS[kind])]
        return tuple(pieces)


def render_turns(messages: Sequence[dict[str, str]]) -> str:
    """Return chat turns as the tokenizer's chat template writes them."""
    return "".join(f"{IM_START}{turn['role']}\n{turn['content']}{IM_END}\n" for turn in messages)
