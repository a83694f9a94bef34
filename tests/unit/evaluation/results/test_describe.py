"""The page of every figure is current, and complete."""

from pathlib import Path
from typing import get_type_hints

from evaluation.results.decided import Candidate
from evaluation.results.describe import FILES, describe_results, walk_types

PAGE = Path(__file__).parents[4] / "docs" / "results.md"


def test_the_committed_page_is_current():
    assert PAGE.read_text() == describe_results(), "run `make docs`"


def test_every_key_says_what_it_means_and_every_type_what_it_is():
    kinds = {kind for roots in FILES.values() for root in roots for kind in walk_types(root)}
    assert Candidate in kinds
    for kind in kinds:
        assert kind.__doc__, kind
        for name, hint in get_type_hints(kind, include_extras=True).items():
            assert isinstance(hint.__metadata__[-1], str), f"{kind.__name__}.{name}"


def test_a_type_that_several_hold_is_described_once():
    page = describe_results()
    assert page.count("### Share\n") == 1
    assert "| `repair` (may be missing) | text or null | " in page
    assert "| `intervals` | [AverageEnds](#averageends) | of the full path |" in page
