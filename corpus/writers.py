"""The same data for the closed service: training rows in the Converse format.

The `data_mixing` block that goes with them is in `voc.config.arms`, since a configuration may state it too.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/prepare-data-text.html (bedrock-conversation-2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from voc.errors import DataError
from voc.prompts import render_answer, render_messages
from voc.records.records import GeneralRecord, VocRecord
from voc.records.refusals import RowError

if TYPE_CHECKING:
    from voc.labels.taxonomy import Taxonomy
    from voc.prompts import PromptVariant

SCHEMA_VERSION = "bedrock-conversation-2024"


def write_converse(
    records: Iterable[VocRecord | GeneralRecord], variant: PromptVariant, taxonomy: Taxonomy
) -> Iterator[dict[str, Any]]:
    """Yield the Converse training row of each record.

    Reading it back gives the comment and segments, or the turns; ids, categories and the other fields have no place in it.

    Args:
        records: What is to be trained.
        variant: Prompt variant of the comments.
        taxonomy: Its labels.

    Raises:
        DataError: If a record has no Converse form (`make_converse`).
    """
    for number, record in enumerate(records, start=1):
        try:
            yield make_converse(record, variant, taxonomy)
        except RowError as error:
            raise DataError(
                f"record {number} has no Converse form: {error.detail}",
                expected="at most one system turn, then user and assistant in turn, none of them blank",
                remedy="leave it out of what is written for the closed service",
            ) from error


def make_converse(record: VocRecord | GeneralRecord, variant: PromptVariant, taxonomy: Taxonomy) -> dict[str, Any]:
    """Return the Converse training row of one record.

    Raises:
        RowError: If it has none: `plain_text`, `turns_not_alternating` (from a user to an assistant, after a system turn at
            most) or `blank_turn`.
    """
    if isinstance(record, VocRecord):
        answer = {"role": "assistant", "content": render_answer(record.segments)}
        turns: Sequence[Mapping[str, str]] = [*render_messages(record.comment, variant, taxonomy), answer]
    else:
        turns = record.messages
    system = [turn for turn in turns[:1] if turn["role"] == "system"]
    others = turns[len(system) :]
    roles = [turn["role"] for turn in others]
    if not others:
        raise RowError("plain_text", "it is plain text, which a chat format cannot say")
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise RowError("turns_not_alternating", f"its turns are {', '.join(roles[:6])}")
    if any(not turn["content"].strip() for turn in turns):
        raise RowError("blank_turn", "a turn is blank")
    return {
        "schemaVersion": SCHEMA_VERSION,
        **({"system": [{"text": turn["content"]} for turn in system]} if system else {}),
        "messages": [{"role": turn["role"], "content": [{"text": turn["content"]}]} for turn in others],
    }
