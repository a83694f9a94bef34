"""The model that every arm starts from: its tokenizer, and everything about it that can be wrong before training starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from voc.errors import ModelError
from voc.model_folder import check_model_folder, digest_model, localise_model

_PROBE = "probe"


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A checked base model.

    Attributes:
        uri: Where it was found.
        folder: Its files on this machine.
        digest: Digest of its files.
        tokenizer: Its tokenizer, with a chat template.
        end_of_turn: The special token that closes an assistant turn; the model is taught to write it.
        end_of_text: The special token that ends plain text.
    """

    uri: str
    folder: Path
    digest: str
    tokenizer: PreTrainedTokenizerBase
    end_of_turn: str
    end_of_text: str


def open_base(uri: str, *, max_seq_len: int, digest: str | None = None) -> BaseModel:
    """Bring a base model to this machine and check that it can be trained at this row length.

    Args:
        uri: A folder in the Hugging Face layout.
        max_seq_len: Longest row in tokens.
        digest: Its digest, where it is known; computed otherwise.

    Raises:
        ModelError: If files are missing, the tokenizer does not fit the weights, there is no usable chat template, or
            the model cannot see `max_seq_len` tokens.
    """
    check_model_folder(uri)
    folder = localise_model(uri)
    try:
        config = AutoConfig.from_pretrained(folder).get_text_config()
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"config or tokenizer of {uri} cannot be read: {error}",
            expected="a model that this version of transformers knows",
            remedy="check model.base",
        ) from error
    _check_sizes(uri, config, tokenizer, max_seq_len)
    stops = _list_stops(folder, tokenizer)
    end_of_turn = find_end_of_turn(uri, tokenizer, stops)
    end_of_text = next((token for token in stops if token != end_of_turn), end_of_turn)
    return BaseModel(uri, folder, digest or digest_model(uri), tokenizer, end_of_turn, end_of_text)


def find_end_of_turn(uri: str, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str]) -> str:
    """Return the special token with which the chat template closes an assistant turn.

    Args:
        uri: Where the model is, for messages.
        tokenizer: Its tokenizer.
        stops: The tokens at which a server stops.

    Raises:
        ModelError: If there is no template, it closes turns with plain text, or the served model would not stop there.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            f"the model {uri} has no chat template",
            expected="chat_template.jinja, or chat_template in tokenizer_config.json",
            remedy="take the instruction-tuned variant, or add a template to the folder",
        )
    probe = [{"role": "user", "content": _PROBE}, {"role": "assistant", "content": f"{_PROBE}{_PROBE}"}]
    text = str(tokenizer.apply_chat_template(probe, tokenize=False))
    rest = text.rpartition(_PROBE)[2].strip()
    token = next((t for t in tokenizer.all_special_tokens + _added_specials(tokenizer) if rest.startswith(t)), None)
    if token is None:
        raise ModelError(
            f"the chat template of {uri} closes an assistant turn with {rest[:40]!r}",
            expected="a special token of its tokenizer",
            remedy="correct the template: without it the model never learns to stop",
        )
    if token not in stops:
        raise ModelError(
            f"the chat template of {uri} closes a turn with {token!r}, which is none of its end tokens {', '.join(stops)}",
            expected="the tokenizer's eos_token, or an eos_token_id of generation_config.json",
            remedy="add the token there: else every answer runs to its length limit",
        )
    return token


def _check_sizes(uri: str, config: Any, tokenizer: PreTrainedTokenizerBase, max_seq_len: int) -> None:
    if len(tokenizer) > config.vocab_size:
        raise ModelError(
            f"the tokenizer of {uri} has {len(tokenizer)} tokens, its embedding {config.vocab_size} rows",
            expected="an embedding at least as large as the vocabulary",
            remedy="the folder mixes two models: take both from one place",
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {uri} has no eos_token", remedy="name it in tokenizer_config.json")
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and max_seq_len > positions:
        raise ModelError(
            f"training.max_seq_len is {max_seq_len}, the model {uri} sees {positions} positions",
            expected=f"at most {positions}",
            remedy="lower training.max_seq_len",
        )


def _added_specials(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]


def _list_stops(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the tokens at which a server stops: the tokenizer's own, then those of generation_config.json."""
    ids: list[int] = [tokenizer.convert_tokens_to_ids(str(tokenizer.eos_token))]  # type: ignore[list-item]
    if (folder / "generation_config.json").is_file():
        eos = GenerationConfig.from_pretrained(folder).eos_token_id
        ids += eos if isinstance(eos, list) else [] if eos is None else [eos]
    return [str(tokenizer.convert_ids_to_tokens(token)) for token in dict.fromkeys(ids)]
