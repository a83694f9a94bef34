from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.voc.conftest import Night
from voc.config.file import load_config, read_preset
from voc.errors import PreflightError
from voc.preflight.preflight import run_preflight


def finding(night: Night, **training: Any) -> str:
    night.tree["training"] |= training
    details = {f.subject: f.detail for f in run_preflight(load_config(night.config_path), "r1").findings}
    return details["training.gpu_memory_gib"]


@pytest.fixture
def big_night(night: Night) -> Night:
    """A night whose base is Qwen3-8B from the outside."""
    (night.path("base") / "config.json").write_text(json.dumps(read_preset("qwen3-8b").architecture))
    return night


def test_a_training_on_cpus_is_not_checked_and_that_is_said(big_night: Night) -> None:
    assert finding(big_night) == "not checked: training.gpus_per_worker is 0"


def test_without_the_size_of_a_gpu_it_is_not_checked_and_said(big_night: Night) -> None:
    assert finding(big_night, gpus_per_worker=1) == "not checked: training.gpu_memory_gib is unset"


def test_an_architecture_whose_shapes_are_not_known_stops_no_run(big_night: Night) -> None:
    (big_night.path("base") / "config.json").write_text('{"model_type": "gpt2"}')
    assert finding(big_night, gpus_per_worker=1, gpu_memory_gib=80).startswith("not checked: ")


def test_a_training_that_fits_passes_with_its_peak(big_night: Night) -> None:
    seen = finding(big_night, gpus_per_worker=1, gpu_memory_gib=80, num_workers=8, global_batch_size=8)
    assert " of 80 GiB per GPU at the peak" in seen


def test_a_training_that_does_not_fit_stops_the_run_and_says_what_to_change(big_night: Night) -> None:
    with pytest.raises(PreflightError, match=r"(?s)training\.gpu_memory_gib: .*does not fit.*adamw_8bit.*more GPUs"):
        finding(big_night, gpus_per_worker=1, gpu_memory_gib=24)
    assert not (big_night.store_folder / "runs").exists()
