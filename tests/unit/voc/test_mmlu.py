import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.s3_servers import BUCKET
from tests.unit.evaluation.served_run import write_questions
from voc.errors import DataError, ObjectNotFoundError
from voc.mmlu import digest_items, load_mmlu, load_mmlu_examples
from voc.store.uri import open_store

ROW = {"question": "q", "subject": "s", "choices": ["a", "b", "c", "d"], "answer": 3}


def write_rows(folder, rows):
    pq.write_table(pa.Table.from_pylist(rows), folder / "test.parquet")
    return str(folder)


def test_items_keep_file_order_and_are_named_after_their_row(tmp_path):
    write_questions(tmp_path, 12)
    items = load_mmlu(str(tmp_path), None)
    assert [item.custom_id for item in items[:2]] == ["mmlu-000000", "mmlu-000001"]
    assert items[11].answer == "D"
    assert items[11].slice is None
    assert len(load_mmlu_examples(str(tmp_path))) == 10


@pytest.mark.usefixtures("s3_server")
def test_questions_in_a_bucket_are_those_of_the_folder(tmp_path):
    write_questions(tmp_path, 4)
    store = open_store(f"s3://{BUCKET}/questions")
    for name in ("test", "dev"):
        store.write_bytes(f"mmlu/{name}.parquet", (tmp_path / f"{name}.parquet").read_bytes())
    assert load_mmlu(f"s3://{BUCKET}/questions/mmlu", None) == load_mmlu(str(tmp_path), None)


def test_limit_takes_the_first_items_and_changes_none(tmp_path):
    write_questions(tmp_path, 12)
    assert load_mmlu(str(tmp_path), 5) == load_mmlu(str(tmp_path), None)[:5]


def test_the_optional_slice_column_is_read(tmp_path):
    assert load_mmlu(write_rows(tmp_path, [ROW | {"slice": "replayed"}]), None)[0].slice == "replayed"


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (ROW | {"answer": 4}, "row 0: the answer is 4"),
        (ROW | {"choices": ["a", "b", "c"]}, "row 0: .* are not four texts"),
        (ROW | {"question": None}, "row 0: .*question or subject is not a text"),
        ({"question": "q", "subject": "s", "answer": 1}, "lacks the columns choices"),
    ],
)
def test_a_row_that_is_no_four_way_question_is_named(tmp_path, row, what):
    with pytest.raises(DataError, match=what):
        load_mmlu(write_rows(tmp_path, [row]), None)


def test_missing_empty_and_broken_files_are_named(tmp_path):
    with pytest.raises(ObjectNotFoundError, match=r"test\.parquet"):
        load_mmlu(str(tmp_path), None)
    (tmp_path / "test.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(DataError, match="not a Parquet file"):
        load_mmlu(str(tmp_path), None)
    empty = pa.Table.from_pylist([ROW]).slice(0, 0)
    pq.write_table(empty, tmp_path / "test.parquet")
    with pytest.raises(DataError, match="no rows"):
        load_mmlu(str(tmp_path), None)


def test_a_hub_id_without_a_network_says_what_would_work(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match=r"'no-such/dataset' cannot be loaded.*a folder with dev\.parquet"):
        load_mmlu("no-such/dataset", None)


def test_the_digest_sees_every_change(tmp_path):
    first = digest_items(load_mmlu(write_rows(tmp_path, [ROW]), None))
    assert digest_items(load_mmlu(write_rows(tmp_path, [ROW | {"answer": 2}]), None)) != first
