import pytest

from voc.config.night import LmEvalTaskConfig
from voc.errors import DataError
from voc.preflight.checks import check_lm_eval_task


def test_what_is_not_there_is_named_all_at_once(tmp_path):
    task = LmEvalTaskConfig(
        name="ifeval", data_files={"train": str(tmp_path / "x.jsonl")}, folder=str(tmp_path), max_tokens=99
    )
    with pytest.raises(
        DataError, match=r"x\.jsonl is not there; folder: .* has no task file; max_tokens 99 leaves no room"
    ):
        check_lm_eval_task(task, 99)
    (tmp_path / "x.jsonl").write_text("{}")
    (tmp_path / "task.yaml").write_text("task: x")
    assert "x.jsonl" in check_lm_eval_task(task, 100)[1]


@pytest.mark.parametrize("files", [{"train": "a.txt"}, {"train": "a.csv", "test": "b.jsonl"}])
def test_data_files_are_of_one_known_kind(files):
    with pytest.raises(ValueError, match="data_files must all end in one of"):
        LmEvalTaskConfig(name="x", data_files=files)


def test_a_task_is_called_as_lm_eval_does_unless_another_name_is_given():
    assert LmEvalTaskConfig(name="ifeval").task_name == "ifeval"
    assert LmEvalTaskConfig(name="mine", task="ifeval").task_name == "ifeval"
