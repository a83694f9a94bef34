from __future__ import annotations

import io

import pytest

from voc import progress
from voc.progress import Progress


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    made = _Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_lines_come_at_the_interval_with_rate_and_eta(clock: _Clock) -> None:
    out = io.StringIO()
    bar = Progress("rows", 100, "rows", interval_s=5, stream=out)
    for _ in range(4):
        clock.now += 2
        bar.advance(10, loss="1.50")
    assert out.getvalue() == "rows: 30/100, 5.0 rows/s, elapsed 6 s, ETA 14 s, loss 1.50\n"


def test_the_last_line_is_always_printed(clock: _Clock) -> None:
    out = io.StringIO()
    bar = Progress("rows", 2, "rows", stream=out)
    bar.advance(2)
    clock.now += 1
    bar.finish()
    assert out.getvalue() == "rows: 2/2, 2.0 rows/s, elapsed 1 s, ETA 0 s\n"


def test_an_unknown_total_shows_no_eta(clock: _Clock) -> None:
    out = io.StringIO()
    bar = Progress("tokens", None, "tokens", interval_s=0, stream=out)
    clock.now += 2
    bar.advance(10)
    assert out.getvalue() == "tokens: 10, 5.0 tokens/s, elapsed 2 s\n"


def test_nothing_done_and_no_time_passed_does_not_divide_by_zero(clock: _Clock) -> None:
    out = io.StringIO()
    Progress("rows", 5, "rows", stream=out).finish()
    assert out.getvalue() == "rows: 0/5, 0.0 rows/s, elapsed 0 s\n"
