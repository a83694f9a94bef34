"""What integration tests share: one Ray head for those that need a Ray and do not test how it starts or ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.ray_head import RayHead, start_ray_head

EMPTY_TIMEOUT_S = 60  # a driver's actors end some seconds after it, on a crowded machine later


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[RayHead]:
    """A Ray head of two CPUs on loopback, with the token that this process had when Ray was imported."""
    with start_ray_head(num_cpus=2, token=os.environ["RAY_AUTH_TOKEN"]) as head:
        yield head


@pytest.fixture
def ray_head(shared_ray: RayHead, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayHead]:
    """The shared head, named to this process and its children; the test has to leave it as empty as it was."""
    for name, value in shared_ray.environment.items():
        monkeypatch.setenv(name, value)
    yield shared_ray
    left = wait_until_empty(shared_ray)
    assert not left, f"after the test there is still on the shared Ray: {'; '.join(left)}"


def wait_until_empty(head: RayHead) -> list[str]:
    """Return what still lives on the cluster after the longest time that its end may take."""
    deadline = time.monotonic() + EMPTY_TIMEOUT_S
    while (left := head.list_alive()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left
