"""The taxonomy of a home-camera product line: 1,420 leaves in four levels, and how often each one is talked about.

A leaf is an aspect (a thing that customers name; it gives L1 to L3) with one of the issues that things of its kind can
have (L4). The table of aspects says which issues make no sense for one of them: a cable does not make noise.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

from benchmarks.study.words import LANGUAGES, read_lists, read_table
from voc.labels.taxonomy import LabelPath, Leaf, Taxonomy

# kind of a thing -> the issues that it can have, in the order of the taxonomy
KINDS = {
    "part": "doa stops intermittent workmanship wears heat mounting noise quality improve spare",
    "function": "fails unreliable slow hidden update_broke no_setting false reliable easy improve question",
    "connection": "drops setup_fails slow range no_recover update_broke stable improve question",
    "info": "wrong incomplete unclear language outdated helpful hidden improve",
    "service": "slow no_answer rude incompetent promise contradict solved friendly hours improve",
    "money": "expensive amount unclear raised twice late value option question",
    "delivery": "late damaged lost wrong_item incomplete fast careful improve",
    "privacy": "unclear worry no_off unauthorised hidden trust improve question",
    "screen": "confusing ugly steps small update_broke missing beautiful easy improve",
}
EMOTIONS = ("anger", "frustration", "disappointment", "worry", "confusion", "neutral", "satisfaction", "delight")
# Zipf-Mandelbrot: the weight of rank r is (r + shift) ** -exponent. Chosen so that 27,000 segments give the first leaf some
# hundreds and leave one leaf in eight without any.
ZIPF_SHIFT, ZIPF_EXPONENT = 18.0, 1.55
_ASPECT_SPREAD, _ISSUE_SPREAD, _LEAF_SPREAD = 0.7, 0.5, 0.6
_FREQUENT_BONUS = (
    1.2  # of what the owners of cameras write about most, so that the head of the distribution is a plausible one
)


@dataclass(frozen=True, slots=True)
class Issue:
    """What can be said about a thing.

    Attributes:
        slug: Key of its wordings in each language's file.
        name: The label of level L4.
        valence: negative, positive, wish or question.
        emotions: What people feel about it; the first one goes without saying, the others need words.
        description: Sentence with the slot `{noun}`.
    """

    slug: str
    name: str
    valence: str
    emotions: tuple[str, ...]
    description: str


@dataclass(frozen=True, slots=True)
class Topic:
    """One leaf as something to talk about.

    Attributes:
        path: The label.
        issue: What is said.
        nouns: What it is said about, with its article, per language.
    """

    path: LabelPath
    issue: Issue
    nouns: Mapping[str, str]


@cache
def list_topics() -> tuple[Topic, ...]:
    """Return all leaves in the order of the taxonomy."""
    issues = {
        row["slug"]: Issue(row["slug"], row["L4"], row["valence"], tuple(row["emotions"].split()), row["description"])
        for row in read_table("issues")
    }
    topics: list[Topic] = []
    for row in read_table("aspects"):
        nouns = {code: row[code] for code in LANGUAGES}
        senseless = row["without"].split()
        fitting = [issues[slug] for slug in KINDS[row["kind"]].split() if slug not in senseless]
        topics += [Topic((row["L1"], row["L2"], row["L3"], issue.name), issue, nouns) for issue in fitting]
    return tuple(topics)


def make_taxonomy() -> Taxonomy:
    """Return the leaves with one sentence of description each."""
    return Taxonomy(tuple(Leaf(topic.path, _describe(topic)) for topic in list_topics()))


def _describe(topic: Topic) -> str:
    noun = topic.nouns["en"]
    return f"{topic.issue.description.format(noun=noun[0].upper() + noun[1:])}."


def weigh_topics(seed: int) -> tuple[Sequence[Topic], Sequence[float]]:
    """Return the leaves from the most to the least talked about, and their cumulative weights (the last one is 1).

    Popular aspects and popular issues go together: the rank of a leaf follows the sum of a score of its aspect, of its
    issue, and of its own.
    """
    rng = random.Random(f"{seed}/popularity")
    frequent = read_lists("frequent")["frequent"]
    aspects: dict[tuple[str, ...], float] = {}
    issues: dict[str, float] = {}
    scores: dict[LabelPath, float] = {}
    for topic in list_topics():
        aspect = aspects.setdefault(topic.path[:3], rng.gauss(0, _ASPECT_SPREAD))
        issue = issues.setdefault(topic.issue.slug, rng.gauss(0, _ISSUE_SPREAD))
        bonus = (topic.path[2] in frequent["aspects"]) + (topic.issue.slug in frequent["issues"])
        scores[topic.path] = aspect + issue + rng.gauss(0, _LEAF_SPREAD) + _FREQUENT_BONUS * bonus
    ranked = sorted(list_topics(), key=lambda topic: -scores[topic.path])
    weights = [(rank + ZIPF_SHIFT) ** -ZIPF_EXPONENT for rank in range(1, len(ranked) + 1)]
    total = sum(weights)
    return ranked, list(accumulate(weight / total for weight in weights))
