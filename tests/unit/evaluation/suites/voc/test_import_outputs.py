import dataclasses
import json

import pytest

from evaluation.suites.voc.import_outputs import import_outputs, match_outputs, read_inference, read_prompt
from tests.unit.evaluation.served_run import LABEL, make_run, write_test_set
from voc.errors import ConfigError, CoverageError
from voc.labels.taxonomy import parse_taxonomy
from voc.prompts import hash_comment_prompt, hash_prompt, render_messages
from voc.records.records import Segment, VocRecord
from voc.run import find_model
from voc.store.manifest import read_manifest

ANSWER = json.dumps([{"content": "comment", **LABEL, "emotion": "sad"}])
LABELS = ("Product", "Battery", "Life", "Short")


def output(number, *, inference=ANSWER, metadata=None, prompt=None, gold=None):
    return {
        "prompt": prompt if prompt is not None else f"Label this. Comment: comment {number}",
        "inference": inference,
        "gold": gold,
        "metadata": metadata,
    }


def write_file(root, rows):
    path = root / "inference_output.jsonl"
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def imported_run(root, rows, num=4, **options):
    path = write_file(root, rows)
    external = {"imported": [{"name": "tuned", "title": "Tuned", "uri": str(path)}]}
    run = make_run(root, external=external, **options)
    write_test_set(run, num)
    return run, find_model(run, "tuned"), str(path)


def read_lines(run, number=0, count=1):
    prefix = run.layout.shard("tuned", "voc", number, count)
    return [json.loads(line) for line in run.store.read_bytes(f"{prefix}/predictions.jsonl").splitlines()]


def test_answers_in_any_order_become_the_shards_of_the_suite(tmp_path, capsys):
    run, entry, uri = imported_run(tmp_path, [output(i) for i in (2, 0, 3, 1)], voc={"shards": 2})
    import_outputs(run, entry, uri)
    assert [line["custom_id"] for line in read_lines(run, 0, 2)] == ["c0", "c2"]
    assert [line["segments"] for line in read_lines(run, 1, 2)] == [json.loads(ANSWER)] * 2
    assert read_manifest(run.store, run.layout.shard("tuned", "voc", 0, 2)).inputs["model_digest"] == entry.digest
    assert "4 answers (nothing was odd)" in capsys.readouterr().out


@pytest.mark.parametrize("metadata", ["c2", '{"id": "c2"}', {"custom_id": "c2"}, "{'recordId': 'c2'}"])
def test_an_id_in_the_metadata_wins_over_the_text(metadata):
    found = match_outputs(json.dumps(output(0, metadata=metadata)).encode(), make_records(4))
    assert list(found.answers) == ["c2"]


def make_records(num, comment="comment {}"):
    segment = Segment("comment", LABELS, "sad")
    return [VocRecord(f"c{i}", comment.format(i), (segment,)) for i in range(num)]


@pytest.mark.parametrize(
    "prompt",
    [
        "comment 1",
        "Comment: comment 1",
        [{"role": "system", "content": "s"}, {"role": "user", "content": "Comment: comment 1"}],
        json.dumps([{"role": "user", "content": [{"text": "Comment: comment 1"}]}]),
        "[{'role': 'system', 'content': 's'}, {'role': 'user', 'content': 'Comment: comment 1'}]",
    ],
)
def test_every_way_in_which_a_prompt_is_written_finds_its_comment(prompt):
    assert list(match_outputs(json.dumps(output(0, prompt=prompt)).encode(), make_records(12)).answers) == ["c1"]


@pytest.mark.parametrize("inference", [ANSWER, [ANSWER], json.dumps([ANSWER]), repr([ANSWER])])
def test_every_way_in_which_an_answer_is_written_is_read(inference):
    assert read_inference(inference) == ANSWER


def test_an_answer_that_is_a_list_of_objects_is_taken_as_it_is():
    assert read_inference(ANSWER) == ANSWER
    assert read_inference("no list at all") == "no list at all"


def test_comments_with_one_text_take_their_answers_in_the_order_of_the_file():
    rows = [output(0, prompt="same", inference=letter) for letter in "ab"]
    data = "\n".join(map(json.dumps, rows)).encode()
    assert match_outputs(data, make_records(2, "same")).answers == {"c0": "a", "c1": "b"}


def test_what_is_odd_is_counted_and_named(tmp_path):
    rows = [*(output(i) for i in range(4)), output(0), output(9), output(1, gold="[]", metadata="c1")]
    run, entry, uri = imported_run(tmp_path, rows)
    import_outputs(run, entry, uri)
    counts = read_manifest(run.store, run.layout.shard("tuned", "voc", 0, 1)).facts["import_counts"]
    assert counts == {"duplicate": 2, "gold_differs": 1, "unmatched": 1}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([output(0), output(1), output(3)], r"1 missing \(c2\)"),
        ([output(i) for i in (0, 1, 3, 8)], r"1 missing \(c2\)\n  - 1 unmatched \(line 4\)"),
        ([*(output(i) for i in range(4)), output(1, inference="[]")], r"1 contradicting \(c1\)"),
        ([*(output(i) for i in range(4)), '{"prompt": "half'], r"1 unreadable \(line 5\)"),
        ([*(output(i) for i in range(4)), '{"prompt": "p", "gold": "g"}\n'], r"1 unreadable \(line 5\)"),
    ],
)
def test_an_import_that_is_not_complete_is_refused_with_names(tmp_path, rows, told):
    run, entry, uri = imported_run(tmp_path, rows)
    with pytest.raises(CoverageError, match=told):
        import_outputs(run, entry, uri)
    assert read_manifest(run.store, run.layout.shard("tuned", "voc", 0, 1)) is None


def test_unreadable_answers_are_imported_and_counted_as_such(tmp_path):
    rows = [output(0, inference="[{"), output(1, inference=""), output(2), output(3)]
    run, entry, uri = imported_run(tmp_path, rows)
    import_outputs(run, entry, uri)
    assert [line["failure"] for line in read_lines(run)] == ["truncated", "empty", None, None]


def test_other_words_have_another_prompt_hash_and_our_own_words_have_ours(tmp_path):
    taxonomy = parse_taxonomy("L1,L2,L3,L4,description\nProduct,Battery,Life,Short,it is short\n", "t")
    ours = hash_prompt("internalized", taxonomy)
    for name in ("theirs", "ours"):
        (tmp_path / name).mkdir()
    run, entry, uri = imported_run(tmp_path / "theirs", [output(i) for i in range(4)])
    import_outputs(run, entry, uri)
    assert read_lines(run)[0]["prompt_hash"] != hash_comment_prompt(ours, "comment 0")
    rows = [output(i, prompt=render_messages(f"comment {i}", "internalized", taxonomy)) for i in range(4)]
    run, entry, uri = imported_run(tmp_path / "ours", rows)
    import_outputs(run, entry, uri)
    assert read_lines(run)[0]["prompt_hash"] == hash_comment_prompt(ours, "comment 0")


def test_a_file_that_changed_after_the_run_was_prepared_is_refused(tmp_path):
    run, entry, uri = imported_run(tmp_path, [output(i) for i in range(4)])
    write_file(tmp_path, [output(i, inference="[]") for i in range(4)])
    with pytest.raises(ConfigError, match="as it was when the run was prepared"):
        import_outputs(run, entry, uri)


def test_only_a_model_that_is_declared_so_is_imported(tmp_path):
    run, entry, uri = imported_run(tmp_path, [output(0)])
    with pytest.raises(ConfigError, match=r"external_models\.imported"):
        import_outputs(run, dataclasses.replace(entry, kind="vllm"), uri)


def test_deeply_nested_text_is_no_crash():
    assert read_prompt("[" * 100_000) == (None, "[" * 100_000)
    assert read_inference("(" * 100_000) == "(" * 100_000
