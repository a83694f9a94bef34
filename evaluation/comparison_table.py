"""A comparison of two nights as plain text for a terminal. Needs the standard library only, besides the other tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.report.text_tables import format_columns, format_interval

_MAX_LISTED = 5


def format_comparison(comparison: Mapping[str, Any]) -> str:
    """Return what is compared, the F1 table, and the paired difference or why there is none."""
    head = [f"{name}: run {comparison[name]['run_id']}, model {comparison[name]['model']}" for name in ("old", "new")]
    changes = comparison["changes"] or "none given, so a leaf is shared only under the same path"
    leaves = comparison["leaves"]
    parts = [
        "\n".join(
            [*head, *_describe_asking(comparison), f"changes of the taxonomy: {changes}", *_describe_leaves(leaves)]
        ),
        f"F1 with {comparison['confidence']:.0%} intervals\n{format_columns(_figure_rows(comparison))}",
        "\n".join(_describe_pairs(comparison)),
    ]
    return "\n\n".join(parts) + "\n"


def _describe_asking(comparison: Mapping[str, Any]) -> list[str]:
    return [
        f"asked differently: {pair['setting']} was {pair['old']} (old) and is {pair['new']} (new); a difference may be due to it"
        for pair in comparison["asked_differently"]
    ]


def _describe_leaves(leaves: Mapping[str, Any]) -> list[str]:
    return [
        f"leaves: {leaves['num_shared']} mean the same in both ({leaves['num_other_path']} of them under another path), "
        f"of {leaves['num_old']} old and {leaves['num_new']} new",
        f"  only old: {_list_paths(leaves['only_old'])}",
        f"  only new: {_list_paths(leaves['only_new'])}",
    ]


def _list_paths(paths: Sequence[Sequence[str]]) -> str:
    if not paths:
        return "0"
    more = f" and {len(paths) - _MAX_LISTED} more" if len(paths) > _MAX_LISTED else ""
    return f"{len(paths)} ({'; '.join(' > '.join(path) for path in paths[:_MAX_LISTED])}{more})"


def _figure_rows(comparison: Mapping[str, Any]) -> list[list[str]]:
    averages = list(comparison["new"]["all"]["f1"])
    rows = [["leaves", "night", "comments", "with a label", *averages]]
    for leaves in ("all", "shared"):
        for night in ("old", "new"):
            scores = comparison[night][leaves]
            figures = [format_interval(scores["f1"][average]) for average in averages]
            rows.append([leaves, night, str(scores["num_comments"]), str(scores["num_labelled"]), *figures])
    return rows


def _describe_pairs(comparison: Mapping[str, Any]) -> list[str]:
    paired = comparison["paired"]
    other = f"{paired['num_other_text']} more have the same id and another text"
    if paired["f1"] is None:
        return [
            f"unpaired: no test comment has the same id and text in both runs ({other})",
            "so there is no difference to give, and the shared rows above hold for two different sets of comments",
        ]
    rows = [["average", "new minus old"]]
    rows += [
        [average, f"{difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"]
        for average, difference in paired["f1"].items()
    ]
    return [
        f"paired: F1 on the shared leaves of {paired['num_comments']} comments with the same id and text in both runs",
        f"({other}; {paired['num_other_gold']} of the pairs have other gold labels on the two nights)",
        format_columns(rows),
    ]
