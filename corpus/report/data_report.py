"""What `data_report.json` says: what was read, refused, dropped and found, and what every arm draws."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from corpus.arms import ArmPlan
from corpus.build import Corpus
from corpus.held_out import HELD_OUT, count_by_source
from corpus.packing import plan_packing
from corpus.parts import read_cells
from corpus.report.drawn_categories import describe_arm_draws
from corpus.report.statistics import cover_leaves, merge_statistics
from corpus.sources import Source
from voc.labels.taxonomy import Taxonomy
from voc.records.checks import CARRIED_OVER, REPAIRED_LABELS


def build_report(corpus: Corpus, plans: Sequence[ArmPlan], taxonomy: Taxonomy, max_seq_len: int) -> dict[str, Any]:
    """Collect everything that the table and the data card show.

    Args:
        corpus: What was read and compared.
        plans: What each arm draws.
        taxonomy: The labels.
        max_seq_len: Tokens of a packed row.
    """
    classes = merge_statistics(*(s.statistics for s in corpus.sources if s.config.format == "voc")).describe_classes()
    figures = {name: rows.figures for name, rows in corpus.usable.items()}
    lengths = np.concatenate([rows.tokens for rows in figures.values()])
    return {
        "files": {source.name: _describe_source(source, corpus) for source in corpus.all_sources},
        "classes": {"train": classes, "test": corpus.test.statistics.describe_classes()},
        "coverage": cover_leaves(taxonomy, classes["path"]),
        "duplicates": corpus.duplicates.to_json(),
        "contamination": corpus.contamination.to_json(),
        "packing": {str(max_seq_len): plan_packing(lengths, max_seq_len).to_json()},
        "arms": {plan.name: {**plan.to_json(), "sources": describe_arm_draws(plan.plan, figures)} for plan in plans},
        **({"validation": [part.to_json() for part in corpus.held_out]} if corpus.held_out else {}),
    }


def list_dropped(corpus: Corpus) -> Iterator[str]:
    """Yield a JSON line for every accepted row that is not trained on, with its source, row number, id and reason."""
    parts = [part for source in corpus.sources for part in source.list_part_files()]
    for source, dropped in corpus.duplicates.dropped.items():
        reasons = dict(zip(np.asarray(dropped).tolist(), corpus.duplicates.reason_of(source), strict=True))
        for part in corpus.held_out:
            if part.stratum.source == source:
                reasons |= dict.fromkeys(part.numbers.tolist(), HELD_OUT)
        cells = read_cells(parts, {source: reasons}, ("id",))
        for row, reason in sorted(reasons.items()):
            yield json.dumps({"source": source, "row": row, "id": cells[source, row]["id"], "reason": reason})


def _describe_source(source: Source, corpus: Corpus) -> dict[str, Any]:
    notes = source.count("notes")
    carried = {name.removeprefix(CARRIED_OVER): n for name, n in sorted(notes.items()) if name.startswith(CARRIED_OVER)}
    warnings = {
        name: n for name, n in sorted(notes.items()) if not name.startswith(CARRIED_OVER) and name != REPAIRED_LABELS
    }
    left_out = {name: n for name, n in corpus.duplicates.dropped_reasons.get(source.name, {}).items() if n}
    if held_out := count_by_source(corpus.held_out)[source.name]:
        left_out[HELD_OUT] = held_out
    return {
        "read": source.num_read,
        **source.statistics.describe_file(),
        "refused": dict(sorted(source.count("refused").items())),
        "warnings": warnings,
        "repaired_labels": notes[REPAIRED_LABELS],
        "carried_over": carried,
        "redacted": dict(sorted(source.count("redacted").items())),
        "dropped": left_out,
        "skipped_files": [list(entry) for entry in source.skipped],
        "watermark": source.watermark,
        "replayed_rows": source.num_replayed,
    }
