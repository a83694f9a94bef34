"""Bad input: the real commands say what is wrong in one message, before Ray is imported and before any weight is read."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny_model import CHAT_TEMPLATE, make_tiny_model
from tests.tiny_run import create_tiny_run, make_voc_row, write_lines
from training.__main__ import main
from voc.config.file import check_config
from voc.errors import ConfigError
from voc.run import Run

Say = Callable[..., str]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Run:
    """A run whose base was good when its data was prepared."""
    root = tmp_path_factory.mktemp("bad")
    run = create_tiny_run(root, Path(shutil.copytree(tiny_base, root / "base")))
    assert main(["prepare", "--store-uri", run.store.uri, "--run-id", run.layout.run_id]) == 0
    return run


@pytest.fixture
def base(prepared: Run, tiny_base: Path) -> Path:
    """The run's base, good again."""
    folder = Path(prepared.config.model.base)
    shutil.rmtree(folder)
    return Path(shutil.copytree(tiny_base, folder))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """Run a stage that must fail, where Ray cannot be imported and no model can be loaded; return its message."""

    def call(run: Run, *words: str) -> str:
        monkeypatch.setitem(sys.modules, "ray", None)  # an import of it fails from here on
        monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *_, **__: pytest.fail("loaded"))
        capsys.readouterr()
        assert main([*words, "--store-uri", run.store.uri, "--run-id", run.layout.run_id]) == 2
        captured = capsys.readouterr()
        (line,) = captured.err.strip().splitlines()
        assert "Expected: " in line or "To do: " in line
        assert captured.out == ""
        return line

    return call


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def cut_file(base: Path) -> None:
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def store_as_fp8(base: Path) -> None:
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.float8_e4m3fn)
    save_file(tensors, base / "model.safetensors")


def split_and_lose(base: Path, *, file: bool) -> None:
    """Cut the weights into two files, and lose one of them, or one tensor of it."""
    tensors = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:10], "model-00002-of-00002.safetensors": names[10:]}
    index = {"weight_map": {name: path for path, part in parts.items() for name in part}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    for path, part in parts.items():
        save_file({name: tensors[name] for name in part if file or name != names[-1]}, base / path)
    if file:
        (base / "model-00002-of-00002.safetensors").unlink()


def only_pickles(base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")


def take_another_vocabulary(base: Path) -> None:
    other = make_tiny_model(base.parent / "larger", [f"word{n} thing{n} item{n}" for n in range(300)], vocab_size=600)
    shutil.copy(other / "tokenizer.json", base)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda base: (base / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (take_another_vocabulary, "tokens, its embedding 391 rows"),
        (
            lambda base: edit_json(base / "config.json", vocab_size=500),
            "has 391 rows, its config.json says vocab_size 500",
        ),
        (lambda base: edit_json(base / "config.json", eos_token_id=70), "eos_token_id 70 in config.json"),
        (
            lambda base: edit_json(base / "generation_config.json", eos_token_id=[2, 9000]),
            "eos_token_id 9000 in generation_config.json of",
        ),
        (store_as_fp8, "stores 1 of 24 tensors as F8_E4M3: model.norm.weight"),
        (
            lambda base: edit_json(base / "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
            "is quantised (gptq",
        ),
        (lambda base: split_and_lose(base, file=True), "the shard model-00002-of-00002.safetensors is missing"),
        (
            lambda base: split_and_lose(base, file=False),
            "names 1 tensors that are not in their files: model.norm.weight",
        ),
        (cut_file, "its header lists tensors up to byte"),
        (only_pickles, "pytorch_model.bin may be a pickle, which is never loaded"),
        (lambda base: edit_json(base / "config.json", auto_map={"AutoModel": "x.Model"}), "names code of its own"),
        (lambda base: edit_json(base / "config.json", max_position_embeddings=383), "max_seq_len is 384, the model"),
        (lambda base: (base / "chat_template.jinja").unlink(), "has no chat template"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_base_that_cannot_be_trained_is_one_message_of_the_training_command(
    prepared: Run, base: Path, say: Say, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(base)
    line = say(prepared, "run", "--arm", "mixed")
    assert line.startswith("ModelError: ")
    assert message in line
    assert str(base) in line


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (CHAT_TEMPLATE.replace("message['content']", "message['content'] | upper"), "PROBEPROBE"),
        (
            CHAT_TEMPLATE.replace("{{ message['content'] }}", "{{ message['content'] if message.role != 'user' }}"),
            "does not hold the comment",
        ),
        (
            CHAT_TEMPLATE.replace(
                "{% for message in messages %}",
                "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system') }}{% endif %}",
            ),
            "the chat template refuses it: no system",
        ),
        (
            CHAT_TEMPLATE.replace("assistant\n{% endif %}", "model\n{% endif %}"),
            "does not follow from the turns before",
        ),
    ],
    ids=["answer in capitals", "comment left out", "system refused", "another prompt"],
)
def test_a_chat_template_that_does_not_round_trip_is_one_message_of_prepare(
    tmp_path: Path, say: Say, template: str, message: str
) -> None:
    run = create_tiny_run(tmp_path / "run", make_tiny_model(tmp_path / "base", chat_template=template))
    line = say(run, "prepare")
    assert line.startswith("ModelError: the chat template of ")
    assert "does not round-trip" in line
    assert message in line
    assert not list(run.store.list_keys(run.layout.data))


def test_more_workers_than_rows_of_a_step_are_a_mistake_of_the_configuration(prepared: Run) -> None:
    tree = prepared.config.model_dump(mode="json")
    tree["training"]["num_workers"] = 16
    with pytest.raises(ConfigError, match="num_workers 16 is more than global_batch_size 8"):
        check_config(tree, "tiny")


def test_more_workers_than_rows_of_an_arm_are_one_message(tmp_path: Path, tiny_base: Path, say: Say) -> None:
    """Three rows, repeated, would keep eight workers busy with copies of each other."""
    (tmp_path / "run").mkdir()
    write_lines(tmp_path / "run" / "train.jsonl", [make_voc_row(n) for n in range(3)])
    run = create_tiny_run(tmp_path / "run", tiny_base, training={"num_workers": 8})
    assert main(["prepare", "--store-uri", run.store.uri, "--run-id", run.layout.run_id]) == 0
    line = say(run, "run", "--arm", "customer")
    assert line.startswith("TrainingError: arm 'customer' draws 3 different rows, training.num_workers is 8")
