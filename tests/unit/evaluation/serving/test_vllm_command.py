import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.serving.vllm_command import build_command, build_environment, write_settings
from voc.config.night import ServingConfig

KEY = "the-secret-key"


def option(command, name):
    return command[command.index(name) + 1]


def test_a_gpu_server_gets_its_parallel_sizes_and_its_share_of_memory():
    serving = ServingConfig(max_model_len=4096, num_gpus=8, tensor_parallel_size=4, data_parallel_size=2)
    command = build_command(serving, Path("/models/x"), "candidate", host="127.0.0.1", port=8001)
    assert option(command, "--tensor-parallel-size") == "4"
    assert option(command, "--data-parallel-size") == "2"
    assert option(command, "--gpu-memory-utilization") == "0.9"
    assert "--kv-cache-memory-bytes" not in command
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in build_environment(serving, KEY, {})


def test_a_cpu_server_gets_its_parallel_sizes_too():
    serving = ServingConfig(max_model_len=4096, data_parallel_size=2)
    command = build_command(serving, Path("/models/x"), "candidate", host="127.0.0.1", port=8001)
    assert (option(command, "--tensor-parallel-size"), option(command, "--data-parallel-size")) == ("1", "2")
    assert "--gpu-memory-utilization" not in command


def test_copies_on_one_node_are_the_servers_own_processes():
    serving = ServingConfig(max_model_len=4096, num_gpus=8, data_parallel_size=8)
    command = build_command(serving, Path("/models/x"), "candidate", host="10.0.0.7", port=8001)
    assert "--data-parallel-backend" not in command
    assert "RAY_ADDRESS" not in build_environment(serving, KEY, {"RAY_ADDRESS": "10.0.0.1:6379"})
    assert serving.job_gpus == 8


def test_copies_across_nodes_are_placed_by_vllm_in_the_same_ray_cluster():
    serving = ServingConfig(
        max_model_len=4096, num_gpus=16, tensor_parallel_size=2, data_parallel_size=8, num_nodes=2, host="cluster"
    )
    command = build_command(serving, Path("/models/x"), "candidate", host="10.0.0.7", port=8001)
    assert option(command, "--data-parallel-backend") == "ray"
    assert (option(command, "--data-parallel-size"), option(command, "--data-parallel-size-local")) == ("8", "4")
    assert option(command, "--data-parallel-address") == "10.0.0.7"
    environ = {"RAY_ADDRESS": "10.0.0.1:6379", "RAY_AUTH_TOKEN": "t", "AWS_SECRET_ACCESS_KEY": "s"}
    environment = build_environment(serving, KEY, environ, settings=Path("/settings"))
    assert environment["RAY_ADDRESS"] == "10.0.0.1:6379"
    assert "AWS_SECRET_ACCESS_KEY" not in environment
    assert "VLLM_HOST_IP" not in environment  # the other nodes reach it at its own address
    assert environment["VLLM_CONFIG_ROOT"] == "/settings"
    assert serving.job_gpus == 0  # else the job would hold GPUs that the copies wait for


ASK_VLLM = """
import importlib, json, os, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.ray import ray_env
from vllm.utils.argparse_utils import FlexibleArgumentParser

settings, *words = sys.argv[1:]
taken = make_arg_parser(FlexibleArgumentParser()).parse_args(words)
validate_parsed_serve_args(taken)
names = ("backend", "size", "size_local", "address")
found = {"data_parallel": [getattr(taken, f"data_parallel_{name}") for name in names]}
for way in ("without_settings", "with_settings"):
    carried = importlib.reload(ray_env).get_env_vars_to_copy()  # vLLM reads its settings when this module is loaded
    found[way] = ["VLLM_API_KEY" in carried, "VLLM_PLUGINS" in carried]
    os.environ["VLLM_CONFIG_ROOT"] = settings
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def vllm_says(tmp_path_factory):
    """What vLLM itself makes of our words and our settings, asked once: its import takes a quarter of a minute."""
    folder = tmp_path_factory.mktemp("vllm")
    serving = ServingConfig(max_model_len=64, num_gpus=4, data_parallel_size=4, num_nodes=2, host="cluster")
    words = build_command(serving, folder, "candidate", host="10.0.0.7", port=8001)[3:]
    told = subprocess.run(
        [sys.executable, "-c", ASK_VLLM, str(write_settings(folder / "settings")), *words],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "VLLM_API_KEY": KEY, "VLLM_PLUGINS": ""},
    )
    assert told.returncode == 0, told.stderr[-800:]
    return json.loads(told.stdout.splitlines()[-1])


def test_vllm_takes_the_command_of_copies_across_nodes(vllm_says):
    assert vllm_says["data_parallel"] == ["ray", 4, 2, "10.0.0.7"]


def test_vllm_does_not_carry_the_key_to_other_nodes(vllm_says):
    assert vllm_says["without_settings"] == [True, True]  # this shows that it would
    assert vllm_says["with_settings"] == [False, True]


def test_a_cpu_server_gets_a_cache_of_fixed_size_and_its_threads():
    serving = ServingConfig(max_model_len=512, kv_cache_gib=0.25, omp_num_threads=1, enforce_eager=True)
    command = build_command(serving, Path("/models/x"), "base", host="127.0.0.1", port=8001)
    assert option(command, "--kv-cache-memory-bytes") == str(1 << 28)
    assert "--enforce-eager" in command
    assert build_environment(serving, KEY, {})["OMP_NUM_THREADS"] == "1"


def test_a_server_is_named_after_its_model_and_bound_where_the_config_says():
    serving = ServingConfig(max_model_len=512)
    command = build_command(serving, Path("/models/x"), "base", host="127.0.0.1", port=8001)
    assert option(command, "--served-model-name") == "base"
    assert option(command, "--model") == "/models/x"
    assert (option(command, "--host"), option(command, "--port")) == ("127.0.0.1", "8001")
    assert "--enable-prefix-caching" in command


def test_no_code_of_a_model_is_trusted_and_its_sampling_defaults_are_ignored():
    command = build_command(ServingConfig(max_model_len=512), Path("/models/x"), "base", host="127.0.0.1", port=8001)
    assert "--trust-remote-code" not in command
    assert option(command, "--generation-config") == "vllm"


def test_a_step_is_never_smaller_than_a_batch():
    serving = ServingConfig(max_model_len=512, max_num_seqs=256, max_num_batched_tokens=128)
    assert (
        option(build_command(serving, Path("x"), "base", host="127.0.0.1", port=1), "--max-num-batched-tokens") == "256"
    )


def test_the_key_is_in_the_environment_and_not_on_the_command_line():
    serving = ServingConfig(max_model_len=512)
    assert not any(
        KEY in word or "api-key" in word for word in build_command(serving, Path("x"), "base", host="127.0.0.1", port=1)
    )
    assert build_environment(serving, KEY, {})["VLLM_API_KEY"] == KEY


@pytest.mark.parametrize("name", ["NIGHTFORGE_ENDPOINT_KEY", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "RAY_ADDRESS"])
def test_the_pipelines_own_secrets_do_not_reach_the_server(name):
    environment = build_environment(ServingConfig(max_model_len=512), KEY, {name: "secret", "PATH": "/bin"})
    assert name not in environment
    assert environment["PATH"] == "/bin"


def test_the_server_asks_no_hub_and_reports_to_nobody():
    environment = build_environment(ServingConfig(max_model_len=512), KEY, {})
    assert environment["HF_HUB_OFFLINE"] == environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == "1"
