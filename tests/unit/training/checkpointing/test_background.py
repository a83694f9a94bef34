from __future__ import annotations

import threading

import pytest

from training.checkpointing.background import Background


def test_a_second_piece_of_work_waits_for_the_first() -> None:
    background, may_end, events = Background("test"), threading.Event(), []
    background.start(lambda: (may_end.wait(30), events.append("first")))
    assert not background.wait(timeout_s=0.01)
    threading.Timer(0.2, may_end.set).start()
    background.start(lambda: events.append("second"))
    assert background.wait()
    assert events == ["first", "second"]


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt("stopped")])
def test_a_failure_is_seen_at_once_and_raised_once(error: BaseException) -> None:
    background, has_run = Background("test"), threading.Event()

    def fail() -> None:
        has_run.set()
        raise error

    background.start(fail)
    assert has_run.wait(30)
    with pytest.raises(type(error), match=str(error)):
        background.wait()
    assert not background.has_failed
    assert background.wait()
