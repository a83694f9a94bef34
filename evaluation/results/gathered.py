"""What is measured of one model: `evaluation/<model>/results/results.json`, and how it is read.

`ModelResults` is the whole file. Figures that the kind of model cannot show (log-probabilities of a closed model) are null.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NotRequired

from typing_extensions import TypedDict

from evaluation.results.figures import Change, Count, Difference, Ends, Hash, Ratio, Seconds, Share, TaxChange, Tokens
from voc.run import Run
from voc.store.base import Store
from voc.store.layout import RunLayout

RESULTS_NAME = "results.json"


class MeasuredModel(TypedDict):
    """Which model the figures are of."""

    name: Annotated[str, "as in models.json; part of object keys"]
    role: Annotated[Literal["reference", "candidate", "external"], "what it is in the run"]
    title: Annotated[str, "as tables call it"]
    uri: Annotated[str, "folder of the model; of an external one, where it is or what was imported"]
    digest: Annotated[Hash, "of the folder's manifest; of an external model, of how it is addressed"]
    kind: Annotated[str, "who answers for it: vllm, openai, bedrock or imported"]


class CacheHits(TypedDict):
    """Shards of one suite that an earlier run had measured."""

    hits: Annotated[Count, "shards that were taken over"]
    shards: Annotated[Count, "all shards"]
    measured_in: Annotated[list[str], "ids of the runs that measured them"]
    measured_at: Annotated[list[str], "when, ISO 8601"]


class Example(TypedDict):
    """One raw answer that says more than a rate: of each kind the first ones in the order of the test set."""

    kind: Annotated[str, "such as voc_not_json, voc_wrong, schema_leak, no_closing_sentence, wrong_answer"]
    suite: Annotated[str, "its suite"]
    custom_id: Annotated[str, "id of the item"]
    question: Annotated[str, "the comment or the question"]
    expected: Annotated[str, "what is right"]
    text: Annotated[str, "the answer, cut at 600 characters with a note of its length"]


class Triple(TypedDict):
    """Precision, recall and F1."""

    precision: Annotated[Ratio, "of what was predicted, the part that is right"]
    recall: Annotated[Ratio, "of what is in gold, the part that was found"]
    f1: Annotated[Ratio, "2 TP / (predicted + gold) at the level that is averaged"]


class TripleEnds(TypedDict):
    """Their bootstrap intervals over comments."""

    precision: Annotated[Ends, "0 to 1"]
    recall: Annotated[Ends, "0 to 1"]
    f1: Annotated[Ends, "0 to 1"]


class AverageEnds(TypedDict):
    """Bootstrap intervals of the four averages."""

    micro: Annotated[TripleEnds, "see LevelScores"]
    macro: Annotated[TripleEnds, "see LevelScores"]
    weighted: Annotated[TripleEnds, "see LevelScores"]
    samples: Annotated[TripleEnds, "see LevelScores"]


class LevelScores(TypedDict):
    """Label sets at one level of the taxonomy in four averages."""

    micro: Annotated[Triple, "over all pairs of comment and label"]
    macro: Annotated[Triple, "mean over the labels that occur in gold"]
    weighted: Annotated[Triple, "the same, weighted by how often a label occurs in gold"]
    samples: Annotated[Triple, "per comment, then the mean over comments"]
    num_labels: Annotated[Count, "labels that occur in gold"]
    gold: Annotated[Count, "their occurrences: pairs of comment and label"]


class TripleWithEnds(Triple):
    """Precision, recall and F1 (micro) with their intervals."""

    intervals: Annotated[TripleEnds, "bootstrap over comments"]


class BucketScores(TripleWithEnds):
    """Labels that are about equally frequent in training: micro over their own labels."""

    name: Annotated[str, "head (half of all training labels), torso (up to 80 %), tail, unseen"]
    num_labels: Annotated[Count, "labels of the taxonomy in it"]
    training_support: Annotated[Count, "training comments with one of them, summed over labels"]
    gold: Annotated[Count, "occurrences in the test set"]


class LabelScores(TypedDict):
    """One label that occurs in gold or was predicted, one against the rest over comments."""

    label: Annotated[list[str], "the full path"]
    support: Annotated[Count, "test comments that have it"]
    predicted: Annotated[Count, "test comments where it was predicted"]
    true_positive: Annotated[Count, "test comments where both hold"]
    precision: Annotated[Ratio | None, "null if it was never predicted"]
    recall: Annotated[Ratio | None, "null if it is never in gold"]
    f1: Annotated[Ratio, "of the two"]
    training_support: Annotated[Count, "training comments that have it"]
    bucket: Annotated[str, "see BucketScores; `invented`: the taxonomy does not have it"]


class StrictScores(TypedDict):
    """The label figures of the strict parse, where an answer that needed a repair says nothing."""

    levels: Annotated[dict[str, LevelScores], "per level, L4 is the full path"]
    intervals: Annotated[AverageEnds, "of the full path"]


class SpanScores(TripleWithEnds):
    """Overlap of predicted and gold segments, micro over all comments."""

    samples_f1: Annotated[NotRequired[Ratio | None], "mean over comments of their own F1; of the two overlaps"]


class Segmentation(TypedDict):
    """Whether predicted and gold segments are the same pieces of the comments."""

    span_overlap: Annotated[SpanScores, "in characters, whatever the labels say"]
    labelled_span_overlap: Annotated[SpanScores, "in pairs of character and label"]
    whole_segments: Annotated[SpanScores, "in segments with exactly the gold boundaries and label"]


class ConfusedPair(TypedDict):
    """A missed label and the wrong one that stands in its place."""

    gold: Annotated[list[str], "path that was missed"]
    predicted: Annotated[list[str], "path that was predicted"]
    count: Annotated[Count, "comments"]
    kind: Annotated[str, "what the two share: same_L3 (siblings), same_L2, same_L1, elsewhere"]


class Confusion(TypedDict):
    """Where wrong labels (predicted, not in gold) go; each is paired with the nearest missed label of its comment."""

    num_wrong: Annotated[Count, "wrong labels"]
    num_missed: Annotated[Count, "missed labels (in gold, not predicted)"]
    same_L3: Annotated[Share, "of the wrong labels: siblings of the missed one"]
    same_L2: Annotated[Share, "of the wrong labels"]
    same_L1: Annotated[Share, "of the wrong labels"]
    elsewhere: Annotated[Share, "of the wrong labels: in another branch"]
    nothing_missed: Annotated[Share, "of the wrong labels: beside the right ones, in place of none"]
    not_replaced: Annotated[Share, "of the missed labels: without a wrong one in their place"]
    pairs: Annotated[list[ConfusedPair], "the most frequent 50"]


class EmotionCounts(TypedDict):
    """One emotion among the pairs of comment and full path that are in gold and were predicted."""

    emotion: Annotated[str, "its name"]
    gold: Annotated[Count, "pairs that have it in gold"]
    predicted: Annotated[Count, "pairs where it was predicted"]
    true_positive: Annotated[Count, "pairs where both hold"]


class EmotionPairCount(TypedDict):
    """Two emotions that were taken for each other."""

    gold: Annotated[str, "what is right"]
    predicted: Annotated[str, "what was answered"]
    count: Annotated[Count, "pairs"]


class Emotions(TypedDict):
    """Whether the emotion is right where the label is."""

    accuracy: Annotated[Ratio | None, "of the pairs, those with the same emotions; null without a pair"]
    interval: Annotated[Ends | None, "bootstrap over comments"]
    num_pairs: Annotated[Count, "pairs of comment and full path that are in gold and were predicted"]
    unknown: Annotated[Share, "of predicted segments: an emotion that no training or test row has"]
    emotions: Annotated[list[EmotionCounts], "per emotion"]
    confusion: Annotated[list[EmotionPairCount], "most frequent first"]
    num_mixed: Annotated[Count, "pairs with several emotions on a side"]


class ContractRates(TypedDict):
    """How well the answers keep to the contract."""

    parse_failure: Annotated[Share, "of answers: even the lenient parse gives up"]
    strict_failure: Annotated[Share, "of answers: not, as a whole, the list that was asked for"]
    repaired: Annotated[Share, "of answers: read by the lenient parse only"]
    damaged_text: Annotated[Share, "of answers: replacement or control characters, or a wrong encoding"]
    invented_label: Annotated[Share, "of predicted segments: a path that the taxonomy does not have"]
    repeated_segment: Annotated[Share, "of predicted segments: content and label of an earlier one of the answer"]
    segments_per_expected: Annotated[Share, "predicted over gold segments; may be above 1"]
    coverage: Annotated[Share, "of the characters of gold segments: covered by predicted ones"]
    comment_coverage: Annotated[Share, "of the characters of comments but white space: covered by predicted segments"]
    gold_comment_coverage: Annotated[Share, "the same of the gold segments"]
    overlap: Annotated[Share, "of the characters under predicted segments: under more than one"]
    rewritten_content: Annotated[Share, "of predicted segments: not word for word in the comment"]
    unknown_emotion: Annotated[Share, "as `emotion.unknown`"]
    sibling_confusion: Annotated[Share, "as `confusion.same_L3`"]


class LanguageScores(LevelScores):
    """The comments of one language, full paths; macro and weighted are not comparable between languages."""

    language: Annotated[str, "the records' `lang`, or unknown"]
    num_items: Annotated[Count, "comments"]
    intervals: Annotated[AverageEnds, "bootstrap over its comments"]
    parse_failure: Annotated[Share, "of its answers"]


class Prompt(TypedDict):
    """Which words the comments were asked in."""

    variant: Annotated[str, "taxonomy, internalized, or imported: the words of a service's own evaluation"]
    hash: Annotated[Hash, "of the words"]


class Decoding(TypedDict):
    """How answers were decoded: rows under other settings are other rows."""

    structured_output: Annotated[bool, "answers were bound to the taxonomy"]
    schema_hash: Annotated[str | None, "SHA-256 of the schema; null without one"]
    max_tokens: Annotated[Tokens, "longest answer"]
    temperature: Annotated[float, "0: greedy"]


class SuiteUsage(TypedDict):
    """What the VOC suite took."""

    prompt_tokens: Annotated[Tokens, "of all prompts"]
    completion_tokens: Annotated[Tokens, "of all answers"]
    wall_s: Annotated[Seconds, "of the slowest shard"]


class VocResults(TypedDict):
    """Everything that is measured on the answers to the test comments."""

    num_items: Annotated[Count, "test comments"]
    confidence: Annotated[Ratio, "two-sided, of every interval"]
    levels: Annotated[dict[str, LevelScores], "per level L1 to L4 (the full path), lenient parse"]
    intervals: Annotated[AverageEnds, "of the full path"]
    level_intervals: Annotated[dict[str, AverageEnds], "of every level"]
    hierarchical: Annotated[TripleWithEnds, "micro over labels and all of their ancestors"]
    buckets: Annotated[list[BucketScores], "frequent and rare labels"]
    labels: Annotated[NotRequired[list[LabelScores]], "label by label; older files have none"]
    strict: Annotated[StrictScores, "the same of the strict parse"]
    segmentation: Annotated[Segmentation, "pieces of the comments"]
    confusion: Annotated[Confusion, "where wrong labels go"]
    emotion: Annotated[Emotions, "where the label is right"]
    rates: Annotated[ContractRates, "keeping to the contract"]
    failures: Annotated[dict[str, int], "unreadable answers by reason"]
    repairs: Annotated[dict[str, int], "repaired answers by what was looked past"]
    languages: Annotated[list[LanguageScores], "the most frequent first"]
    prompt: Annotated[Prompt, "how it was asked"]
    decoding: Annotated[Decoding | None, "likewise; null for imported answers"]
    lookup_floor: Annotated[LevelScores, "full paths: majority label of training segments that occur word for word"]
    usage: Annotated[SuiteUsage, "tokens and time"]
    finish_reasons: Annotated[dict[str, int], "how the answers ended"]


class AccuracyPart(TypedDict):
    """Right answers among some questions."""

    accuracy: Annotated[Ratio | None, "right ones of n; null without questions"]
    n: Annotated[Count, "questions"]
    interval: Annotated[Ends, "Wilson; of parts, widened until all hold together (Bonferroni)"]
    below_chance: Annotated[bool, "the whole interval is: a failure of form, not to be read as lost knowledge"]


class Accuracy(AccuracyPart):
    """Right answers among all questions, and in parts."""

    slices: Annotated[dict[str, AccuracyPart], "per slice of the data set"]
    groups: Annotated[dict[str, AccuracyPart], "per group of MMLU's subjects; none of another data set"]
    subjects: Annotated[dict[str, AccuracyPart], "per subject"]


class GeneralChanges(TypedDict):
    """A model against the base, question by question."""

    knowledge_change: Annotated[Change, "log-likelihood accuracy"]
    generative_change: Annotated[Change, "strict generative accuracy"]
    lenient_change: Annotated[Change, "lenient generative accuracy"]
    letter_change: Annotated[Change, "letter-constrained accuracy"]
    extraction_failure_change: Annotated[Change, "share of written answers without the closing sentence"]
    schema_leak_change: Annotated[Change, "share of written answers that are VOC JSON"]
    refusal_change: Annotated[Change, "share of written answers that decline"]
    truncated_change: Annotated[Change, "share of written answers that reached their longest length"]
    format_tax: Annotated[TaxChange, "knowledge_change - generative_change: what was lost in writing beyond knowledge"]


class PartChanges(TypedDict):
    """The same for one group or subject; intervals hold together over the parts (Bonferroni)."""

    n: Annotated[Count, "questions"]
    cause: Annotated[str, "see Decomposition"]
    knowledge: Annotated[str, "see Decomposition"]
    form: Annotated[str, "see Decomposition"]
    knowledge_change: Annotated[Change, "see GeneralChanges"]
    generative_change: Annotated[Change, "see GeneralChanges"]
    letter_change: Annotated[Change, "see GeneralChanges"]
    format_tax: Annotated[TaxChange, "see GeneralChanges"]
    extraction_failure_change: Annotated[Change, "see GeneralChanges"]
    schema_leak_change: Annotated[Change, "see GeneralChanges"]


class CauseRules(TypedDict):
    """The limits by which a cause is named."""

    min_change: Annotated[Difference, "a loss is at least this"]
    kept_margin: Annotated[Difference, "kept: the interval excludes a loss of this"]
    confidence: Annotated[Ratio, "two-sided, of whole figures"]


class Alarm(TypedDict):
    """A reading whose accuracy is below chance with its whole interval."""

    reading: Annotated[str, "log_likelihood, generative_strict or letter_constrained"]
    scope: Annotated[Literal["all", "group", "subject"], "of which questions"]
    name: Annotated[str, "of the group or subject, or all"]
    accuracy: Annotated[Ratio | None, "seen"]
    n: Annotated[Count, "questions"]
    chance: Annotated[Ratio, "what guessing reaches"]


class LostAnswers(TypedDict):
    """Written answers of one kind that the base has right and the model has not."""

    count: Annotated[Count, "answers"]
    still_known: Annotated[Count, "of them, those whose letter the model finds most likely"]


class Quote(TypedDict):
    """One raw answer that shows what was lost."""

    kind: Annotated[str, "of the answer, or forgotten: the base knows the letter and the model does not"]
    custom_id: Annotated[str, "id of the question"]
    subject: Annotated[str, "of the question"]
    question: Annotated[str, "its text"]
    answer: Annotated[str, "the right letter"]
    known: Annotated[bool, "the model finds the right letter most likely"]
    margin: Annotated[float, "log-probability (natural) of the right letter minus that of the best other one"]
    text: Annotated[str, "what the model wrote, cut at 600 characters"]
    base_text: Annotated[str, "what the base wrote, likewise"]


class Decomposition(TypedDict):
    """What a model lost against its base."""

    cause: Annotated[str, "none, format_collapsed, knowledge_lost, both, answers_wrong or unclear"]
    sentence: Annotated[str, "the cause in words, with the figures"]
    knowledge: Annotated[str, "lost, kept or unclear"]
    form: Annotated[str, "collapsed, kept, answers_wrong or unclear"]
    letter_witness: Annotated[str, "what the letter-constrained reading says of the knowledge"]
    rules: Annotated[CauseRules, "how it was named"]
    figures: Annotated[GeneralChanges, "all questions"]
    groups: Annotated[dict[str, PartChanges], "per group of MMLU's subjects"]
    subjects: Annotated[dict[str, PartChanges], "per subject"]
    alarms: Annotated[list[Alarm], "below chance"]
    lost_answers: Annotated[dict[str, LostAnswers], "per kind of answer"]
    quotes: Annotated[list[Quote], "up to two a kind"]


class GeneralResults(TypedDict):
    """The same questions in four readings; figures that the kind of model cannot show are null."""

    chance: Annotated[Ratio, "what guessing reaches"]
    log_likelihood: Annotated[Accuracy | None, "the letter that the model finds most likely: knowledge"]
    generative_strict: Annotated[Accuracy | None, "the closing sentence word for word: knowledge and form"]
    generative_lenient: Annotated[Accuracy | None, "the same answers under usual other forms"]
    letter_constrained: Annotated[Accuracy | None, "the form given, one letter allowed"]
    schema_leak: Annotated[Share | None, "of written answers: VOC JSON, a fragment of it, or its keys"]
    extraction_failure: Annotated[Share | None, "of written answers: no closing sentence; they count as wrong"]
    refusal: Annotated[Share | None, "of written answers: decline"]
    truncated: Annotated[Share | None, "of written answers: reached their longest length"]
    answer_kinds: Annotated[dict[str, int] | None, "written answers by kind; each is of exactly one"]
    scoring: Annotated[list[str] | None, "the ways in which log-likelihoods were got"]
    against_base: Annotated[GeneralChanges | None, "as `decomposition.figures`"]
    decomposition: Annotated[NotRequired[Decomposition | None], "which kind of loss it is; older files have none"]


class TaskFigure(TypedDict):
    """One metric of an lm-eval task."""

    value: Annotated[
        float | None, "in lm-eval's unit, most often a ratio; null with a reason where shards cannot be merged"
    ]
    n: Annotated[Count, "questions"]
    low: Annotated[NotRequired[float], "lower end: Wilson for shares of questions, else bootstrap over questions"]
    high: Annotated[NotRequired[float], "upper end"]
    against_base: Annotated[NotRequired[Change], "where every question is right or wrong"]
    reason: Annotated[NotRequired[str], "why there is no value"]


class TaskResults(TypedDict):
    """One task that the configuration names."""

    lm_eval_task: Annotated[str, "lm-eval's name of it"]
    lm_eval: Annotated[str, "version of lm-eval"]
    tasks: Annotated[dict[str, Any], "per task of a group: its version and the digests of its settings"]
    items: Annotated[Count, "questions"]
    truncated_prompts: Annotated[Count, "prompts that did not fit the model's context, cut at the front"]
    figures: Annotated[dict[str, dict[str, TaskFigure]], "per task (and `all`) and `metric,filter`"]


class ModelResults(TypedDict):
    """`results.json`."""

    format: Annotated[str, "version of this file"]
    model: Annotated[MeasuredModel, "whose figures"]
    coverage: Annotated[
        dict[str, str], "per suite that knows its items beforehand, `answered / expected`: always equal"
    ]
    cut_prompts: Annotated[dict[str, int], "per suite, prompts that did not fit the model's context"]
    voc: Annotated[VocResults, "test comments"]
    general: Annotated[GeneralResults, "multiple-choice questions"]
    examples: Annotated[list[Example], "up to two a kind"]
    cache: Annotated[
        NotRequired[dict[str, CacheHits]], "per suite with a shard that an earlier run measured; older files have none"
    ]
    lm_eval_tasks: Annotated[
        NotRequired[dict[str, TaskResults]], "per task of the configuration; older files have none"
    ]


def read_results(run: Run, model: str) -> ModelResults:
    """Return one model's `results.json`.

    Raises:
        ObjectNotFoundError: If the model was not gathered.
    """
    return load_results(run.store, run.layout, model)


def load_results(store: Store, layout: RunLayout, model: str) -> ModelResults:
    """Return the same of any run of a store, whether or not its configuration can be read.

    Raises:
        ObjectNotFoundError: If the model was not gathered.
        ValueError: If it is not JSON.
    """
    results: ModelResults = json.loads(store.read_bytes(f"{layout.results(model)}/{RESULTS_NAME}"))
    return results
