"""What people bring: half-uploaded prefixes, older labels, personal data, damaged files."""

from __future__ import annotations

import gzip
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.ground.tasks import map_here
from corpus.parts.part_files import open_tokens
from corpus.prepare import prepare
from tests.s3_servers import BUCKET, S3Server
from tests.tiny_run import LABELS, make_voc_row, write_lines
from tests.unit.corpus.nights import (
    MakeRun,
    make_night,
    make_source,
    read_lines,
    read_report,
    read_steps,
    to_jsonl,
)
from voc.errors import DataError
from voc.run import Run
from voc.store.manifest import FileEntry, Manifest, read_manifest, verify_directory, write_manifest
from voc.store.uri import open_store

# A prefix on S3.


@pytest.fixture
def bucket(moto: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NIGHTFORGE_CACHE", str(tmp_path / "cache"))
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


def upload_feedback(bucket: str, tmp_path: Path) -> None:
    store = open_store(bucket)
    rows = [make_voc_row(number, number % 5) for number in range(40)]
    pq.write_table(pa.Table.from_pylist(rows[10:20]), tmp_path / "b.parquet", row_group_size=4)
    objects = {
        "a.jsonl": to_jsonl(rows[:10]),
        "b.parquet": (tmp_path / "b.parquet").read_bytes(),
        "c.jsonl.gz": gzip.compress(to_jsonl(rows[20:30])),
        "d.jsonl": to_jsonl(rows[30:35]),
    }
    entries = tuple(FileEntry(name, len(data) + 700 * (name == "d.jsonl"), "0" * 64) for name, data in objects.items())
    for name, data in {**objects, "e.jsonl.tmp": to_jsonl(rows[35:])}.items():
        store.write_bytes(f"feedback/{name}", data)
    write_manifest(store, "feedback", Manifest(entries, {}))


def test_a_half_uploaded_object_stops_a_night_on_s3_and_can_be_read_around(
    make_run: MakeRun, bucket: str, tmp_path: Path
) -> None:
    upload_feedback(bucket, tmp_path)
    source, store = make_source(f"{bucket}/feedback"), {"uri": f"{bucket}/store"}
    run = make_night(make_run, source, store=store)
    with pytest.raises(DataError, match=r"1 files of 'customer' are not whole: .*d\.jsonl: half uploaded"):
        prepare(run, map_here)
    assert read_manifest(run.store, run.layout.data) is None

    run = make_night(make_run, source, store=store, damaged_files="report")
    prepare(run, map_here)
    skipped = {
        f"{bucket}/feedback/d.jsonl": "half_uploaded",
        f"{bucket}/feedback/e.jsonl.tmp": "unfinished_name",
    }
    listed = {entry["file"]: entry["reason"] for entry in read_lines(run, "quarantine.jsonl")}
    assert skipped.items() <= listed.items()
    figures = read_report(run)["files"]["customer"]
    assert skipped.items() <= dict(figures["skipped_files"]).items()
    assert figures["rows"] == figures["read"] == 30
    assert verify_directory(run.store, run.layout.data).facts["rows"] == {"customer": 30, "test": 10}
    drawn = [sample.source_row for samples in read_steps(run) for sample in samples]
    assert len(drawn) == 32
    assert set(drawn) == set(range(30))


# Labels of older taxonomies.


def set_label(row: dict[str, Any], *label: str) -> dict[str, Any]:
    row["segments"][0].update(zip(("L1", "L2", "L3", "L4"), label, strict=True))
    return row


def test_renamed_labels_are_carried_over_and_retired_ones_refused(make_run: MakeRun, tmp_path: Path) -> None:
    rows = [make_voc_row(number) for number in range(20)]
    rows += [set_label(make_voc_row(number), "laptop", "accu", "life", "short") for number in (20, 22, 24)]
    rows += [set_label(make_voc_row(26), "laptop", "modem", "speed", "slow")]
    changes = [
        {"change": "rename", "from": ["laptop", "accu"], "to": ["laptop", "battery"]},
        {"change": "retire", "from": ["laptop", "modem", "speed", "slow"]},
    ]
    run = make_night(
        make_run,
        make_source(write_lines(tmp_path / "rows.jsonl", rows)),
        taxonomy_changes=str(write_lines(tmp_path / "changes.jsonl", changes)),
        max_quarantine_ratio=0.1,
    )
    prepare(run, map_here)
    figures = read_report(run)["files"]["customer"]
    assert figures["carried_over"] == {"rename": 3}
    assert [(entry["line"], entry["reason"]) for entry in read_lines(run, "quarantine.jsonl")] == [
        (24, "label_retired")
    ]
    assert read_report(run)["classes"]["train"]["path"][" > ".join(LABELS[0])] == 13


# Personal data.

EMAIL = "jane.doe.1971@customers.example.com"
PHONE = "+49 151 73928461"


def collect_texts(run: Run, folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield what every file of a folder says: Parquet unpacked, tokens decoded."""
    from corpus.encoding.base_model import open_base

    tokenizer = open_base(run.config.model.base, max_seq_len=384).tokenizer
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield path, path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".parquet":
            yield path, json.dumps(pq.read_table(path).to_pylist(), ensure_ascii=False)
        if path.suffix == ".arrow":
            yield path, "\n".join(tokenizer.decode(ids) for ids in open_tokens(path)["input_ids"].to_pylist())


def make_personal_rows() -> list[dict[str, Any]]:
    said = f"write to {EMAIL} or call {PHONE} now"
    rows: list[dict[str, Any]] = []
    for number in range(6):
        row = make_voc_row(number)
        row["comment"] = f"{row['comment']}. {said}"
        rows.append(row)
    rows[1]["segments"][0]["content"] = rows[1]["comment"]
    rows[2]["segments"][0]["content"] = f"not a piece, {said}"
    rows[3]["source"] = f"mailbox of {EMAIL}"
    rows[4]["comment"] += " and on" * 400
    rows[5]["lang"] = EMAIL
    return rows


def test_no_personal_data_of_the_input_is_stored_or_printed(
    make_run: MakeRun, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    customer = write_lines(tmp_path / "rows.jsonl", [make_voc_row(n) for n in range(10, 40)] + make_personal_rows())
    with customer.open("a") as file:
        file.write(f'{{"id": "cut", "comment": "I am {EMAIL} and {PHONE}\n')
    turns = [{"role": "user", "content": f"Mail {EMAIL}."}, {"role": "assistant", "content": f"I call {PHONE}."}]
    general = write_lines(tmp_path / "chats.jsonl", [{"messages": turns}, {"prompt": f"{EMAIL}:", "completion": " A"}])
    test = [make_voc_row(n) for n in range(100, 110)]
    test[0]["comment"] += f" {EMAIL}"
    files = make_run("files").config.data.model_dump(mode="json")
    run = make_run(
        data={
            **files,
            "test": str(write_lines(tmp_path / "test.jsonl", test)),
            "sources": [make_source(customer), {"name": "general", "uri": str(general), "format": "general"}],
            "redaction": {"kinds": ["email", "phone"]},
            "max_quarantine_ratio": 0.5,
        }
    )
    prepare(run, map_here)
    printed = capfd.readouterr()
    texts = [*collect_texts(run, run.store.local_path("runs")), *((Path("printed"), text) for text in printed)]
    for secret in (EMAIL, "jane.doe", PHONE, PHONE.replace(" ", ""), "73928461"):
        found = [(path.name, text[max(0, text.find(secret) - 60) :][:120]) for path, text in texts if secret in text]
        assert found == []
    report = read_report(run)
    assert report["files"]["customer"]["redacted"] == {"email": 7, "phone": 6}
    assert report["files"]["general"]["redacted"] == {"email": 2, "phone": 1}
    assert report["files"]["test"]["redacted"] == {"email": 1}
    assert report["files"]["customer"]["refused"] == {
        "language_malformed": 1, "malformed_json": 1, "segment_not_verbatim": 1, "too_long": 1,
    }  # fmt: skip


# How strict a run is.


def test_forgiving_labels_are_repaired_overlaps_and_other_languages_refused(make_run: MakeRun, tmp_path: Path) -> None:
    rows = [make_voc_row(number) | {"lang": "en"} for number in range(10)]
    rows[2] = set_label(rows[2], "Laptop", " BATTERY", "life", "short ")
    rows[4]["segments"].append(dict(rows[4]["segments"][0]))
    rows[6]["lang"] = "de-AT"
    run = make_night(
        make_run,
        make_source(write_lines(tmp_path / "rows.jsonl", rows)),
        label_matching="forgiving",
        overlapping_segments="refuse",
        languages=["en"],
        max_quarantine_ratio=0.5,
        test=str(write_lines(tmp_path / "test.jsonl", [make_voc_row(n) | {"lang": "en"} for n in range(100, 105)])),
    )
    prepare(run, map_here)
    figures = read_report(run)["files"]["customer"]
    assert figures["repaired_labels"] == 1
    assert figures["refused"] == {"language_not_expected": 1, "segments_overlap": 1}
    assert figures["rows"] == 8


# Damaged files and rows.


def write_damaged_folder(folder: Path) -> None:
    folder.mkdir()
    windows = to_jsonl([make_voc_row(number) for number in range(10)]).replace(b"\n", b"\r\n")
    (folder / "01.jsonl").write_bytes(b"\xef\xbb\xbf" + windows)
    packed = gzip.compress(to_jsonl([make_voc_row(number, number % 9) for number in range(1000, 1400)]))
    (folder / "02.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    rows = [make_voc_row(number) for number in range(20, 27)]
    rows[0]["comment"] = "word " * 210_000
    rows[1]["segments"][0]["L3"] = float("nan")
    rows[2]["comment"] = "  "
    rows[3] = make_voc_row(23, words=400)
    rows[4]["segments"][0]["L1"] = "LAPTOP"
    rows[5]["segments"][0]["L2"] = None
    write_lines(folder / "03.jsonl", rows)
    again = make_voc_row(31) | {"id": "c3"}
    write_lines(folder / "04.jsonl", [make_voc_row(30), again])
    (folder / "05.parquet").write_bytes(b"PAR1 no footer")


def test_each_damage_is_a_counted_reason_and_no_other_row_is_lost(make_run: MakeRun, tmp_path: Path) -> None:
    write_damaged_folder(tmp_path / "rows")
    run = make_night(
        make_run,
        make_source(tmp_path / "rows"),
        max_row_bytes=100_000,
        max_quarantine_ratio=0.9,
        damaged_files="report",
    )
    prepare(run, map_here)
    figures = read_report(run)["files"]["customer"]
    assert figures["refused"] == {
        "damaged_file": 1, "empty_comment": 1, "label_not_in_taxonomy": 1, "not_a_number": 2, "row_too_large": 1,
        "too_long": 1, "truncated_file": 1,
    }  # fmt: skip
    assert figures["read"] == figures["rows"] + sum(figures["refused"].values())
    refused = [entry for entry in read_lines(run, "quarantine.jsonl") if entry["line"] is not None]
    assert Counter(entry["reason"] for entry in refused) == figures["refused"]
    lines = {entry["line"]: entry["reason"] for entry in refused if entry["file"].endswith("03.jsonl")}
    assert lines == {
        1: "row_too_large", 2: "not_a_number", 3: "empty_comment", 4: "too_long", 5: "label_not_in_taxonomy",
        6: "not_a_number",
    }  # fmt: skip
    ids = [json.loads(row["record"])["id"] for row in read_rows(run)]
    unpacked = [name for name in ids if len(name) == 5]
    assert unpacked == [f"c{number}" for number in range(1000, 1000 + len(unpacked))]
    assert len(unpacked) > 20
    assert [name for name in ids if len(name) < 5] == [*(f"c{n}" for n in range(10)), "c26", "c30", "c3"]
    assert read_lines(run, "dropped.jsonl") == [
        {"source": "customer", "row": len(ids) - 1, "id": "c3", "reason": "duplicate_id"}
    ]
    assert figures["dropped"]["duplicate_id"] == 1


def read_rows(run: Run) -> list[dict[str, Any]]:
    folder = run.store.local_path(f"{run.layout.data}/rows/customer")
    return [row for path in sorted(folder.iterdir()) for row in pq.read_table(path).to_pylist()]


def test_files_that_are_not_whole_stop_a_night_by_default(make_run: MakeRun, tmp_path: Path) -> None:
    write_damaged_folder(tmp_path / "rows")
    run = make_night(make_run, make_source(tmp_path / "rows"), max_quarantine_ratio=0.9)
    with pytest.raises(DataError, match=r"02\.jsonl\.gz: truncated file; .*05\.parquet: damaged file"):
        prepare(run, map_here)


def test_a_parquet_file_without_a_column_is_a_named_error(make_run: MakeRun, tmp_path: Path) -> None:
    rows = [{"id": row["id"], "comment": row["comment"]} for row in map(make_voc_row, range(5))]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"rows\.parquet.*segments"):
        prepare(make_night(make_run, make_source(tmp_path / "rows.parquet")), map_here)
