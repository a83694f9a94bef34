from __future__ import annotations

import pytest

from voc.importers.acos import describe_category, label_of, make_taxonomy


@pytest.mark.parametrize(
    ("category", "path"),
    [
        ("LAPTOP#OPERATION_PERFORMANCE", ("Product", "Laptop", "Use", "Operation performance")),
        ("FANS&COOLING#GENERAL", ("Hardware", "Fans & cooling", "Overall", "General")),
        ("OS#USABILITY", ("Software", "OS", "Use", "Usability")),
        ("FOOD#STYLE_OPTIONS", ("Offer", "Food", "Build", "Style options")),
        ("Out_Of_Scope#PRICE", ("Other", "Out of scope", "Value", "Price")),
        ("SPACESHIP#WARP_SPEED", ("Other", "Spaceship", "Other", "Warp speed")),
        ("___#_", ("Other", "___", "Other", "_")),
    ],
)
def test_a_category_has_four_levels_also_with_unknown_names(category: str, path: tuple[str, ...]) -> None:
    assert label_of(category) == path
    assert len(make_taxonomy([category]).leaves) == 1


def test_a_description_says_what_is_meant_and_where_it_comes_from() -> None:
    assert describe_category("DISPLAY#PRICE") == "Display: price and value for money (DISPLAY#PRICE)"
    assert describe_category("WARP_DRIVE#TOP_SPEED") == "Warp drive: top speed (WARP_DRIVE#TOP_SPEED)"


def test_the_taxonomy_is_sorted_and_does_not_depend_on_the_order_of_the_input() -> None:
    categories = ["OS#PRICE", "CPU#PRICE", "CPU#GENERAL"]
    taxonomy = make_taxonomy(categories)
    assert [leaf.path for leaf in taxonomy.leaves] == sorted(leaf.path for leaf in taxonomy.leaves)
    assert make_taxonomy(reversed(categories)) == taxonomy


def test_spellings_that_differ_in_case_only_are_one_leaf() -> None:
    assert len(make_taxonomy(["CPU#PRICE", "cpu#Price"]).leaves) == 1
