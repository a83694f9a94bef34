from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.sources import csv_rows
from tests.unit.corpus.sources.read_source import make_row, make_source, name_items, read_items, read_values
from voc.errors import DataError
from voc.records.lines import RawRow
from voc.records.refusals import Rejection

FLAT = "id,comment,L1,L2,L3,L4,emotion"
LABEL = {"L1": "a", "L2": "b", "L3": "c", "L4": "d", "emotion": "joy"}


def read_text(folder: Path, text: str | bytes, name: str = "rows.csv", **options: Any) -> list[RawRow | Rejection]:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    max_row_bytes = options.pop("max_row_bytes", 10_000)
    return read_items(make_source(path, **options), max_row_bytes=max_row_bytes)


def flat(comment: str, **changes: str) -> dict[str, Any]:
    return {"id": "1", "comment": comment, "segments": [{"content": comment, **LABEL, **changes}]}


def test_a_flat_row_is_one_segment_over_the_whole_comment(tmp_path: Path) -> None:
    assert name_items(read_text(tmp_path, f"{FLAT}\n1,good battery,a,b,c,d,joy\n")) == [flat("good battery")]


def test_a_content_column_says_which_piece_it_is_and_empty_is_all(tmp_path: Path) -> None:
    rows = name_items(read_text(tmp_path, f"{FLAT},content\n1,good battery,a,b,c,d,joy,battery\n1,good,a,b,c,d,joy,\n"))
    assert rows == [flat("good battery", content="battery"), flat("good")]


def test_a_row_without_any_label_has_no_segment(tmp_path: Path) -> None:
    assert name_items(read_text(tmp_path, f"{FLAT}\n1,hello,,,,,\n")) == [
        {"id": "1", "comment": "hello", "segments": []}
    ]


def test_a_label_with_a_hole_is_left_to_the_validation(tmp_path: Path) -> None:
    assert name_items(read_text(tmp_path, f"{FLAT}\n1,hello,a,,c,d,joy\n")) == [flat("hello", L2="")]


def test_segments_may_be_json(tmp_path: Path) -> None:
    row = make_row(2)
    text = io.StringIO()
    csv.writer(text).writerows([["id", "comment", "segments"], ["r2", row["comment"], json.dumps(row["segments"])]])
    assert name_items(read_text(tmp_path, text.getvalue())) == [row]


@pytest.mark.parametrize(
    ("cell", "reason"), [("[{", "malformed_json"), ("[NaN]", "not_a_number"), ('"[1', "malformed_csv")]
)
def test_segments_that_are_no_json_are_refused(tmp_path: Path, cell: str, reason: str) -> None:
    assert name_items(read_text(tmp_path, f"id,comment,segments\n1,c,{cell}\n")) == [reason]


@pytest.mark.parametrize("cell", ["nan", "NaN"])
def test_a_label_that_another_program_wrote_as_no_number_is_refused(tmp_path: Path, cell: str) -> None:
    (refused,) = read_text(tmp_path, f"{FLAT}\n1,good,a,b,{cell},d,joy\n")
    assert isinstance(refused, Rejection)
    assert (refused.reason, refused.detail[:4]) == ("not_a_number", "L3 i")


def test_quotes_hold_commas_quotes_and_lines(tmp_path: Path) -> None:
    items = read_text(tmp_path, f'{FLAT}\r\n1,"a ""b"", c\r\nd",a,b,c,d,joy\r\n1,e,a,b,c,d,joy\r\n')
    assert name_items(items) == [flat('a "b", c\r\nd'), flat("e")]
    assert [item.line for item in items] == [2, 4]
    assert items[0].raw == '1,"a ""b"", c\r\nd",a,b,c,d,joy'


def test_bom_and_blank_lines_and_spaces_around_names_change_nothing(tmp_path: Path) -> None:
    assert name_items(read_text(tmp_path, f"\ufeff{FLAT.replace(',', ' ,')}\n\n1,good,a,b,c,d,joy\n\n")) == [
        flat("good")
    ]


def test_packed_files_and_tabs_are_told_by_the_name(tmp_path: Path) -> None:
    text = f"{FLAT}\n1,good,a,b,c,d,joy\n"
    assert name_items(read_text(tmp_path, gzip.compress(text.encode()), "rows.csv.gz")) == [flat("good")]
    assert name_items(read_text(tmp_path, text.replace(",", "\t"), "rows.tsv", reader="csv")) == [flat("good")]


def test_the_delimiter_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'id'"):
        read_text(tmp_path, f"{FLAT}\n1,good,a,b,c,d,joy\n".replace(",", ";"))


@pytest.mark.parametrize("row", ["1,short", "1,long,a,b,c,d,joy,more"])
def test_a_row_with_other_than_the_headers_cells_is_refused(tmp_path: Path, row: str) -> None:
    refused, good = read_text(tmp_path, f"{FLAT}\n{row}\n1,good,a,b,c,d,joy\n")
    assert isinstance(refused, Rejection)
    assert (refused.reason, refused.line, refused.raw.rstrip()) == ("column_count", 2, row)
    assert name_items([good]) == [flat("good")]


def test_a_row_that_is_not_utf8_is_refused_with_its_bytes(tmp_path: Path) -> None:
    refused, good = read_text(tmp_path, f"{FLAT}\n".encode() + b"1,caf\xe9,a,b,c,d,joy\n1,good,a,b,c,d,joy\n")
    assert isinstance(refused, Rejection)
    assert (refused.reason, refused.raw.rstrip()) == ("encoding", "1,caf\\xe9,a,b,c,d,joy")
    assert isinstance(good, RawRow)


def test_a_quote_that_nothing_closes_does_not_swallow_the_rows_after_it(tmp_path: Path) -> None:
    good = "1,good,a,b,c,d,joy\n"
    items = read_text(tmp_path, f'{FLAT}\n{good}1,"open,a,b,c,d,joy\n{good}{good}1,"also ""open"",a\n{good}')
    assert name_items(items) == [
        flat("good"),
        "malformed_csv",
        flat("good"),
        flat("good"),
        "malformed_csv",
        flat("good"),
    ]


def test_a_stray_quote_is_found_at_the_next_quote(tmp_path: Path) -> None:
    items = read_text(tmp_path, f'{FLAT}\n1,"open,a,b,c,d,joy\n1,"good",a,b,c,d,joy\n')
    assert name_items(items) == ["malformed_csv", flat("good")]


def test_rereading_after_stray_quotes_has_a_budget_and_still_accounts_for_every_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_rows, "_MAX_REREAD_BYTES", 0)
    (refused,) = read_text(tmp_path, f'{FLAT}\n1,"open,a,b,c,d,joy\n1,good,a,b,c,d,joy\n')
    assert isinstance(refused, Rejection)
    assert "the row of 2 lines" in refused.detail


def test_a_row_over_many_lines_is_bounded_too(tmp_path: Path) -> None:
    lines = "x" * 90 + "\n"
    items = read_text(tmp_path, f'{FLAT}\n1,"{lines * 20}",a,b,c,d,joy\n1,good,a,b,c,d,joy\n', max_row_bytes=1_000)
    assert set(name_items(items)[:-1]) == {"malformed_csv", "column_count"}
    assert name_items(items)[-1] == flat("good")


def test_a_cell_longer_than_the_csv_modules_own_limit_is_read(tmp_path: Path) -> None:
    comment = "x" * (csv.field_size_limit() + 1)
    items = read_text(tmp_path, f"{FLAT}\n1,{comment},a,b,c,d,joy\n", max_row_bytes=len(comment) * 2)
    assert name_items(items) == [flat(comment)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id,comment\n1,c\n", r"no column 'segments'.*columns are 'id', 'comment'"),
        ("id,comment,L1,L2\n", r"no column 'L3'.*no column 'L4'.*no column 'emotion'"),
        ("id,comment,comment,segments\n", "2 columns 'comment'"),
        ("\n\n", "no column 'id'"),
        ('"id,comment\n', "header cannot be read"),
        (b"id,comm\xe9nt\n", "header cannot be read"),
    ],
)
def test_a_header_that_cannot_serve_is_one_error(tmp_path: Path, text: str | bytes, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        read_text(tmp_path, text)


def test_a_truncated_gzip_file_gives_the_rows_before_the_cut(tmp_path: Path) -> None:
    text = f"{FLAT}\n" + "".join(f"{n * 7919},comment {n},a,b,c,d,joy\n" for n in range(5_000))
    packed = gzip.compress(text.encode())
    items = read_text(tmp_path, packed[: len(packed) // 2], "rows.csv.gz")
    assert name_items(items)[-1] == "truncated_file"
    assert len(items) > 100
    assert {type(item) for item in items[:-1]} == {RawRow}


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(comments=st.lists(CELLS.filter(lambda text: text.lower() != "nan"), max_size=8))
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, comments: list[str]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["id", "comment", "segments"], *[[str(n), c, "[]"] for n, c in enumerate(comments)]])
    path = tmp_path_factory.mktemp("any") / "rows.csv"
    path.write_text(text.getvalue(), newline="", encoding="utf-8")
    rows = read_values(make_source(path))
    assert rows == [{"id": str(n), "comment": c, "segments": []} for n, c in enumerate(comments)]
