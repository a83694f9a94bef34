"""From a model's raw answer to segments, or to the name of what is wrong with it.

Two parses, both reported: *strict* (the whole answer is the JSON list that was asked for) and *lenient* (what can be read after
one repair). Repair is never silent: `repair` names the one that was needed, `strict` is true only without one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from voc.labels.taxonomy import LEVELS
from voc.records.records import Segment
from voc.records.refusals import is_text

Failure = Literal[
    "empty",
    "not_json",
    "truncated",
    "wrong_shape",
    "duplicate_keys",
    "not_a_number",
    "damaged_text",
    "too_deep",
    "too_long",
]
Repair = Literal["fenced", "prose", "wrapped", "single"]
# Part of what a shard's lines depend on: answers that were read by other rules are not put beside new ones.
PARSER_VERSION = 2
KEYS = ("content", *LEVELS, "emotion")
# No honest answer is longer: `max_tokens` ends it far below. What is longer is not searched for JSON, whatever that would cost.
MAX_CHARACTERS = 1_000_000
_MAX_STARTS = 64
_FENCE = re.compile(r"```[a-zA-Z]*\s*(.*?)\s*```", re.DOTALL)
_OPENED_LIST = re.compile(r'\[\s*\{\s*"')


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """What an answer says.

    Attributes:
        segments: The segments, in the answer's order; empty if `failure` is set.
        failure: Why there are no segments, or None.
        strict: True if the whole answer was the list that was asked for.
        repair: What the lenient parse had to look past, or None: code fences (`fenced`), other text around the list
            (`prose`), one list or object around it (`wrapped`), no list around the only segment (`single`).
    """

    segments: tuple[Segment, ...]
    failure: Failure | None
    strict: bool
    repair: Repair | None = None


def parse_response(text: str) -> ParsedResponse:
    """Parse one answer; labels are not checked against a taxonomy here.

    Nothing inside the list is repaired: the same key twice in one object, `NaN` or an infinity, half a surrogate pair, and a
    missing key or a value that is not a text are failures of the whole answer under their own names (`duplicate_keys`,
    `not_a_number`, `damaged_text`, `wrong_shape`). An answer that opens a list of objects and never closes it is `truncated`;
    one above `MAX_CHARACTERS` is `too_long`, one nested deeper than Python's JSON parser goes `too_deep`.
    """
    stripped = text.strip()
    if not stripped or len(stripped) > MAX_CHARACTERS:
        return _fail("too_long" if stripped else "empty")
    try:
        value = _load(stripped)
    except (_ShapeError, RecursionError) as error:
        return _fail(error.failure if isinstance(error, _ShapeError) else "too_deep")
    except ValueError:
        return _search_list(stripped)
    try:
        return ParsedResponse(_to_segments(value), None, strict=True)
    except _ShapeError as error:
        return _unwrap(value) or _fail(error.failure)


def looks_like_voc(text: str) -> bool:
    """Tell whether an answer is VOC JSON or a fragment of it: it carries at least two of the contract's quoted keys.

    Used on answers to *other* questions, where every such answer is a schema leak.
    """
    return sum(1 for key in KEYS if re.search(rf'"{key}"\s*:', text)) >= 2


class _ShapeError(ValueError):
    """JSON, but not the list that was asked for."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


def _fail(failure: Failure) -> ParsedResponse:
    return ParsedResponse((), failure, strict=False)


def _load(text: str) -> Any:
    def reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise _ShapeError("duplicate_keys")
        return dict(pairs)

    constants: list[str] = []  # judged at the end: prose may begin with the word Infinity and be no JSON at all
    value = json.loads(text, object_pairs_hook=reject_duplicates, parse_constant=constants.append)
    if constants:
        raise _ShapeError("not_a_number")
    return value


def _to_segments(value: Any) -> tuple[Segment, ...]:
    if not isinstance(value, list):
        raise _ShapeError("wrong_shape")
    segments = []
    for item in value:
        texts = [item.get(key) for key in KEYS] if isinstance(item, dict) else [None]
        if not all(isinstance(text, str) for text in texts):
            raise _ShapeError("wrong_shape")
        if not all(map(is_text, texts)):
            raise _ShapeError("damaged_text")
        segments.append(Segment(item["content"], (item["L1"], item["L2"], item["L3"], item["L4"]), item["emotion"]))
    return tuple(segments)


def _unwrap(value: Any) -> ParsedResponse | None:
    """Read the list inside an object or a list that holds nothing else, or the one segment that stands in no list."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    candidates: list[tuple[Any, Repair]] = [([value], "single")]
    if len(inner) == 1 and isinstance(inner[0], list):
        candidates.append((inner[0], "wrapped"))
    for found, repair in candidates:
        try:
            return ParsedResponse(_to_segments(found), None, strict=False, repair=repair)
        except _ShapeError:
            continue
    return None


def _search_list(text: str) -> ParsedResponse:
    """Find the first list of segments in a text that is not JSON as a whole."""
    decoder = json.JSONDecoder()
    fence = _FENCE.fullmatch(text)
    failure: Failure | None = None
    starts = [match.start() for match in re.finditer(r"\[", text)][:_MAX_STARTS]
    for start in starts:
        try:
            _, end = decoder.raw_decode(text, start)
            segments = _to_segments(_load(text[start:end]))
        except _ShapeError as error:
            failure = failure or error.failure
        except RecursionError:
            failure = failure or "too_deep"
        except ValueError:
            continue
        else:
            is_fenced = fence is not None and fence.span(1) == (start, end)
            return ParsedResponse(segments, None, strict=False, repair="fenced" if is_fenced else "prose")
    if failure:
        return _fail(failure)
    is_open = text.startswith("[") or _OPENED_LIST.search(text) is not None
    return _fail("truncated" if is_open and not text.rstrip("`\n ").endswith("]") else "not_json")
