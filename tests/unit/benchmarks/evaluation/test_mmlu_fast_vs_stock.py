import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.evaluation.mmlu_fast_vs_stock import compare, read_rows, write_questions


def test_disagreements_are_listed_and_counted():
    ours = {"a": [-1.0, -2, -3, -4], "b": [-2.0, -1, -3, -4]}
    stock = {"a": [-1.0, -2, -3, -4], "b": [-1.0, -1.5, -3, -4]}
    compared = compare(ours, stock)
    assert compared["same_answer_ratio"] == 0.5
    assert compared["largest_difference"] == 1.0
    assert [(line["custom_id"], line["ours"], line["stock"]) for line in compared["disagreements"]] == [("b", "B", "A")]
    assert compared["answers"] == {"A": 1, "B": 1, "C": 0, "D": 0}


def test_sides_with_other_questions_are_not_compared():
    with pytest.raises(ValueError, match="not the same ones"):
        compare({"a": [0.0] * 4}, {"b": [0.0] * 4})


def test_some_questions_are_spread_over_the_file_and_split_by_subject(tmp_path):
    rows = [{"question": f"q{i}", "subject": f"s{i // 50}", "choices": list("abcd"), "answer": 0} for i in range(100)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test.parquet")
    found = read_rows(tmp_path, "test", 10)
    assert [row["question"] for row in found] == [f"q{i}" for i in range(0, 100, 10)]
    assert len(read_rows(tmp_path, "test", None)) == 100
    write_questions(tmp_path / "out", found, rows[:2])
    assert pq.read_table(tmp_path / "out" / "s1-test.parquet").num_rows == 5
    assert pq.read_table(tmp_path / "out" / "test.parquet").num_rows == 10
