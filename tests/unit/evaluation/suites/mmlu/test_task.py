from pathlib import Path

import pytest
import yaml

from evaluation.suites.mmlu.protocols import PROTOCOLS, TASK_FOLDER, Asking, load_documents, make_documents, name_task
from tests.unit.evaluation.served_run import write_questions
from voc.errors import DataError
from voc.mmlu import load_mmlu, load_mmlu_examples
from voc.prompts import MMLU_LETTER_PREFIX, render_mmlu_generative, render_mmlu_log_likelihood


def load_task(folder, protocol, num_fewshot=0):
    from lm_eval.tasks import TaskManager

    metadata = {
        "dataset": str(folder),
        "protocol": protocol,
        "limit": None,
        "num_fewshot": num_fewshot,
        "shard": 0,
        "num_shards": 1,
    }
    manager = TaskManager(include_path=str(TASK_FOLDER), include_defaults=False, metadata=metadata)
    return manager.load([name_task(protocol)])["tasks"][name_task(protocol)]


def build_requests(task, **options):
    task.build_all_requests(limit=None, rank=0, world_size=1, **options)
    return task.instances


def test_log_likelihood_requests_are_the_prompt_of_voc_and_one_letter_each(tmp_path):
    write_questions(tmp_path, 6)
    item = load_mmlu(str(tmp_path), None)[0]
    requests = build_requests(load_task(tmp_path, "log_likelihood"))
    prompt = render_mmlu_log_likelihood(item.subject, item.question, item.choices)
    assert [request.args for request in requests[:4]] == [(prompt, f" {letter}") for letter in "ABCD"]
    assert len(requests) == 24


def test_the_log_likelihood_prompt_is_that_of_stock_mmlu(tmp_path):
    write_questions(tmp_path, 6)
    import lm_eval
    from lm_eval.utils import apply_template

    stock_file = Path(lm_eval.__file__).parent / "tasks" / "mmlu" / "default" / "_default_template_yaml"
    template = yaml.safe_load(stock_file.read_text())["doc_to_text"]
    for item in load_mmlu(str(tmp_path), None):
        stock = apply_template(template, {"question": item.question, "choices": list(item.choices)})
        title = item.subject.replace("_", " ")
        head = f"The following are multiple choice questions (with answers) about {title}.\n\n"
        assert render_mmlu_log_likelihood(item.subject, item.question, item.choices) == head + stock


def test_generative_requests_are_one_user_turn_with_the_prompt_of_voc(tmp_path):
    write_questions(tmp_path, 6)
    item = load_mmlu(str(tmp_path), None)[0]
    requests = build_requests(
        load_task(tmp_path, "generative"),
        apply_chat_template=True,
        chat_template=lambda messages, add_generation_prompt: messages,
    )
    prompt = render_mmlu_generative(item.question, item.choices)
    assert requests[0].args[0] == [{"role": "user", "content": prompt}]


def test_letter_requests_begin_the_closing_sentence_and_allow_four_letters(tmp_path):
    write_questions(tmp_path, 6)
    item = load_mmlu(str(tmp_path), None)[0]
    seen = []
    requests = build_requests(
        load_task(tmp_path, "letter"),
        apply_chat_template=True,
        system_instruction="Be brief.",
        chat_template=lambda messages, add_generation_prompt: seen.append(add_generation_prompt) or messages,
    )
    chat, settings = requests[0].args
    assert chat == Asking("letter", system_prompt="Be brief.").render(item)
    assert chat[-1] == {"role": "assistant", "content": MMLU_LETTER_PREFIX}
    assert settings["structured_outputs"] == {"choice": ["A", "B", "C", "D"]}
    assert set(seen) == {False}


def test_examples_are_of_the_same_subject_and_solved(tmp_path):
    write_questions(tmp_path, 12)
    items, examples = load_mmlu(str(tmp_path), None), load_mmlu_examples(str(tmp_path))
    prompt = make_documents(items, Asking("log_likelihood", num_fewshot=2, examples=tuple(examples)))[1]["prompt"]
    assert prompt.startswith(
        "The following are multiple choice questions (with answers) about high school 1.\n\nWhat is 1?"
    )
    assert prompt.count("\nAnswer: ") == 2
    assert "What is 3?\nA. v3a\nB. v3b\nC. v3c\nD. v3d\nAnswer: D\n\n" in prompt
    assert prompt.endswith("D. v1d\nAnswer:")


def test_a_subject_with_too_few_examples_is_named(tmp_path):
    write_questions(tmp_path, 12)
    items, examples = load_mmlu(str(tmp_path), None), load_mmlu_examples(str(tmp_path))
    with pytest.raises(DataError, match=r"'high_school_0' has 5 examples.*Expected: 6"):
        make_documents(items[:1], Asking("log_likelihood", num_fewshot=6, examples=tuple(examples)))


def test_documents_of_all_shards_are_all_questions(tmp_path):
    write_questions(tmp_path, 7)
    found = []
    for shard in range(3):
        documents = load_documents(
            dataset=str(tmp_path),
            protocol="generative",
            limit=None,
            num_fewshot=0,
            shard=shard,
            num_shards=3,
            version=1,
        )
        found += documents["test"]["custom_id"]
    assert sorted(found) == [f"mmlu-{i:06d}" for i in range(7)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_task_files_have_a_version(protocol):
    assert "version: 1" in (TASK_FOLDER / f"{name_task(protocol)}.yaml").read_text()
