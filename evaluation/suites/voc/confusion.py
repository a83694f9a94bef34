"""Where wrong labels go: to a sibling of the right one, to another part of the same branch, or elsewhere.

Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import cast

from evaluation.intervals import share_of
from evaluation.results.gathered import Confusion
from evaluation.suites.voc.answers import VocAnswer
from voc.labels.taxonomy import LEVELS, LabelPath

MAX_PAIRS = 50
# By how many names from L1 on a wrong label shares with the gold label that it is paired with.
KINDS = {3: "same_L3", 2: "same_L2", 1: "same_L1", 0: "elsewhere"}
NOTHING_MISSED = "nothing_missed"


def measure_confusion(answers: Sequence[VocAnswer]) -> Confusion:
    """Compare each wrong label (predicted, not in gold) with the labels that were missed (gold, not predicted).

    Inside a comment every wrong label is paired with at most one missed label and every missed label with at most one wrong
    one, nearest pairs first, nearness being the number of names shared from L1 on. A wrong label without a partner is
    `nothing_missed`: said beside the right labels and not in place of one. An invented label is compared like any other.

    Returns:
        `num_wrong`, `num_missed`; the kinds `same_L3` (siblings), `same_L2`, `same_L1`, `elsewhere`, `nothing_missed` as shares
        of the wrong labels; `not_replaced`, the missed labels without a partner, as a share of the missed; and `pairs`, the
        most frequent 50 of {gold, predicted, count, kind}. Which of several equally near labels are paired follows
        their sort order, so single pairs are indicative; the shares do not depend on it.

    Source: the pair-based measures of Kosmopoulos, Partalas, Gaussier, Paliouras, Androutsopoulos, 2015, Evaluation measures for
    hierarchical classification: a unified view and novel approaches, Data Mining and Knowledge Discovery 29:820-865.
    """
    kinds: Counter[str] = Counter()
    pairs: Counter[tuple[LabelPath, LabelPath, str]] = Counter()
    num_wrong = num_missed = num_alone = 0
    for answer in answers:
        wrong, missed = answer.predicted - answer.gold, answer.gold - answer.predicted
        found = pair_wrong(wrong, missed)
        num_wrong += len(wrong)
        num_missed += len(missed)
        num_alone += len(missed) - len(found)
        kinds[NOTHING_MISSED] += len(wrong) - len(found)
        for predicted, gold, shared in found:
            kinds[KINDS[shared]] += 1
            pairs[gold, predicted, KINDS[shared]] += 1
    ordered = sorted(pairs.items(), key=lambda entry: (-entry[1], entry[0]))[:MAX_PAIRS]
    shares = {kind: share_of(kinds[kind], num_wrong) for kind in (*KINDS.values(), NOTHING_MISSED)}
    measured = {
        "num_wrong": num_wrong,
        "num_missed": num_missed,
        **shares,
        "not_replaced": share_of(num_alone, num_missed),
        "pairs": [
            {"gold": list(gold), "predicted": list(predicted), "count": count, "kind": kind}
            for (gold, predicted, kind), count in ordered
        ],
    }
    return cast("Confusion", measured)


def pair_wrong(wrong: Collection[LabelPath], missed: Collection[LabelPath]) -> list[tuple[LabelPath, LabelPath, int]]:
    """Pair wrong labels with missed ones, nearest first.

    Branches are nested, so taking the nearest pairs first leaves as many pairs of each nearness as any pairing that prefers
    near ones could have.

    Returns:
        The wrong label, the missed label, and the number of names they share from L1 on.
    """
    left, open_labels = sorted(wrong), sorted(missed)
    pairs = []
    for shared in range(len(LEVELS) - 1, -1, -1):
        waiting: dict[tuple[str, ...], list[LabelPath]] = {}
        for gold in open_labels:
            waiting.setdefault(gold[:shared], []).append(gold)
        unpaired = []
        for predicted in left:
            near = waiting.get(predicted[:shared])
            if near:
                gold = near.pop(0)
                open_labels.remove(gold)
                pairs.append((predicted, gold, shared))
            else:
                unpaired.append(predicted)
        left = unpaired
    return pairs
