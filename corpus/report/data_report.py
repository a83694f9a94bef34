"""What `data_report.json` says: what was read, refused, dropped and found, and what every arm draws; and how it is read again.

The first half builds the report, the second is what the text table and the data card both derive from it. Absent figures are
None, never 0. Comments' texts are in none of it: of a part whose shape is not known here, only numbers and short names are taken.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from corpus.ground.results import CategoryDraw, DataReport, DroppedLine, FileFigures, ShareDraw
from corpus.mixing.arms import ArmPlan
from corpus.mixing.held_out import HELD_OUT, Corpus, count_by_source
from corpus.mixing.order import locate_draws
from corpus.mixing.packing import plan_packing
from corpus.parts.part_files import read_cells
from corpus.parts.source_rows import Source, SourceRows
from corpus.parts.statistics import cover_leaves, merge_statistics
from voc.labels.taxonomy import LEVELS, Taxonomy
from voc.mixture import MixturePlan, StratumShare
from voc.records.checks import CARRIED_OVER, REPAIRED_LABELS

TEST = "test"
NOT_COMPUTED = "not computed"
# The only texts that are taken from a part whose shape is not known here.
_NAME_KEYS = ("source", "other", "evaluation_set", "set", "suite", "name", "file", "action", "kind", "reason", "split")
_MAX_NAME = 80
_MAX_LISTED = 50
_MEASURES = {"samples": "num_samples", "tokens": "num_tokens", "assistant_tokens": "num_assistant_tokens"}


def build_report(corpus: Corpus, plans: Sequence[ArmPlan], taxonomy: Taxonomy, max_seq_len: int) -> DataReport:
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
    report: DataReport = {
        "files": {source.name: _describe_source(source, corpus) for source in corpus.all_sources},
        "classes": {"train": classes, "test": corpus.test.statistics.describe_classes()},
        "coverage": cover_leaves(taxonomy, classes["path"]),
        "duplicates": corpus.duplicates.to_json(),
        "contamination": corpus.contamination.to_json(),
        "packing": {str(max_seq_len): plan_packing(lengths, max_seq_len).to_json()},
        "arms": {plan.name: {**plan.to_json(), "sources": describe_arm_draws(plan.plan, figures)} for plan in plans},
    }
    if corpus.held_out:
        report["validation"] = [part.to_json() for part in corpus.held_out]
    return report


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
            line: DroppedLine = {"source": source, "row": row, "id": cells[source, row]["id"], "reason": reason}
            yield json.dumps(line)


def _describe_source(source: Source, corpus: Corpus) -> FileFigures:
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


def describe_arm_draws(plan: MixturePlan, figures: Mapping[str, SourceRows]) -> list[ShareDraw]:
    """Return the entries of a plan's shares; one of a whole source with categories says what is drawn of each of them.

    Args:
        plan: What the arm draws.
        figures: The usable rows of every source.
    """
    entries = []
    for share in plan.shares:
        entry: ShareDraw = {**share.to_json()}
        if share.category is None and len(figures[share.name].category_names) > 1:
            entry["categories"] = _count_categories(share, plan.seed, figures[share.name])
        entries.append(entry)
    return entries


def _count_categories(share: StratumShare, seed: int, rows: SourceRows) -> list[CategoryDraw]:
    """Return the categories by what is drawn of them, the most first."""
    times = count_draws(share, seed)
    counted: list[CategoryDraw] = []
    for number, name in enumerate(rows.category_names):
        chosen = rows.categories == number
        drawn = times[chosen]
        if not len(drawn):
            continue
        num_samples = int(drawn.sum())
        counted.append(
            {
                "category": name,
                "num_rows": len(drawn),
                "num_samples": num_samples,
                "num_tokens": int(drawn @ rows.tokens[chosen]),
                "num_assistant_tokens": int(drawn @ rows.assistant_tokens[chosen]),
                "epochs": num_samples / len(drawn),
                "max_repeats": int(drawn.max()),
                "unused_rows": int((drawn == 0).sum()),
            }
        )
    return sorted(counted, key=lambda entry: (-entry["num_samples"], entry["category"]))


def count_draws(share: StratumShare, seed: int) -> np.ndarray:
    """Return [rows of the stratum] int64 how often each row is drawn."""
    whole_epochs, partial = divmod(share.num_samples, share.num_rows)
    last = locate_draws(share, seed, np.arange(share.num_samples - partial, share.num_samples, dtype=np.int64))
    return whole_epochs + np.bincount(last, minlength=share.num_rows)


@dataclass(frozen=True, slots=True)
class Draw:
    """What one source, or one category of it, gives to an arm.

    Attributes:
        name: Source.
        category: Category, or None for the whole source.
        weight: Wanted share of the mixture, 0..1.
        num_rows: Usable rows that are there.
        num_samples: Rows drawn, repeats included.
        num_tokens: Their tokens.
        num_assistant_tokens: Those of them that are learned.
        shares: Share of the arm's samples, tokens and assistant tokens, 0..1, under these three names.
        epochs: How often it is seen on average.
        max_repeats: How often its most seen row is seen.
        unused_rows: Rows that are never drawn.
        sampling: `over`, `under` or `once`.
        is_detail: Whether it is one category of a source that is drawn as its rows occur, and in the source's draw already.
    """

    name: str
    category: str | None
    weight: float | None
    num_rows: int | None
    num_samples: int | None
    num_tokens: int | None
    num_assistant_tokens: int | None
    shares: Mapping[str, float | None]
    epochs: float | None
    max_repeats: int | None
    unused_rows: int | None
    sampling: str | None
    is_detail: bool = False

    @property
    def title(self) -> str:
        """Source and category."""
        return self.name if self.category is None else f"{self.name} / {self.category}"


@dataclass(frozen=True, slots=True)
class Reason:
    """Rows of all files that were refused, left out or changed for one reason.

    Attributes:
        name: The reason, as it is counted.
        count: How many.
        files: How many in each file.
    """

    name: str
    count: int
    files: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a part of the report whose shape is not known here.

    Attributes:
        where: The keys and names above it.
        what: Its own key.
        value: The number; a truth is one too.
    """

    where: tuple[str, ...]
    what: str
    value: float


def list_draws(arm: Mapping[str, Any]) -> list[Draw]:
    """Return what an arm draws, in the arm's order."""
    return [draw for draw in list_detailed_draws(arm) if not draw.is_detail]


def list_detailed_draws(arm: Mapping[str, Any]) -> list[Draw]:
    """Return the same, each source that is drawn as its rows occur followed by its categories."""
    entries = arm.get("sources") or []
    totals = {measure: sum_known(entry.get(key) for entry in entries) for measure, key in _MEASURES.items()}
    draws = []
    for entry in entries:
        draws.append(_make_draw(entry, totals))
        draws += [
            replace(_make_draw({**part, "name": entry["name"]}, totals), is_detail=True)
            for part in entry.get("categories") or []
        ]
    return draws


def _make_draw(entry: Mapping[str, Any], totals: Mapping[str, int | None]) -> Draw:
    return Draw(
        name=entry["name"],
        category=entry.get("category"),
        weight=entry.get("weight"),
        num_rows=entry.get("num_rows"),
        num_samples=entry.get("num_samples"),
        num_tokens=entry.get("num_tokens"),
        num_assistant_tokens=entry.get("num_assistant_tokens"),
        shares={measure: divide(entry.get(key), totals[measure]) for measure, key in _MEASURES.items()},
        epochs=entry.get("epochs", divide(entry.get("num_samples"), entry.get("num_rows"))),
        max_repeats=entry.get("max_repeats"),
        unused_rows=entry.get("unused_rows"),
        sampling=entry.get("sampling"),
    )


def count(value: float | None) -> str:
    """Return a number with thousands set apart by thin spaces that do not break."""
    return NOT_COMPUTED if value is None else f"{value:,}".replace(",", "\u202f")


def get_sources(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the training files."""
    return {name: file for name, file in (report.get("files") or {}).items() if name != TEST}


def list_reasons(files: Mapping[str, Mapping[str, Any]], key: str) -> list[Reason]:
    """Return what was counted under `key` (`refused`, `dropped`, ...) in some files, the most frequent reason first."""
    totals: Counter[str] = Counter()
    for file in files.values():
        totals.update(file.get(key) or {})
    return [
        Reason(name, count, {file: entry[key][name] for file, entry in files.items() if name in (entry.get(key) or {})})
        for name, count in sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    ]


def sum_counts(file: Mapping[str, Any], key: str) -> int | None:
    """Return the sum over all reasons, or None if they were not counted."""
    counts = file.get(key)
    return None if counts is None else sum(counts.values())


def count_used(file: Mapping[str, Any]) -> int | None:
    """Return the accepted rows that are not left out, or None if either is not known."""
    accepted, dropped = file.get("rows"), sum_counts(file, "dropped")
    return None if accepted is None or dropped is None else accepted - dropped


def sum_known(values: Iterator[int | None] | Sequence[int | None]) -> int | None:
    """Return the sum, or None if any part of it (or all of it) is not known."""
    known = list(values)
    numbers = [value for value in known if value is not None]
    return sum(numbers) if numbers and len(numbers) == len(known) else None


def divide(part: float | None, whole: float | None) -> float | None:
    """Return a share, or None if it does not exist."""
    return None if part is None or not whole else part / whole


def count_unseen_in_training(report: Mapping[str, Any]) -> int | None:
    """Return how many full paths of the test set have no training example."""
    classes = report.get("classes") or {}
    train, test = (((classes.get(part) or {}).get("path")) for part in ("train", TEST))
    return None if train is None or test is None else len(test.keys() - train.keys())


def split_coverage(entry: Mapping[str, Any], total: str = "labels") -> dict[str, int] | None:
    """Return the labels of a level by their examples: `none`, `one`, `few` (2 to 4), `enough` (5 and more)."""
    names = (total, "without_examples", "with_one", "below_five")
    if any(entry.get(name) is None for name in names):
        return None
    labels, without, one, below = (int(entry[name]) for name in names)
    return {"none": without, "one": one, "few": below - without - one, "enough": labels - below}


def list_coverage(report: Mapping[str, Any]) -> list[tuple[str, int, dict[str, int]]]:
    """Return each level of the taxonomy with its labels and their split by examples."""
    coverage = report.get("coverage") or {}
    levels = coverage.get("by_level") or {}
    if not levels and coverage:
        levels = {LEVELS[-1]: {**coverage, "labels": coverage.get("leaves")}}
    found = ((level, entry, split_coverage(entry)) for level, entry in levels.items())
    return [(level, int(entry["labels"]), split) for level, entry, split in found if split is not None]


def list_figures(value: Any, path: tuple[str, ...] = ()) -> list[Figure]:
    """Flatten a nested part of the report to figures.

    Numbers are kept, and short names as part of where a figure was counted. Any other text is not, and a list of texts is
    told by its length: the part may hold examples for engineers without their words coming onto a page for everybody.
    """
    if not isinstance(value, Mapping):
        return []
    names = tuple(value[key][:_MAX_NAME] for key in _NAME_KEYS if isinstance(value.get(key), str))
    here, below = (*path, *names), []
    figures: list[Figure] = []
    for key, item in value.items():
        name = str(key)[:_MAX_NAME]
        if key == "examples":  # single rows, for whoever opens the report itself
            continue
        if isinstance(item, Mapping):
            below += list_figures(item, (*here, name))
        elif isinstance(item, list):
            objects = [entry for entry in item[:_MAX_LISTED] if _has_number(entry)]
            below += [figure for entry in objects for figure in list_figures(entry, (*here, name))]
            if len(objects) < len(item):
                figures.append(Figure(here, f"{name} (listed in the data report)", len(item)))
        elif isinstance(item, int | float):
            figures.append(Figure(here, name, item))
    return figures + below


def _has_number(entry: Any) -> bool:
    return isinstance(entry, Mapping) and any(isinstance(item, int | float) for item in entry.values())
