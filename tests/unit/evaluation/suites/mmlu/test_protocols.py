import json

import pytest

from evaluation.suites.lm_eval.tasks import read_chat_template
from evaluation.suites.mmlu.protocols import Asking
from voc.errors import IntegrityError
from voc.mmlu import MmluItem
from voc.store.local import LocalStore
from voc.store.manifest import commit_folder

ITEM = MmluItem(0, "mmlu-000000", "virology", None, "Which?", ("a", "b", "c", "d"), "B")


def test_what_is_sent_has_another_hash_in_every_protocol_and_with_another_system_turn():
    askings = [
        Asking("log_likelihood"),
        Asking("log_likelihood", num_fewshot=1, examples=(ITEM,)),
        Asking("generative"),
        Asking("generative", system_prompt="Be brief."),
        Asking("letter"),
    ]
    assert len({asking.hash_prompt(ITEM) for asking in askings}) == len(askings)


def test_the_letter_chat_is_the_generative_one_with_an_answer_begun():
    assert Asking("letter").render(ITEM)[:-1] == Asking("generative").render(ITEM)


def test_a_chat_template_is_read_from_its_file_or_from_the_settings(tmp_path):
    assert read_chat_template(str(tmp_path)) is None
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "old"}))
    assert read_chat_template(str(tmp_path)) == "old"
    (tmp_path / "chat_template.jinja").write_text("new")
    assert read_chat_template(str(tmp_path)) == "new"


def test_a_damaged_file_of_a_model_is_refused(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "chat_template.jinja").write_text("template")
    commit_folder(LocalStore(tmp_path), "model", folder)
    assert read_chat_template(str(folder)) == "template"
    (folder / "chat_template.jinja").write_text("another")
    with pytest.raises(IntegrityError, match=r"chat_template\.jinja has SHA-256"):
        read_chat_template(str(folder))
