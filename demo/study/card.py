"""The card of the study corpus: one HTML file without scripts that asks for nothing from the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from demo.study.comments import LABEL_NOISE_RATIO
from demo.study.planted import OTHER_NEAR_PAIRS, PLANTED
from demo.study.plots import draw_plots
from voc.records.records import VocRecord

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #20242a; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } td, th { padding: .2rem 1rem .2rem 0; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(24rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
blockquote { margin: .8rem 0; padding: .5rem .8rem; border-left: 3px solid #c9ced6; white-space: pre-wrap; }
mark { background: #dceaf9; border-radius: 3px; padding: 0 .15em; } mark:nth-of-type(even) { background: #fbe8d3; }
small { color: #5b6470; white-space: normal; display: block; }
"""


def render_card(facts: Mapping[str, Any], samples: Mapping[str, Sequence[VocRecord]]) -> str:
    """Return the page.

    Args:
        facts: What `demo.study.statistics.summarise` counted, with `traits` and `planted`.
        samples: Some comments per language.
    """
    plots = "".join(
        f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>" for title, svg in draw_plots(facts).items()
    )
    languages = "".join(
        f"<h3>{escape(code)}</h3>{''.join(map(_render_comment, samples[code]))}" for code in sorted(samples)
    )
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{escape(value)}</td></tr>'
        for name, value in _list_figures(facts)
    )
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in _write_paragraphs(facts))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Study corpus</title>'
        f"<style>{_STYLE}</style></head><body><h1>Study corpus: feedback about home cameras</h1>{paragraphs}"
        f'<h2>Figures</h2><table>{rows}</table><h2>Distributions</h2><div class="plots">{plots}</div>'
        f"<h2>Comments with their segments</h2>{languages}</body></html>\n"
    )


def _write_paragraphs(facts: Mapping[str, Any]) -> list[str]:
    prompt, planted = facts["prompt"], ", ".join(f"{count} {kind}" for kind, count in PLANTED.items())
    return [
        "A stand-in for a private data set of the same size and shape. All texts are composed by a program from this project's "
        "own word lists (licence Apache-2.0, like the code); no person wrote them, and nothing was taken from anywhere. It is "
        "made to test pipelines: a model's score on it says nothing about real feedback.",
        "A comment has one to four issues, or none. Each segment is a verbatim piece of the comment; segments follow its order, "
        "do not overlap, and are the whole comment except for what stands between them and the greeting and closing of letters. "
        "Typos and emoji are inside segments. Mixed comments have a sentence in a second language; lang names the first one.",
        f"{LABEL_NOISE_RATIO:.0%} of the segments carry a label drawn from all issues of the same thing, as where people do it. "
        "Half of the segments say what the customer feels; where nothing is said, the emotion is the issue's usual one.",
        f"Planted into training, to test how duplicates are found: {planted} (the ids of each pair are in manifest.json). Apart "
        "from these no comment is another one's word for word. Short comments can still be near each other, as in life: at scale "
        f"1, {OTHER_NEAR_PAIRS} more pairs of training comments share 80 % of their word 3-grams (Jaccard), at a larger scale "
        "more. No training comment is as near as that to a test comment.",
        "Some comments hold e-mail addresses (example.com), phone numbers (ranges reserved for fiction) and order numbers "
        "(NF- and seven digits), to test their redaction.",
        f"The prompt with all leaves has {prompt['characters']:,} characters, about {prompt['tokens_estimate']:,} tokens. This "
        f"is an estimate with {prompt['characters_per_token']} characters per token; where that comes from: {prompt['origin']}.",
    ]


def _list_figures(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    train, test, classes, general = facts["train"], facts["test"], facts["classes"], facts["general"]
    traits = facts["traits"]["train"]
    rows = max(train["rows"], 1)
    return [
        ("Leaves of the taxonomy", f"{classes['leaves']:,}"),
        ("Comments, training", f"{train['rows']:,}"),
        ("Comments, test", f"{test['rows']:,}"),
        ("Segments, training", f"{train['segments']:,}"),
        ("Segments, test", f"{test['segments']:,}"),
        ("General rows", f"{general['rows']:,}"),
        ("Segments of the most frequent leaf", f"{classes['head'][0]:,}"),
        ("Leaves without an example in training", f"{classes['without_examples']:,}"),
        ("Leaves with one example", f"{classes['with_one']:,}"),
        ("Leaves with fewer than five", f"{classes['below_five']:,}"),
        ("Test segments whose leaf is not in training", f"{classes['test_segments_unseen_share']:.2%}"),
        ("Comments without a label", f"{train['unlabelled_share']:.2%}"),
        ("Comments with emoji", f"{train['emoji_share']:.2%}"),
        ("Comments with typos", f"{traits.get('typo', 0) / rows:.2%}"),
        ("Comments in two languages", f"{traits.get('mixed', 0) / rows:.2%}"),
        ("Characters of labelled comments that are in segments", f"{train['characters_in_segments_share']:.2%}"),
        ("Longest comment, characters", f"{train['longest']:,}"),
        ("First and last day", " to ".join(train["days"][:2])),
    ]


def _render_comment(record: VocRecord) -> str:
    parts, position = [], 0
    for number, segment in enumerate(record.segments, start=1):
        start = record.comment.index(segment.content, position)
        parts.append(escape(record.comment[position:start]))
        position = start + len(segment.content)
        parts.append(f"<mark>{escape(segment.content)}<sup>{number}</sup></mark>")
    parts.append(escape(record.comment[position:]))
    labels = "".join(
        f"<small>{number} {escape(' > '.join(s.label))} ({escape(s.emotion)})</small>"
        for number, s in enumerate(record.segments, start=1)
    )
    return f"<blockquote>{''.join(parts)}{labels}</blockquote>"
