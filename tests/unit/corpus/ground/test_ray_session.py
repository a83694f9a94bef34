from __future__ import annotations

import pytest
import ray

from corpus.ground.tasks import ray_session
from voc.errors import TrainingError


def test_a_ray_that_does_not_start_is_a_named_error_that_says_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(**options: object) -> None:
        raise Exception("The current node timed out during startup.")

    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "PYTHONPATH", "PYTHONUNBUFFERED"):  # the session sets them
        monkeypatch.setenv(name, "")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", give_up)
    with pytest.raises(TrainingError, match=r"timed out during startup.*raylet\.err"), ray_session():
        pass
