"""Compare the VOC figures of two nights whose taxonomies may differ, on the leaves that mean the same in both.

    python -m evaluation compare --store-uri URI --run-id NEW --with-run OLD [--changes URI] [--model NAME] [--with-model NAME]

Reads, of both runs: data/taxonomy.csv, data/test.jsonl, evaluation/<model>/results/; the changes of the taxonomy.
Writes: nothing in the runs; `--output` names a JSON file.

Two figures are comparable if they are about the same labels, and their difference is sharp if it is about the same comments. So
F1 is given on all leaves (what each night reported) and on the shared ones, and the difference on the comments that both test
sets have. On shared leaves a label that only one taxonomy has is left out on both sides, gold and predicted: a wrong answer that
went to such a leaf is then a miss only. These figures are for comparing nights, not for judging one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from evaluation.comparison_table import format_comparison
from evaluation.intervals import Bootstrap
from evaluation.items import Items
from evaluation.nights import Night, choose_model, read_changes, read_night
from evaluation.suites.voc.label_counts import LabelCounts, count_labels
from evaluation.suites.voc.label_scores import AVERAGES, score_labels
from evaluation.suites.voc.resampling import bootstrap_scores, compare_f1
from evaluation.suites.voc.shared_labels import restrict_items
from voc.errors import TaxonomyError
from voc.labels.changes import TaxonomyChanges, shared_leaves
from voc.run import ModelEntry, Run, open_run
from voc.store.uri import open_uri

COMPARISON_FORMAT = "nightforge/comparison/1"


def run_compare(arguments: argparse.Namespace) -> None:
    """Open both runs, compare, print the table, and write the JSON if asked."""
    new, old = (open_run(arguments.store_uri, name) for name in (arguments.run_id, arguments.with_run))
    model = choose_model(new, arguments.model, "--model")
    earlier = choose_model(old, arguments.with_model or arguments.model, "--with-model")
    comparison = compare_runs(new, model, old, earlier, arguments.changes)
    if arguments.output:
        store, key = open_uri(arguments.output)
        store.write_bytes(key, json.dumps(comparison, indent=1, ensure_ascii=False).encode())
    print(format_comparison(comparison), flush=True)


def compare_runs(new: Run, model: ModelEntry, old: Run, earlier: ModelEntry, changes_uri: str | None) -> dict[str, Any]:
    """Compare a model of a run with a model of an earlier run; intervals are made as the later run makes its own.

    Raises:
        IntegrityError: If data or results are missing, damaged, or not from one another.
        TaxonomyError: If the changes do not lead to the later taxonomy, or no leaf is shared.
        DataError: If a run has no test comments.
        ObjectNotFoundError: If the changes are not there.
    """
    nights = read_night(new, model.name), read_night(old, earlier.name)
    uri, changes = read_changes(new, nights[0].taxonomy, changes_uri)
    bootstrap = Bootstrap(new.config.evaluation.bootstrap_resamples, new.config.decision.confidence, new.config.seed)
    return {"format": COMPARISON_FORMAT, "changes": uri, **compare_nights(*nights, changes, bootstrap)}


def compare_nights(new: Night, old: Night, changes: TaxonomyChanges | None, bootstrap: Bootstrap) -> dict[str, Any]:
    """Score both nights on all of their leaves and on the shared ones, and pair the comments that both have.

    Raises:
        TaxonomyError: If no leaf is shared.
    """
    shared = shared_leaves(old.taxonomy, new.taxonomy, changes)
    if not shared:
        raise TaxonomyError(
            f"the taxonomies of {new.run_id} ({len(new.taxonomy.leaves)} leaves) and {old.run_id} "
            f"({len(old.taxonomy.leaves)} leaves) share no leaf",
            expected="leaves with equal paths, or changes that rename or move them",
            remedy="give the changes between the two with --changes; is --run-id the later run?",
        )
    kept_new = restrict_items(new.items, {leaf: leaf for leaf in shared.values()})
    kept_old = restrict_items(old.items, shared)
    in_new = frozenset(shared.values())
    return {
        "confidence": bootstrap.confidence,
        "num_resamples": bootstrap.num_resamples,
        "new": _describe(new, kept_new, bootstrap),
        "old": _describe(old, kept_old, bootstrap),
        "asked_differently": list_other_asking(new, old),
        "leaves": {
            "num_new": len(new.taxonomy.leaves),
            "num_old": len(old.taxonomy.leaves),
            "num_shared": len(shared),
            "num_other_path": sum(before != after for before, after in shared.items()),
            "only_new": [list(leaf.path) for leaf in new.taxonomy.leaves if leaf.path not in in_new],
            "only_old": [list(leaf.path) for leaf in old.taxonomy.leaves if leaf.path not in shared],
        },
        "paired": pair_nights(new, kept_new, old, kept_old, bootstrap),
    }


def list_other_asking(new: Night, old: Night) -> list[dict[str, Any]]:
    """Return {setting, old, new} for everything in which the two rows were asked differently; None: not declared."""
    names = sorted(new.asked.keys() | old.asked.keys())
    pairs = [{"setting": name, "old": old.asked.get(name), "new": new.asked.get(name)} for name in names]
    return [pair for pair in pairs if pair["old"] != pair["new"]]


def _describe(night: Night, kept: Items, bootstrap: Bootstrap) -> dict[str, Any]:
    return {
        "run_id": night.run_id,
        "model": night.model,
        "model_digest": night.model_digest,
        "taxonomy_digest": night.taxonomy.digest,
        "all": score_items(night.items, bootstrap),
        "shared": score_items(kept, bootstrap),
    }


def score_items(items: Items, bootstrap: Bootstrap) -> dict[str, Any]:
    """Compute the F1 averages with their intervals.

    Returns:
        `f1` by average as `{value, low, high}`; `num_comments`; `num_labelled`, the comments with a gold label (the others
        count in the `samples` average as 1 if nothing is predicted either); gold and predicted labels.
    """
    counts = count_labels(items.predicted, items.gold)
    scores, ends = score_labels(counts), bootstrap_scores(counts, bootstrap)
    return {
        "num_comments": len(items.gold),
        "num_labelled": sum(map(bool, items.gold)),
        "num_gold": sum(map(len, items.gold)),
        "num_predicted": sum(map(len, items.predicted)),
        "f1": {
            average: {
                "value": float(scores[average][0, 2]),
                "low": ends[average]["f1"][0],
                "high": ends[average]["f1"][1],
            }
            for average in AVERAGES
        },
    }


def pair_nights(new: Night, kept_new: Items, old: Night, kept_old: Items, bootstrap: Bootstrap) -> dict[str, Any]:
    """Compare F1 on the comments that both nights asked: the same id and the same text.

    Returns:
        `f1` by average as the difference new minus old (None without a common comment); how many comments are paired, have one
        id but two texts, or other gold labels on the two nights.
    """
    ids = new.items.ids["voc"]
    rows = {name: row for row, name in enumerate(old.items.ids["voc"])}
    pairs = [(row, rows[name]) for row, name in enumerate(ids) if _is_same(new, old, name) and name in rows]
    mine = _count_rows(kept_new, [row for row, _ in pairs])
    other = _count_rows(kept_old, [row for _, row in pairs])
    return {
        "num_comments": len(pairs),
        "num_other_text": sum(name in rows and not _is_same(new, old, name) for name in ids),
        "num_other_gold": sum(kept_new.gold[row] != kept_old.gold[before] for row, before in pairs),
        "f1": {average: compare_f1(mine, other, average, bootstrap).to_json() for average in AVERAGES}
        if pairs
        else None,
    }


def _is_same(new: Night, old: Night, name: str) -> bool:
    return new.comments[name] == old.comments.get(name)


def _count_rows(items: Items, rows: Sequence[int]) -> LabelCounts:
    return count_labels([items.predicted[row] for row in rows], [items.gold[row] for row in rows])
