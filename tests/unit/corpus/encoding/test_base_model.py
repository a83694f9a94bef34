from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from corpus.encoding.base_model import open_base
from tests.tiny_model import CHAT_TEMPLATE, make_tiny_model
from voc.errors import ModelError


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "model"))


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_good_base_names_its_end_of_turn(tiny_base: Path) -> None:
    base = open_base(str(tiny_base), max_seq_len=512)
    assert base.end_of_turn == "<|im_end|>"
    assert base.end_of_text == "<|endoftext|>"
    assert len(base.digest) == 64


def test_a_folder_without_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        open_base(str(folder), max_seq_len=64)


def test_a_model_without_chat_template_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        open_base(str(folder), max_seq_len=64)


def test_rows_longer_than_the_model_sees_are_refused(tiny_base: Path) -> None:
    with pytest.raises(ModelError, match=r"max_seq_len is 513, the model .* sees 512"):
        open_base(str(tiny_base), max_seq_len=513)


def test_a_vocabulary_larger_than_the_embedding_is_refused(folder: Path) -> None:
    edit_json(folder / "config.json", vocab_size=100)
    with pytest.raises(ModelError, match="tokens, its embedding 100 rows"):
        open_base(str(folder), max_seq_len=64)


def test_an_unknown_architecture_is_refused(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="nonesuch")
    with pytest.raises(ModelError, match="cannot be read"):
        open_base(str(folder), max_seq_len=64)


def test_a_template_that_closes_turns_with_plain_text_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", chat_template=CHAT_TEMPLATE.replace("<|im_end|>", " END"))
    with pytest.raises(ModelError, match="closes an assistant turn with 'END'"):
        open_base(str(folder), max_seq_len=64)


def test_a_template_whose_end_is_no_end_token_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", chat_template=CHAT_TEMPLATE.replace("<|im_end|>", "<|im_start|>"))
    with pytest.raises(ModelError, match="none of its end tokens"):
        open_base(str(folder), max_seq_len=64)


def test_a_known_digest_is_not_computed_again(tiny_base: Path) -> None:
    assert open_base(str(tiny_base), max_seq_len=64, digest="known").digest == "known"
