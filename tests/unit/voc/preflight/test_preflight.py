from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.voc.conftest import Night, voc_row, write_model, write_safetensors
from voc.champion import ChampionRecord, append_champion
from voc.config.file import hash_config, load_config
from voc.errors import ConfigError, PreflightError
from voc.preflight.preflight import PreflightResult, run_preflight
from voc.run import open_run
from voc.store.uri import open_store


def preflight(night: Night, run_id: str = "r1") -> PreflightResult:
    return run_preflight(load_config(night.config_path), run_id)


def problems(night: Night) -> str:
    with pytest.raises(PreflightError) as caught:
        preflight(night)
    assert not night.store_folder.exists() or not [p for p in night.store_folder.rglob("*") if p.is_file()]
    return str(caught.value)


def test_a_good_night_creates_its_run_and_says_what_was_read(night: Night) -> None:
    result = preflight(night)
    assert (result.run_id, result.arms) == ("r1", ("mix",))
    run = open_run(result.store_uri, "r1")
    assert hash_config(run.config) == result.config_hash
    assert all(finding.passed for finding in result.findings)
    details = {finding.subject: finding.detail for finding in result.findings}
    assert details["data.taxonomy"].endswith("3 leaves")
    assert details["data.test"].endswith("5 rows")
    assert details["data.sources.customer"].endswith("8 rows")
    assert details["arms.mix"] == "40 samples: customer 30 (3.75 passes), general 10 (5.00 passes)"
    assert details["champion"].startswith("none yet")


def test_the_same_run_again_is_fine_and_another_configuration_is_not(night: Night) -> None:
    first = preflight(night)
    before = (night.store_folder / "runs/r1/config.json").read_bytes()
    assert preflight(night) == first
    night.tree["seed"] = 1
    with pytest.raises(ConfigError, match=r"'r1' exists .* with another configuration"):
        preflight(night)
    assert (night.store_folder / "runs/r1/config.json").read_bytes() == before
    assert preflight(night, "r2").config_hash != first.config_hash


def test_a_run_id_that_is_no_folder_name_is_refused_before_anything_else(night: Night) -> None:
    with pytest.raises(ConfigError, match=r"run id '\.\./r1'"):
        preflight(night, "../r1")
    assert not night.store_folder.exists()


def test_all_problems_are_reported_at_once_and_nothing_is_written(night: Night) -> None:
    night.path("taxonomy.csv").unlink()
    night.path("test.jsonl").write_text("")
    night.path("customer.jsonl").unlink()
    night.path("general.jsonl").write_text("{\n")
    night.path("mmlu/test.parquet").write_bytes(b"version https://git-lfs")
    night.tree["model"]["base"] = str(night.path("no-model"))
    night.tree["evaluation"]["voc"]["max_tokens"] = 512
    message = problems(night)
    assert "6 of " in message  # an empty test set cannot be judged without a taxonomy
    for part in (
        "data.taxonomy: ", "taxonomy.csv does not exist",
        "data.sources.customer: ", "customer.jsonl does not exist",
        "data.sources.general: ", "malformed_json 1",
        "test.parquet is not a Parquet file",
        "model.base: ", "there is no such folder",
        "serving: evaluation.voc.max_tokens 512 leaves no room",
    ):  # fmt: skip
        assert part in message


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "test.jsonl is empty"),
        ([voc_row("a", L2="Batery")], "label_not_in_taxonomy 1.*'Batery' is not in the taxonomy.*nearest is 'Battery'"),
        ([voc_row("a"), voc_row("a")], "duplicate_id 1.*the id 'a' was used"),
        ([{"id": "a"}], "schema 1"),
    ],
)
def test_a_test_set_that_cannot_be_used_is_named_with_its_first_bad_row(night: Night, rows: list, message: str) -> None:
    night.write_jsonl("test.jsonl", rows)
    with pytest.raises(PreflightError, match=message):
        preflight(night)


def test_a_few_refused_rows_pass_within_the_limit_and_are_told(night: Night) -> None:
    night.tree["data"]["max_quarantine_ratio"] = 0.2
    night.write_jsonl("customer.jsonl", [*(voc_row(f"c{i}", f"battery {i}") for i in range(9)), {"id": "x"}])
    details = {finding.subject: finding.detail for finding in preflight(night).findings}
    assert details["data.sources.customer"].endswith("9 rows, refused: schema 1")


def test_labels_are_matched_as_forgivingly_as_prepare_will(night: Night) -> None:
    night.write_jsonl("test.jsonl", [voc_row("a", L2="battery ")])
    assert "label_not_in_taxonomy" in problems(night)
    night.tree["data"]["label_matching"] = "forgiving"
    assert preflight(night)


def test_what_is_said_about_refused_rows_holds_no_personal_data(night: Night) -> None:
    night.write_jsonl("test.jsonl", [voc_row("jane.doe@example.org") | {"segments": 3, "comment": ""}])
    assert "jane.doe@example.org" in problems(night)
    night.tree["data"]["redaction"] = {"kinds": ["email"]}
    assert "jane.doe@example.org" not in problems(night)


def test_comments_of_the_test_set_that_are_trained_on_are_counted(night: Night) -> None:
    rows = [json.loads(line) for line in night.path("test.jsonl").read_text().splitlines()]
    night.write_jsonl("customer.jsonl", [{**row, "id": f"c{i}"} for i, row in enumerate(rows[:2])])
    details = {finding.subject: finding.detail for finding in preflight(night).findings}
    assert details["data.sources.customer"].endswith("2 rows, 2 comments are also in the test set")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"L1,L2\na,b\n"])
def test_a_broken_taxonomy_is_one_finding_and_does_not_hide_missing_files(night: Night, content: bytes) -> None:
    night.path("taxonomy.csv").write_bytes(content)
    night.path("test.jsonl").unlink()
    message = problems(night)
    assert "2 of " in message
    assert "data.taxonomy" in message
    assert "test.jsonl does not exist" in message


def test_an_unreachable_store_is_a_finding_beside_the_others(night: Night) -> None:
    night.store_folder.write_text("a file where the folder should be")
    night.path("test.jsonl").unlink()
    with pytest.raises(PreflightError, match=r"(?s)store\.uri: cannot write.*test\.jsonl does not exist"):
        preflight(night)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda f: (f / "chat_template.jinja").unlink(), "no chat template"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json holds list"),
        (lambda f: (f / "config.json").write_text('{"max_position_embeddings": 511}'), "serving.max_model_len is 512"),
        (lambda f: (f / "config.json").write_text('{"max_position_embeddings": 100}'), "training.max_seq_len is 256"),
        (
            lambda f: (f / "config.json").write_text('{"text_config": {"max_position_embeddings": 100}}'),
            "has 100 positions",
        ),
        (lambda f: cut(f / "model.safetensors"), "model.safetensors has "),
        (lambda f: write_safetensors(f / "model.safetensors", {"a": ("F8_E4M3", (2, 2))}), "1 of 1 tensors as F8_E4M3"),
        (
            lambda f: (f / "config.json").write_text('{"quantization_config": {"quant_method": "fp8"}}'),
            "is quantised (fp8",
        ),
        (lambda f: (f / "config.json").write_text('{"auto_map": {"AutoModel": "code.py"}}'), "names code of its own"),
    ],
)
def test_a_base_model_that_cannot_be_used_is_explained(night: Night, spoil, message: str) -> None:
    spoil(night.path("base"))
    assert message in problems(night)


def test_extra_models_and_the_champion_are_looked_at_too(night: Night) -> None:
    night.tree["extra_models"] = [{"name": "other", "title": "Other", "uri": str(night.path("nothing"))}]
    record = ChampionRecord(str(night.path("gone")), "d", "r0", "mix", "better", "2026-11-22T00:00:00+00:00")
    append_champion(open_store(str(night.store_folder)), record, after=0)
    with pytest.raises(PreflightError, match=r"(?s)extra_models\.other: .*nothing.*champion: .*gone"):
        preflight(night)
    write_model(night.path("nothing"))
    write_model(night.path("gone"))
    details = {finding.subject: finding.detail for finding in preflight(night).findings}
    assert details["champion"] == "mix of r0"


def test_a_quantised_model_may_be_evaluated(night: Night) -> None:
    other = write_model(night.path("other"))
    write_safetensors(other / "model.safetensors", {"a": ("F8_E4M3", (2, 2))})
    night.tree["extra_models"] = [{"name": "other", "title": "Other", "uri": str(other)}]
    assert all(finding.passed for finding in preflight(night).findings)


def test_a_mixture_by_tokens_is_told_as_shares(night: Night) -> None:
    night.tree["arms"][0]["unit"] = "tokens"
    details = {finding.subject: finding.detail for finding in preflight(night).findings}
    assert details["arms.mix"] == "40 samples, shared by tokens: customer 75.0%, general 25.0%"


def test_categories_of_a_source_are_shared_too_and_must_be_there(night: Night) -> None:
    night.tree["arms"][0]["sources"][1]["categories"] = {"general": 1}
    details = {finding.subject: finding.detail for finding in preflight(night).findings}
    assert details["arms.mix"] == "40 samples: customer 30 (3.75 passes), general/general 10 (5.00 passes)"
    night.tree["arms"][0]["sources"][1]["categories"] = {"general": 1, "code": 1}
    with pytest.raises(PreflightError, match=r"arms\.mix: .*no rows of category 'code'; it has general \(2 rows\)"):
        preflight(night, "r2")


def test_a_hub_dataset_is_taken_as_such_and_said_so(night: Night) -> None:
    night.tree["evaluation"]["mmlu"]["dataset"] = "cais/mmlu"
    details = {finding.subject: finding.detail for finding in preflight(night).findings}
    assert "hub dataset" in details["evaluation.mmlu.dataset"]


def test_a_missing_dataset_folder_is_not_taken_for_a_hub_dataset(night: Night) -> None:
    night.tree["evaluation"]["mmlu"]["dataset"] = str(night.path("none"))
    assert "dev.parquet is missing; test.parquet is missing" in problems(night)


def test_a_server_must_reserve_the_gpus_that_it_uses(night: Night) -> None:
    night.tree["serving"].update(num_gpus=2, tensor_parallel_size=2, data_parallel_size=2)
    assert "serving.num_gpus 2 is less than tensor_parallel_size x data_parallel_size = 4" in problems(night)


def test_a_server_across_nodes_needs_gpus_a_share_per_node_and_an_address_that_others_reach(night: Night) -> None:
    night.tree["serving"].update(num_nodes=2, data_parallel_size=3)
    found = problems(night)
    assert "needs GPUs" in found
    assert "serving.data_parallel_size 3 is not a multiple of num_nodes 2" in found
    assert "serving.host 127.0.0.1 cannot be reached from other nodes" in found


def test_models_that_others_serve_are_asked_or_read_before_the_night(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    nowhere, outputs = "http://127.0.0.1:1/v1", night.path("inference_output.jsonl")
    night.tree["external_models"] = {
        "openai": [{"name": "gpt", "title": "G", "url": nowhere, "model": "g", "key_variable": "NO_SUCH_KEY"}],
        "bedrock": [{"name": "lite", "title": "L", "model": "m:0", "region": "us-east-1", "url": nowhere}],
        "imported": [{"name": "tuned", "title": "T", "uri": str(outputs)}],
    }
    found = problems(night)
    assert "external_models.gpt: the environment variable NO_SUCH_KEY is not set" in found
    assert "external_models.lite: Bedrock cannot be reached for m:0 in us-east-1" in found
    assert "external_models.tuned: " in found
    assert "inference_output.jsonl does not exist" in found
    outputs.write_text("{}\n{}\n")
    assert "external_models.tuned" not in problems(night)


def test_the_names_of_all_rows_are_different(night: Night) -> None:
    row = {"name": "mix", "title": "M", "model": "m:0", "region": "us-east-1"}
    night.tree["external_models"] = {"bedrock": [row, row | {"name": "base"}]}
    with pytest.raises(ConfigError, match=r"(?s)external_models: 'mix' appears twice.*'base' is reserved"):
        preflight(night)


def test_a_run_is_created_in_s3_as_in_a_folder(night: Night, store_uri: str) -> None:
    night.tree["store"]["uri"] = store_uri
    assert preflight(night) == preflight(night)
    assert open_run(store_uri, "r1").config.store.uri == store_uri


def test_it_loads_in_the_airflow_environment(repository: Path) -> None:
    blocked = ("torch", "ray", "vllm", "transformers", "lm_eval", "airflow", "pyarrow", "boto3", "numpy")
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); import voc.commands, voc.__main__"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
