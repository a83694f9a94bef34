"""Ids, requests, logs and errors: the parts that need no server."""

from __future__ import annotations

import json
import pickle
import re

import pytest

from rayjob_provider import exceptions
from rayjob_provider.exceptions import RayJobError, RayJobFailed
from rayjob_provider.job import JobDetails, JobRequest, check_variables, encode_arguments, join_entrypoint, to_number
from rayjob_provider.job_log import TAIL_LINES, JobLogCursor, LogBodyDecoder
from rayjob_provider.submission_id import MAX_LENGTH, make_submission_id, resolve_submission_id

ERRORS = [kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, RayJobError)]


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_survives_pickle_with_its_fields(kind: type[RayJobError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("what, expected, do", "job-1", ("a", "b"))))  # noqa: S301
    assert type(copy) is kind
    assert (copy.message, copy.submission_id, copy.log_tail) == ("what, expected, do", "job-1", ("a", "b"))
    assert str(copy).endswith("a\nb")


def test_an_error_prints_its_log_lines() -> None:
    assert str(RayJobFailed("It failed.", "x", ("one",))) == "It failed.\nLast 1 log lines of the job:\none"


def test_equal_parts_give_equal_ids_and_different_parts_different_ones() -> None:
    assert make_submission_id("dag", "run", 3) == make_submission_id("dag", "run", "3")
    assert make_submission_id("a", "b-c") != make_submission_id("a-b", "c")


@pytest.mark.parametrize(
    "parts", [["scheduled__2026-11-22T00:00:00+00:00", "org/model name"], ["x" * 500], ["日本"], ["../../etc/passwd"]]
)
def test_an_id_is_short_and_safe(parts: list[str]) -> None:
    made = make_submission_id(*parts)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", made)
    assert len(made) <= MAX_LENGTH
    assert resolve_submission_id(made) == made
    assert resolve_submission_id(parts) == made


@pytest.mark.parametrize("value", ["", "a/b", "../x", "a b", "-x", "x" * 101, [], ["a", " "]])
def test_an_unusable_id_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="submission"):
        resolve_submission_id(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "words", ["python -m x", [], [""], ["echo", "{{ dag_run.conf['x'] }}"], ["{% raw %}"], ["a", 1]]
)
def test_an_entrypoint_is_fixed_words(words: object) -> None:
    with pytest.raises(ValueError, match="entrypoint"):
        join_entrypoint(words)  # type: ignore[arg-type]


def test_entrypoint_words_are_quoted() -> None:
    assert join_entrypoint(["python", "-c", "print(1); exit"]) == "python -c 'print(1); exit'"


def test_arguments_travel_as_json_and_not_in_the_command() -> None:
    hostile = "$(touch /pwned); `id` \" ' \n"
    assert json.loads(encode_arguments([hostile, 3, 0.5])) == [hostile, "3", "0.5"]


@pytest.mark.parametrize("arguments", ["text", [None], [True], [["x"]], ["x" * 130_000]])
def test_arguments_that_cannot_travel_are_refused(arguments: object) -> None:
    with pytest.raises(ValueError, match="arguments"):
        encode_arguments(arguments)  # type: ignore[arg-type]


def test_variable_values_appear_in_no_message_and_no_repr() -> None:
    with pytest.raises(ValueError, match="KEY") as caught:
        check_variables({"KEY": ["s3cret"]}, reserved="ARGS")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ValueError, match="ARGS"):
        check_variables({"ARGS": "x"}, reserved="ARGS")
    assert "s3cret" not in repr(JobRequest("j", "true", {"KEY": "s3cret"}))


def test_a_request_leaves_out_what_is_not_asked_for() -> None:
    assert JobRequest("j", "true").to_body() == {"submission_id": "j", "entrypoint": "true"}


def test_the_log_start_travels_in_the_metadata() -> None:
    body = JobRequest("j", "true", metadata={"team": "x"}).to_body(log_start=42)
    details = JobDetails.from_response({"submission_id": "j", "status": "RUNNING", "metadata": body["metadata"]})
    assert details.log_start == 42
    assert body["metadata"]["team"] == "x"


@pytest.mark.parametrize(("value", "number"), [("2", 2.0), (0.5, 0.5), (None, 0.0)])
def test_quantities_may_come_through_templates(value: object, number: float) -> None:
    assert to_number("num_gpus", value) == number


@pytest.mark.parametrize("value", ["two", -1, "nan", True, [1]])
def test_other_quantities_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="num_gpus"):
        to_number("num_gpus", value)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_a_log_body_is_decoded_in_any_pieces(size: int) -> None:
    text = 'a "quoted" \\ back\n\tüml 😀 \x1b[36m\r\n'
    body = json.dumps({"logs": text})
    decoder = LogBodyDecoder()
    assert "".join(decoder.feed(body[at : at + size]) for at in range(0, len(body), size)) == text


def test_a_body_that_is_no_log_is_refused() -> None:
    with pytest.raises(ValueError, match="logs"):
        LogBodyDecoder().feed("<html>" + "x" * 100)


def read(cursor: JobLogCursor, text: str, *, is_final: bool = False, size: int = 7) -> list[str]:
    cursor.start_read()
    for at in range(0, len(text), size):
        cursor.feed(text[at : at + size])
    return cursor.end_read(is_final=is_final)


def test_only_new_and_whole_lines_are_forwarded() -> None:
    cursor = JobLogCursor()
    assert read(cursor, "one\ntw") == ["one"]
    assert read(cursor, "one\ntwo\nthr") == ["two"]
    assert read(cursor, "one\ntwo\nthr", is_final=True) == ["thr"]
    assert cursor.position == len("one\ntwo\nthr")


def test_what_is_over_the_limit_is_counted_and_the_last_lines_are_shown() -> None:
    cursor = JobLogCursor(limit_chars=20)
    text = "".join(f"line {number}\n" for number in range(1000))
    lines = read(cursor, text, is_final=True)
    assert lines[:3] == ["line 0", "line 1", "line 2"]
    assert "997 lines" in lines[3]
    assert lines[4:] == [f"line {number}" for number in range(1000 - TAIL_LINES, 1000)]
    assert len(lines[0]) + cursor.left_out_chars < len(text)


def test_a_progress_bar_leaves_its_last_state_and_a_token_leaves_nothing() -> None:
    cursor = JobLogCursor(secrets=["tok"])
    assert read(cursor, " 1%\r 50%\r100%\r\nmy tok is tok\n") == ["100%", "my *** is ***"]


def test_a_line_without_end_is_cut_into_pieces() -> None:
    assert sum(len(line) for line in read(JobLogCursor(), "x" * 50_000, size=9_000)) == 48_000


def test_a_log_shorter_than_the_position_is_read_from_its_begin() -> None:
    cursor = JobLogCursor(position=100)
    assert read(cursor, "new node\n") == []
    assert cursor.is_ahead_of_log
    assert read(cursor, "new node\n") == ["new node"]
