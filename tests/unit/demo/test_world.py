import itertools
import re
from collections import Counter

import pytest

from demo.world import _ENDINGS, ENTITIES_PER_SUBJECT, NOT_REPLAYED, REPLAYED, SUBJECTS, make_world


@pytest.fixture(scope="module")
def world():
    return make_world(0)


def test_the_world_has_288_facts_half_of_them_replayed(world):
    assert len(world.facts) == 288
    assert Counter(fact.slice for fact in world.facts) == {REPLAYED: 144, NOT_REPLAYED: 144}


def test_the_same_seed_gives_the_same_world_and_another_seed_another(world):
    assert make_world(0) == world
    assert make_world(1) != world


def test_names_and_values_are_used_once(world):
    assert len(set(world.entities)) == len(SUBJECTS) * ENTITIES_PER_SUBJECT
    assert len(world.values) == 96
    assert not set(world.entities) & set(world.values)


def test_every_value_belongs_to_three_entities_so_that_no_guess_beats_chance(world):
    counts = Counter((fact.attribute, fact.value) for fact in world.facts)
    assert set(counts.values()) == {3}


def test_options_are_alphabetical_and_hold_the_value(world):
    for fact in world.facts:
        assert list(fact.options) == sorted(fact.options)
        assert fact.options["ABCD".index(fact.letter)] == fact.value


def test_every_subject_has_replayed_and_other_facts_for_each_attribute(world):
    for facts in world.by_subject.values():
        by_attribute = itertools.groupby(facts, key=lambda fact: fact.attribute)
        for _, group in by_attribute:
            assert Counter(fact.slice for fact in group) == {REPLAYED: 6, NOT_REPLAYED: 6}


def test_no_two_names_share_what_is_before_their_ending(world):
    stems = {re.sub(f"({'|'.join(_ENDINGS)})$", "", entity) for entity in world.entities}
    assert len(stems) == len(world.entities)
