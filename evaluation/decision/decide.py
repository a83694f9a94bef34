"""Compare every candidate with every reference, item by item, and write the verdict with its reasons.

    python -m evaluation decide --store-uri URI --run-id ID

Reads: models.json, evaluation/<model>/results/ of every model, the champion log.
Writes: decision.json {verdict, promoted, candidates, references, thresholds, champion_number, inputs_hash, ...}.

Binding checks of a candidate: VOC F1 gain over every reference; accuracy against the base in both general protocols (the
champion's is shown, but a loss there is bounded by the base already); schema leaks; unreadable VOC answers; every figure that
`decision.metrics` names, against the base; and that the champion is still the one that was compared. Of several GO the one
with the highest VOC F1 is selected (the key `promoted` of the file): whether it becomes the champion is up to `promote`.
"""

from __future__ import annotations

import json

from evaluation.decision.gate import Check, check_change, check_share, conclude
from evaluation.intervals import Bootstrap, bonferroni_confidence
from evaluation.items import ITEMS_NAME, Items, check_pairing, read_items
from evaluation.results.decided import Candidate, Decision, JudgedModel, Verdict, read_decision
from evaluation.results.gathered import read_results
from evaluation.suites.protocol import BASE
from evaluation.suites.registry import find_suite, list_gates
from voc.config.file import hash_config
from voc.errors import ConfigError
from voc.run import ModelEntry, Run, read_models
from voc.store.champion import last_number, read_champion
from voc.store.manifest import digest_json, verify_directory

DECISION_FORMAT = "nightforge/decision/1"
RANKING = "voc"  # of several that go, the suite whose F1 selects
METHOD = (
    "VOC F1: paired bootstrap over comments, percentile interval. Accuracies: Newcombe's paired score interval with "
    "McNemar's exact p-value. Shares: Wilson interval. Every binding check must hold with its whole interval."
)


def decide(run: Run) -> Decision:
    """Return the decision, and write it unless the same inputs were decided before.

    Raises:
        CoverageError: If two models did not answer the same items.
        IntegrityError: If a model's results are missing or damaged.
        ConfigError: If the run has no candidate or no base.
    """
    models = read_models(run)
    candidates = [model for model in models if model.role == "candidate"]
    references = [model for model in models if model.role == "reference"]
    if not candidates or BASE not in {model.name for model in references}:
        raise ConfigError(
            f"models.json lists {', '.join(model.name for model in models) or 'no model'}",
            expected=f"the reference {BASE!r} and at least one candidate",
            remedy="run prepare again",
        )
    digests = {m.name: verify_directory(run.store, run.layout.results(m.name)).digest for m in models}
    inputs_hash = digest_json([DECISION_FORMAT, hash_config(run.config), digests])
    earlier = read_decision(run)
    if earlier is not None and earlier["inputs_hash"] == inputs_hash:
        print("decide: this was decided before, from the same results", flush=True)
        return earlier
    with run.timed("decide"):
        decision = _decide(run, candidates, references, inputs_hash)
        run.store.write_bytes(run.layout.decision, json.dumps(decision, indent=1, ensure_ascii=False).encode())
    return decision


def _decide(run: Run, candidates: list[ModelEntry], references: list[ModelEntry], inputs_hash: str) -> Decision:
    config = run.config.decision
    number = last_number(run.store)
    confidence = bonferroni_confidence(config.confidence, len(candidates))
    items = {m.name: _read_items(run, m.name) for m in (*references, *candidates)}
    outdated = _explain_outdated(run, references)
    judged = [_judge(run, model, references, items, confidence=confidence, outdated=outdated) for model in candidates]
    going = [candidate for candidate in judged if candidate["verdict"] == "GO"]
    selected = max(going, key=lambda candidate: candidate["voc_f1"], default=None)
    verdicts: list[Verdict] = [candidate["verdict"] for candidate in judged]
    return {
        "format": DECISION_FORMAT,
        "verdict": "GO" if selected else "INCONCLUSIVE" if "INCONCLUSIVE" in verdicts else "NO-GO",
        "promoted": selected["name"] if selected else None,
        "candidates": judged,
        "references": [_describe(run, model) for model in references],
        "thresholds": config.model_dump(mode="json"),
        "confidence_per_interval": confidence,
        "multiplicity": f"Bonferroni over {len(candidates)} candidates; checks of one candidate must all hold, so they need none",
        "method": METHOD,
        "champion_number": number,
        "inputs_hash": inputs_hash,
    }


def _read_items(run: Run, model: str) -> Items:
    return read_items(run.store.read_bytes(f"{run.layout.results(model)}/{ITEMS_NAME}"))


def _describe(run: Run, model: ModelEntry) -> JudgedModel:
    results = read_results(run, model.name)
    f1 = find_suite(run.config, RANKING).read_value(RANKING, f"{run.config.decision.voc_average}_f1", results).value
    measured = results["model"]
    return {
        "name": model.name,
        "title": model.title,
        "uri": measured["uri"],
        "digest": measured["digest"],
        "voc_f1": f1,
    }


def _explain_outdated(run: Run, references: list[ModelEntry]) -> str | None:
    """Return why the comparison is out of date, or None."""
    champion = read_champion(run.store)
    if champion is None or champion.model_digest in {model.digest for model in references}:
        return None
    return (
        f"the champion is now {champion.candidate} of run {champion.run_id}, promoted {champion.promoted_at}: this run "
        f"compared with {', '.join(model.name for model in references)} only, so a new run is needed"
    )


def _judge(
    run: Run,
    model: ModelEntry,
    references: list[ModelEntry],
    items: dict[str, Items],
    *,
    confidence: float,
    outdated: str | None,
) -> Candidate:
    config, results = run.config, read_results(run, model.name)
    mine = items[model.name]
    bootstrap = Bootstrap(config.evaluation.bootstrap_resamples, confidence, config.seed)
    gates = list_gates(config)
    checks: list[Check] = []
    for reference in references:
        other = items[reference.name]
        check_pairing(model.name, mine, reference.name, other)
        for gate in gates:
            if gate.against is not None:
                sides = (mine, other) if gate.higher_is_better else (other, mine)
                difference = find_suite(config, gate.suite).compare(gate.suite, gate.metric, *sides, bootstrap)
                binding = gate.against == "references" or reference.name == BASE
                checks.append(check_change(gate, reference.name, difference, binding=binding))
    for gate in sorted((gate for gate in gates if gate.against is None), key=lambda gate: gate.title):
        value = find_suite(config, gate.suite).read_value(gate.suite, gate.metric, results)
        checks.append(check_share(gate.title, value, gate.limit, confidence=confidence))
    verdict = conclude(checks)
    if verdict == "GO" and outdated:
        verdict = "INCONCLUSIVE"
    wanted = {"GO": "pass", "NO-GO": "fail", "INCONCLUSIVE": "open"}[verdict]
    reasons = [check.reason for check in checks if check.binding and check.outcome == wanted]
    return {
        **_describe(run, model),
        "verdict": verdict,
        "reasons": [*reasons, *([outdated] if outdated else [])],
        "checks": [check.to_json() for check in checks],
    }
