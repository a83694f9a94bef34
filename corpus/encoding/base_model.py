"""The model that every arm starts from: its tokenizer, and everything about it that can be wrong before training starts.

The files are read as they are: transformers' Auto classes import torch, half a gigabyte in each of many worker processes that
only turn text into tokens.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voc.errors import ModelError
from voc.models.folder import check_model_folder, digest_model, localise_model
from voc.models.weight_files import TensorLayout, check_trainable, check_weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
        ModelError: If files are missing or cut short, the weights are quantised, the architecture is not known, the
            tokenizer does not fit the weights, there is no usable chat template, or the model cannot see `max_seq_len` tokens.
    """
    check_model_folder(uri)
    folder = localise_model(uri)
    whole = _read_config(uri, folder)
    config = whole.get("text_config", whole)
    layout = check_weight_files(uri, folder)
    check_trainable(uri, layout, whole)
    tokenizer = load_tokenizer(folder)
    _check_sizes(uri, config, layout, tokenizer, max_seq_len)
    _check_end_tokens(uri, whole, folder, tokenizer)
    stops = _list_stops(folder, tokenizer)
    end_of_turn = find_end_of_turn(uri, tokenizer, stops)
    end_of_text = next((token for token in stops if token != end_of_turn), end_of_turn)
    return BaseModel(uri, folder, digest or digest_model(uri), tokenizer, end_of_turn, end_of_text)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model folder, from its `tokenizer.json`; the last one is kept, until its files change.

    Raises:
        ModelError: If it cannot be read.
    """
    return _load_tokenizer(folder, tuple((path.name, path.stat().st_mtime_ns) for path in sorted(folder.iterdir())))


@lru_cache(maxsize=1)
def _load_tokenizer(folder: Path, _stamps: tuple[tuple[str, int], ...]) -> PreTrainedTokenizerBase:
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(folder)
    except Exception as error:  # the Rust parser raises plain Exception
        raise ModelError(f"the tokenizer of {folder} cannot be read: {error}", remedy="check model.base") from error
    _return_free_memory()
    return tokenizer


def _return_free_memory() -> None:
    """Give back to the system what loading left free: transformers copies a tokenizer, 110 MiB at 150,000 tokens."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


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
    if _PROBE not in text:
        raise ModelError(
            f"the chat template of {uri} does not round-trip: of a chat with {_PROBE!r} it makes {text[:80]!r}",
            expected="a template that writes messages as they are",
            remedy="take the template of the model's family, or correct chat_template.jinja",
        )
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


def _read_config(uri: str, folder: Path) -> Mapping[str, Any]:
    """Return `config.json`; what is about text may be its `text_config`."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model_type = str(config["model_type"])
        int(config.get("text_config", config)["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"config.json of {uri} cannot be read: {error!r}",
            expected="an object with model_type and vocab_size",
            remedy="check model.base",
        ) from error
    if importlib.util.find_spec(f"transformers.models.{model_type.replace('-', '_')}") is None:
        raise ModelError(
            f"config.json of {uri} cannot be read: its model_type is {model_type!r}",
            expected="a model that this version of transformers knows",
            remedy="check model.base",
        )
    return config


def _check_sizes(
    uri: str,
    config: Mapping[str, Any],
    layout: TensorLayout,
    tokenizer: PreTrainedTokenizerBase,
    max_seq_len: int,
) -> None:
    if len(tokenizer) > config["vocab_size"]:
        raise ModelError(
            f"the tokenizer of {uri} has {len(tokenizer)} tokens, its embedding {config['vocab_size']} rows",
            expected="an embedding at least as large as the vocabulary",
            remedy="the folder mixes two models: take both from one place",
        )
    rows = {shape[0] for name, (_, shape) in layout.items() if name.endswith("embed_tokens.weight") and len(shape) == 2}
    if rows and config["vocab_size"] not in rows:
        raise ModelError(
            f"the embedding of {uri} has {', '.join(map(str, sorted(rows)))} rows, its config.json says vocab_size "
            f"{config['vocab_size']}",
            remedy="the folder mixes two models: take weights and config.json from one place",
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {uri} has no eos_token", remedy="name it in tokenizer_config.json")
    positions = config.get("max_position_embeddings")
    if positions is not None and max_seq_len > positions:
        raise ModelError(
            f"training.max_seq_len is {max_seq_len}, the model {uri} sees {positions} positions",
            expected=f"at most {positions}",
            remedy="lower training.max_seq_len",
        )


def _check_end_tokens(uri: str, config: Mapping[str, Any], folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that what the model's settings call the end of a text is a special token of this tokenizer."""
    specials = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    named = {
        "config.json": config.get("eos_token_id", config.get("text_config", {}).get("eos_token_id")),
        "generation_config.json": _read_generation_eos(folder),
    }
    for file, value in named.items():
        for token in _as_list(value):
            if token not in specials:
                text = tokenizer.convert_ids_to_tokens(token) if 0 <= token < len(tokenizer) else None
                seen = "no token" if text is None else f"the ordinary token {text!r}"
                raise ModelError(
                    f"eos_token_id {token} in {file} of {uri} is {seen} of its tokenizer",
                    expected=f"a special token, as {tokenizer.eos_token} ({tokenizer.eos_token_id}) is",
                    remedy="the folder mixes two models: take tokenizer and config files from one place",
                )


def _read_generation_eos(folder: Path) -> Any:
    path = folder / "generation_config.json"
    return json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None


def _as_list(value: Any) -> list[int]:
    return list(value) if isinstance(value, list) else [] if value is None else [int(value)]


def _added_specials(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]


def _list_stops(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the tokens at which a server stops: the tokenizer's own, then those of generation_config.json."""
    own = int(tokenizer.convert_tokens_to_ids(str(tokenizer.eos_token)))  # type: ignore[arg-type]
    ids = [own, *_as_list(_read_generation_eos(folder))]
    return [str(tokenizer.convert_ids_to_tokens(token)) for token in dict.fromkeys(ids)]
