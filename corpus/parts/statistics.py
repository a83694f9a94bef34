"""What a source holds, counted part by part: every part file is counted by its own task, and the driver merges the counts.

The memory of a `PartStatistics` depends on the number of labels, categories and languages, never on the number of rows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from corpus.ground.results import CountedFigures, Coverage, NamedRows, RareLabels
from voc.errors import DataError
from voc.labels.taxonomy import LEVELS, Taxonomy
from voc.records.records import GeneralRecord, VocRecord

PATH_SEPARATOR = " > "
CLASS_KINDS = (*LEVELS, "path", "emotion", "segments")
# Four bins per octave from 16 tokens to a million: short comments and long chats on one axis, merged without being asked.
LENGTH_EDGES = (0, *(round(16 * 2 ** (step / 4)) for step in range(65)))
# A column of identifiers that was mapped to `category` by mistake must not fill the memory.
MAX_NAMES = 10_000
OTHER_NAMES = "(other)"
FEW_EXAMPLES = 5


@dataclass(slots=True)
class PartStatistics:
    """Counts of some rows of one source.

    Attributes:
        rows: Usable rows.
        tokens: Their tokens.
        assistant_tokens: Those of them that are learned.
        longest_tokens: The longest row.
        lengths: Rows per bin of `LENGTH_EDGES` (upper edges exclusive; longer rows are in the last bin).
        categories: Rows per category (general rows only).
        languages: Rows per language.
        classes: For each of `CLASS_KINDS` its counts: segments per label of a level (its path down to there), per full path,
            per emotion; and comments per number of segments.
    """

    rows: int = 0
    tokens: int = 0
    assistant_tokens: int = 0
    longest_tokens: int = 0
    lengths: list[int] = field(default_factory=lambda: [0] * (len(LENGTH_EDGES) - 1))
    categories: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    classes: dict[str, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in CLASS_KINDS})

    def add(
        self,
        record: VocRecord | GeneralRecord,
        num_tokens: int | None = None,
        num_assistant_tokens: int = 0,
        lang: str | None = None,
    ) -> None:
        """Count one row.

        Args:
            record: The row.
            num_tokens: Its tokens; None where rows are not encoded (the test set).
            num_assistant_tokens: Those of them that are learned.
            lang: Its language, if it is known.
        """
        self.rows += 1
        if num_tokens is not None:
            self.tokens += num_tokens
            self.assistant_tokens += num_assistant_tokens
            self.longest_tokens = max(self.longest_tokens, num_tokens)
            self.lengths[_find_bin(num_tokens)] += 1
        if lang:
            _count(self.languages, lang, 1)
        if isinstance(record, GeneralRecord):
            _count(self.categories, record.category, 1)
        else:
            self._add_classes(record)

    def _add_classes(self, record: VocRecord) -> None:
        self.classes["segments"][str(len(record.segments))] += 1
        for segment in record.segments:
            for depth, level in enumerate(LEVELS, start=1):
                self.classes[level][PATH_SEPARATOR.join(segment.label[:depth])] += 1
            self.classes["path"][PATH_SEPARATOR.join(segment.label)] += 1
            _count(self.classes["emotion"], segment.emotion, 1)

    def include(self, part: PartStatistics) -> None:
        """Add the counts of other rows."""
        self.rows += part.rows
        self.tokens += part.tokens
        self.assistant_tokens += part.assistant_tokens
        self.longest_tokens = max(self.longest_tokens, part.longest_tokens)
        self.lengths = [a + b for a, b in zip(self.lengths, part.lengths, strict=True)]
        for kind in CLASS_KINDS:
            if kind != "emotion":
                self.classes[kind].update(part.classes[kind])
        open_sets = [(self.categories, part.categories), (self.languages, part.languages)]
        for into, names in (*open_sets, (self.classes["emotion"], part.classes["emotion"])):
            for name, number in names.items():
                _count(into, name, number)

    def describe_file(self) -> CountedFigures:
        """Return the report's entry of this file, as far as it is counted here; without tokens if no row was encoded."""
        named: NamedRows = {"categories": _sort(self.categories), "languages": _sort(self.languages)}
        if not any(self.lengths):
            return {"rows": self.rows, **named}
        return {
            "rows": self.rows,
            "tokens": self.tokens,
            "assistant_tokens": self.assistant_tokens,
            "longest_tokens": self.longest_tokens,
            "lengths": {"edges": list(LENGTH_EDGES), "counts": list(self.lengths)},
            **named,
        }

    def describe_classes(self) -> dict[str, dict[str, int]]:
        """Return the counts of every class, the most frequent first."""
        return {kind: _sort(self.classes[kind]) for kind in CLASS_KINDS}


def merge_statistics(*parts: PartStatistics) -> PartStatistics:
    """Return the counts of all parts together; without parts, of no rows."""
    merged = PartStatistics()
    for part in parts:
        merged.include(part)
    return merged


def cover_leaves(taxonomy: Taxonomy, path_counts: Mapping[str, int]) -> Coverage:
    """Tell how many leaves have training examples, and how many.

    Args:
        taxonomy: The labels.
        path_counts: Training segments per full path, joined by `PATH_SEPARATOR`.

    Returns:
        `leaves` and how many of them are `without_examples`, `with_one`, `below_five` (0 and 1 included); the same per level
        under `by_level`, where a label has the examples of all leaves below it; the `unseen` leaves in taxonomy order.

    Raises:
        DataError: If a path is not in the taxonomy.
    """
    leaf_names = [PATH_SEPARATOR.join(leaf.path) for leaf in taxonomy.leaves]
    unknown = sorted(path_counts.keys() - set(leaf_names))
    if unknown:
        raise DataError(
            f"{len(unknown)} counted labels are not in the taxonomy, the first is {unknown[0]!r}",
            expected="only labels of the run's own taxonomy",
            remedy="prepare the data again with this taxonomy",
        )
    by_level: dict[str, RareLabels] = {}
    for depth, level in enumerate(LEVELS, start=1):
        examples: Counter[tuple[str, ...]] = Counter()
        for leaf, name in zip(taxonomy.leaves, leaf_names, strict=True):
            examples[leaf.path[:depth]] += path_counts.get(name, 0)
        by_level[level] = {"labels": len(examples), **_count_rare(examples)}
    unseen = [name for name in leaf_names if not path_counts.get(name, 0)]
    return {
        "leaves": len(leaf_names),
        **_count_rare(
            {leaf.path: path_counts.get(name, 0) for leaf, name in zip(taxonomy.leaves, leaf_names, strict=True)}
        ),
        "by_level": by_level,
        "unseen": unseen,
    }


def _count_rare(examples: Mapping[tuple[str, ...], int]) -> RareLabels:
    numbers = list(examples.values())
    return {
        "without_examples": numbers.count(0),
        "with_one": numbers.count(1),
        "below_five": sum(number < FEW_EXAMPLES for number in numbers),
    }


def _find_bin(num_tokens: int) -> int:
    return min(bisect_right(LENGTH_EDGES, num_tokens), len(LENGTH_EDGES) - 1) - 1


def _count(counter: Counter[str], name: str, number: int) -> None:
    """Add to a name that the data chose freely; once there are `MAX_NAMES`, a new one is counted as `OTHER_NAMES`."""
    is_full = len(counter) >= MAX_NAMES and name not in counter
    counter[OTHER_NAMES if is_full else name] += number


def _sort(counter: Counter[str]) -> dict[str, int]:
    """The most frequent first, equals by name: parts may be merged in any order."""
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))
