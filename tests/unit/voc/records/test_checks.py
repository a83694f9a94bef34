from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voc.config.data import DataConfig
from voc.records.checks import RowChecks, check_language, explain_not_verbatim, find_overlap
from voc.records.refusals import RowError

COMMENT = "bad app, great battery, bad app"


def test_the_checks_come_from_the_configuration() -> None:
    data = DataConfig.model_validate(
        {
            "taxonomy": "t",
            "test": "x",
            "sources": [{"name": "a", "uri": "b", "format": "voc"}],
            "languages": ["DE", "en"],
            "label_matching": "forgiving",
            "overlapping_segments": "refuse",
        }
    )
    assert RowChecks.from_config(data) == RowChecks("forgiving", "refuse", frozenset({"de", "en"}))


@pytest.mark.parametrize(
    "contents",
    [
        [],
        ["great battery"],
        ["bad app", "great battery", "bad app"],
        ["great battery", "bad app", "bad app"],
        ["bad app", "bad app, great battery"],
        ["battery, bad app", "bad app, great"],
    ],
)
def test_segments_that_can_each_have_a_place_do_not_overlap(contents: list[str]) -> None:
    assert find_overlap(COMMENT, contents) is None


@pytest.mark.parametrize(
    ("contents", "pair"),
    [
        (["great battery", "great battery"], {"great battery"}),
        (["app, great", "great battery"], {"app, great", "great battery"}),
        (["great battery", "battery"], {"great battery", "battery"}),
        (["bad app", "bad app", "bad app"], {"bad app"}),
        ([COMMENT, "battery"], {COMMENT, "battery"}),
    ],
)
def test_segments_that_claim_the_same_stretch_are_named(contents: list[str], pair: set[str]) -> None:
    assert set(find_overlap(COMMENT, contents) or ()) == pair


def test_greedy_placement_alone_would_have_found_an_overlap_here() -> None:
    assert find_overlap("ab a", ["a", "ab"]) is None


@given(
    st.text("ab ", min_size=1, max_size=24),
    st.lists(st.integers(0, 24), min_size=2, max_size=6, unique=True),
    st.randoms(),
)
def test_pieces_that_were_cut_one_after_the_other_never_overlap(comment: str, cuts: list[int], rng: object) -> None:
    ends = sorted(min(cut, len(comment)) for cut in cuts)
    contents = [piece for a, b in pairwise(ends) if (piece := comment[a:b])]
    rng.shuffle(contents)  # type: ignore[attr-defined]
    assert find_overlap(comment, contents) is None


def test_thousands_of_segments_are_no_trap() -> None:
    comment = "ab" * 3000
    assert find_overlap(comment, ["b", *["a"] * 2999, "a"]) is None
    assert find_overlap("x" * 5000, ["x" * 30] * 300) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("Bad App", "if case and spaces did not count"),
        ("bad  app,\ngreat", "without its spaces and line breaks"),
        ("good", "is not a piece of the comment"),
        (" \t", "is not a piece of the comment"),
    ],
)
def test_a_segment_that_is_not_verbatim_is_told_how_near_it_is(content: str, said: str) -> None:
    assert explain_not_verbatim(content, COMMENT).endswith(said)


def test_a_segment_in_another_unicode_form_is_told_so() -> None:
    assert "NFC" in explain_not_verbatim("e\u0301t\u00e9", "l'\u00e9t\u00e9")


@pytest.mark.parametrize("tag", ["de", "de-AT", "zh-Hans-CN", "pt_BR", "ceb", "", "  "])
def test_language_tags_of_every_usual_form_are_accepted(tag: str) -> None:
    check_language(tag, "ein Text", frozenset())


@pytest.mark.parametrize("tag", ["German", "d", "de-", "de AT", "12", "de/AT"])
def test_a_malformed_language_is_refused(tag: str) -> None:
    with pytest.raises(RowError, match="expected an ISO 639-1 code") as caught:
        check_language(tag, "ein Text", frozenset())
    assert caught.value.reason == "language_malformed"


def test_an_undeclared_language_is_detected_and_a_guess_refuses_nothing() -> None:
    check_language("", "ok!", frozenset({"fr"}))
    check_language("", "La caméra perd sans arrêt sa connexion.", frozenset({"fr"}))
    with pytest.raises(RowError, match=r"the language is fr \(detected with a score of"):
        check_language("", "La caméra perd sans arrêt sa connexion.", frozenset({"de"}))
