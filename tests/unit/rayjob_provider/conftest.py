"""Fixtures: a stand-in for a Ray head, and the connection that points at it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.rayjob_provider.ray_stand_in import TOKEN, RayStandIn

pytest.importorskip("airflow.sdk", reason="the provider's tests run in the Airflow environment (AIRFLOW_PYTHON)")


@pytest.fixture
def ray() -> Iterator[RayStandIn]:
    stand_in = RayStandIn()
    yield stand_in
    stand_in.server.shutdown()
    stand_in.server.server_close()


@pytest.fixture(autouse=True)
def no_token_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)


@pytest.fixture
def connect(ray: RayStandIn, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Point the connection `ray_default` at the stand-in, or somewhere else."""

    def point(*, port: int | None = None, password: str | None = TOKEN, **more: Any) -> None:
        value = {"conn_type": "ray", "host": "127.0.0.1", "port": port or ray.port, "password": password} | more
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", json.dumps(value))

    point()
    return point
