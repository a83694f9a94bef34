"""Overlap of the training sources with the evaluation sets, in n-grams of words.

Per source and evaluation set: how many items share at least one n-gram with a row of the source. An item of at least
`num_words` words has its n-grams. A shorter one is compared whole: it is found where a training text, or one line of it (a turn
of a chat, a paragraph), consists of the same words and no others. An n-gram that stands in more than 1 % of the items, and in at
least 3, is boilerplate (the instruction line of a benchmark) and no evidence; it is left out and counted. Hashes have 64 bits;
among 10**9 n-grams of training text and 10**6 of an evaluation set one false match in 18,000 runs is to be expected.

Source: Brown et al., Language Models are Few-Shot Learners (2020), appendix C: 13-grams without punctuation and case.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from corpus.comparison.ngrams import (
    HashedWords,
    WordHasher,
    hash_ngrams,
    hash_whole_texts,
    hash_words,
    normalise_text,
    split_words,
)
from corpus.ground.results import Contamination, OverlapFigures
from corpus.ground.tasks import MapParts
from corpus.parts.part_files import PartFile, read_batches
from voc.config.data import ContaminationConfig
from voc.errors import DataError
from voc.mmlu import load_mmlu

_MAX_EXAMPLES = 10
_HIT = np.dtype([("hash", "<u8"), ("row", "<i8")])
PAIR = np.dtype([("row", "<i8"), ("item", "<i8")])
VOC_TEST = "voc_test"
MMLU_TEST = "mmlu_test"
_BOILERPLATE_RATIO = 0.01
_BOILERPLATE_ITEMS = 3
_MIN_FILTER_BITS = 12
_MAX_FILTER_BITS = 26


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """What a model is judged by.

    Attributes:
        name: How reports call it.
        texts: Everything of each item that a model sees: the comment, or the question with its choices.
    """

    name: str
    texts: Sequence[str]


def read_evaluation_sets(test_parts: Sequence[PartFile], mmlu_dataset: str) -> list[EvaluationSet]:
    """Return the comments of the test set, and the questions with their choices.

    Raises:
        DataError: If the questions cannot be read.
        ObjectNotFoundError: If they are not there.
    """
    comments = [
        text for part in test_parts for _, batch in read_batches(part, ["text"]) for text in batch[0].to_pylist()
    ]
    questions = ["\n".join([item.question, *item.choices]) for item in load_mmlu(mmlu_dataset, None)]
    return [EvaluationSet(VOC_TEST, tuple(comments)), EvaluationSet(MMLU_TEST, tuple(questions))]


@dataclass(frozen=True, slots=True)
class EvaluationNgrams:
    """The hashes of one evaluation set; G pairs of hash and item, sorted.

    Attributes:
        name: The set.
        num_items: Items of the set.
        num_words: Words of an n-gram.
        hashes: Hashes of n-grams (G).
        items: The item of each (G).
        whole_hashes: Hashes of the items that are shorter than an n-gram.
        whole_items: The item of each.
        num_excluded: Distinct n-grams that were left out as boilerplate.
        num_unchecked: Items that nothing is left of: no words, or boilerplate only.
    """

    name: str
    num_items: int
    num_words: int
    hashes: np.ndarray
    items: np.ndarray
    whole_hashes: np.ndarray
    whole_items: np.ndarray
    num_excluded: int
    num_unchecked: int


def list_ngrams(evaluation: EvaluationSet, num_words: int) -> EvaluationNgrams:
    """Hash the n-grams of an evaluation set."""
    words = hash_words([split_words(normalise_text(text)) for text in evaluation.texts], WordHasher())
    grams, offsets = hash_ngrams(words, num_words)
    items = np.repeat(np.arange(len(evaluation.texts)), np.diff(offsets))
    hashes, items = _sort_pairs(grams, items)
    _, place, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    is_boilerplate = (counts > _BOILERPLATE_RATIO * len(evaluation.texts)) & (counts >= _BOILERPLATE_ITEMS)
    is_kept = ~is_boilerplate[place]
    is_short = (words.lengths > 0) & (words.lengths < num_words)
    whole_hashes, whole_items = _sort_pairs(hash_whole_texts(words)[is_short], np.flatnonzero(is_short))
    checked = np.union1d(items[is_kept], whole_items)
    return EvaluationNgrams(
        name=evaluation.name,
        num_items=len(evaluation.texts),
        num_words=num_words,
        hashes=hashes[is_kept],
        items=items[is_kept],
        whole_hashes=whole_hashes,
        whole_items=whole_items,
        num_excluded=int(is_boilerplate.sum()),
        num_unchecked=len(evaluation.texts) - len(checked),
    )


def _sort_pairs(hashes: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort the distinct pairs by hash, then item."""
    order = np.lexsort((items, hashes))
    hashes, items = hashes[order], items[order]
    is_new = np.ones(len(hashes), dtype=bool)
    is_new[1:] = (hashes[1:] != hashes[:-1]) | (items[1:] != items[:-1])
    return hashes[is_new], items[is_new]


class HashSet:
    """Fast membership in a sorted array: a table of flags tells for most hashes that they are not in.

    Args:
        hashes: Sorted, distinct or not.
    """

    def __init__(self, hashes: np.ndarray) -> None:
        self._hashes = hashes
        bits = min(max(_MIN_FILTER_BITS, (16 * len(hashes)).bit_length()), _MAX_FILTER_BITS)
        self._shift = np.uint64(64 - bits)
        self._flags = np.zeros(1 << bits, dtype=bool)
        self._flags[self._hashes >> self._shift] = True

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """Return the places in `hashes` that are in the set."""
        maybe = np.flatnonzero(self._flags[hashes >> self._shift])
        if not len(maybe):
            return maybe
        places = np.searchsorted(self._hashes, hashes[maybe])
        return maybe[self._hashes[np.minimum(places, len(self._hashes) - 1)] == hashes[maybe]]


@dataclass(frozen=True, slots=True)
class Overlap:
    """One source against one evaluation set.

    Attributes:
        source: The training source.
        evaluation_set: The evaluation set.
        num_items: Items of the set.
        num_found: Items that share an n-gram with the source.
        num_rows: Rows of the source that share one with the set.
        examples: Up to 10 pairs (item, the first row that shares one with it), counted from 0.
        pairs: [num_rows] of `PAIR`: each row that shares one, and an item that it shares it with.
    """

    source: str
    evaluation_set: str
    num_items: int
    num_found: int
    num_rows: int
    examples: tuple[tuple[int, int], ...]
    pairs: np.ndarray = field(default_factory=lambda: np.zeros(0, PAIR), compare=False)

    @property
    def ratio(self) -> float:
        """Share of the items that were found, 0..1."""
        return self.num_found / self.num_items if self.num_items else 0.0

    def to_json(self) -> OverlapFigures:
        """Return the entry of the data report."""
        return {
            "source": self.source,
            "evaluation_set": self.evaluation_set,
            "items": self.num_items,
            "found_items": self.num_found,
            "ratio": self.ratio,
            "rows": self.num_rows,
            "examples": [{"item": item, "row": row} for item, row in self.examples],
        }


@dataclass(frozen=True, slots=True)
class ContaminationFindings:
    """All sources against all evaluation sets.

    Attributes:
        overlaps: In the order of the sources, then of the sets.
        evaluation_sets: What was compared of each set.
    """

    overlaps: tuple[Overlap, ...]
    evaluation_sets: Mapping[str, Mapping[str, int]]

    def to_json(self) -> Contamination:
        """Return the object of the data report."""
        return {
            "evaluation_sets": {name: dict(counts) for name, counts in self.evaluation_sets.items()},
            "overlaps": [overlap.to_json() for overlap in self.overlaps],
        }


@dataclass(frozen=True, slots=True)
class ScanTask:
    """One part against all evaluation sets; its files are `<folder>/{grams,whole}-<set>.npy`.

    Attributes:
        index: Its place among the parts.
        part: The part.
        folder: Where the hashes are and the hits go.
        num_sets: Number of evaluation sets.
        num_words: Words of an n-gram.
    """

    index: int
    part: PartFile
    folder: str
    num_sets: int
    num_words: int

    def load(self, kind: str, number: int | str) -> np.ndarray:
        """Read an array of the folder."""
        return np.load(Path(self.folder) / f"{kind}-{number}.npy")

    def hits_path(self, number: int) -> Path:
        """Return where the hits of a set go."""
        return Path(self.folder) / f"hits-{self.index:05d}-{number}.npy"

    def rows_path(self, number: int) -> Path:
        """Return where the rows that were found in a set go, each with one of its hits."""
        return Path(self.folder) / f"rows-{self.index:05d}-{number}.npy"


def find_contamination(
    parts: Sequence[PartFile],
    evaluation_sets: Sequence[EvaluationSet],
    config: ContaminationConfig,
    *,
    dropped: Mapping[str, np.ndarray],
    work_folder: Path,
    map_parts: MapParts,
) -> ContaminationFindings:
    """Compare every training part with every evaluation set; parts of the test set are passed over.

    Args:
        parts: The part files.
        evaluation_sets: What the model is judged by.
        config: The length of the n-grams.
        dropped: Sorted row numbers per source that are not trained on (`DuplicateFindings.dropped`), so not compared.
        work_folder: A folder that all tasks can write to; what is written is removed again.
        map_parts: Runs one task per part.

    Raises:
        DataError: If a part file is damaged.
    """
    training = [part for part in parts if not part.is_test]
    sets = [list_ngrams(evaluation, config.ngram_words) for evaluation in evaluation_sets]
    folder = work_folder / "contamination"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for number, ngrams in enumerate(sets):
            np.save(folder / f"grams-{number}.npy", ngrams.hashes)
            np.save(folder / f"whole-{number}.npy", ngrams.whole_hashes)
        for source in {part.source for part in training}:
            np.save(folder / f"dropped-{source}.npy", np.asarray(dropped.get(source, ()), dtype=np.int64))
        tasks = [ScanTask(i, part, str(folder), len(sets), config.ngram_words) for i, part in enumerate(training)]
        scanned = sorted(map_parts(scan_part, tasks))
        if scanned != list(range(len(tasks))):
            raise DataError(f"{len(scanned)} of {len(tasks)} part files were scanned", remedy="start the stage again")
        overlaps = [
            _sum_up(source, number, ngrams, [task for task in tasks if task.part.source == source])
            for source in dict.fromkeys(part.source for part in training)
            for number, ngrams in enumerate(sets)
        ]
    finally:
        shutil.rmtree(folder)
    return ContaminationFindings(tuple(overlaps), {ngrams.name: _describe(ngrams) for ngrams in sets})


def check_contamination(findings: ContaminationFindings, max_ratio: float) -> None:
    """Refuse sources that share n-grams with too many items of an evaluation set.

    Raises:
        DataError: If a share is above `max_ratio`; the message lists all of them.
    """
    above = [overlap for overlap in findings.overlaps if overlap.ratio > max_ratio]
    if not above:
        return
    listed = "; ".join(
        f"{overlap.source} shares n-grams with {overlap.num_found} of {overlap.num_items} items of "
        f"{overlap.evaluation_set} ({overlap.ratio:.2%}; first: item {overlap.examples[0][0]}, "
        f"row {overlap.examples[0][1]})"
        for overlap in above
    )
    raise DataError(
        f"training data holds what the model is judged by: {listed}",
        expected=f"at most {max_ratio:.2%} of the items of each set",
        remedy="take these rows out of the source (overlaps.jsonl has all of them), or raise data.contamination.max_ratio, "
        "if the overlap is harmless",
    )


def scan_part(task: ScanTask) -> int:
    """Read the part, write what it shares with each set, and return its index.

    Raises:
        DataError: If the part file does not hold what it should.
    """
    hasher = WordHasher()
    dropped = task.load("dropped", task.part.source)
    grams = [HashSet(task.load("grams", number)) for number in range(task.num_sets)]
    whole = [HashSet(task.load("whole", number)) for number in range(task.num_sets)]
    hits: list[list[np.ndarray]] = [[np.zeros(0, dtype=_HIT)] for _ in range(task.num_sets)]
    by_row: list[list[np.ndarray]] = [[np.zeros(0, dtype=_HIT)] for _ in range(task.num_sets)]
    for first_row, batch in read_batches(task.part, ("text",)):
        rows = np.setdiff1d(np.arange(first_row, first_row + batch.num_rows), dropped, assume_unique=True)
        texts = batch.column("text").take(rows - first_row).to_pylist()
        units = _hash_batch(texts, rows, task.num_words, hasher)
        for number in range(task.num_sets):
            found = np.concatenate([_find_hits(*units[0], grams[number]), _find_hits(*units[1], whole[number])])
            by_row[number].append(found[np.unique(found["row"], return_index=True)[1]])
            hits[number].append(_keep_first(found))
    for number in range(task.num_sets):
        np.save(task.hits_path(number), _keep_first(np.concatenate(hits[number])))
        np.save(task.rows_path(number), np.concatenate(by_row[number]))
    return task.index


def _hash_batch(
    texts: list[str], rows: np.ndarray, num_words: int, hasher: WordHasher
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return (hashes, row of each) of the n-grams, and of the short texts and lines as wholes."""
    lines_by_text = [[split_words(normalise_text(line)) for line in text.splitlines()] for text in texts]
    lines = hash_words((words for text_lines in lines_by_text for words in text_lines), hasher)
    counts = np.array([len(text_lines) for text_lines in lines_by_text], dtype=np.int64)
    whole = HashedWords(lines.hashes_W, lines.offsets_R[np.concatenate([[0], np.cumsum(counts)])])
    grams, offsets = hash_ngrams(whole, num_words)
    short_rows = (whole.lengths > 0) & (whole.lengths < num_words)
    short_lines = (lines.lengths > 0) & (lines.lengths < num_words)
    wholes = np.concatenate([hash_whole_texts(whole)[short_rows], hash_whole_texts(lines)[short_lines]])
    rows_of_wholes = np.concatenate([rows[short_rows], np.repeat(rows, counts)[short_lines]])
    return (grams, np.repeat(rows, np.diff(offsets))), (wholes, rows_of_wholes)


def _find_hits(hashes: np.ndarray, rows: np.ndarray, wanted: HashSet) -> np.ndarray:
    places = wanted.find(hashes)
    hits = np.zeros(len(places), dtype=_HIT)
    hits["hash"], hits["row"] = hashes[places], rows[places]
    return hits


def _keep_first(hits: np.ndarray) -> np.ndarray:
    """Keep the smallest row of each hash, sorted by hash."""
    hits = hits[np.lexsort((hits["row"], hits["hash"]))]
    _, first = np.unique(hits["hash"], return_index=True)
    return hits[first]


def _sum_up(source: str, number: int, ngrams: EvaluationNgrams, tasks: Sequence[ScanTask]) -> Overlap:
    hits = _keep_first(np.concatenate([np.load(task.hits_path(number)) for task in tasks]))
    first_rows: dict[int, int] = {}
    for hashes, items in ((ngrams.hashes, ngrams.items), (ngrams.whole_hashes, ngrams.whole_items)):
        for item, row in _pair_items(hits, hashes, items):
            first_rows[item] = min(row, first_rows.get(item, row))
    pairs = _find_items(np.concatenate([np.load(task.rows_path(number)) for task in tasks]), ngrams)
    return Overlap(
        source=source,
        evaluation_set=ngrams.name,
        num_items=ngrams.num_items,
        num_found=len(first_rows),
        num_rows=len(pairs),
        examples=tuple(sorted(first_rows.items())[:_MAX_EXAMPLES]),
        pairs=pairs,
    )


def _find_items(hits: np.ndarray, ngrams: EvaluationNgrams) -> np.ndarray:
    """Return the row of each hit with an item that has its hash, sorted by row."""
    hashes = np.concatenate([ngrams.hashes, ngrams.whole_hashes])
    items = np.concatenate([ngrams.items, ngrams.whole_items])
    order = np.lexsort((items, hashes))
    pairs = np.zeros(len(hits), dtype=PAIR)
    pairs["row"] = hits["row"]
    pairs["item"] = items[order][np.searchsorted(hashes[order], hits["hash"])]
    return np.sort(pairs, order="row")


def _pair_items(hits: np.ndarray, hashes: np.ndarray, items: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield (item, row) for every pair of hash and item that was hit."""
    places = np.searchsorted(hits["hash"], hashes)
    is_hit = places < len(hits)
    is_hit[is_hit] = hits["hash"][places[is_hit]] == hashes[is_hit]
    rows = hits["row"][places[is_hit]]
    yield from zip(items[is_hit].tolist(), rows.tolist(), strict=True)


def _describe(ngrams: EvaluationNgrams) -> dict[str, int]:
    return {
        "items": ngrams.num_items,
        "ngram_words": ngrams.num_words,
        "ngrams": len(np.unique(ngrams.hashes)),
        "items_compared_whole": len(ngrams.whole_items),
        "excluded_ngrams": ngrams.num_excluded,
        "unchecked_items": ngrams.num_unchecked,
    }
