"""What the search for duplicates knows of a row: 32 bytes of hashes in memory, and a MinHash digest on disk.

One task reads one part file and writes two files: `<name>.rows.npy` (a `ROW` per row) and, if near duplicates are asked for,
`<name>.entries.npy` (the rows with a digest) with `<name>.digests` (uint32, `num_perm` per entry). A text that is repeated
within a batch gets one digest.

Source: Broder, On the resemblance and containment of documents (1997); rensa's `RMinHash`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

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
from corpus.parts import PartFile, read_batches

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
