"""The data card: one HTML page that says what goes into a night, what was refused, and why; for people who do not write code.

It opens from disk, asks for nothing from the network, needs no script and prints well. Every text from data is escaped, and
comments are never on it. Its words are here: the figures to read first, what somebody should look at, and what every reason that
rows are counted by means and what to do about it. Its pictures are in `corpus.report.card_plots`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from corpus.report.card_plots import draw_figures
from corpus.report.data_report import (
    NOT_COMPUTED,
    TEST,
    Figure,
    count,
    count_unseen_in_training,
    count_used,
    get_sources,
    list_coverage,
    list_detailed_draws,
    list_draws,
    list_figures,
    list_reasons,
    sum_counts,
    sum_known,
)
from corpus.report.mix_table import COUNTED_KEYS
from voc.labels.taxonomy import LEVELS
from voc.text_table import make_printable

TEMPLATES = Path(__file__).parent / "templates"
MAX_UNSEEN, MAX_NAMES, MAX_LABELS = 50, 30, 20
_PARTS = {"duplicates": "Duplicates and leakage", "contamination": "Contamination with the evaluation sets"}
# From here on the card asks for a look; none of them stops a run, the configuration's own limits do.
MANY_REFUSED_RATIO, MANY_REPEATS, LOW_EFFICIENCY_RATIO = 0.01, 4, 0.97
_SAME_SCRIPT = "Correct the export of this source."


def render_card(report: Mapping[str, Any], *, title: str, generated_for: str) -> str:
    """Return the page.

    Args:
        report: What `data_report.json` holds; a part that is absent is said to be not computed.
        title: The page's heading.
        generated_for: What the card was made for: a run, a configuration, a day.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: make_printable(value) if type(value) is str else value,
    )
    environment.filters |= {
        "count": count,
        "percent": percent,
        "total": sum_counts,
        "used": count_used,
        "number": _format_number,
        "plural": plural,
    }
    # The pictures are the only markup that is not the template's; `card_plots` escapes the texts in them.
    figures = {name: Markup(svg) for name, svg in draw_figures(report).items()}  # noqa: S704
    return environment.get_template("data_card.html").render(
        not_computed=NOT_COMPUTED,
        title=title,
        generated_for=generated_for,
        figures=figures,
        headlines=list_headlines(report),
        arm_sentences=describe_arms(report),
        attention=list_attention(report),
        **_collect_tables(report),
    )


def _collect_tables(report: Mapping[str, Any]) -> dict[str, Any]:
    files = report.get("files") or {}
    classes = (report.get("classes") or {}).get("train") or {}
    return {
        "files": files,
        "sources": get_sources(report),
        "reasons": {key: list_reasons(files, key) for key in COUNTED_KEYS},
        "uncounted": [title for key, title in COUNTED_KEYS.items() if not any(key in file for file in files.values())],
        "explain": explain,
        "explained": EXPLANATIONS.keys(),
        "arms": {name: (arm, list_detailed_draws(arm)) for name, arm in (report.get("arms") or {}).items()},
        "coverage": list_coverage(report),
        "unseen": (report.get("coverage") or {}).get("unseen"),
        "only_test": count_unseen_in_training(report),
        "names": {
            name: {key: _list_most(file.get(key)) for key in ("categories", "languages")}
            for name, file in files.items()
        },
        "labels": {
            kind: _list_most(classes.get(kind), MAX_LABELS) for kind in (*LEVELS[:2], "path", "emotion", "segments")
        },
        "parts": {_PARTS[key]: _tabulate(report.get(key)) for key in _PARTS},
        "packing": report.get("packing"),
        "held_out": report.get("validation"),
        "max_unseen": MAX_UNSEEN,
    }


def _list_most(counts: Mapping[str, int] | None, limit: int = MAX_NAMES) -> list[tuple[str, int]] | None:
    """Return the most frequent names, and how much the others hold together; None if nothing was counted."""
    if counts is None:
        return None
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = most[limit:]
    return most[:limit] + ([(f"{count(len(rest))} others", sum(number for _, number in rest))] if rest else [])


def _tabulate(part: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Split the figures of a part into those to show in full and the names of those that are 0 everywhere."""
    if part is None:
        return None
    figures = list_figures(part)
    shown: list[Figure] = [figure for figure in figures if figure.value]
    zeros = dict.fromkeys(figure.what for figure in figures)
    return {"figures": shown, "zeros": [what for what in zeros if what not in {figure.what for figure in shown}]}


def _format_number(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "yes" if value is True else count(value)


class Headline(NamedTuple):
    """A figure to read first."""

    title: str
    value: str
    note: str


class Attention(NamedTuple):
    """Something to look at, and what to do about it."""

    finding: str
    remedy: str


def plural(value: float | None, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count(value)} {noun}" if value == 1 else f"{count(value)} {noun}s"


def percent(value: float | None, decimals: int = 1) -> str:
    """Return a share as a percentage; one that is not 0 is never shown as 0."""
    if value is None:
        return NOT_COMPUTED
    least = 10**-decimals
    return f"< {least:g} %" if 0 < value * 100 < least else f"{value * 100:.{decimals}f} %"


def list_headlines(report: Mapping[str, Any]) -> list[Headline]:
    """Return the figures to read first."""
    sources = get_sources(report)
    used = sum_known([count_used(file) for file in sources.values()])
    read = sum_known([file.get("read") for file in sources.values()])
    refused = sum_known([sum_counts(file, "refused") for file in sources.values()])
    dropped = sum_known([sum_counts(file, "dropped") for file in sources.values()])
    tokens = sum_known([file.get("tokens") for file in sources.values()])
    coverage = report.get("coverage") or {}
    leaves, without = coverage.get("leaves"), coverage.get("without_examples")
    covered = None if leaves is None or without is None else leaves - without
    test_rows = ((report.get("files") or {}).get(TEST) or {}).get("rows")
    share = f"{percent(refused / read, 2)} of what was read" if read and refused is not None else ""
    return [
        Headline("Training rows", count(used), f"of {count(read)} read, from {plural(len(sources), 'source')}"),
        Headline("Test comments", count(test_rows), "held out, never trained on"),
        Headline("Refused", count(refused), share),
        Headline("Left out", count(dropped), "duplicates and the like"),
        Headline("Training tokens", count(tokens), "one epoch of all accepted rows"),
        Headline(
            "Labels with examples", count(covered), "" if leaves is None else f"of {count(leaves)} in the taxonomy"
        ),
    ]


def describe_arms(report: Mapping[str, Any]) -> list[str]:
    """Return a sentence or two for each arm: how much is drawn, and from where."""
    sentences = []
    for name, arm in (report.get("arms") or {}).items():
        draws = list_draws(arm)
        of_source: dict[str, float] = {}
        for draw in draws:
            of_source[draw.name] = of_source.get(draw.name, 0.0) + (draw.shares["samples"] or 0.0)
        parts = [f"{percent(share)} from {source}" for source, share in of_source.items() if share]
        tokens = sum_known([draw.num_tokens for draw in draws])
        size = f", {count(tokens)} tokens" if tokens is not None else ""
        origin = f": {', '.join(parts)}" if parts else ""
        sentences.append(f"{name} is trained on {plural(arm.get('num_samples'), 'sample')}{size}{origin}.")
    return sentences


def list_attention(report: Mapping[str, Any]) -> list[Attention]:
    """Return what somebody should look at before or after the night; empty if nothing stands out."""
    return [*_check_files(report), *_check_arms(report), *_check_labels(report), *_check_packing(report)]


def _check_files(report: Mapping[str, Any]) -> list[Attention]:
    found = []
    for name, file in (report.get("files") or {}).items():
        refused, read = sum_counts(file, "refused"), file.get("read")
        if refused and read and refused / read > MANY_REFUSED_RATIO:
            finding = f"{name}: {count(refused)} of {count(read)} rows ({percent(refused / read)}) are refused."
            found.append(Attention(finding, "The table of reasons below says why."))
        if file.get("replayed_rows") and file["replayed_rows"] == file.get("rows"):
            finding = f"{name}: no row is of a day after {file.get('watermark')}; all of them are replayed old ones."
            found.append(Attention(finding, "Nothing, if no feedback came; else check that the newest files arrived."))
        skipped = file.get("skipped_files") or []
        if skipped:
            found.append(Attention(f"{name}: {plural(len(skipped), 'file')} skipped.", "See the list under Sources."))
        if name != TEST and (file.get("rows") == 0 or count_used(file) == 0):
            found.append(Attention(f"{name}: no usable row.", "Check its address and its refused rows."))
    leaked = [reason for reason in list_reasons(get_sources(report), "dropped") if reason.name.startswith("leakage")]
    leaked_rows = max(sum(reason.count for reason in leaked), _count_found_leaks(report))
    if leaked_rows:
        finding = f"{plural(leaked_rows, 'training row')} found in the test set, word for word or nearly."
        found.append(
            Attention(finding, "Left in, such rows make scores look better than they are: take them out of the source.")
        )
    for overlap in (report.get("contamination") or {}).get("overlaps") or []:
        if overlap.get("found_items"):
            finding = (
                f"{overlap['source']} shares passages with {count(overlap['found_items'])} of "
                f"{count(overlap.get('items'))} items of {overlap['evaluation_set']}."
            )
            found.append(Attention(finding, "A model may know their answers by heart: look at the rows."))
    return found


def _count_found_leaks(report: Mapping[str, Any]) -> int:
    found = (report.get("duplicates") or {}).get("found") or {}
    return sum(counts.get(kind, 0) for counts in found.values() for kind in ("leakage_exact", "leakage_near"))


def _check_arms(report: Mapping[str, Any]) -> list[Attention]:
    found = []
    for name, arm in (report.get("arms") or {}).items():
        found += [Attention(f"{name}: {note}.", "Nothing, if that is meant.") for note in arm.get("notes") or []]
        found += [
            Attention(
                f"{name}: every row of {draw.title} is seen {draw.epochs:.1f} times on average.",
                "Many repeats are learned by heart: add rows, or lower its weight.",
            )
            for draw in list_draws(arm)
            if draw.epochs is not None and draw.epochs > MANY_REPEATS
        ]
    return found


def _check_labels(report: Mapping[str, Any]) -> list[Attention]:
    found = []
    coverage = report.get("coverage") or {}
    if coverage.get("without_examples"):
        finding = f"Labels without a training example: {count(coverage['without_examples'])} of {count(coverage.get('leaves'))}."
        found.append(
            Attention(finding, "The model can hardly learn to use them: collect examples, or retire the labels.")
        )
    only_test = count_unseen_in_training(report)
    if only_test:
        finding = f"Labels of the test set that never occur in training: {count(only_test)}."
        found.append(Attention(finding, "Their errors say little about the training."))
    return found


def _check_packing(report: Mapping[str, Any]) -> list[Attention]:
    found = []
    for length, plan in (report.get("packing") or {}).items():
        efficiency = plan.get("efficiency")
        if efficiency is not None and efficiency < LOW_EFFICIENCY_RATIO:
            finding = f"At {length} tokens only {percent(efficiency)} of each training row is used."
            found.append(Attention(finding, "Rows do not fill the window well: try another training.max_seq_len."))
        if plan.get("too_long"):
            finding = f"Rows that do not fit {length} tokens: {count(plan['too_long'])}."
            found.append(Attention(finding, "None of them is cut: at this length they are left out."))
    return found


class Explanation(NamedTuple):
    """What a reason says of a row, and what its owner can do."""

    meaning: str
    remedy: str


_UNEXPLAINED = Explanation(
    "This reason has no plain-language explanation yet.", "Look at the rows in the quarantine file."
)

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
    "duplicate_key": Explanation("A key is there twice in one JSON object.", "Write every key once."),
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
