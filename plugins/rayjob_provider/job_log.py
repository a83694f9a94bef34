"""Reading a job's log in pieces: only what is new, bounded in size, with what was left out counted.

The Jobs API answers `GET /api/jobs/<id>/logs` with the whole file as one JSON text, `{"logs": "..."}`. A log may be larger
than a worker's memory, so the answer is decoded while it streams in and only three things are kept: a position, the lines
that are to be forwarded, and the last lines.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

DEFAULT_LIMIT_CHARS = 1_000_000
TAIL_LINES = 40
MAX_LINE_CHARS = 16_000


class LineLog(Protocol):
    """What a log is written to: a logger of the standard library, or Airflow's."""

    def info(self, event: str, /, *args: Any) -> None:
        """Write a line."""

    def warning(self, event: str, /, *args: Any) -> None:
        """Write a warning."""


class LogBodyDecoder:
    """Turn the raw pieces of a log response into pieces of the log's text.

    Raises:
        ValueError: From `feed`, if the body is not a log response.
    """

    _OPENING = re.compile(r'\s*\{\s*"logs"\s*:\s*"')
    _CONTENT = re.compile(r'(?:[^"\\]+|\\u[0-9a-fA-F]{4}|\\[^u])*')
    _HALF_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}$")

    def __init__(self) -> None:
        self._raw = ""
        self._is_open = False
        self._is_done = False

    def feed(self, piece: str) -> str:
        """Return the text that is complete after this piece; an escape cut in two waits for its other half."""
        if self._is_done:
            return ""
        self._raw += piece
        if not self._is_open:
            opening = self._OPENING.match(self._raw)
            if opening is None:
                if len(self._raw) > 64:
                    raise ValueError(f'expected a body that starts with {{"logs": "...", got {self._raw[:64]!r}')
                return ""
            self._raw = self._raw[opening.end() :]
            self._is_open = True
        match = self._CONTENT.match(self._raw)
        content = match.group() if match else ""
        self._is_done = self._raw.startswith('"', len(content))
        if not self._is_done and (half := self._HALF_PAIR.search(content)):
            content = content[: half.start()]
        self._raw = self._raw[len(content) :]
        return str(json.loads(f'"{content}"', strict=False))


class JobLogCursor:
    """A place in a job's log that moves forward; call `start_read`, `feed` every piece, then `end_read`.

    Args:
        position: Characters of the log that were dealt with already.
        limit_chars: How much may be forwarded in all; afterwards lines are counted and kept only as the tail.
        secrets: Texts that are replaced by `***` in every line.
    """

    def __init__(
        self, *, position: int = 0, limit_chars: int = DEFAULT_LIMIT_CHARS, secrets: Sequence[str] = ()
    ) -> None:
        self.position = position
        self.left_out_lines = 0
        self.left_out_chars = 0
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._budget = limit_chars
        self._secrets = [secret for secret in secrets if secret]
        self._seen = 0
        self._partial = ""
        self._new: list[str] = []
        self._new_and_left_out: deque[str] = deque(maxlen=TAIL_LINES)

    @property
    def is_exhausted(self) -> bool:
        """Whether the limit is used up, so that reading on before the job's end would only move bytes."""
        return self._budget <= 0

    @property
    def is_ahead_of_log(self) -> bool:
        """Whether the last answer was not empty and still ended before the position."""
        return 0 < self._seen < self.position

    def start_read(self) -> None:
        """Begin with one more answer, which holds the log from its first character.

        When the answer before was shorter than the position, it was another file (the job runs on another node than its
        predecessor), so this one is read from the begin.
        """
        if self.is_ahead_of_log:
            self.position = 0
        self._seen = 0
        self._partial = ""
        self._new = []

    def feed(self, text: str) -> None:
        """Take the next piece of the log's text."""
        fresh = text[max(0, self.position + len(self._partial) - self._seen) :]
        self._seen += len(text)
        *lines, self._partial = (self._partial + fresh).split("\n")
        for line in lines:
            self._take(line, len(line) + 1)
        while len(self._partial) > MAX_LINE_CHARS:
            line, self._partial = self._partial[:MAX_LINE_CHARS], self._partial[MAX_LINE_CHARS:]
            self._take(line, len(line))

    def end_read(self, *, is_final: bool) -> list[str]:
        """Return the new lines that are to be forwarded.

        Args:
            is_final: The job is over: a last line without an end is taken too, and if lines were left out the last of
                them follow a line that says how much is missing.
        """
        if is_final and self._partial:
            self._take(self._partial, len(self._partial))
            self._partial = ""
        if is_final and self.left_out_lines:
            shown = list(self._new_and_left_out)
            self._new.append(
                f"[{self.left_out_lines} lines, {self.left_out_chars} characters left out: over the log limit of this task;"
                f" all of it is in the Ray dashboard. The last {len(shown)} lines follow.]"
            )
            self._new.extend(shown)
        return self._new

    def _take(self, line: str, length: int) -> None:
        self.position += length
        text = line.rstrip("\r").rsplit("\r", 1)[-1]  # Of a progress bar that redraws itself, the last state.
        text = text.encode("utf-8", "replace").decode()
        for secret in self._secrets:
            text = text.replace(secret, "***")
        self.tail.append(text)
        if self._budget > 0:
            self._new.append(text)
            self._budget -= length
        else:
            self.left_out_lines += 1
            self.left_out_chars += length
            self._new_and_left_out.append(text)
