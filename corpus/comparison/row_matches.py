"""Which rows of a corpus repeat which: by text, by text and labels, by id, nearly, and the test set.

One task reads one part file and writes what is known of a row: 32 bytes of hashes (`<name>.rows.npy`, a `ROW` per row) and, if
near duplicates are searched, MinHash digests (`<name>.entries.npy`, the rows with one; `<name>.digests`, uint32, `num_perm`
per entry; a text that is repeated within a batch gets one). The driver has all hashes in a `RowTable`: row numbers count over
all sources in their order, arrays have one value per row (N), a row's side is the training sources or the test set. MinHash
only estimates, and a leak stops the run: near leaks are looked at word by word.

Source: Broder, On the resemblance and containment of documents (1997); rensa's `RMinHash`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from corpus.comparison.near_duplicates import NUM_PERM, choose_banding, cluster_texts, match_texts
from corpus.comparison.ngrams import (
    WordHasher,
    hash64,
    hash128,
    hash_ngrams,
    hash_whole_texts,
    hash_words,
    normalise_text,
    split_words,
)
from corpus.parts.part_files import PartFile, read_batches, read_cells
from voc.config.data import DuplicatesConfig
from voc.errors import DataError

_ROWS_AT_ONCE = 10_000
GRAM_WORDS = 3
# 32 bytes; a hash of 0 stands for an empty string.
ROW = np.dtype([("text_high", "<u8"), ("text_low", "<u8"), ("labels", "<u8"), ("id", "<u8")])


@dataclass(frozen=True, slots=True)
class SignatureTask:
    """The signatures of one part.

    Attributes:
        index: Its place among the parts.
        part: The part.
        folder: Where its files go.
        num_perm: Values of a digest; 0: no digests.
        seed: Seed of the permutations.
    """

    index: int
    part: PartFile
    folder: str
    num_perm: int
    seed: int

    def path(self, kind: str) -> Path:
        """Return the path of one of its files (`rows.npy`, `entries.npy`, `digests`)."""
        return Path(self.folder) / f"signatures-{self.index:05d}.{kind}"


def write_signatures(task: SignatureTask) -> int:
    """Read the part, write its files and return its index.

    Raises:
        DataError: If the part file does not hold what it should.
    """
    hasher = WordHasher()
    rows = np.zeros(task.part.num_rows, dtype=ROW)
    entries: list[np.ndarray] = []
    with task.path("digests").open("wb") as digests:
        for first_row, batch in read_batches(task.part, ("id", "text", "labels")):
            start = first_row - task.part.first_row
            texts = [normalise_text(text) for text in batch.column("text").to_pylist()]
            piece = _hash_rows(batch.column("id").to_pylist(), texts, batch.column("labels").to_pylist())
            # A file that is longer than its part must reach the check of `read_batches`, not fail here.
            rows[start : start + len(piece)] = piece[: max(len(rows) - start, 0)]
            if task.num_perm:
                entries.append(start + _write_digests(texts, piece, digests, hasher, task))
    np.save(task.path("rows.npy"), rows)
    np.save(task.path("entries.npy"), np.concatenate([np.zeros(0, dtype=np.int64), *entries]))
    return task.index


def _hash_rows(ids: list[str], texts: list[str], labels: list[str]) -> np.ndarray:
    piece = np.zeros(len(texts), dtype=ROW)
    whole = b"".join(hash128(text.encode("utf-8", "surrogatepass")) for text in texts)
    halves = np.frombuffer(whole, dtype="<u8").reshape(-1, 2)
    piece["text_high"], piece["text_low"] = halves[:, 0], halves[:, 1]
    piece["labels"] = [hash64(value.encode()) if value else 0 for value in labels]
    piece["id"] = [hash64(value.encode()) if value else 0 for value in ids]
    return piece


def _write_digests(
    texts: list[str], piece: np.ndarray, file: BinaryIO, hasher: WordHasher, task: SignatureTask
) -> np.ndarray:
    """Append the digest of each distinct text that has words; return which texts of the batch these are."""
    _, first = np.unique(piece[["text_high", "text_low"]], return_index=True)
    candidates = [(int(row), split_words(texts[row])) for row in np.sort(first)]
    kept = [(row, words) for row, words in candidates if words]
    if kept:
        digest_texts([words for _, words in kept], hasher, num_perm=task.num_perm, seed=task.seed).tofile(file)
    return np.array([row for row, _ in kept], dtype=np.int64)


def digest_texts(texts: list[list[bytes]], hasher: WordHasher, *, num_perm: int, seed: int) -> np.ndarray:
    """Return the MinHash digests (texts, num_perm; uint32) of texts with at least one word each.

    The set of a text is its word 3-grams; of a shorter text, the whole of it.
    """
    from rensa import RMinHash

    words = hash_words(texts, hasher)
    grams, offsets = hash_ngrams(words, GRAM_WORDS)
    is_short = np.diff(offsets) == 0
    grams = np.insert(grams, offsets[:-1][is_short], hash_whole_texts(words)[is_short])
    offsets = offsets + np.concatenate([[0], np.cumsum(is_short)])
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(grams, offsets.astype(np.uint64), num_perm, seed)
    return np.array(matrix.to_rows(), dtype="<u4").reshape(-1, num_perm)


@dataclass(frozen=True, slots=True)
class RowTable:
    """The hashes of all rows, the sources one after the other.

    Attributes:
        sources: Their names, in order.
        bounds: Where each begins, and the end of the last: one more than there are sources.
        rows: `corpus.comparison.row_matches.ROW` of each row.
        is_test: True for the rows of the test set.
    """

    sources: tuple[str, ...]
    bounds: np.ndarray
    rows: np.ndarray
    is_test: np.ndarray

    @property
    def source_numbers(self) -> np.ndarray:
        """The number of each row's source."""
        return np.repeat(np.arange(len(self.sources)), np.diff(self.bounds))

    @property
    def slices(self) -> dict[str, slice]:
        """The rows of each source."""
        return {name: slice(*self.bounds[i : i + 2].tolist()) for i, name in enumerate(self.sources)}

    def name_row(self, row: int) -> tuple[str, int]:
        """Return the source of a row and its number there."""
        source = int(np.searchsorted(self.bounds, row, side="right")) - 1
        return self.sources[source], int(row - self.bounds[source])


def order_parts(parts: Sequence[PartFile]) -> list[PartFile]:
    """Sort the parts by source (in the order in which the sources appear) and row.

    Raises:
        DataError: If the parts of a source leave a gap or overlap, so that its rows would get wrong numbers.
    """
    places = {name: place for place, name in enumerate(dict.fromkeys(part.source for part in parts))}
    ordered = sorted(parts, key=lambda part: (places[part.source], part.first_row, part.num_rows))
    next_row = dict.fromkeys(places, 0)
    for part in ordered:
        if part.first_row != next_row[part.source]:
            raise DataError(
                f"{part.path} begins with row {part.first_row} of {part.source}",
                expected=f"row {next_row[part.source]}, the one after the part before it",
                remedy="list every part of the source once",
            )
        next_row[part.source] += part.num_rows
    return ordered


def read_table(tasks: Sequence[SignatureTask]) -> RowTable:
    """Read what the tasks wrote, in the order of their parts."""
    sources = tuple(dict.fromkeys(task.part.source for task in tasks))
    sizes = [sum(task.part.num_rows for task in tasks if task.part.source == source) for source in sources]
    rows = np.zeros(sum(sizes), dtype=ROW)
    is_test = np.zeros(len(rows), dtype=bool)
    begin = 0
    for task in tasks:
        end = begin + task.part.num_rows
        rows[begin:end] = np.load(Path(task.path("rows.npy")))
        is_test[begin:end] = task.part.is_test
        begin = end
    return RowTable(sources, np.cumsum([0, *sizes]), rows, is_test)


def find_first_equal(*columns: np.ndarray) -> np.ndarray:
    """Return for each row the first row that is equal in all columns: itself, if there is none before it."""
    order = np.lexsort(columns)
    is_new = np.ones(len(order), dtype=bool)
    for place, column in enumerate(columns):
        ordered = column[order]
        differs = ordered[1:] != ordered[:-1]
        is_new[1:] = differs if place == 0 else is_new[1:] | differs
    first = np.empty(len(order), dtype=np.int64)
    # lexsort is stable, so a run of equal rows begins with the first of them.
    first[order] = order[is_new][np.cumsum(is_new) - 1]
    return first


def find_first_equal_among(chosen: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """Return `find_first_equal` among the chosen rows (a mask); each other row stands for itself."""
    first = np.arange(len(chosen))
    rows = np.flatnonzero(chosen)
    first[rows] = rows[find_first_equal(*(column[rows] for column in columns))]
    return first


def is_repeated(first: np.ndarray) -> np.ndarray:
    """Tell which rows have an equal one before them."""
    return first != np.arange(len(first))


def find_conflicts(texts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tell which rows have the text of another row but other labels; rows without labels (0) are not compared.

    Args:
        texts: The first row of each row's text (N).
        labels: Hashes (N).
    """
    labelled = labels != 0
    reference = find_first_equal_among(labelled, texts)
    disagrees = np.zeros(len(texts), dtype=bool)
    disagrees[reference[labelled & (labels != labels[reference])]] = True
    return labelled & disagrees[reference]


@dataclass(frozen=True, slots=True)
class RowMatches:
    """What repeats what.

    Attributes:
        texts: First row of all with the same text.
        side_texts: First row of the side with the same text.
        meanings: First row of the side with the same text and labels.
        ids: First row of the source with the same id; rows without an id stand for themselves.
        is_conflict: True for rows whose text has other labels in another row.
        near: First row of the side's cluster of near duplicates.
        leaked_exact: For training rows, a test row with the same text; -1: none.
        leaked_near: For training rows, a test row that is a near duplicate; -1: none, or the text is equal.
        near_search: How near duplicates were searched, and what was left out.
    """

    texts: np.ndarray
    side_texts: np.ndarray
    meanings: np.ndarray
    ids: np.ndarray
    is_conflict: np.ndarray
    near: np.ndarray
    leaked_exact: np.ndarray
    leaked_near: np.ndarray
    near_search: dict[str, Any]


def match_rows(table: RowTable, tasks: Sequence[SignatureTask], config: DuplicatesConfig, folder: Path) -> RowMatches:
    """Compare all rows with each other; `folder` takes the digests of the distinct texts (512 bytes each)."""
    rows = table.rows
    texts = find_first_equal(rows["text_high"], rows["text_low"])
    side_texts = find_first_equal(texts, table.is_test)
    near, leaked_near = side_texts, np.full(len(rows), -1)
    leaked_exact = _find_exact_leaks(table, texts)
    search: dict[str, Any] = {}
    if config.near != "off":
        near, leaked_near, search = _match_nearly(table, tasks, side_texts, config.near_threshold, folder)
        leaked_near = np.where(leaked_exact < 0, leaked_near, -1)
    return RowMatches(
        texts=texts,
        side_texts=side_texts,
        meanings=find_first_equal(side_texts, rows["labels"]),
        ids=find_first_equal_among(rows["id"] != 0, table.source_numbers, rows["id"]),
        is_conflict=find_conflicts(texts, rows["labels"]),
        near=near,
        leaked_exact=leaked_exact,
        leaked_near=leaked_near,
        near_search=search,
    )


def _find_exact_leaks(table: RowTable, texts: np.ndarray) -> np.ndarray:
    first_test = np.full(len(texts), -1)
    # Of several test rows with one text the first is named, so it is written last.
    for_reference = np.flatnonzero(table.is_test)[::-1]
    first_test[texts[for_reference]] = for_reference
    return np.where(table.is_test, -1, first_test[texts])


def _match_nearly(
    table: RowTable, tasks: Sequence[SignatureTask], side_texts: np.ndarray, threshold: float, folder: Path
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return (near, leaked_near, how it was searched)."""
    (train_rows, train), (test_rows, test) = _gather_digests(tasks, side_texts, folder)
    near, leaked = np.arange(len(side_texts)), np.full(len(side_texts), -1)
    clusters = cluster_texts(train, threshold)
    test_clusters = cluster_texts(test, threshold)
    leaks = match_texts(train, test, threshold)
    near[train_rows] = train_rows[clusters.matches]
    near[test_rows] = test_rows[test_clusters.matches]
    is_leaked = leaks.matches >= 0
    leaked[train_rows[is_leaked]] = test_rows[leaks.matches[is_leaked]]
    banding = choose_banding(threshold)
    search = {
        "threshold": threshold,
        "permutations": NUM_PERM,
        "bands": banding.num_bands,
        "band_rows": banding.band_rows,
        "distinct_texts": len(train_rows) + len(test_rows),
        "compared_pairs": clusters.num_compared + test_clusters.num_compared + leaks.num_compared,
        "capped_rows": clusters.num_capped + test_clusters.num_capped + leaks.num_capped,
        "rows_without_words": int(table.rows.size - np.isin(side_texts, np.append(train_rows, test_rows)).sum()),
    }
    return near[side_texts], leaked[side_texts], search


def _gather_digests(
    tasks: Sequence[SignatureTask], side_texts: np.ndarray, folder: Path
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Put the digests of the distinct texts of each side into one file; a part's own file is removed.

    Returns:
        For the training sources and for the test set: the first row of each text, and the digests (memory-mapped).
    """
    paths = {False: folder / "train.digests", True: folder / "test.digests"}
    chosen: dict[bool, list[np.ndarray]] = {False: [], True: []}
    begin = 0
    with ExitStack() as stack:
        files = {is_test: stack.enter_context(path.open("wb")) for is_test, path in paths.items()}
        for task in tasks:
            rows = begin + np.load(task.path("entries.npy"))
            is_first = side_texts[rows] == rows
            _map_digests(task.path("digests"))[is_first].tofile(files[task.part.is_test])
            chosen[task.part.is_test].append(rows[is_first])
            task.path("digests").unlink()
            begin += task.part.num_rows
    nothing = np.zeros(0, dtype=np.int64)
    train, test = (
        (np.concatenate([nothing, *chosen[is_test]]), _map_digests(paths[is_test])) for is_test in (False, True)
    )
    return train, test


def _map_digests(path: Path) -> np.ndarray:
    """Open a file of digests as (texts, permutations); an empty file cannot be mapped."""
    if path.stat().st_size == 0:
        return np.zeros((0, NUM_PERM), dtype="<u4")
    return np.memmap(path, dtype="<u4", mode="r").reshape(-1, NUM_PERM)


def confirm_leaks(matches: RowMatches, table: RowTable, parts: Sequence[PartFile], threshold: float) -> RowMatches:
    """Return the matches without near leaks whose texts have less than the threshold's share of word 3-grams in common.

    Texts are read again for the candidates only, some thousand at a time.
    """
    candidates = np.flatnonzero(matches.leaked_near >= 0)
    leaked = matches.leaked_near.copy()
    for start in range(0, len(candidates), _ROWS_AT_ONCE):
        rows = candidates[start : start + _ROWS_AT_ONCE]
        texts = _read_texts(table, np.append(rows, leaked[rows]), parts)
        for row in rows.tolist():
            if measure_jaccard(texts[row], texts[int(leaked[row])]) < threshold:
                leaked[row] = -1
    return replace(matches, leaked_near=leaked)


def measure_jaccard(first: str, second: str) -> float:
    """Return the share of word 3-grams that two texts have in common, 0..1; a shorter text is one gram."""
    left, right = _list_grams(first), _list_grams(second)
    return len(left & right) / max(1, len(left | right))


def _list_grams(text: str) -> set[tuple[bytes, ...]]:
    words = split_words(normalise_text(text))
    return {tuple(words[i : i + GRAM_WORDS]) for i in range(max(1, len(words) - GRAM_WORDS + 1))}


def _read_texts(table: RowTable, rows: np.ndarray, parts: Sequence[PartFile]) -> dict[int, str]:
    names = {int(row): table.name_row(int(row)) for row in rows}
    wanted: dict[str, list[int]] = {}
    for source, number in names.values():
        wanted.setdefault(source, []).append(number)
    cells = read_cells(parts, wanted, ("text",))
    return {row: cells[name]["text"] for row, name in names.items()}
