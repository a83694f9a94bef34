from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voc.errors import ConfigError, DataError
from voc.importers import acos
from voc.importers.acos import Quadruple, describe_import, import_acos, make_segments, parse_line, write_acos
from voc.labels.taxonomy import parse_taxonomy
from voc.records.acceptance import read_voc_rows
from voc.records.records import Segment
from voc.store.base import Store
from voc.store.manifest import verify_directory
from voc.store.uri import open_uri

FILES = {
    "train.tsv": (
        "the phone 's camera is great .\t3,4 CAMERA#QUALITY 2 5,6\n"
        "too heavy to carry\t-1,-1 PHONE#PORTABILITY 0 1,2\t-1,-1 PHONE#PORTABILITY 0 0,2\n"
        "fine\t-1,-1 PHONE#GENERAL 1 -1,-1\n"
    ),
    "dev.tsv": "fine\t-1,-1 PHONE#GENERAL 2 -1,-1\n",
    "test.tsv": "the shop shipped fast\t1,2 SHIPPING#OPERATION_PERFORMANCE 2 3,4\nfine\t-1,-1 PHONE#GENERAL 1 -1,-1\n",
}
PHONE = ("Other", "Phone", "Overall", "General")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def _read(output: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (output / name).read_text().splitlines()]


def test_a_corpus_becomes_a_taxonomy_and_records_that_read_back(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    write_acos(import_acos(corpus), str(output))
    verify_directory(*open_uri(str(output)))
    taxonomy = parse_taxonomy((output / "taxonomy.csv").read_text(), "x")
    assert len(taxonomy.leaves) == 4
    for split, count in (("train", 3), ("dev", 1), ("test", 2)):
        accepted = read_voc_rows((output / f"{split}.jsonl").read_bytes(), taxonomy)
        assert (len(accepted.rows), accepted.rejections) == (count, ())
    assert (output / "quarantine.jsonl").read_bytes() == b""
    assert _read(output, "train.jsonl")[0] == {
        "id": "train-000001",
        "comment": "the phone 's camera is great .",
        "segments": [
            {
                "content": "camera is great",
                "L1": "Other",
                "L2": "Camera",
                "L3": "Build",
                "L4": "Quality",
                "emotion": "positive",
            }
        ],
    }


def test_a_test_row_with_a_label_unseen_in_train_stays(corpus: Path) -> None:
    made = import_acos(corpus)
    assert len(made.records["test"]) == 2
    assert made.unseen_leaves("test") == {("Service", "Shipping", "Use", "Operation performance")}
    assert made.count_repeated("test") == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"no tab at all", "no_quadruple"),
        (b"text\t", "no_quadruple"),
        (b"", "empty_comment"),
        (b" \t0,1 A#B 1 -1,-1", "empty_comment"),
        (b"\xff\t0,1 A#B 1 -1,-1", "encoding"),
        (b"a b\t0,1 A#B 1", "malformed_quadruple"),
        (b"a b\t0,1 A#B 1 -1,-1\t", "malformed_quadruple"),
        (b"a b\t0,1 A 1 -1,-1", "malformed_category"),
        (b"a b\t0,1 A#B#C 1 -1,-1", "malformed_category"),
        (b"a b\t0,1 A#B 3 -1,-1", "unknown_sentiment"),
        (b"a b\tx,1 A#B 1 -1,-1", "malformed_span"),
        (b"a b\t0,3 A#B 1 -1,-1", "span_out_of_range"),
        (b"a b\t1,1 A#B 1 -1,-1", "span_out_of_range"),
        (b"a b\t-1,1 A#B 1 -1,-1", "span_out_of_range"),
        (b"a b\t1,0 A#B 1 -1,-1", "span_out_of_range"),
    ],
)
def test_a_malformed_line_is_quarantined_with_its_reason(
    corpus: Path, tmp_path: Path, line: bytes, reason: str
) -> None:
    with (corpus / "test.tsv").open("ab") as file:
        file.write(line + b"\n")
    made = import_acos(corpus)
    write_acos(made, str(tmp_path / "out"))
    (entry,) = _read(tmp_path / "out", "quarantine.jsonl")
    assert (entry["file"], entry["line"], entry["reason"]) == ("test.tsv", 3, reason)
    assert entry["raw"] == line.decode("utf-8", "backslashreplace")
    assert "test: 3 lines = 2 records + 1 quarantined" in describe_import(made)


@given(st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")), max_size=10))
def test_rows_in_are_rows_out_plus_quarantined(lines: list[bytes]) -> None:
    data = b"".join(line + b"\n" for line in [b"fine\t-1,-1 A#B 1 -1,-1", *lines])
    accepted, refused, _ = acos._read_split(data, "test", "test.tsv")
    assert len(accepted) + len(refused) == len(lines) + 1


TOKENS = st.lists(st.sampled_from(["a", "bb", "ccc", "."]), min_size=1, max_size=8)


@st.composite
def annotated(draw):
    tokens = draw(TOKENS)
    text = draw(st.sampled_from([" ", "  ", "\u00a0"])).join(tokens)
    positions = st.integers(0, len(tokens) - 1)
    span = st.none() | st.tuples(positions, positions).map(lambda p: (min(p), max(p) + 1))
    category, emotion = st.sampled_from(["A#X", "A#Y"]), st.sampled_from(["negative", "positive"])
    return text, draw(st.lists(st.builds(Quadruple, span, category, emotion, span), min_size=1, max_size=4))


@given(annotated())
def test_segments_are_verbatim_and_keep_every_label(case: tuple[str, list[Quadruple]]) -> None:
    text, quadruples = case
    segments = make_segments(text, quadruples)
    assert all(segment.content and segment.content in text for segment in segments)
    assert {(s.label, s.emotion) for s in segments} == {(acos.label_of(q.category), q.emotion) for q in quadruples}


def _quadruple(aspect, opinion, category="A#X", emotion="positive") -> Quadruple:
    return Quadruple(aspect, category, emotion, opinion)


@pytest.mark.parametrize(
    ("quadruples", "contents"),
    [
        ([_quadruple((1, 2), (3, 4))], ["b c d"]),
        ([_quadruple((3, 4), (1, 2))], ["b c d"]),
        ([_quadruple(None, (2, 3))], ["c"]),
        ([_quadruple(None, None)], ["a b c d e"]),
        ([_quadruple((0, 2), None), _quadruple((1, 3), None)], ["a b c"]),
        ([_quadruple((0, 1), None), _quadruple((1, 2), None)], ["a b"]),
        ([_quadruple((3, 5), None), _quadruple((0, 1), None)], ["a", "d e"]),
        ([_quadruple((0, 3), None), _quadruple((1, 2), None, emotion="negative")], ["a b c", "b"]),
        ([_quadruple((0, 3), None), _quadruple((1, 2), None, category="A#Y")], ["a b c", "b"]),
    ],
)
def test_pieces_span_aspect_and_opinion_and_merge_only_with_their_like(quadruples, contents: list[str]) -> None:
    assert [segment.content for segment in make_segments("a b c d e", quadruples)] == contents


def test_span_ends_are_exclusive_and_white_space_is_kept() -> None:
    text, quadruples = parse_line(
        b"keyboard  key\tfragile .\t0,1 KEYBOARD#QUALITY 0 1,2".replace(b"\tfragile", b" fragile")
    )
    label = ("Hardware", "Keyboard", "Build", "Quality")
    assert make_segments(text, quadruples) == (Segment("keyboard  key", label, "negative"),)


def test_windows_line_ends_and_a_missing_last_end_do_no_harm(corpus: Path) -> None:
    (corpus / "dev.tsv").write_bytes(b"\xef\xbb\xbffine\t-1,-1 A#B 1 -1,-1\r\nfine\t-1,-1 A#B 1 -1,-1")
    made = import_acos(corpus)
    assert (made.num_lines["dev"], made.quarantine) == (2, ())
    assert made.records["dev"][0].comment == "fine"


def test_the_published_file_names_are_found(corpus: Path) -> None:
    for name in FILES:
        (corpus / name).rename(corpus / f"laptop_quad_{name}")
    assert len(import_acos(corpus).records["train"]) == 3


def test_missing_files_are_named(corpus: Path) -> None:
    (corpus / "dev.tsv").unlink()
    (corpus / "test.tsv").unlink()
    with pytest.raises(DataError, match=r"has no dev\.tsv, test\.tsv"):
        import_acos(corpus)


@pytest.mark.parametrize("text", ["", "rubbish\n"])
def test_a_file_without_a_usable_line_is_refused(corpus: Path, text: str) -> None:
    (corpus / "train.tsv").write_text(text)
    with pytest.raises(DataError, match=r"train\.tsv has no usable line"):
        import_acos(corpus)


def test_importing_again_replaces_an_earlier_import(corpus: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    first = write_acos(import_acos(corpus), output)
    assert write_acos(import_acos(corpus), output).digest == first.digest
    (corpus / "dev.tsv").write_text("new\t-1,-1 A#B 1 -1,-1\n")
    assert write_acos(import_acos(corpus), output).digest != first.digest
    verify_directory(*open_uri(output))


def test_a_folder_with_other_files_is_left_alone(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match=r"holds other files \(home/thesis\.txt\)"):
        write_acos(import_acos(corpus), str(tmp_path / "home"))
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["thesis.txt"]


def test_an_import_can_go_straight_into_a_store(corpus: Path, store: Store) -> None:
    manifest = write_acos(import_acos(corpus), f"{store.uri}/data/phones")
    assert verify_directory(store, "data/phones") == manifest
    assert manifest.facts["test"] == 2


@pytest.fixture
def laptop_acos(repository: Path) -> Path:
    shared = Path(os.environ.get("NIGHTFORGE_SHARED", repository.parent / "shared"))
    folder = shared / "data" / "laptop-acos"
    if not folder.is_dir():
        pytest.skip(f"the real corpus is not at {folder} (NIGHTFORGE_SHARED names the folder above data/)")
    return folder


def test_the_real_corpus_comes_out_whole(laptop_acos: Path, tmp_path: Path) -> None:
    made = import_acos(laptop_acos)
    assert {split: len(rows) for split, rows in made.records.items()} == {"train": 2934, "dev": 326, "test": 816}
    assert made.quarantine == ()
    assert len(made.taxonomy.leaves) == 121
    assert len(made.unseen_leaves("test")) == 4
    families = {leaf.path[0] for leaf in made.taxonomy.leaves}
    assert families == {"Product", "Hardware", "Software", "Service", "Other"}
    assert {leaf.path[1] for leaf in made.taxonomy.leaves if leaf.path[0] == "Other"} == {"Out of scope"}
    write_acos(made, str(tmp_path / "out"))
