import json
from dataclasses import replace

import pandas as pd
import pytest

from demo.__main__ import COMMANDS
from demo.corpus import CATEGORIES
from demo.make import make_demo
from demo.recipe import Recipe
from demo.wordings import TEST_QUESTIONS, render_wording
from demo.world import make_world
from voc.arguments import build_parser, run_command
from voc.models.folder import list_model_problems
from voc.store.local import LocalStore
from voc.store.manifest import verify_directory

TINY = Recipe(pretrain_steps=2, pretrain_batch_size=4, train_comments=200, test_comments=20, questions=50, threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder, TINY)
    return folder


def read_manifests(folder):
    return {name: (folder / name / "manifest.json").read_bytes() for name in ("base", "data", "mmlu")}


def test_every_folder_is_finished(folder):
    for name in ("base", "data", "mmlu"):
        verify_directory(LocalStore(folder), name)


def test_the_base_is_a_usable_model_folder(folder):
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    assert list_model_problems(str(folder / "base")) == []
    assert AutoConfig.from_pretrained(folder / "base").architectures == ["Qwen3ForCausalLM"]
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    assert model.config.eos_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)


def test_a_second_call_makes_nothing(folder, capsys):
    before = read_manifests(folder)
    make_demo(folder, TINY)
    assert read_manifests(folder) == before
    assert capsys.readouterr().out.count("finished before") == 3


def test_the_same_recipe_gives_the_same_bytes(folder, tmp_path):
    make_demo(tmp_path, TINY)
    for name in ("data", "mmlu", "base"):
        digests = [json.loads((root / name / "manifest.json").read_bytes())["digest"] for root in (folder, tmp_path)]
        assert digests[0] == digests[1], name


def test_another_recipe_is_made_anew(tmp_path, capsys):
    make_demo(tmp_path, TINY)
    make_demo(tmp_path, replace(TINY, questions=10))
    assert len(pd.read_parquet(tmp_path / "mmlu" / "test.parquet")) == 10
    assert "finished before" not in capsys.readouterr().out


def test_test_questions_are_held_out_wordings_in_the_layout_of_mmlu(folder):
    frame = pd.read_parquet(folder / "mmlu" / "test.parquet")
    assert list(frame.columns) == ["question", "subject", "choices", "answer", "slice"]
    by_question = {render_wording(w, fact): fact for w in TEST_QUESTIONS for fact in make_world(0).facts}
    for row in frame.itertuples():
        fact = by_question[row.question]
        assert (row.subject, tuple(row.choices), row.slice) == (fact.subject, fact.options, fact.slice)
        assert row.choices[row.answer] == fact.value


def test_dev_has_five_questions_for_each_subject(folder):
    frame = pd.read_parquet(folder / "mmlu" / "dev.parquet")
    assert set(frame.groupby("subject").size()) == {5}
    assert set(frame["slice"]) == {"replayed"}


def test_the_card_says_what_there_is(folder):
    card = json.loads((folder / "card.json").read_text())
    assert card["inputs"]["seed"] == 0
    assert card["chance"] == 0.25
    assert 0 <= card["data"]["look_up_micro_f1"] < 1
    assert sum(card["data"]["general_rows"].values()) == TINY.general_rows
    assert set(card["data"]["general_rows"]) == set(CATEGORIES.values())


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--questions", "577", "questions is 577, the world has 1 to 576"),
        ("--train-comments", "0", "train_comments is 0"),
    ],
)
def test_impossible_sizes_are_one_message_and_leave_nothing(tmp_path, capsys, option, value, message):
    code = run_command(
        build_parser("demo", None, COMMANDS), ["make", "--output", str(tmp_path / "world"), option, value]
    )
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "world").exists()
