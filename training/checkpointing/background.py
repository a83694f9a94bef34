"""Work beside the training: one piece at a time, in a thread, whose failure is not lost."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """Runs functions in a thread, at most one at a time.

    The thread ends with the process: a write that hangs must not keep a worker alive whose training has failed.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def has_failed(self) -> bool:
        """True if a function has raised and `wait` has not yet passed that on."""
        return self._error is not None

    def start(self, function: Callable[[], None]) -> None:
        """Wait for the function before, then start this one.

        Raises:
            BaseException: What the function before has raised.
        """
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(function,), name=self._name, daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the function that runs; return False if it still runs after `timeout_s`.

        Raises:
            BaseException: What it has raised, once.
        """
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
        return True

    def _run(self, function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:
            self._error = error
