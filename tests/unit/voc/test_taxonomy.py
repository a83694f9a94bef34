from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voc.errors import TaxonomyError
from voc.taxonomy import Leaf, Taxonomy, format_taxonomy, parse_taxonomy

HEADER = "L1,L2,L3,L4,description\n"
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(lambda t: t == t.strip())
PATHS = st.tuples(NAMES, NAMES, NAMES, NAMES)


@given(
    st.dictionaries(PATHS, st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20), min_size=1, max_size=6)
)
def test_what_is_formatted_is_parsed_back(leaves: dict) -> None:
    taxonomy = Taxonomy(tuple(Leaf(path, text) for path, text in leaves.items()))
    assert parse_taxonomy(format_taxonomy(taxonomy.leaves), "x") == taxonomy


def test_order_and_descriptions_are_part_of_the_digest() -> None:
    one, two = Leaf(("a", "b", "c", "d"), "x"), Leaf(("a", "b", "c", "e"), "y")
    digests = {Taxonomy(leaves).digest for leaves in [(one, two), (two, one), (one, Leaf(two.path, "z"))]}
    assert len(digests) == 3


def test_a_byte_order_mark_and_more_columns_do_no_harm() -> None:
    text = "\ufeffid,L1,L2,L3,L4,description\r\n1,a,b,c,d,x\r\n"
    assert parse_taxonomy(text, "x").paths == {("a", "b", "c", "d")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks the columns L1, L2, L3, L4, description"),
        ("L1,L2,L3,description\na,b,c,x\n", "lacks the columns L4"),
        (HEADER, "no leaves"),
        (HEADER + "a,b,c\n", "fewer values"),
        (HEADER + "a,b,,d,x\n", "an empty level"),
        (HEADER + "a,b,c , d,x\n", "outer spaces"),
        (HEADER + "a,b,c,d,x\na,b,c,d,y\n", "a second time"),
        (HEADER + "a,b,,d,x\na,b,c,e,x\na,b,c,e,x\n", "2 mistakes"),
        (HEADER + '"' + "x" * 200_000 + '",b,c,d,x\n', "field larger"),
    ],
)
def test_a_broken_file_is_named_with_its_mistakes(text: str, message: str) -> None:
    with pytest.raises(TaxonomyError, match=message) as caught:
        parse_taxonomy(text, "labels.csv")
    assert "labels.csv" in str(caught.value)


def test_an_unknown_path_is_explained_at_the_level_where_it_leaves_the_tree() -> None:
    taxonomy = parse_taxonomy(HEADER + "Product,Battery,Use,Runtime,x\nService,Support,Use,Speed,y\n", "x")
    explain = taxonomy.explain_unknown
    assert explain(("Product", "Batery", "Use", "Runtime")) == (
        "L2 'Batery' is not in the taxonomy under Product; the nearest is 'Battery'"
    )
    assert explain(("Product", "Support", "Use", "Speed")).startswith(
        "L2 'Support' is not in the taxonomy under Product"
    )
    assert explain(("zzz", "", "", "")) == "L1 'zzz' is not in the taxonomy under the root"
