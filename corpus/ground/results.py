"""What the files hold that this package hands on to later stages and to people, with the unit of every figure.

`mixture.json` of an arm (`ArmDocument`), `data_report.json` (`DataReport`), a line of `dropped.jsonl`, `quarantine.jsonl` and
`overlaps.jsonl`, and the facts in the manifests of the data directory, of an arm's samples and of the held-out rows. Rows are
numbered from 0 over the accepted rows of their source; shares and ratios are 0..1; counts are of rows where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NotRequired, TypedDict

from voc.mixture import ShareDocument, Unit


class CategoryDraw(TypedDict):
    """What an arm draws of one category of a source whose rows are drawn as they occur."""

    category: str
    num_rows: int  # usable rows
    num_samples: int  # drawn rows, repeats included
    num_tokens: int  # tokens of the drawn rows
    num_assistant_tokens: int  # learned ones among them
    epochs: float  # drawn over usable rows
    max_repeats: int  # how often its most drawn row is drawn
    unused_rows: int  # usable rows that are never drawn


class ShareDraw(ShareDocument):
    """What an arm draws of one source, or of one category that has a weight of its own."""

    categories: NotRequired[list[CategoryDraw]]  # in the data report only


class PackingFigures(TypedDict):
    """How samples fill rows of `training.max_seq_len` tokens."""

    rows: int  # packed rows
    efficiency: float  # share of their places that hold a token, 0..1
    too_long: int  # samples that no row holds


class ArmDocument(TypedDict):
    """`mixture.json`: what `voc.mixture.MixtureDocument` says an arm draws, and how it falls into steps."""

    arm: str
    unit: Unit  # what the weights count
    num_samples: int
    num_steps: int  # optimizer steps
    seed: int
    sources: Sequence[ShareDraw | ShareDocument]
    packing: NotRequired[PackingFigures]  # where rows are the unit of the batch
    notes: NotRequired[list[str]]  # what the writer of the arm may not have meant


class Lengths(TypedDict):
    """A histogram of rows by their tokens."""

    edges: list[int]  # tokens; upper edges exclusive, longer rows are in the last bin
    counts: list[int]  # rows per bin


class NamedRows(TypedDict):
    """Accepted rows by what they are about, the most frequent first."""

    categories: dict[str, int]
    languages: dict[str, int]


class CountedFigures(NamedRows):
    """What is counted part by part."""

    rows: int  # accepted rows
    tokens: NotRequired[int]  # of the accepted rows; absent where none is encoded (the test set)
    assistant_tokens: NotRequired[int]
    longest_tokens: NotRequired[int]
    lengths: NotRequired[Lengths]


class FileFigures(CountedFigures):
    """One source, or the test set, in the data report."""

    read: int  # rows read and not left out by the replay share
    refused: dict[str, int]  # rows per reason
    warnings: dict[str, int]  # noticed in accepted rows, per kind
    repaired_labels: int  # labels
    carried_over: dict[str, int]  # labels per kind of change
    redacted: dict[str, int]  # replaced pieces of text per kind
    dropped: dict[str, int]  # accepted rows that are not trained on, per reason
    skipped_files: list[list[str]]  # address and reason
    watermark: str | None  # ISO day up to which the last promoted run had read
    replayed_rows: int  # accepted rows of days up to the watermark


class RareLabels(TypedDict):
    """Labels by their training examples."""

    labels: NotRequired[int]
    without_examples: int
    with_one: int
    below_five: int  # those without and with one included


class Coverage(RareLabels):
    """How much of the taxonomy has training examples."""

    leaves: int
    by_level: dict[str, RareLabels]
    unseen: list[str]  # leaves without an example, in taxonomy order


class OverlapExample(TypedDict):
    """An item of an evaluation set and the first row that shares an n-gram with it."""

    item: int
    row: int


class OverlapFigures(TypedDict):
    """One source against one evaluation set."""

    source: str
    evaluation_set: str
    items: int  # of the set
    found_items: int  # those that share an n-gram with the source
    ratio: float  # found over all items, 0..1
    rows: int  # rows of the source that share one
    examples: list[OverlapExample]


class Contamination(TypedDict):
    """All sources against all evaluation sets."""

    evaluation_sets: dict[str, dict[str, int]]
    overlaps: list[OverlapFigures]


class Duplicates(TypedDict):
    """What is there more than once; names of rows and labels, never a comment."""

    dropped: dict[str, dict[str, int]]  # rows per source and reason
    found: dict[str, dict[str, int]]  # rows per source and kind, dropped or not
    label_conflicts: list[dict[str, Any]]  # up to 20 examples
    leakage: list[dict[str, Any]]  # up to 20 examples
    near: dict[str, Any]  # how near duplicates were searched, and what was left out


class HeldOutFigures(TypedDict):
    """What is held out of one stratum."""

    name: str  # the source
    category: str | None
    format: Literal["voc", "general"]
    usable: int  # usable rows, the held-out ones included
    held_out: int
    alike_in_training: int  # held-out rows with a near duplicate that is still trained on


class DataReport(TypedDict):
    """`data_report.json`: what was read, refused, dropped and found, and what every arm draws."""

    files: dict[str, FileFigures]  # the test set under `test`
    classes: dict[str, dict[str, dict[str, int]]]  # train, test: segments per label of a level, path and emotion
    coverage: Coverage
    duplicates: Duplicates
    contamination: Contamination
    packing: dict[str, PackingFigures]  # of all usable rows, by tokens of a packed row
    arms: dict[str, ArmDocument]
    validation: NotRequired[list[HeldOutFigures]]


class DroppedLine(TypedDict):
    """A line of `dropped.jsonl`: an accepted row that is not trained on."""

    source: str
    row: int
    id: str  # empty for general rows
    reason: str


class OverlapLine(TypedDict):
    """A line of `overlaps.jsonl`: a training row that shares something with an evaluation set."""

    source: str
    evaluation_set: str
    kind: Literal["leakage_exact", "leakage_near", "ngram"]
    row: int
    id: str
    item: int  # of the evaluation set, from 0
    text: str  # its first 200 characters


class ShardFacts(TypedDict):
    """Which steps and samples a shard holds."""

    path: str
    first_step: int
    end_step: int  # exclusive
    first_sample: int  # position in the training order
    end_sample: int  # exclusive


class SampleFacts(TypedDict):
    """The facts in the manifest of an arm's samples, and of the held-out rows."""

    shards: list[ShardFacts]
    strata: NotRequired[list[HeldOutFigures]]  # of the held-out rows: one record batch each


class DataFacts(TypedDict):
    """The facts in the manifest of the data directory."""

    rows: dict[str, int]  # accepted rows per source
    watermarks: dict[str, str]  # ISO day per source up to which this run has read
    read_after: dict[str, str]  # the same of the promoted run before it
