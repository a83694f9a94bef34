"""Turn a corpus in the ACOS format into a taxonomy and VOC records: `python -m voc import acos --input DIR --output DIR`.

Reads `train.tsv`, `dev.tsv` and `test.tsv` (or one `*_train.tsv` and so on). A line is a text, then one or more quadruples,
separated by tabs; a quadruple is `aspect-span category sentiment opinion-span`. A span is `start,end` in whitespace tokens,
end exclusive, `-1,-1` when it is implicit; a category is `ENTITY#ATTRIBUTE`; sentiment is 0 negative, 1 neutral, 2 positive.

Writes `taxonomy.csv`, `train.jsonl`, `dev.jsonl`, `test.jsonl`, `quarantine.jsonl` and, last, `manifest.json`. Every line of
the input is either a record or in the quarantine with its reason; nothing is written unless the counts add up and the
output reads back without a refusal.

Labels: one leaf per category. L1 = family of the entity, L2 = entity, L3 = family of the attribute, L4 = attribute, so that a
figure per level says something of its own. Families come from the vocabulary of the SemEval laptop and restaurant corpora, which
ACOS extends; any other name goes to the family `Other`, so every corpus in the format has a tree. The taxonomy holds the
categories of **all** splits: it is the label set of the task, not something learned, and a test row is not refused because no
training row has its label.

Segments: a quadruple's content is the piece of text from the first to the last token of its aspect and its opinion, or the
whole text when both are implicit. Quadruples with the same category and sentiment whose pieces overlap or touch are one
segment. Pieces of different categories may overlap: cutting them apart would need a decision that the annotators did not
make, and dropping one would lose a label.

Source: Cai, Xia, Yu: Aspect-Category-Opinion-Sentiment Quadruple Extraction with Implicit Aspects and Opinions, ACL 2021,
https://aclanthology.org/2021.acl-long.29;
https://aclanthology.org/S16-1002 (SemEval-2016 task 5, whose entities and attributes ACOS uses)
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voc.errors import ConfigError, DataError
from voc.labels.taxonomy import LabelPath, Leaf, Taxonomy, format_taxonomy, parse_taxonomy
from voc.records.acceptance import read_voc_rows
from voc.records.records import Segment, VocRecord
from voc.records.refusals import RowError
from voc.store.base import Store
from voc.store.manifest import Manifest, commit_folder, digest_bytes, read_manifest
from voc.store.uri import open_uri

IMPORTER_VERSION = 1
SPLITS = ("train", "dev", "test")
EMOTIONS = {"0": "negative", "1": "neutral", "2": "positive"}
_CATEGORY = re.compile(r"[^\s#]+#[^\s#]+")
_SPAN = re.compile(r"(-?\d+),(-?\d+)")
_IMPLICIT = (-1, -1)
_QUADRUPLE_FIELDS = 4
OTHER = "Other"
_HARDWARE = (
    "HARDWARE DISPLAY KEYBOARD MOUSE MOTHERBOARD CPU FANS&COOLING FANS_COOLING PORTS MEMORY POWER_SUPPLY OPTICAL_DRIVES "
    "BATTERY GRAPHICS HARD_DISC MULTIMEDIA_DEVICES"
)
_ENTITY_FAMILIES = {
    "Product": "LAPTOP RESTAURANT",
    "Hardware": _HARDWARE,
    "Software": "OS SOFTWARE",
    "Service": "SUPPORT SHIPPING WARRANTY COMPANY SERVICE",
    "Offer": "FOOD DRINKS",
    "Place": "AMBIENCE LOCATION",
}
_FAMILY_OF_ENTITY = {entity: family for family, names in _ENTITY_FAMILIES.items() for entity in names.split()}

# Attribute: its family, and what it means.
_ATTRIBUTES = {
    "GENERAL": ("Overall", "overall opinion"),
    "MISCELLANEOUS": ("Overall", "whatever no other attribute covers"),
    "PRICE": ("Value", "price and value for money"),
    "PRICES": ("Value", "price and value for money"),
    "QUALITY": ("Build", "quality, durability and defects"),
    "DESIGN_FEATURES": ("Build", "design, looks, size and features"),
    "PORTABILITY": ("Build", "weight and ease of carrying"),
    "STYLE_OPTIONS": ("Build", "style, portions and choice"),
    "OPERATION_PERFORMANCE": ("Use", "how well and how fast it works"),
    "USABILITY": ("Use", "ease of use"),
    "CONNECTIVITY": ("Use", "connections to networks and devices"),
}
_ACRONYM_LENGTH = 3


@dataclass(frozen=True, slots=True)
class Quadruple:
    """One annotation: what is spoken about, and how.

    Attributes:
        aspect: Token span, end exclusive, or None if it is implicit.
        category: `ENTITY#ATTRIBUTE`.
        emotion: One of the values of `EMOTIONS`.
        opinion: Token span, end exclusive, or None if it is implicit.
    """

    aspect: tuple[int, int] | None
    category: str
    emotion: str
    opinion: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class AcosCorpus:
    """A whole corpus under the contract.

    Attributes:
        taxonomy: The categories of all splits.
        records: Usable rows per split, in file order.
        quarantine: Refused lines as `{file, line, reason, detail, raw}`.
        num_lines: Lines per split.
        inputs: SHA-256 of each input file.
    """

    taxonomy: Taxonomy
    records: dict[str, tuple[VocRecord, ...]]
    quarantine: tuple[dict[str, Any], ...]
    num_lines: dict[str, int]
    inputs: dict[str, str]

    def unseen_leaves(self, split: str) -> set[LabelPath]:
        """Return the leaves of a split that no training row has."""
        return _labels(self.records[split]) - _labels(self.records["train"])

    def count_repeated(self, split: str) -> int:
        """Return how many comments of a split are also training comments, word for word."""
        train = {record.comment for record in self.records["train"]}
        return sum(record.comment in train for record in self.records[split])


def import_acos(folder: Path) -> AcosCorpus:
    """Read the three files of a corpus.

    Raises:
        DataError: If a file is missing, empty, or has no usable line.
    """
    files = {split: _find_split(folder, split) for split in SPLITS}
    missing = [f"{split}.tsv" for split, path in files.items() if path is None]
    if missing:
        raise DataError(
            f"{folder} has no {', '.join(missing)}",
            expected="train.tsv, dev.tsv and test.tsv (or one *_train.tsv and so on)",
            remedy="check --input",
        )
    records: dict[str, tuple[VocRecord, ...]] = {}
    quarantine: list[dict[str, Any]] = []
    num_lines, inputs, categories = {}, {}, set()
    for split, path in files.items():
        if path is None:
            continue
        data = path.read_bytes()
        accepted, refused, seen = _read_split(data, split, path.name)
        num_lines[split] = len(accepted) + len(refused)
        if not accepted:
            first = f"; the first: {refused[0]['detail']}" if refused else ""
            raise DataError(
                f"{path} has no usable line ({num_lines[split]} lines{first})",
                expected="text, tab, quadruples `aspect-span category sentiment opinion-span`",
            )
        records[split], inputs[path.name] = tuple(accepted), digest_bytes(data)
        quarantine += refused
        categories |= seen
    return AcosCorpus(make_taxonomy(categories), records, tuple(quarantine), num_lines, inputs)


def write_acos(corpus: AcosCorpus, output: str) -> Manifest:
    """Check a corpus and write it to a folder (path or URI), the manifest last.

    Raises:
        ConfigError: If the folder holds something that this importer did not write.
        DataError: If rows were lost, or the records do not read back.
    """
    store, key = open_uri(output)
    _check_output(store, key)
    files = _render_files(corpus)
    _check_files(corpus, files)
    with tempfile.TemporaryDirectory(prefix="nightforge-acos-") as name:
        for file_name, data in files.items():
            (Path(name) / file_name).write_bytes(data)
        return commit_folder(store, key, Path(name), inputs=_manifest_inputs(corpus), facts=_facts(corpus))


def parse_line(line: bytes) -> tuple[str, tuple[Quadruple, ...]]:
    """Parse one line.

    Raises:
        RowError: With the reason for which it cannot be used.
    """
    try:
        text, *fields = line.removesuffix(b"\r").decode("utf-8").split("\t")
    except UnicodeDecodeError as error:
        raise RowError("encoding", f"not UTF-8: {error.reason} at byte {error.start}") from None
    if not text.strip():
        raise RowError("empty_comment", "the text before the first tab is empty")
    if not any(fields):
        raise RowError("no_quadruple", "there is no quadruple after the text")
    num_tokens = len(text.split())
    return text, tuple(_parse_quadruple(field, num_tokens) for field in fields)


def make_segments(text: str, quadruples: Iterable[Quadruple]) -> tuple[Segment, ...]:
    """Return the segments of a text in reading order, overlapping pieces with the same label and emotion merged."""
    offsets = [(match.start(), match.end()) for match in re.finditer(r"\S+", text)]
    pieces: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for quadruple in quadruples:
        spans = [span for span in (quadruple.aspect, quadruple.opinion) if span is not None] or [(0, len(offsets))]
        hull = (min(start for start, _ in spans), max(end for _, end in spans))
        pieces.setdefault((quadruple.category, quadruple.emotion), []).append(hull)
    found = [
        (start, end, label_of(category), emotion)
        for (category, emotion), hulls in pieces.items()
        for start, end in _merge(hulls)
    ]
    return tuple(
        Segment(text[offsets[start][0] : offsets[end - 1][1]], label, emotion)
        for start, end, label, emotion in sorted(found)
    )


def describe_import(corpus: AcosCorpus) -> str:
    """Return the counts as lines for a terminal."""
    lines = []
    for split in SPLITS:
        refused = corpus.num_lines[split] - len(corpus.records[split])
        line = (
            f"{split}: {corpus.num_lines[split]} lines = {len(corpus.records[split])} records + {refused} quarantined"
        )
        if split != "train":
            unseen, repeated = len(corpus.unseen_leaves(split)), corpus.count_repeated(split)
            line += f"; {unseen} leaves are never in train, {repeated} comments are in train word for word"
        lines.append(line)
    lines.append(f"taxonomy: {len(corpus.taxonomy.leaves)} leaves over all splits")
    return "\n".join(lines)


def _find_split(folder: Path, split: str) -> Path | None:
    if (folder / f"{split}.tsv").is_file():
        return folder / f"{split}.tsv"
    found = sorted(folder.glob(f"*_{split}.tsv"))
    return found[0] if len(found) == 1 else None


def _read_split(data: bytes, split: str, name: str) -> tuple[list[VocRecord], list[dict[str, Any]], set[str]]:
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not lines[-1]:
        lines.pop()  # what follows the last line's end is not a line
    records, refused, categories = [], [], set()
    for number, line in enumerate(lines, start=1):
        try:
            text, quadruples = parse_line(line)
        except RowError as error:
            raw = line.decode("utf-8", "backslashreplace")
            refused.append({"file": name, "line": number, "reason": error.reason, "detail": error.detail, "raw": raw})
            continue
        records.append(VocRecord(f"{split}-{number:06d}", text, make_segments(text, quadruples)))
        categories |= {quadruple.category for quadruple in quadruples}
    return records, refused, categories


def _parse_quadruple(field: str, num_tokens: int) -> Quadruple:
    parts = field.split()
    if len(parts) != _QUADRUPLE_FIELDS:
        raise RowError("malformed_quadruple", f"{field!r:.80} has {len(parts)} parts, expected 4")
    aspect, category, sentiment, opinion = parts
    if not _CATEGORY.fullmatch(category):
        raise RowError("malformed_category", f"{category!r:.80} is not ENTITY#ATTRIBUTE")
    if sentiment not in EMOTIONS:
        raise RowError("unknown_sentiment", f"the sentiment is {sentiment!r:.80}, expected 0, 1 or 2")
    return Quadruple(_parse_span(aspect, num_tokens), category, EMOTIONS[sentiment], _parse_span(opinion, num_tokens))


def _parse_span(text: str, num_tokens: int) -> tuple[int, int] | None:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise RowError("malformed_span", f"the span {text!r:.80} is not start,end")
    span = (int(match[1]), int(match[2]))
    if span == _IMPLICIT:
        return None
    if not 0 <= span[0] < span[1] <= num_tokens:
        raise RowError("span_out_of_range", f"the span {text} does not lie in the text's {num_tokens} tokens")
    return span


def _merge(hulls: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(hulls):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _labels(records: Sequence[VocRecord]) -> set[LabelPath]:
    return {segment.label for record in records for segment in record.segments}


def _render_files(corpus: AcosCorpus) -> dict[str, bytes]:
    files = {"taxonomy.csv": format_taxonomy(corpus.taxonomy.leaves).encode()}
    for split in SPLITS:
        files[f"{split}.jsonl"] = _jsonl(record.to_json() for record in corpus.records[split])
    files["quarantine.jsonl"] = _jsonl(corpus.quarantine)
    return files


def _jsonl(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _check_files(corpus: AcosCorpus, files: dict[str, bytes]) -> None:
    taxonomy = parse_taxonomy(files["taxonomy.csv"].decode(), "taxonomy.csv")
    for split in SPLITS:
        accepted = read_voc_rows(files[f"{split}.jsonl"], taxonomy)
        if accepted.rejections or accepted.rows != corpus.records[split]:
            raise DataError(f"{split}.jsonl does not read back: {accepted.counts or 'other rows'}")
    num_out = sum(map(len, corpus.records.values())) + len(corpus.quarantine)
    if num_out != sum(corpus.num_lines.values()):
        raise DataError(f"{sum(corpus.num_lines.values())} lines came in, {num_out} rows go out")


def _check_output(store: Store, key: str) -> None:
    manifest = read_manifest(store, key)
    if manifest is not None and manifest.inputs.get("importer") == "acos":
        return
    foreign = next(iter(store.list_keys(key)), None)  # the write deletes what is there: never a folder of somebody else
    if foreign is not None:
        raise ConfigError(
            f"the output {store.uri}/{key} holds other files ({foreign})",
            expected="a new folder, an empty one, or a finished earlier import",
            remedy="choose another --output, or delete the folder",
        )


def _manifest_inputs(corpus: AcosCorpus) -> dict[str, Any]:
    return {"importer": "acos", "version": IMPORTER_VERSION, "files": corpus.inputs}


def _facts(corpus: AcosCorpus) -> dict[str, Any]:
    return {
        "leaves": len(corpus.taxonomy.leaves),
        **{split: len(corpus.records[split]) for split in SPLITS},
        "quarantined": len(corpus.quarantine),
    }


def label_of(category: str) -> LabelPath:
    """Return the label path of a category, as the module describes it."""
    entity, attribute = category.split("#")
    family, _ = _ATTRIBUTES.get(attribute.upper(), (OTHER, ""))
    return _FAMILY_OF_ENTITY.get(entity.upper(), OTHER), _title(entity), family, _title(attribute)


def describe_category(category: str) -> str:
    """Return what a category means, for the taxonomy."""
    entity, attribute = category.split("#")
    _, meaning = _ATTRIBUTES.get(attribute.upper(), ("", _title(attribute).lower()))
    return f"{_title(entity)}: {meaning} ({category})"


def make_taxonomy(categories: Iterable[str]) -> Taxonomy:
    """Return the taxonomy of some categories, sorted by path."""
    leaves: dict[LabelPath, Leaf] = {}
    for category in sorted(categories):  # spellings that differ in case only are one leaf, described by the first
        leaves.setdefault(label_of(category), Leaf(label_of(category), describe_category(category)))
    return Taxonomy(tuple(leaves[path] for path in sorted(leaves)))


def _title(name: str) -> str:
    words = re.sub(r"\s+", " ", name.replace("_", " ").replace("&", " & ")).strip() or name
    return words.upper() if len(words) <= _ACRONYM_LENGTH else words.capitalize()
