"""The schema of a study-sized taxonomy in the grammar engine that vLLM uses: which whole answers it accepts."""

import json

import pytest

from benchmarks.evaluation.score_rows import make_leaves
from evaluation.suites.voc.schema import build_response_format
from voc.labels.taxonomy import Leaf, Taxonomy
from voc.prompts import render_answer
from voc.records.records import Segment

xgrammar = pytest.importorskip("xgrammar")
LEAVES = make_leaves()
CONTENT = 'the "blue" box – Größe 3, 你好 \\ and more'


@pytest.fixture(scope="module")
def grammar():
    """1,420 leaves under 237 parents, over a vocabulary of single bytes."""
    vocabulary = xgrammar.TokenizerInfo([bytes([i]) for i in range(256)])
    taxonomy = Taxonomy(tuple(Leaf(path, "") for path in LEAVES))
    schema = build_response_format(taxonomy)["json_schema"]["schema"]
    return xgrammar.GrammarCompiler(vocabulary, max_threads=1).compile_json_schema(json.dumps(schema))


def is_accepted(grammar, answer):
    matcher = xgrammar.GrammarMatcher(grammar, terminate_without_stop_token=True)
    return matcher.accept_string(answer) and matcher.is_terminated()


@pytest.mark.parametrize("number", [0, 5, 6, 700, 1419])
def test_leaves_are_accepted(grammar, number):
    segments = [Segment(CONTENT, LEAVES[number], "sad"), Segment("x", LEAVES[-1 - number], "any emotion")]
    assert is_accepted(grammar, render_answer(segments))


@pytest.mark.parametrize(
    ("place", "name"), [(0, "area 1"), (1, "topic 1"), (2, "aspect 1"), (3, "leaf 6"), (3, "leaf 9999"), (3, "leaf")]
)
def test_a_name_of_another_branch_is_refused(grammar, place, name):
    path = list(LEAVES[0])
    path[place] = name
    assert not is_accepted(grammar, render_answer([Segment(CONTENT, tuple(path), "sad")]))


def test_an_empty_list_is_accepted_and_a_cut_answer_is_not_over(grammar):
    assert is_accepted(grammar, "[]")
    assert not is_accepted(grammar, render_answer([Segment(CONTENT, LEAVES[3], "sad")])[:-1])
