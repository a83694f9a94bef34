"""The data card's words: the figures to read first, what goes into the night, and what somebody should look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from corpus.report.report_view import (
    TEST,
    count_unseen_in_training,
    count_used,
    get_sources,
    list_draws,
    list_reasons,
    sum_counts,
    sum_known,
)

NOT_COMPUTED = "not computed"
# From here on the card asks for a look; none of them stops a run, the configuration's own limits do.
MANY_REFUSED_RATIO, MANY_REPEATS, LOW_EFFICIENCY_RATIO = 0.01, 4, 0.97


class Headline(NamedTuple):
    """A figure to read first."""

    title: str
    value: str
    note: str


class Attention(NamedTuple):
    """Something to look at, and what to do about it."""

    finding: str
    remedy: str


def count(value: float | None) -> str:
    """Return a number with thousands set apart by thin spaces that do not break."""
    return NOT_COMPUTED if value is None else f"{value:,}".replace(",", "\u202f")


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
        Headline("Training tokens", count(tokens), "one pass over all accepted rows"),
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
