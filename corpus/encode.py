"""From a record to `input_ids` and `labels`: the chat template, labels on what the assistant says, checked by decoding.

The text is cut where labels begin and end, and each piece is tokenised by itself, so the tokens in front of an answer are
exactly those that a server makes of the prompt. Every sample is decoded again: its labelled tokens must read as the
expected answers with their end tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from corpus.base_model import BaseModel
from voc.prompts import PromptVariant, render_answer, render_messages
from voc.records import GeneralRecord, RowError, VocRecord
from voc.taxonomy import Taxonomy

IGNORE_INDEX = -100
_MAX_SHOWN = 60


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """One document.

    Attributes:
        input_ids: Its tokens.
        labels: The same, with `IGNORE_INDEX` where nothing is learned.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]


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
        self.taxonomy = taxonomy
        added = base.tokenizer.added_tokens_decoder.values()
        self._special_tokens = tuple(token.content for token in added if token.special)
        self._normalise = _get_normaliser(base.tokenizer)
        self._preamble = self._find_preamble()

    def encode_voc(self, record: VocRecord) -> EncodedSample:
        """Encode a comment with the answer that its gold segments ask for.

        Raises:
            RowError: As `encode_general`.
        """
        prompt = render_messages(record.comment, self.variant, self.taxonomy)
        return self.encode_chat([*prompt, {"role": "assistant", "content": render_answer(record.segments)}])

    def encode_general(self, record: GeneralRecord) -> EncodedSample:
        """Encode a chat or a plain continuation.

        Raises:
            RowError: `too_long`, `special_token_in_text`, `chat_template` or `labels_do_not_decode`.
        """
        return (
            self.encode_chat(record.messages)
            if record.messages
            else self.encode_plain(record.prompt, record.completion)
        )

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> EncodedSample:
        """Encode a chat; every assistant turn is learned with its end-of-turn token, nothing else."""
        self._refuse_special_tokens([message["content"] for message in messages])
        pieces = self._split_turns(messages)
        answers = [message["content"] for message in messages if message["role"] == "assistant"]
        return self._encode_pieces(pieces, [self._list_accepted(answer) for answer in answers])

    def encode_plain(self, prompt: str, completion: str) -> EncodedSample:
        """Encode plain text; the completion is learned, byte for byte, with the end-of-text token."""
        self._refuse_special_tokens([prompt, completion])
        answer = f"{completion}{self.end_of_text}"
        return self._encode_pieces([(prompt, False), (answer, True)], [(answer,)], add_special_tokens=True)

    def _list_accepted(self, answer: str) -> tuple[str, ...]:
        """What may be learned for a turn: a template may strip it and put its preamble (an empty thinking block) first."""
        bodies = dict.fromkeys((answer, answer.strip()))
        return tuple(f"{head}{body}{self.end_of_turn}" for body in bodies for head in ("", self._preamble))

    def _encode_pieces(
        self,
        pieces: Sequence[tuple[str, bool]],
        answers: Sequence[Collection[str]],
        *,
        add_special_tokens: bool = False,
    ) -> EncodedSample:
        input_ids: list[int] = []
        labels: list[int] = []
        for text, is_learned in pieces:
            ids = self.tokenizer(text, add_special_tokens=add_special_tokens and not is_learned)["input_ids"]
            input_ids += ids
            labels += ids if is_learned else [IGNORE_INDEX] * len(ids)
        if len(input_ids) > self.max_seq_len:
            raise RowError("too_long", f"{len(input_ids)} tokens, training.max_seq_len is {self.max_seq_len}")
        sample = EncodedSample(tuple(input_ids), tuple(labels))
        check_labels(sample, answers, self.tokenizer, self._normalise)
        return sample

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
            found = next((token for token in self._special_tokens if token in text), None)
            if found is not None:
                raise RowError("special_token_in_text", f"the text holds the control token {found!r}")


def list_learned_texts(sample: EncodedSample, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Decode every unbroken run of labelled tokens."""
    runs: list[list[int]] = []
    previous = IGNORE_INDEX
    for label in sample.labels:
        if label != IGNORE_INDEX:
            if previous == IGNORE_INDEX:
                runs.append([])
            runs[-1].append(label)
        previous = label
    return [str(tokenizer.decode(run, clean_up_tokenization_spaces=False)) for run in runs]


def check_labels(
    sample: EncodedSample,
    answers: Sequence[Collection[str]],
    tokenizer: PreTrainedTokenizerBase,
    normalise: Callable[[str], str] = str,
) -> None:
    """Compare what a sample teaches with what it should teach.

    Args:
        sample: The encoded sample.
        answers: For each answer in order the accepted texts, end token included.
        tokenizer: Decodes the labels.
        normalise: The tokenizer's own text normalisation (NFC, say).

    Raises:
        RowError: `labels_do_not_decode`, with both texts.
    """
    learned = list_learned_texts(sample, tokenizer)
    if len(learned) != len(answers):
        raise RowError("labels_do_not_decode", f"{len(learned)} labelled runs, expected {len(answers)} answers")
    for seen, accepted in zip(learned, answers, strict=True):
        if seen not in {normalise(text) for text in accepted}:
            wanted = next(iter(accepted))
            raise RowError(
                "labels_do_not_decode", f"the labels read {seen!r:.{_MAX_SHOWN}}, expected {wanted!r:.{_MAX_SHOWN}}"
            )


def _get_normaliser(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], str]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    normaliser = getattr(backend, "normalizer", None)
    return str if normaliser is None else normaliser.normalize_str
