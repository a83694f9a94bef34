"""The sentences without which the report's table would be read wrongly. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from voc.run import Run


def write_notes(run: Run, results: dict[str, dict[str, Any]], data: dict[str, Any]) -> list[str]:
    """Return the sentences without which the table would be read wrongly."""
    config = run.config
    optimizer = config.training.optimizer
    rates = f"AdamW {optimizer.learning_rate:g}"
    if optimizer.name == "muon":
        rates = f"Muon {optimizer.muon_learning_rate:g} on the matrices, AdamW {optimizer.learning_rate:g} on the rest"
    notes = [
        "How far a model that is tuned on customer data alone collapses depends on optimizer and learning rate, not on the "
        f"data alone: here {rates}, {config.training.max_steps} steps of {config.training.global_batch_size} "
        f"{config.training.batch_unit}. Other rates give other tables.",
        f"This is one run with one seed ({config.seed}). The spread over seeds can be larger than the intervals, which only "
        "say what other test items would change: do not quote a single seed as the number.",
        f"VOC precision, recall and F1 are {config.decision.voc_average} averages over full label paths. The other averages "
        "are below; rows from other sources can only be compared in the same average.",
        "Log-likelihood asks which letter is most likely and cannot see a lost answer format; the generative protocol wants "
        "the closing sentence word for word and cannot tell a lost format from lost knowledge. Their difference against the "
        "base is the format tax.",
        "The look-up floor predicts the majority label of every training segment that occurs word for word in a comment: "
        "what memory alone reaches.",
        *describe_prompts(config.prompt.variant, results),
    ]
    repeated = count_leaked_rows(data)
    if repeated:
        notes.append(
            f"{repeated} training comments are in the test set, word for word or nearly: VOC figures are too good by them."
        )
    cut = {r["model"]["title"]: sum(r["cut_prompts"].values()) for r in results.values()}
    if any(cut.values()):
        shown = ", ".join(f"{title} {count}" for title, count in cut.items() if count)
        notes.append(f"Prompts that did not fit the model's context (serving.max_model_len): {shown}.")
    written = {r["model"]["title"]: r["general"]["generative_strict"] for r in results.values()}
    below = [title for title, reading in written.items() if reading and reading["below_chance"]]
    if below:
        notes.append(
            f"Below chance in the generative protocol: {', '.join(below)}. Guessing would do better, so this is a failure of "
            "form; read it together with the log-likelihood and the schema-leak rate."
        )
    return notes


def describe_prompts(variant: str, results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return which prompt the models got, and which rows were asked in other words."""
    others = [r["model"]["title"] for r in results.values() if r["voc"]["prompt"]["variant"] != variant]
    if not others:
        return [f"All models got the {variant} prompt."]
    return [
        f"The models got the {variant} prompt, but {', '.join(others)} answered in an evaluation of the service's own, to "
        "other words: those rows are not comparable without that in mind."
    ]


def count_leaked_rows(data: Mapping[str, Any]) -> int:
    """Return how many training rows repeat a test row and were trained on nevertheless."""
    kinds = ("leakage_exact", "leakage_near")
    duplicates = data["duplicates"]
    found, dropped = (
        sum(counts.get(kind, 0) for counts in duplicates[part].values() for kind in kinds)
        for part in ("found", "dropped")
    )
    return int(found - dropped)
