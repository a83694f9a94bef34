"""From a record to `input_ids` and which of them are learned: the chat template, loss on the assistant, checked by decoding.

The text is cut where learning begins and ends, and each piece is tokenised by itself, so the tokens in front of an answer are
exactly those that a server makes of the prompt. Every sample is decoded again: its learned tokens must read as the expected
answers with their end tokens. Records are encoded in batches; a record that cannot be learned becomes a `RowError` in its place.
A template that changes every text would refuse every row, after all of them were read: `check_template` says it before the first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jinja2 import TemplateError

from corpus.encoding.base_model import BaseModel
from corpus.encoding.pieces import PieceTokenizer
from voc.errors import ModelError
from voc.labels.taxonomy import Taxonomy
from voc.prompts import COMMENT_PREFIX, PromptVariant, render_answer, render_messages
from voc.records.records import GeneralRecord, Segment, VocRecord
from voc.records.refusals import RowError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE_INDEX = -100
_MAX_SHOWN = 60
_MARKS = ("c0mment-mark", "answ3r-mark")
_PROBES = (
    ("a", "[]"),
    ('Grüße 🙂, «zwei»\nZeilen:\t100 % {sicher} & "gut"', '[{"content": "Grüße\\n", "emotion": "happy"}]'),
    ("user assistant system /think tool_call", '[{"content": "user"}, {"content": "no_think"}]'),
)
_NO_LIMIT = 1 << 30
_COMMENTS = ("the Battery is dead", 'Grüße 🙂\nZeile 2:\t100 % {ok} & "gut"')
LEARNED = "⟦{}⟧"


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """One document.

    Attributes:
        input_ids: [tokens] int32.
        learned: [tokens] bool, True where the loss is taken.
    """

    input_ids: np.ndarray
    learned: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """[tokens] the tokens, with `IGNORE_INDEX` where nothing is learned."""
        return np.where(self.learned, self.input_ids, IGNORE_INDEX)


class Frame(NamedTuple):
    """What a chat template puts around a comment and its answer, the same for all of them.

    Attributes:
        head: Before the comment.
        tail: Between the comment and what is learned.
        before: Learned text before the answer: usually nothing.
        after: Learned text after it: the end of the turn.
    """

    head: str
    tail: str
    before: str
    after: str

    def apply(self, comment: str, answer: str) -> list[tuple[str, bool]]:
        """Return the pieces (text, is learned) of a comment with its answer."""
        return [(f"{self.head}{comment}{self.tail}", False), (f"{self.before}{answer}{self.after}", True)]


@dataclass(frozen=True, slots=True)
class RenderedSample:
    """A record as text.

    Attributes:
        pieces: (text, is learned), in order.
        answers: For each learned piece the texts that it may decode to, end token included.
        is_plain: Plain text: the tokenizer's own frame belongs to it.
    """

    pieces: Sequence[tuple[str, bool]]
    answers: Sequence[Collection[str]]
    is_plain: bool = False


class SampleEncoder:
    """Encodes records for one base model and refuses, with a reason, what cannot be learned as it is.

    Args:
        base: The model whose tokenizer and chat template are used.
        max_seq_len: Longest sample in tokens.
        variant: Prompt variant of VOC records.
        taxonomy: The labels, for the `taxonomy` variant.
    """

    def __init__(self, base: BaseModel, *, max_seq_len: int, variant: PromptVariant, taxonomy: Taxonomy) -> None:
        self.tokenizer = base.tokenizer
        self.end_of_turn = base.end_of_turn
        self.end_of_text = base.end_of_text
        self.max_seq_len = max_seq_len
        self.variant = variant
        self._system = render_messages("", variant, taxonomy)[:-1]
        added = base.tokenizer.added_tokens_decoder.values()
        self._special_tokens = tuple(token.content for token in added if token.special)
        self._special_starts = tuple({token[0] for token in self._special_tokens})
        self.normalise = _get_normaliser(base.tokenizer)
        self._preamble = self._find_preamble()
        self._frame = self._find_frame()
        self._pieces = PieceTokenizer(base.tokenizer, recurring=self._find_recurring())

    def encode(self, records: Sequence[VocRecord | GeneralRecord]) -> list[EncodedSample | RowError]:
        """Encode some records, each to a sample or to the reason for which it cannot be learned.

        Reasons: `too_long`, `special_token_in_text`, `chat_template`, `labels_do_not_decode`.
        """
        rendered = [self._try_render(record) for record in records]
        chats = [r for r in rendered if isinstance(r, RenderedSample) and not r.is_plain]
        plain = [r for r in rendered if isinstance(r, RenderedSample) and r.is_plain]
        texts = [text for sample in chats for text, _ in sample.pieces]
        prompts = [sample.pieces[0][0] for sample in plain]
        completions = [sample.pieces[1][0] for sample in plain]
        of_chats = iter(self._pieces.tokenize(texts))
        of_plain = chain.from_iterable(
            zip(
                self._pieces.tokenize(prompts, add_special_tokens=True),
                self._pieces.tokenize(completions),
                strict=True,
            )
        )
        return [
            sample
            if isinstance(sample, RowError)
            else self._try_join(sample, of_plain if sample.is_plain else of_chats)
            for sample in rendered
        ]

    def encode_one(self, record: VocRecord | GeneralRecord) -> EncodedSample:
        """Encode one record.

        Raises:
            RowError: As `encode`.
        """
        (sample,) = self.encode([record])
        if isinstance(sample, RowError):
            raise sample
        return sample

    def render(self, record: VocRecord | GeneralRecord) -> RenderedSample:
        """Return a record as text: every assistant turn, or the completion, is learned with its end token, nothing else.

        Raises:
            RowError: `special_token_in_text` or `chat_template`.
        """
        if isinstance(record, VocRecord):
            return self._render_voc(record.comment, render_answer(record.segments))
        if record.messages:
            return self.render_chat(record.messages)
        self._refuse_special_tokens([record.prompt, record.completion])
        answer = f"{record.completion}{self.end_of_text}"
        return RenderedSample([(record.prompt, False), (answer, True)], [(answer,)], is_plain=True)

    def render_chat(self, messages: Sequence[Mapping[str, str]]) -> RenderedSample:
        """Return a chat as text."""
        self._refuse_special_tokens([message["content"] for message in messages])
        answers = [message["content"] for message in messages if message["role"] == "assistant"]
        return RenderedSample(self._split_turns(messages), [self._list_accepted(answer) for answer in answers])

    def _render_voc(self, comment: str, answer: str) -> RenderedSample:
        # Templates branch on markup (thinking blocks, tool answers) and outer white space only; such a comment goes through.
        if self._frame is not None and "<" not in comment and "<" not in answer and comment == comment.strip():
            self._refuse_special_tokens([comment, answer])
            return RenderedSample(self._frame.apply(comment, answer), [self._list_accepted(answer)])
        return self.render_chat(self._make_chat(comment, answer))

    def _make_chat(self, comment: str, answer: str) -> list[Mapping[str, str]]:
        user = {"role": "user", "content": f"{COMMENT_PREFIX}{comment}"}
        return [*self._system, user, {"role": "assistant", "content": answer}]

    def _find_frame(self) -> Frame | None:
        """Find what the template puts around comments, by marks in their places; None if it treats some of them differently."""
        try:
            (prompt, _), (learned, _) = self._split_turns(self._make_chat(*_MARKS))
            head, tail = prompt.split(_MARKS[0])
            before, after = learned.split(_MARKS[1])
            frame = Frame(head, tail, before, after)
            fits = all(self._split_turns(self._make_chat(*probe)) == frame.apply(*probe) for probe in _PROBES)
        except (RowError, ValueError):  # the template refuses the chat, or a mark is not there exactly once
            return None
        return frame if fits else None

    def _try_render(self, record: VocRecord | GeneralRecord) -> RenderedSample | RowError:
        try:
            return self.render(record)
        except RowError as error:
            return error

    def _try_join(self, sample: RenderedSample, tokens: object) -> EncodedSample | RowError:
        ids = [next(tokens) for _ in sample.pieces]  # type: ignore[call-overload]
        input_ids = np.array(list(chain.from_iterable(ids)), dtype=np.int32)
        if len(input_ids) > self.max_seq_len:
            return RowError("too_long", f"{len(input_ids)} tokens, training.max_seq_len is {self.max_seq_len}")
        learned = np.repeat([is_learned for _, is_learned in sample.pieces], [len(part) for part in ids])
        runs = [part for part, (_, is_learned) in zip(ids, sample.pieces, strict=True) if is_learned]
        try:
            check_answers([self._decode(run) for run in runs], sample.answers, self.normalise)
        except RowError as error:
            return error
        return EncodedSample(input_ids, learned)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False))

    def _list_accepted(self, answer: str) -> tuple[str, ...]:
        """What may be learned for a turn: a template may strip it and put its preamble (an empty thinking block) first."""
        bodies = dict.fromkeys((answer, answer.strip()))
        return tuple(f"{head}{body}{self.end_of_turn}" for body in bodies for head in ("", self._preamble))

    def _find_recurring(self) -> list[str]:
        """Return what the prompts of all comments share between special tokens: the system turn, role names."""
        prompts = [
            self._render([*self._system, {"role": "user", "content": text}], add_generation_prompt=True)
            for text in "ab"
        ]
        first, second = (set(split_at(prompt, self._special_tokens)) for prompt in prompts)
        return sorted(first & second)

    def _split_turns(self, messages: Sequence[Mapping[str, str]]) -> list[tuple[str, bool]]:
        """Cut the rendered chat into pieces (text, is learned); what follows the last answer is left off."""
        whole = self._render(messages, add_generation_prompt=False)
        pieces: list[tuple[str, bool]] = []
        position = 0
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt = self._render(messages[:index], add_generation_prompt=True)
            end = whole.find(self.end_of_turn, len(prompt))
            if not whole.startswith(prompt) or len(prompt) < position or end < 0:
                raise RowError("chat_template", f"turn {index + 1} does not follow from the turns before it")
            end += len(self.end_of_turn)
            pieces += [(whole[position : len(prompt)], False), (whole[len(prompt) : end], True)]
            position = end
        return pieces

    def _render(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
        if not messages:
            raise RowError("chat_template", "the chat starts with an assistant turn")
        turns = [dict(message) for message in messages]
        try:
            return str(
                self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt)
            )
        except TemplateError as error:
            raise RowError("chat_template", f"the chat template refuses it: {error}") from error

    def _find_preamble(self) -> str:
        """Return what the template puts between the generation prompt and the last answer: usually nothing."""
        question = {"role": "user", "content": "question"}
        prompt = self._render([question], add_generation_prompt=True)
        whole = self._render([question, {"role": "assistant", "content": "answer"}], add_generation_prompt=False)
        return whole[len(prompt) : whole.rfind("answer")] if whole.startswith(prompt) else ""

    def _refuse_special_tokens(self, texts: Sequence[str]) -> None:
        for text in texts:
            if not any(start in text for start in self._special_starts):
                continue
            found = next((token for token in self._special_tokens if token in text), None)
            if found is not None:
                raise RowError("special_token_in_text", f"the text holds the control token {found!r}")


def split_at(text: str, walls: Sequence[str]) -> list[str]:
    """Cut a text at some words and return what is between them."""
    parts = [text]
    for wall in walls:
        parts = [piece for part in parts for piece in part.split(wall)]
    return parts


def check_answers(
    learned: Sequence[str], answers: Sequence[Collection[str]], normalise: Callable[[str], str] = str
) -> None:
    """Compare what a sample teaches with what it should teach.

    Args:
        learned: The learned runs, decoded.
        answers: For each answer in order the accepted texts, end token included.
        normalise: The tokenizer's own text normalisation (NFC, say).

    Raises:
        RowError: `labels_do_not_decode`, with both texts.
    """
    if len(learned) != len(answers):
        raise RowError("labels_do_not_decode", f"{len(learned)} labelled runs, expected {len(answers)} answers")
    for seen, accepted in zip(learned, answers, strict=True):
        if seen not in accepted and seen not in {normalise(text) for text in accepted}:
            wanted = next(iter(accepted))
            raise RowError(
                "labels_do_not_decode", f"the labels read {seen!r:.{_MAX_SHOWN}}, expected {wanted!r:.{_MAX_SHOWN}}"
            )


def _get_normaliser(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], str]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    normaliser = getattr(backend, "normalizer", None)
    return str if normaliser is None else normaliser.normalize_str


def check_template(base: BaseModel, *, variant: PromptVariant, taxonomy: Taxonomy) -> None:
    """Encode two comments with the base's template and read them back.

    Args:
        base: The model whose tokenizer and template are used.
        variant: Prompt variant of VOC records.
        taxonomy: The labels.

    Raises:
        ModelError: If the template refuses such a chat, or a text does not come back.
    """
    leaf = taxonomy.leaves[0].path
    try:
        encoder = SampleEncoder(base, max_seq_len=_NO_LIMIT, variant=variant, taxonomy=taxonomy)
        for comment in _COMMENTS:
            record = VocRecord("probe", comment, (Segment(comment, leaf, "neutral"),))
            sample = encoder.encode_one(record)
            text = str(base.tokenizer.backend_tokenizer.decode(sample.input_ids.tolist(), skip_special_tokens=False))
            if encoder.normalise(comment) not in text:
                raise RowError("chat_template", f"the prompt {text[-120:]!r} does not hold the comment {comment!r}")
    except RowError as error:
        raise ModelError(
            f"the chat template of {base.uri} does not round-trip ({error.reason}: {error.detail})",
            expected="a template that writes a system turn, a comment and an answer as they are, the prompt first",
            remedy="take the template of the model's family, or correct chat_template.jinja",
        ) from error


def format_sample(head: str, input_ids: np.ndarray, learned: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a line about the sample, then its text with learned parts in ⟦⟧ and all else, which the loss masks, bare."""
    parts = []
    for is_learned, group in groupby(zip(input_ids.tolist(), learned.tolist(), strict=True), key=lambda pair: pair[1]):
        text = str(tokenizer.decode([token for token, _ in group], clean_up_tokenization_spaces=False))
        parts.append(LEARNED.format(text) if is_learned else text)
    num_learned = int(np.count_nonzero(learned[1:]))
    return f"{head}, {len(input_ids)} tokens, {num_learned} learned\n{''.join(parts)}"
