from __future__ import annotations

import json

from voc.labels.changes import parse_changes, restrict_to, shared_leaves
from voc.labels.taxonomy import LabelPath, Leaf, Taxonomy


def leaf(name: str) -> LabelPath:
    return ("A", "B", "C", name)


def taxonomy(names: str) -> Taxonomy:
    return Taxonomy(tuple(Leaf(leaf(name), "") for name in names.split()))


def share(old: str, new: str, *lines: dict) -> dict[str, str]:
    changes = parse_changes("\n".join(map(json.dumps, lines)), "x", taxonomy(new))
    return {before[-1]: after[-1] for before, after in shared_leaves(taxonomy(old), taxonomy(new), changes).items()}


def path(name: str) -> list[str]:
    return list(leaf(name))


def test_equal_paths_renames_and_moves_are_shared_and_the_rest_is_not() -> None:
    assert share("a b c", "a b2 d", {"change": "rename", "from": path("b"), "to": path("b2")}) == {"a": "a", "b": "b2"}


def test_what_something_was_merged_into_is_not_what_it_was() -> None:
    assert share("a b c", "a c", {"change": "merge", "from": path("b"), "to": path("a")}) == {"c": "c"}


def test_a_rename_onto_a_leaf_that_was_there_is_a_merge_in_effect() -> None:
    assert share("a b c", "a c", {"change": "rename", "from": path("b"), "to": path("a")}) == {"c": "c"}


def test_what_a_leaf_was_split_into_is_not_what_it_was_wherever_it_went_since() -> None:
    split = {"change": "split", "from": path("b"), "to": [path("a"), path("n")]}
    assert share("a b c", "a n c", split) == {"c": "c"}
    assert share("a b c", "a n c", {**split, "rule": {"to": path("n")}}) == {"c": "c"}
    assert share("a b c", "z n c", split, {"change": "rename", "from": path("a"), "to": path("z")}) == {"c": "c"}


def test_changes_from_before_the_older_taxonomy_do_no_harm() -> None:
    assert share("a c", "a c", {"change": "merge", "from": path("b"), "to": path("a")}) == {"a": "a", "c": "c"}


def test_without_changes_equal_paths_are_shared() -> None:
    assert shared_leaves(taxonomy("a b"), taxonomy("b c"), None) == {leaf("b"): leaf("b")}


def test_labels_are_restricted_to_what_is_shared_under_the_later_name() -> None:
    shared = {leaf("a"): leaf("a"), leaf("b"): leaf("b2")}
    assert restrict_to([leaf("a"), leaf("b"), leaf("c")], shared) == {leaf("a"), leaf("b2")}
    assert restrict_to([], shared) == frozenset()
