"""Data reports to render: one of a night at the study's scale, and the smallest that there can be."""

import random

from corpus.parts.statistics import PartStatistics, cover_leaves, merge_statistics
from voc.labels.taxonomy import Leaf, Taxonomy
from voc.records.records import GeneralRecord, Segment, VocRecord

NAUGHTY_LABEL = "<script>alert('x')</script> & 📷 $x_1$ " + "very long " * 12 + "עברית \x1b[31m"
COMMENT = "the words of a customer that no report may show"


def make_taxonomy(num_leaves):
    """A tree with a fan-out like a real one; one of its labels is hostile."""
    names = ["Setup and pairing", NAUGHTY_LABEL, "Video quality", "Alerts", "Subscription", "App", "Battery", "Support"]
    paths = [
        (names[i % 8], f"group {i % 48}", f"topic {i % 288}", f"issue number {i} that customers write about")
        for i in range(num_leaves)
    ]
    return Taxonomy(tuple(Leaf(path, "") for path in paths))


def _count_comments(taxonomy, num_comments, shuffle, lengths):
    part = PartStatistics()
    ranks = [1 / (rank + 2) ** 1.15 for rank in range(len(taxonomy.leaves))]
    for number in range(num_comments):
        picked = shuffle.choices(taxonomy.leaves, ranks, k=shuffle.choice([0, 1, 1, 1, 2, 2, 3, 4]))
        emotion = shuffle.choice(["anger", "joy", "neutral", "confusion"])
        record = VocRecord(str(number), COMMENT, tuple(Segment(COMMENT, leaf.path, emotion) for leaf in picked))
        tokens = round(shuffle.lognormvariate(4.9, 0.45)) if lengths else None
        lang = shuffle.choices(["en", "de", "es", "fr", "ja", "he", "pt"], [60, 12, 9, 7, 5, 4, 3])[0]
        part.add(record, tokens, 0 if tokens is None else tokens // 3, lang)
    return part


def _count_general(shuffle, num_rows):
    part = PartStatistics()
    for _ in range(num_rows):
        category = shuffle.choice(["math", "code", "chat", "stem", "reasoning-instruction-following"])
        tokens = min(round(shuffle.lognormvariate(6.2, 0.8)), 4096)
        part.add(GeneralRecord(prompt="p", completion="c", category=category), tokens, tokens // 2, "en")
    return part


def _share(name, category, weight, rows, samples, tokens, assistant):
    return {
        "name": name,
        "category": category,
        "weight": weight,
        "num_rows": rows,
        "num_samples": samples,
        "num_tokens": tokens,
        "num_assistant_tokens": assistant,
        "epochs": samples / rows,
        "max_repeats": -(-samples // rows),
        "unused_rows": max(rows - samples, 0),
        "sampling": "once" if samples == rows else "over" if samples > rows else "under",
    }


def _make_arms():
    customer = _share("customer", None, 0.75, 14_213, 14_213, 2_250_000, 750_000)
    categories = ["math", "code", "chat", "stem", "reasoning-instruction-following"]
    mixed = [
        _share("general", name, 0.05, 1_000 + 300 * i, 948 + (i < 3), 640_000 - 30_000 * i, 320_000 - 15_000 * i)
        for i, name in enumerate(categories)
    ]
    replayed = _share(
        "a-source-with-a-name-of-sixty-characters-as-they-are-allowed", None, 0.05, 90, 948, 99_000, 33_000
    )
    alone = _share("customer", None, 1.0, 14_213, 18_957, 3_001_220, 1_000_411)
    return {
        "customer-only": {"unit": "samples", "num_samples": 18_957, "seed": 7, "sources": [alone]},
        "mix-75-25": {"unit": "samples", "num_samples": 18_957, "seed": 7, "sources": [customer, *mixed, replayed]},
    }


def _describe(part, *, read, refused, dropped=None, **rest):
    described = {**part.describe_file(), "read": read, "refused": refused, "warnings": {"segments_overlap": 12}, **rest}
    return described if dropped is None else {**described, "dropped": dropped}


def _overlap(source, evaluation_set, items, found):
    return {
        "source": source,
        "evaluation_set": evaluation_set,
        "items": items,
        "found_items": found,
        "ratio": found / items,
        "rows": found,
        "examples": [{"item": COMMENT, "row": COMMENT}] if found else [],
    }


def make_report(num_leaves=1420, num_train=14_511, num_test=861, num_general=6_000):
    """A report as the pipeline writes it."""
    shuffle = random.Random(num_leaves)
    taxonomy = make_taxonomy(num_leaves)
    train = _count_comments(taxonomy, num_train, shuffle, lengths=True)
    test = _count_comments(taxonomy, num_test, shuffle, lengths=False)
    general = _count_general(shuffle, num_general)
    small = merge_statistics(_count_general(shuffle, 90))
    refused = {"label_not_in_taxonomy": 61, "segment_not_verbatim": 17, "a_reason_of_tomorrow": 2, "empty_comment": 4}
    return {
        "files": {
            "test": _describe(test, read=num_test + 2, refused={"too_long": 2}, dropped={}),
            "customer": _describe(
                train,
                read=num_train + 84,
                refused=refused,
                dropped={"exact_duplicate": 211, "leakage_exact": 3, "label_conflict": 84},
                repaired_labels=31,
                carried_over={"rename": 120, "merge": 14},
                redacted={"email": 44, "phone": 17, "order_number": 9},
                skipped_files=[["s3://bucket/feedback/2026-11-24/part-9.jsonl.gz", "damaged_file"]],
                watermark="2026-11-24",
                replayed_rows=1_402,
            ),
            "general": _describe(general, read=num_general, refused={}, dropped={}, skipped_files=[], redacted={}),
            "a-source-with-a-name-of-sixty-characters-as-they-are-allowed": _describe(
                small, read=90, refused={}, dropped={}
            ),
        },
        "classes": {"train": train.describe_classes(), "test": test.describe_classes()},
        "coverage": cover_leaves(taxonomy, train.describe_classes()["path"]),
        "duplicates": {
            "dropped": {"customer": {"exact_duplicate": 211, "label_conflict": 84, "near_duplicate": 0}},
            "found": {
                "customer": {"exact_inside": 211, "exact_across": 0, "leakage_exact": 3, "leakage_near": 0},
                "general": {"exact_inside": 0, "exact_across": 0, "leakage_exact": 0, "leakage_near": 0},
            },
            "label_conflicts": [{"rows": ["customer row 3", "customer row 9"], "labels": [COMMENT, COMMENT]}],
            "leakage": [{"row": "customer row 5", "test_row": "test row 8", "kind": "exact"}],
            "near": {"num_perm": 128, "num_compared": 9_318, "num_capped": 0},
        },
        "contamination": {
            "evaluation_sets": {"voc_test": {"items": num_test}, "mmlu_test": {"items": 14_042}},
            "overlaps": [
                _overlap("customer", "voc_test", num_test, 3),
                _overlap("customer", "mmlu_test", 14_042, 0),
                _overlap("general", "mmlu_test", 14_042, 12),
            ],
        },
        "packing": {
            "2048": {"rows": 1_620, "efficiency": 0.9871, "too_long": 0},
            "4096": {"rows": 809, "efficiency": 0.9912, "too_long": 0},
        },
        "arms": _make_arms(),
    }


# Nothing but what was read: no tokens, no drops, no coverage, no packing.
MINIMAL_REPORT = {
    "files": {"test": {"rows": 1, "read": 1, "refused": {}}, "customer": {"rows": 1, "read": 1, "refused": {}}},
    "classes": {"train": {}, "test": {}},
    "arms": {
        "only": {"unit": "tokens", "num_samples": 1, "seed": 0, "sources": [{"name": "customer", "category": None}]}
    },
}
