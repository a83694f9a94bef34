"""The reference of every figure that a stage leaves, made from the types of this package.

`python -m evaluation.results.describe > docs/results.md` writes it; a test keeps the committed page current.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from typing_extensions import is_typeddict

from evaluation.results.decided import Decision, Promotion
from evaluation.results.gathered import ModelResults
from evaluation.results.lines import GenerativeLine, LetterLine, LogLikelihoodLine, TaskLine, VocLine

FILES: dict[str, tuple[type, ...]] = {
    "Lines of a shard": (VocLine, LogLikelihoodLine, GenerativeLine, LetterLine, TaskLine),
    "Results of a model": (ModelResults,),
    "Decision": (Decision,),
    "Promotion": (Promotion,),
}
_HEAD = """\
# Files of an evaluation

Made by `python -m evaluation.results.describe` from the types in `evaluation/results/`: change the descriptions there.

All are JSON in UTF-8 below `runs/<run_id>/`: `evaluation/<model>/<suite>/shard-.../` has the lines of a shard (one a line),
`evaluation/<model>/results/results.json` the figures of a model, `decision.json` and `promotion.json` what was made of them. A
key that may be missing is marked so; `null` is a figure that was not measured or has nothing to divide by.
"""
_NAMES: dict[Any, str] = {
    str: "text",
    float: "number",
    int: "whole number",
    bool: "true or false",
    Any: "anything",
    types.NoneType: "null",
}


def describe_results() -> str:
    """Return the reference as Markdown: per file its types, one table each with key, type and meaning."""
    parts, seen = [_HEAD], set[type]()
    for title, roots in FILES.items():
        parts.append(f"## {title}\n")
        for kind in (kind for root in roots for kind in walk_types(root)):
            if kind in seen:
                continue
            seen.add(kind)
            rows = [_row(name, hint) for name, hint in get_type_hints(kind, include_extras=True).items()]
            table = ["| Key | Type | Meaning |", "|---|---|---|", *rows]
            parts.append("\n".join([f"### {kind.__name__}", "", str(kind.__doc__), "", *table, ""]))
    return "\n".join(parts)


def walk_types(kind: type) -> Iterator[type]:
    """Yield a TypedDict and those below it, each before those that it holds; one that is held twice comes twice."""
    yield kind
    for hint in get_type_hints(kind, include_extras=True).values():
        for held in _find_held(hint):
            yield from walk_types(held)


def _find_held(hint: Any) -> Iterator[type]:
    if is_typeddict(hint):
        yield hint
    elif get_origin(hint) is not Literal:
        for argument in get_args(hint)[:1] if get_origin(hint) is Annotated else get_args(hint):
            yield from _find_held(argument)


def _row(name: str, hint: Any) -> str:
    meaning = hint.__metadata__[-1]
    kind, is_optional = _unwrap(hint)
    cells = [f"`{name}`{' (may be missing)' if is_optional else ''}", _name(kind), meaning]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _unwrap(hint: Any) -> tuple[Any, bool]:
    """Take a key's meaning off, and tell whether the key may be missing; the unit of the figure stays."""
    kind: Any = hint.__origin__
    notes = hint.__metadata__[:-1]
    is_optional = get_origin(kind) is NotRequired
    if get_origin(kind) in (NotRequired, Required):
        (kind,) = get_args(kind)
    for note in notes:
        kind = Annotated[kind, note]
    return kind, is_optional


def _name(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return f"{_name(arguments[0])}, {', '.join(kind.__metadata__)}"
    if origin in (types.UnionType, Union):
        return " or ".join(map(_name, arguments))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (list, dict):
        return f"{'list of' if origin is list else 'mapping of names to'} {_name(arguments[-1])}"
    return f"[{kind.__name__}](#{kind.__name__.lower()})" if is_typeddict(kind) else _NAMES[kind]


if __name__ == "__main__":
    print(describe_results(), end="")
