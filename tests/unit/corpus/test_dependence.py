"""Prepared data depends on every setting but those that are named: a forgotten one cannot reuse stale data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from corpus.build import NOT_PREPARED, describe_settings
from voc.config.night import NightforgeConfig
from voc.run import Run

Path_ = tuple[str, ...]


def list_keys(model: type[BaseModel], path: Path_ = ()) -> Iterator[Path_]:
    """Yield the path of every setting; a section in a list, a map or beside None is one setting."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from list_keys(field.annotation, (*path, name))
        else:
            yield (*path, name)


KEYS = list(list_keys(NightforgeConfig))


def is_named(path: Path_) -> bool:
    """Tell whether `NOT_PREPARED` names a setting or a section above it."""
    level: Any = NOT_PREPARED
    for name in path:
        if name not in level:
            return False
        if not isinstance(level, Mapping) or level[name] is True:
            return True
        level = level[name]
    return False


def get(config: BaseModel, path: Path_) -> Any:
    for name in path:
        config = getattr(config, name)
    return config


def replace(config: BaseModel, path: Path_, value: Any) -> Any:
    """Return a copy with one setting changed, whatever the validators would say of the combination."""
    if len(path) > 1:
        value = replace(getattr(config, path[0]), path[1:], value)
    return config.model_copy(update={path[0]: value})


def change(value: Any, annotation: Any) -> Any:
    """Return another value that dumps without a warning."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(kind for kind in get_args(annotation) if kind is not type(None))
        return change(value, annotation)
    if get_origin(annotation) is Literal:
        return next(choice for choice in get_args(annotation) if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, tuple):
        return value[:-1] if value else ("other",)
    if isinstance(value, dict):
        return {**value, "other": "other"}
    if value is None:
        return 7 if annotation in (int, float) else "other"
    return f"{value}x"


def find_annotation(path: Path_) -> Any:
    model: Any = NightforgeConfig
    for name in path[:-1]:
        model = model.model_fields[name].annotation
    return model.model_fields[path[-1]].annotation


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    return make_run()


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_every_setting_counts_unless_it_is_named(run: Run) -> None:
    before = describe_settings(run.config)
    assert len(KEYS) > 100
    wrong = []
    for path in KEYS:
        value = change(get(run.config, path), find_annotation(path))
        after = describe_settings(replace(run.config, path, value))
        counts_by_number_of_rows = path == ("training", "validation", "every_steps")
        if (after != before) != (not is_named(path) or counts_by_number_of_rows):
            wrong.append(".".join(path))
    assert wrong == []


def test_what_is_named_exists() -> None:
    """A key that was renamed must not stay on the list under its old name."""

    def list_named(names: Any, path: Path_ = ()) -> Iterator[Path_]:
        for name in names:
            if isinstance(names, Mapping) and names[name] is not True:
                yield from list_named(names[name], (*path, name))
            else:
                yield (*path, name)

    sections = {path[:depth] for path in KEYS for depth in range(1, len(path) + 1)}
    assert [path for path in list_named(NOT_PREPARED) if path not in sections] == []


def test_rows_are_held_out_only_where_something_is_evaluated_on_them(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    def describe(name: str, **validation: int) -> Any:
        return describe_settings(make_run(name, training={"validation": validation}).config)["held_out"]

    assert describe("none", rows_per_stratum=9) == describe("also-none", rows_per_stratum=3) == 0
    assert (
        describe("some", every_steps=2, rows_per_stratum=3) == describe("often", every_steps=1, rows_per_stratum=3) == 3
    )
