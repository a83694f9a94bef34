"""From a model's raw answer to segments, or to the name of what is wrong with it.

Two parses, both reported: *strict* (the whole answer is the JSON list that was asked for) and *lenient* (the first JSON
list of objects found in fences or prose). Repair is never silent: `strict` tells which one it took.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from voc.records import Segment, is_text
from voc.taxonomy import LEVELS

Failure = Literal["empty", "not_json", "truncated", "wrong_shape"]
KEYS = ("content", *LEVELS, "emotion")
_MAX_STARTS = 64


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """What an answer says.

    Attributes:
        segments: The segments, in the answer's order; empty if `failure` is set.
        failure: Why there are no segments, or None.
        strict: True if the whole answer was the list that was asked for.
    """

    segments: tuple[Segment, ...]
    failure: Failure | None
    strict: bool


def parse_response(text: str) -> ParsedResponse:
    """Parse one answer; labels are not checked against a taxonomy here.

    Duplicate keys in one object, `NaN` and non-string values are `wrong_shape`. An answer that opens a list and never
    closes it is `truncated`.
    """
    stripped = text.strip()
    if not stripped:
        return ParsedResponse((), "empty", strict=False)
    try:
        return ParsedResponse(_to_segments(_load(stripped)), None, strict=True)
    except _ShapeError:
        return ParsedResponse((), "wrong_shape", strict=False)
    except (ValueError, RecursionError):
        pass
    return _parse_leniently(stripped)


def looks_like_voc(text: str) -> bool:
    """Tell whether an answer is VOC JSON or a fragment of it: it carries at least two of the contract's quoted keys.

    Used on answers to *other* questions, where every such answer is a schema leak.
    """
    return sum(1 for key in KEYS if re.search(rf'"{key}"\s*:', text)) >= 2


class _ShapeError(ValueError):
    pass


def _load(text: str) -> Any:
    def reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise _ShapeError("duplicate keys")
        return dict(pairs)

    constants: list[str] = []  # judged at the end: prose may begin with the word Infinity and be no JSON at all
    value = json.loads(text, object_pairs_hook=reject_duplicates, parse_constant=constants.append)
    if constants:
        raise _ShapeError(constants[0])
    return value


def _to_segments(value: Any) -> tuple[Segment, ...]:
    if not isinstance(value, list):
        raise _ShapeError("not a list")
    segments = []
    for item in value:
        if not isinstance(item, dict) or any(not is_text(item.get(key)) for key in KEYS):
            raise _ShapeError("an object lacks a key or has a value that is not text")
        label = (item["L1"], item["L2"], item["L3"], item["L4"])
        segments.append(Segment(item["content"], label, item["emotion"]))
    return tuple(segments)


def _parse_leniently(text: str) -> ParsedResponse:
    decoder = json.JSONDecoder()
    wrong_shape = False
    starts = [match.start() for match in re.finditer(r"\[", text)][:_MAX_STARTS]
    for start in starts:
        try:
            _, end = decoder.raw_decode(text, start)
            return ParsedResponse(_to_segments(_load(text[start:end])), None, strict=False)
        except _ShapeError:
            wrong_shape = True
        except (ValueError, RecursionError):
            continue
    if wrong_shape:
        return ParsedResponse((), "wrong_shape", strict=False)
    return ParsedResponse(
        (), "truncated" if text.startswith("[") and not text.endswith("]") else "not_json", strict=False
    )
