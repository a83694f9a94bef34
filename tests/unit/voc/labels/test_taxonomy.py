from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voc.errors import TaxonomyError
from voc.labels.taxonomy import Leaf, Taxonomy, fold_name, format_taxonomy, parse_taxonomy

HEADER = "L1,L2,L3,L4,description\n"
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).map(fold_name)
NAMES = NAMES.filter(
    lambda name: name != "" and name == fold_name(name)
)  # no two that are the same but for case or spaces
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
        (HEADER + "a,b,c,d,x\na,b,c,D,y\n", "leaf 2 .*L4 'D' and the earlier 'd' differ only by case"),
        (HEADER + "a,b b,c,d,x\na,b  b,c,e,y\n", "leaf 2 .*L2 'b  b' and the earlier 'b b' differ only"),
        (HEADER + "a,b,c,\u00e9,x\na,b,c,e\u0301,y\n", "L4 .* differ only by case, spaces or Unicode form"),
        (HEADER + "a,b,,d,x\na,b,c,e,x\na,b,c,e,x\n", "2 mistakes"),
        (HEADER + '"' + "x" * 200_000 + '",b,c,d,x\n', "field larger"),
    ],
)
def test_a_broken_file_is_named_with_its_mistakes(text: str, message: str) -> None:
    with pytest.raises(TaxonomyError, match=message) as caught:
        parse_taxonomy(text, "labels.csv")
    assert "labels.csv" in str(caught.value)


HOME = parse_taxonomy(
    HEADER + "Product,Battery,Use,Runtime,x\nProduct,Battery,Use,Charge,x\nService,Support,Use,Speed,y\n", "x"
)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            ("Product", "Battery", "Use", "Runtme"),
            "the leaf is wrong: L4 'Runtme' is not in the taxonomy under Product > Battery > Use; the nearest is 'Runtime'",
        ),
        (
            ("Product", "BATERY", "Use", "Runtime"),
            "a parent is wrong: L2 'BATERY' is not in the taxonomy under Product; the nearest is 'Battery'; "
            "the leaf 'Runtime' exists under 'Product > Battery > Use'",
        ),
        (
            ("Product", "Battery", "Use", "Speed"),
            "the leaf is wrong: L4 'Speed' is not in the taxonomy under Product > Battery > Use; "
            "the leaf 'Speed' exists under 'Service > Support > Use'",
        ),
        (("zzz", "", "", ""), "a parent is wrong: L1 'zzz' is not in the taxonomy under the root"),
        (
            ("product", " Battery", "Use", "Runtime"),
            "the label 'product >  Battery > Use > Runtime' differs from 'Product > Battery > Use > Runtime' "
            "only by case, spaces or Unicode form",
        ),
        (("Product", "Battery", "Use", "Runtime"), "the path is known"),
    ],
)
def test_an_unknown_path_is_explained_at_the_level_where_it_leaves_the_tree(path: tuple, said: str) -> None:
    assert HOME.explain_unknown(path) == said
    assert HOME.explain_unknown(path) == said


def test_a_label_is_repaired_only_if_case_spaces_or_unicode_form_are_all_that_differs() -> None:
    taxonomy = parse_taxonomy(HEADER + "Caf\u00e9,Ma\u00dfe,c c,d,x\n", "x")
    known = ("Caf\u00e9", "Ma\u00dfe", "c c", "d")
    assert taxonomy.repair(("CAFE\u0301", "ma\u00dfe ", "c  c", "D")) == known
    assert taxonomy.repair(known) == known
    assert taxonomy.repair(("Caf\u00e9", "Masse", "c c", "d")) is None, "another word in German"


def test_an_endless_name_is_explained_without_comparing_all_of_it() -> None:
    said = HOME.explain_unknown(("Product", "x" * 1_000_000, "Use", "Runtime"))
    assert len(said) < 400


def test_nodes_are_the_leaves_and_everything_above_them() -> None:
    assert len(HOME.nodes) == 2 + 2 + 2 + 3
    assert ("Product", "Battery") in HOME.nodes
