"""What every reason that rows are counted by means, in words for a reader who has never seen the code, and what to do."""

from __future__ import annotations

from typing import NamedTuple


class Explanation(NamedTuple):
    """What a reason says of a row, and what its owner can do."""

    meaning: str
    remedy: str


_UNEXPLAINED = Explanation(
    "This reason has no plain-language explanation yet.", "Look at the rows in the quarantine file."
)
_SAME_SCRIPT = "Correct the export of this source."

EXPLANATIONS = {
    # A row that cannot be read.
    "schema": Explanation(
        "A field is missing or holds something else than it should.", "Correct the export, or map its columns."
    ),
    "malformed_json": Explanation("The line is not valid JSON; it may have been cut off.", "Export the file again."),
    "encoding": Explanation("The text is damaged: it is not valid UTF-8.", "Export the file as UTF-8."),
    "row_too_large": Explanation("The row is larger than one row may be.", "Cut the row, or raise data.max_row_bytes."),
    "not_a_number": Explanation(
        "A value is NaN or infinite where data should be.", "Correct the export of this source."
    ),
    "column_count": Explanation("The row has more or fewer cells than the file has columns.", "Export the file again."),
    "malformed_csv": Explanation(
        "The row is not valid CSV: a quote is never closed, for example.", "Export the file again."
    ),
    "truncated_file": Explanation("The file ends in the middle; the rest is missing.", "Upload the file again."),
    "damaged_file": Explanation("A part of the file cannot be read.", "Upload the file again."),
    # A comment that cannot be used.
    "empty_comment": Explanation("The comment holds no text.", "Nothing, if few; else correct the export."),
    "duplicate_id": Explanation("An earlier row has the same identifier.", "Give every comment its own identifier."),
    "encoding_damage": Explanation(
        "The text was damaged by a wrong encoding on its way, or holds control characters.", "Export it again as UTF-8."
    ),
    "language_malformed": Explanation("The declared language is not a language code.", "Correct the field lang."),
    "language_not_expected": Explanation(
        "The comment is in a language that this run does not use.",
        "Add the language to data.languages, if it is wanted.",
    ),
    "reasoning_content": Explanation(
        "The answer came with a record of reasoning, which is not trained on.", "Nothing, if that is meant."
    ),
    "language_differs": Explanation(
        "The text looks like another language than its record says.", "Nothing, if few; else check the field lang."
    ),
    "label_not_in_taxonomy": Explanation(
        "A label is not in the current list of labels.",
        "Correct the label (the quarantine file suggests the nearest), or add the change to data.taxonomy_changes.",
    ),
    "label_split": Explanation(
        "The label was split, and no rule says which of the new labels is meant.", "Label the comment again."
    ),
    "label_retired": Explanation(
        "The label was retired and has no successor.", "Label the comment again, if it is still wanted."
    ),
    # A row that is used here and has no form in the closed service's export.
    "plain_text": Explanation("Plain text with its continuation is no chat.", "Nothing: it is trained on here only."),
    "turns_not_alternating": Explanation(
        "The chat's turns do not alternate between user and assistant.", "Nothing, or join the turns."
    ),
    "blank_turn": Explanation("A turn of the chat holds no text.", "Nothing, or take the turn out."),
    "segment_not_verbatim": Explanation(
        "A quoted piece is not word for word in its comment.", "Copy the piece from the comment without changes."
    ),
    "segments_overlap": Explanation(
        "Two pieces of the comment overlap; each word may belong to one piece only.",
        "Draw the border between them again.",
    ),
    # A row that cannot be learned as it is.
    "nothing_to_learn": Explanation("There is no answer to learn from.", "Add the answer, or leave the row out."),
    "answer_not_segments": Explanation(
        "The answer in the chat is not a list of labelled pieces.",
        "Correct the answer, or read the source as general data.",
    ),
    "unsupported_content": Explanation(
        "The chat uses tools, images or other content that is not text.", "Leave such chats out of this source."
    ),
    "too_long": Explanation(
        "The row is longer than the model's training window.", "Shorten it, or raise training.max_seq_len."
    ),
    "special_token_in_text": Explanation(
        "The text holds a control word of the model.", "Remove the control word from the text."
    ),
    "chat_template": Explanation("The turns of the chat are in an order that the model cannot take.", _SAME_SCRIPT),
    "labels_do_not_decode": Explanation(
        "The model's vocabulary cannot write the answer exactly.", "Look at the row's unusual characters."
    ),
    # ACOS files.
    "malformed_category": Explanation("The category is not written as ENTITY#ATTRIBUTE.", _SAME_SCRIPT),
    "malformed_quadruple": Explanation("A label does not have its four parts.", _SAME_SCRIPT),
    "malformed_span": Explanation("The position of a piece is not two numbers.", _SAME_SCRIPT),
    "no_quadruple": Explanation("The line has no label.", _SAME_SCRIPT),
    "span_out_of_range": Explanation("The position of a piece is outside its comment.", _SAME_SCRIPT),
    "unknown_sentiment": Explanation("The sentiment is none of the known ones.", _SAME_SCRIPT),
    # Rows that are fine by themselves and left out because of others.
    "held_out": Explanation(
        "The row is kept for validation: while a model is trained, its loss on such rows is watched.", "Nothing."
    ),
    "exact_duplicate": Explanation("The same text with the same labels is there already; the first stays.", "Nothing."),
    "near_duplicate": Explanation("Nearly the same text is there already; the first stays.", "Nothing."),
    "label_conflict": Explanation(
        "The same comment has different labels in different rows.", "Decide which labels are right."
    ),
    "leakage_exact": Explanation(
        "The comment is in the test set too, so scores would be too good.", "Take it out of the training data."
    ),
    "leakage_near": Explanation(
        "Nearly the same comment is in the test set, so scores would be too good.", "Take it out of the training data."
    ),
}


def explain(reason: str) -> Explanation:
    """Return what a reason means; for one that is not known, where to look."""
    return EXPLANATIONS.get(reason, _UNEXPLAINED)
