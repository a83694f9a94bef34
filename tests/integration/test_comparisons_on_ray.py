"""The comparison of texts on a local Ray: what one process finds, and named errors that cross processes."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from corpus.comparison.contamination import EvaluationSet, find_contamination
from corpus.comparison.duplicates import find_duplicates
from corpus.comparison.row_matches import SignatureTask, write_signatures
from corpus.ground.tasks import MapParts, list_worker_variables, map_here, map_on_ray
from tests.part_files import write_parts
from tests.ray_head import RayHead
from voc.config.data import ContaminationConfig, DuplicatesConfig
from voc.errors import DataError

TIMEOUT_S = 600  # a crowded machine needs minutes to start Ray

pytestmark = [pytest.mark.integration, pytest.mark.timeout(TIMEOUT_S)]


@pytest.fixture
def connected(ray_head: RayHead) -> Iterator[None]:
    import ray

    ray.init(ray_head.address, log_to_driver=False, runtime_env={"env_vars": list_worker_variables()})
    yield
    ray.shutdown()


def compare(folder: Path, map_parts: MapParts) -> tuple[object, ...]:
    chooser = random.Random(5)
    texts = [" ".join(f"w{chooser.randrange(300)}" for _ in range(20)) for _ in range(200)]
    parts = write_parts(folder, "test", texts[:20], labels="L", is_test=True)
    parts += write_parts(
        folder, "a", [*texts[15:], *(f"{text} more" for text in texts[100:])], labels="L", part_rows=90
    )
    duplicates = find_duplicates(
        parts, DuplicatesConfig(leakage="drop", near="drop"), seed=3, work_folder=folder, map_parts=map_parts
    )
    contamination = find_contamination(
        parts,
        [EvaluationSet("set", texts[:150])],
        ContaminationConfig(),
        dropped=duplicates.dropped,
        work_folder=folder,
        map_parts=map_parts,
    )
    dropped = {source: rows.tolist() for source, rows in duplicates.dropped.items()}
    return dropped, duplicates.to_json(), contamination.to_json()


def test_ray_finds_what_one_process_finds(connected: None, tmp_path: Path) -> None:
    here, on_ray = compare(tmp_path / "here", map_here), compare(tmp_path / "ray", map_on_ray)
    assert here == on_ray
    assert len(here[0]["a"]) == 105  # type: ignore[index]


def test_a_damaged_part_file_is_a_named_error_of_the_driver(connected: None, tmp_path: Path) -> None:
    (part,) = write_parts(tmp_path, "a", ["x"] * 5)
    task = SignatureTask(0, dataclasses.replace(part, num_rows=9), str(tmp_path), 128, 7)
    with pytest.raises(DataError, match="holds 5 rows"):
        list(map_on_ray(write_signatures, [task]))
