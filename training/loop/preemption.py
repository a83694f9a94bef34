"""Preemption: the machine is about to be taken away; a checkpoint is written in time and the process ends.

What counts as notice: SIGTERM to any rank, Ray Train's too, or to torchrun. The ranks agree at the end of a step, so all of
them save the same one. Then the training raises `PreemptedError`, and the stage ends with exit code 75 (EX_TEMPFAIL); the same
command continues from that very step. If no checkpoint was finished within `training.checkpoint.preemption_grace_s`, the process
ends with the same code anyway, and the checkpoint before is continued.

Outside the steps, while the model is loaded or exported, there is nothing to save: SIGTERM does what it did before.

A signal handler can be installed in the main thread only: a process that trains in another one, as Ray Train's workers do
(`training.start.driver`), installs it with `handle_sigterm` or gives notice by other means.

Source: https://docs.python.org/3/library/signal.html#signals-and-threads
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from voc.errors import PreemptedError

EXIT_CODE = PreemptedError.exit_code

_Handler = Callable[[int, FrameType | None], Any] | int | None


class Notice:
    """The notice of this process.

    It has no lock: a signal handler runs in the middle of whatever the main thread does.
    """

    def __init__(self) -> None:
        self._reason: str | None = None
        self._grace_s: float | None = None  # None outside the steps
        self._timer: threading.Timer | None = None
        self._before: _Handler = None
        self._ask: Callable[[], str | None] = lambda: None

    @property
    def reason(self) -> str | None:
        """Who gave notice, or None."""
        if self._reason is None and (asked := self._ask()) is not None:
            self.give(asked)
        return self._reason

    def give(self, reason: str) -> None:
        """Give notice: training stops after the step under way."""
        if self._reason is not None:
            return
        self._reason = reason
        if self._grace_s is not None:
            self._start_timer(self._grace_s)

    @contextmanager
    def watch(self, grace_s: float) -> Iterator[None]:
        """Let notices count while the block runs; the process ends `grace_s` after one that comes within it."""
        self._grace_s = grace_s
        if self._reason is not None:
            self._start_timer(grace_s)
        is_main = threading.current_thread() is threading.main_thread()
        if is_main:
            self.handle_sigterm()
        try:
            yield
        finally:
            self._grace_s, self._reason = None, None
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None
            if is_main:
                signal.signal(signal.SIGTERM, self._before)

    def handle_sigterm(self) -> None:
        """Install the handler; in the main thread."""
        before = signal.getsignal(signal.SIGTERM)
        if before != self._on_sigterm:
            self._before = before
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def ask(self, question: Callable[[], str | None]) -> None:
        """Set a cheap question that is asked at every step: its answer other than None is a notice."""
        self._ask = question

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        if self._grace_s is not None:
            self.give("SIGTERM")
        elif callable(self._before):
            self._before(number, frame)
        elif self._before != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def _start_timer(self, grace_s: float) -> None:
        self._timer = threading.Timer(grace_s, _end_process, [grace_s])
        self._timer.daemon = True
        self._timer.start()


NOTICE = Notice()


def handle_sigterm() -> None:
    """Install this process's handler; in the main thread of a process that trains in another one."""
    NOTICE.handle_sigterm()


class Agreement:
    """Lets all ranks act on what one of them knows: a small sum over the ranks at every step.

    Over a group of its own on the CPU, so that a GPU's queue of work is not waited for.
    """

    def __init__(self) -> None:
        self._group = dist.new_group(backend="gloo")

    def any_rank(self, flags: Sequence[bool]) -> list[bool]:
        """Return for each flag whether it is set on any rank."""
        sums = torch.tensor([float(flag) for flag in flags])
        dist.all_reduce(sums, group=self._group)
        return [value > 0 for value in sums.tolist()]


def _end_process(grace_s: float) -> None:
    print(
        f"PreemptedError: no checkpoint was finished within {grace_s:g} s (training.checkpoint.preemption_grace_s) of the "
        "notice; the same stage continues from the checkpoint before",
        file=sys.stderr,
        flush=True,
    )
    os._exit(EXIT_CODE)
