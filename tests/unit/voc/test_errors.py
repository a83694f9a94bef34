from __future__ import annotations

import pickle

import pytest

from voc import errors
from voc.errors import VocError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, VocError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_survives_pickling_whole(kind: type[VocError]) -> None:
    error = kind("seen 3", expected="4", remedy="count again")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
    assert type(copy) is kind
    assert (copy.problem, copy.expected, copy.remedy, str(copy)) == ("seen 3", "4", "count again", str(error))


def test_a_message_says_what_was_seen_expected_and_to_do() -> None:
    assert str(VocError("seen 3.", expected="4", remedy="count again")) == "seen 3. Expected: 4. To do: count again."
    assert str(VocError("seen 3")) == "seen 3."


def test_every_error_is_tested_here() -> None:
    assert len(KINDS) >= 15
