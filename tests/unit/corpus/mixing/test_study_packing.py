"""The study corpus packs densely: with a tokenizer made from its own texts, at both row lengths of the issue."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.study.rows import write_corpus
from corpus.encoding.base_model import open_base
from corpus.encoding.encode import SampleEncoder
from corpus.mixing.packing import plan_packing
from tests.tiny_model import make_tiny_model
from voc.labels.taxonomy import parse_taxonomy
from voc.records.records import RowError, parse_general_record, parse_voc_record

MAX_SEQ_LEN = 2048


@pytest.fixture(scope="module")
def lengths(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Tokens of every training row, comments and general rows in turn as far as both go."""
    folder = tmp_path_factory.mktemp("study")
    write_corpus(folder / "corpus")
    taxonomy = parse_taxonomy((folder / "corpus/taxonomy.csv").read_text(), "taxonomy.csv")
    comments = [json.loads(line) for line in (folder / "corpus/train.jsonl").open()]
    chats = [json.loads(line) for line in (folder / "corpus/general.jsonl").open()]
    texts = [row["comment"] for row in comments[:3000]]
    model = make_tiny_model(folder / "base", texts, vocab_size=8000, max_position_embeddings=4096)
    base = open_base(str(model), max_seq_len=MAX_SEQ_LEN)
    encoder = SampleEncoder(base, max_seq_len=MAX_SEQ_LEN, variant="internalized", taxonomy=taxonomy)
    records = [*(parse_voc_record(row, taxonomy) for row in comments), *map(parse_general_record, chats)]
    samples = [
        sample for start in range(0, len(records), 512) for sample in encoder.encode(records[start : start + 512])
    ]
    assert not any(isinstance(sample, RowError) for sample in samples)
    found = np.array([len(sample.input_ids) for sample in samples], dtype=np.int32)
    return np.random.default_rng(0).permutation(found)


@pytest.mark.parametrize("row_len", [2048, 4096])
def test_the_study_corpus_fills_its_rows(lengths: np.ndarray, row_len: int) -> None:
    packing = plan_packing(lengths, row_len)
    assert len(lengths) == 14_511 + 4_837
    assert packing.efficiency >= 0.97
    assert len(packing.too_long) == 0
    assert np.bincount(packing.row_of, weights=lengths).max() <= row_len
