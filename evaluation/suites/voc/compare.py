"""Compare the VOC figures of two nights whose taxonomies may differ, on the leaves that mean the same in both.

    python -m evaluation compare --store-uri URI --run-id NEW --with-run OLD [--changes URI] [--model NAME] [--with-model NAME]

Reads, of both runs: models.json, decision.json, data/taxonomy.csv, data/test.jsonl, evaluation/<model>/results/; the changes of
the taxonomy.
Writes: nothing in the runs; `--output` names a JSON file.

Two figures are comparable if they are about the same labels, and their difference is sharp if it is about the same comments. So
F1 is given on all leaves (what each night reported) and on the shared ones, and the difference on the comments that both test
sets have. On shared leaves a label that only one taxonomy has is left out on both sides, gold and predicted: a wrong answer that
went to such a leaf is then a miss only. These figures are for comparing nights, not for judging one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from evaluation.intervals import Bootstrap
from evaluation.items import ITEMS_NAME, Items, read_items
from evaluation.results.decided import read_decision
from evaluation.results.gathered import VocResults, read_results
from evaluation.suites.voc.label_scores import AVERAGES, LabelCounts, count_labels, score_labels
from evaluation.suites.voc.resampling import bootstrap_scores, compare_f1
from voc.errors import ConfigError, DataError, IntegrityError, TaxonomyError
from voc.labels.changes import TaxonomyChanges, parse_changes, restrict_to, shared_leaves
from voc.labels.taxonomy import LabelPath, NodePath, Taxonomy, parse_taxonomy
from voc.run import ModelEntry, Run, open_run, read_models
from voc.store.manifest import Manifest, digest_bytes, read_manifest, verify_directory
from voc.store.uri import open_uri, read_uri
from voc.text_table import format_columns

VOC = "voc"
COMPARISON_FORMAT = "nightforge/comparison/1"
_MAX_LISTED = 5


@dataclass(frozen=True, slots=True)
class Night:
    """What one run says about one of its models.

    Attributes:
        run_id: The run.
        model: The model's name in the run.
        model_digest: Manifest digest of the model that was measured.
        taxonomy: The labels of that night.
        items: Gold and predicted labels per test comment.
        comments: Text of every test comment by its id.
        asked: How the model was asked, as its row declares it: prompt variant and decoding.
    """

    run_id: str
    model: str
    model_digest: str
    taxonomy: Taxonomy
    items: Items
    comments: Mapping[str, str]
    asked: Mapping[str, Any] = field(default_factory=dict)


def choose_model(run: Run, name: str | None, option: str) -> ModelEntry:
    """Return the model that is meant: by its name, else the one the decision chose, else the only candidate.

    Raises:
        ConfigError: If there is no such model, or none is named and several are possible.
    """
    models = {model.name: model for model in read_models(run)}
    decision = read_decision(run) if name is None else None
    wanted = name or (decision["promoted"] if decision else None)
    candidates = [model for model in models.values() if model.role == "candidate"]
    if wanted is None and len(candidates) == 1:
        return candidates[0]
    if wanted not in models:
        seen = f"has no model {wanted!r}" if wanted else f"promoted none of its {len(candidates)} candidates"
        raise ConfigError(
            f"the run {run.layout.run_id!r} {seen}",
            expected=f"one of {', '.join(models)}",
            remedy=f"name it with {option}",
        )
    return models[wanted]


def read_night(run: Run, model: str) -> Night:
    """Read the labels, the test comments and one model's gathered items; of the data only these two files are read.

    Raises:
        IntegrityError: If something is missing or damaged, or the results were gathered from other data.
        DataError: If there are no test comments.
    """
    run_id, prefix, results = run.layout.run_id, run.layout.data, run.layout.results(model)
    if read_manifest(run.store, results) is None:
        raise IntegrityError(
            f"the run {run_id!r} has no results of {model!r} ({run.store.uri}/{results})",
            expected="a run whose models were evaluated and gathered",
            remedy=f"python -m evaluation gather --run-id {run_id}",
        )
    gathered = verify_directory(run.store, results)
    data = read_manifest(run.store, prefix) or verify_directory(run.store, prefix)
    if gathered.inputs.get("data") != data.digest:
        raise IntegrityError(
            f"{run.store.uri}/{results} was gathered from the data {gathered.inputs.get('data')}",
            expected=f"{data.digest}, the data of the run {run_id!r}",
            remedy="run the suites and gather again",
        )
    taxonomy = parse_taxonomy(_read_file(run, data, "taxonomy.csv").decode(), f"{prefix}/taxonomy.csv")
    records = map(json.loads, _read_file(run, data, "test.jsonl").splitlines())
    comments = {record["id"]: record["comment"] for record in records}
    items = read_items(run.store.read_bytes(f"{results}/{ITEMS_NAME}"))
    if not items.ids[VOC]:
        raise DataError(f"the run {run_id!r} has no test comments", expected="at least one")
    measured = read_results(run, model)
    return Night(run_id, model, measured["model"]["digest"], taxonomy, items, comments, _list_asking(measured["voc"]))


def _list_asking(voc: VocResults) -> dict[str, Any]:
    """Return what a row declares, without the hashes: those follow the taxonomy, which is what may differ."""
    decoding = {name: value for name, value in (voc.get("decoding") or {}).items() if name != "schema_hash"}
    return {"prompt_variant": voc["prompt"]["variant"], **decoding}


def _read_file(run: Run, manifest: Manifest, name: str) -> bytes:
    """Read one file of the data and compare it with its manifest; all of the data can be many GB."""
    key = f"{run.layout.data}/{name}"
    content = run.store.read_bytes(key)
    wanted = {entry.path: entry.sha256 for entry in manifest.files}.get(name)
    if digest_bytes(content) != wanted:
        raise IntegrityError(
            f"{run.store.uri}/{key} has SHA-256 {digest_bytes(content)}",
            expected=str(wanted),
            remedy="the file was damaged or changed after it was written: run the prepare stage again",
        )
    return content


def read_changes(run: Run, taxonomy: Taxonomy, uri: str | None) -> tuple[str | None, TaxonomyChanges | None]:
    """Read the changes that lead to the later taxonomy.

    Args:
        run: The later run; its configuration names the default.
        taxonomy: The later taxonomy.
        uri: Another file.

    Returns:
        Where the changes are and what they say; None twice if there are none.

    Raises:
        IntegrityError: If the run's own changes are no longer those that it read.
        TaxonomyError: If they cannot be read or do not lead to the taxonomy.
        ObjectNotFoundError: If the file is not there.
    """
    origin = uri or run.config.data.taxonomy_changes
    if origin is None:
        return None, None
    content = read_uri(origin)
    manifest = read_manifest(run.store, run.layout.data)
    read = manifest.inputs.get("taxonomy_changes") if manifest else None
    if uri is None and read not in {None, digest_bytes(content)}:
        raise IntegrityError(
            f"{origin} has SHA-256 {digest_bytes(content)}",
            expected=f"{read}, the changes that the run {run.layout.run_id!r} read",
            remedy="give the file as it was that night with --changes",
        )
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise TaxonomyError(f"{origin} is not text: {error}", expected="JSONL in UTF-8") from error
    return origin, parse_changes(text, origin, taxonomy)


def run_compare(arguments: argparse.Namespace) -> None:
    """Open both runs, compare, print the table, and write the JSON if asked."""
    new, old = (open_run(arguments.store_uri, name) for name in (arguments.run_id, arguments.with_run))
    model = choose_model(new, arguments.model, "--model")
    earlier = choose_model(old, arguments.with_model or arguments.model, "--with-model")
    comparison = compare_runs(new, model, old, earlier, arguments.changes)
    if arguments.output:
        store, key = open_uri(arguments.output)
        store.write_bytes(key, json.dumps(comparison, indent=1, ensure_ascii=False).encode())
    print(format_comparison(comparison), flush=True)


def compare_runs(new: Run, model: ModelEntry, old: Run, earlier: ModelEntry, changes_uri: str | None) -> dict[str, Any]:
    """Compare a model of a run with a model of an earlier run; intervals are made as the later run makes its own.

    Raises:
        IntegrityError: If data or results are missing, damaged, or not from one another.
        TaxonomyError: If the changes do not lead to the later taxonomy, or no leaf is shared.
        DataError: If a run has no test comments.
        ObjectNotFoundError: If the changes are not there.
    """
    nights = read_night(new, model.name), read_night(old, earlier.name)
    uri, changes = read_changes(new, nights[0].taxonomy, changes_uri)
    bootstrap = Bootstrap(new.config.evaluation.bootstrap_resamples, new.config.decision.confidence, new.config.seed)
    return {"format": COMPARISON_FORMAT, "changes": uri, **compare_nights(*nights, changes, bootstrap)}


def compare_nights(new: Night, old: Night, changes: TaxonomyChanges | None, bootstrap: Bootstrap) -> dict[str, Any]:
    """Score both nights on all of their leaves and on the shared ones, and pair the comments that both have.

    Raises:
        TaxonomyError: If no leaf is shared.
    """
    shared = shared_leaves(old.taxonomy, new.taxonomy, changes)
    if not shared:
        raise TaxonomyError(
            f"the taxonomies of {new.run_id} ({len(new.taxonomy.leaves)} leaves) and {old.run_id} "
            f"({len(old.taxonomy.leaves)} leaves) share no leaf",
            expected="leaves with equal paths, or changes that rename or move them",
            remedy="give the changes between the two with --changes; is --run-id the later run?",
        )
    kept_new = restrict_items(new.items, {leaf: leaf for leaf in shared.values()})
    kept_old = restrict_items(old.items, shared)
    in_new = frozenset(shared.values())
    return {
        "confidence": bootstrap.confidence,
        "num_resamples": bootstrap.num_resamples,
        "new": _describe(new, kept_new, bootstrap),
        "old": _describe(old, kept_old, bootstrap),
        "asked_differently": list_other_asking(new, old),
        "leaves": {
            "num_new": len(new.taxonomy.leaves),
            "num_old": len(old.taxonomy.leaves),
            "num_shared": len(shared),
            "num_other_path": sum(before != after for before, after in shared.items()),
            "only_new": [list(leaf.path) for leaf in new.taxonomy.leaves if leaf.path not in in_new],
            "only_old": [list(leaf.path) for leaf in old.taxonomy.leaves if leaf.path not in shared],
        },
        "paired": pair_nights(new, kept_new, old, kept_old, bootstrap),
    }


def list_other_asking(new: Night, old: Night) -> list[dict[str, Any]]:
    """Return {setting, old, new} for everything in which the two rows were asked differently; None: not declared."""
    names = sorted(new.asked.keys() | old.asked.keys())
    pairs = [{"setting": name, "old": old.asked.get(name), "new": new.asked.get(name)} for name in names]
    return [pair for pair in pairs if pair["old"] != pair["new"]]


def _describe(night: Night, kept: Items, bootstrap: Bootstrap) -> dict[str, Any]:
    return {
        "run_id": night.run_id,
        "model": night.model,
        "model_digest": night.model_digest,
        "taxonomy_digest": night.taxonomy.digest,
        "all": score_items(night.items, bootstrap),
        "shared": score_items(kept, bootstrap),
    }


def score_items(items: Items, bootstrap: Bootstrap) -> dict[str, Any]:
    """Compute the F1 averages with their intervals.

    Returns:
        `f1` by average as `{value, low, high}`; `num_comments`; `num_labelled`, the comments with a gold label (the others
        count in the `samples` average as 1 if nothing is predicted either); gold and predicted labels.
    """
    counts = count_labels(items.predicted, items.gold)
    scores, ends = score_labels(counts), bootstrap_scores(counts, bootstrap)
    return {
        "num_comments": len(items.gold),
        "num_labelled": sum(map(bool, items.gold)),
        "num_gold": sum(map(len, items.gold)),
        "num_predicted": sum(map(len, items.predicted)),
        "f1": {
            average: {
                "value": float(scores[average][0, 2]),
                "low": ends[average]["f1"][0],
                "high": ends[average]["f1"][1],
            }
            for average in AVERAGES
        },
    }


def pair_nights(new: Night, kept_new: Items, old: Night, kept_old: Items, bootstrap: Bootstrap) -> dict[str, Any]:
    """Compare F1 on the comments that both nights asked: the same id and the same text.

    Returns:
        `f1` by average as the difference new minus old (None without a common comment); how many comments are paired, have one
        id but two texts, or other gold labels on the two nights.
    """
    ids = new.items.ids[VOC]
    rows = {name: row for row, name in enumerate(old.items.ids[VOC])}
    pairs = [(row, rows[name]) for row, name in enumerate(ids) if _is_same(new, old, name) and name in rows]
    mine = _count_rows(kept_new, [row for row, _ in pairs])
    other = _count_rows(kept_old, [row for _, row in pairs])
    return {
        "num_comments": len(pairs),
        "num_other_text": sum(name in rows and not _is_same(new, old, name) for name in ids),
        "num_other_gold": sum(kept_new.gold[row] != kept_old.gold[before] for row, before in pairs),
        "f1": {average: compare_f1(mine, other, average, bootstrap).to_json() for average in AVERAGES}
        if pairs
        else None,
    }


def _is_same(new: Night, old: Night, name: str) -> bool:
    return new.comments[name] == old.comments.get(name)


def _count_rows(items: Items, rows: Sequence[int]) -> LabelCounts:
    return count_labels([items.predicted[row] for row in rows], [items.gold[row] for row in rows])


def restrict_items(items: Items, shared: Mapping[NodePath, LabelPath]) -> Items:
    """Keep the shared leaves of every comment, gold and predicted, under their paths in the later taxonomy.

    No comment is dropped, so two nights stay paired. A comment may lose all of its gold labels; the `samples` average then gives
    it 1 if nothing is predicted either. Invented labels are nobody's leaves and go too: these figures are for comparing nights,
    not for judging one.

    Args:
        items: One model's items.
        shared: Path in the later taxonomy by path in the taxonomy of `items`; for items of the later taxonomy itself
            `{leaf: leaf for leaf in shared.values()}`.
    """
    return replace(
        items,
        gold=[restrict_to(labels, shared) for labels in items.gold],
        predicted=[restrict_to(labels, shared) for labels in items.predicted],
    )


def format_comparison(comparison: Mapping[str, Any]) -> str:
    """Return what is compared, the F1 table, and the paired difference or why there is none."""
    head = [f"{name}: run {comparison[name]['run_id']}, model {comparison[name]['model']}" for name in ("old", "new")]
    changes = comparison["changes"] or "none given, so a leaf is shared only under the same path"
    leaves = comparison["leaves"]
    parts = [
        "\n".join(
            [*head, *_describe_asking(comparison), f"changes of the taxonomy: {changes}", *_describe_leaves(leaves)]
        ),
        f"F1 with {comparison['confidence']:.0%} intervals\n{format_columns(_figure_rows(comparison), num_text_columns=2)}",
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
            figures = [_format_interval(scores["f1"][average]) for average in averages]
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


def _format_interval(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
