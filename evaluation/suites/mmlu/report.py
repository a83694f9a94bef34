"""MMLU's part of the report: the four readings, leaks, what was lost against the base, slices. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from evaluation.suites.protocol import ReportPart
from voc.config.night import DecisionConfig, NightforgeConfig

READINGS = ("log_likelihood", "generative_strict", "generative_lenient", "letter_constrained")


class MmluReport(ReportPart):
    """Accuracies of the readings and what their differences say."""

    figures: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "mmlu_log_likelihood": ("log_likelihood",),
        "mmlu_generative": ("generative_strict", "generative_lenient", "schema_leak"),
        "mmlu_letter": ("letter_constrained",),
    }

    def build_figures(self, results: Mapping[str, Any], decision: DecisionConfig) -> dict[str, Any]:
        """Return the readings, the leaks, format tax and knowledge change; None for what a model's kind cannot show."""
        general = results["general"]
        leak, change = general["schema_leak"], general["against_base"]
        return {
            **{name: _accuracy(general.get(name)) for name in READINGS},
            "schema_leak": _to_figure(leak["ratio"], leak["interval"], leak["n"]) if leak else None,
            **{
                name: {end: change[name][end] for end in ("value", "low", "high")} if change else None
                for name in ("format_tax", "knowledge_change")
            },
            "below_chance": [name for name in READINGS if (general.get(name) or {}).get("below_chance")],
        }

    def describe_table(self, results: Mapping[str, Any], decision: DecisionConfig) -> dict[str, Any]:
        """Return the number of questions, and what guessing reaches."""
        general = results["general"]
        return {"num_questions": general["generative_strict"]["n"], "chance": general["chance"]}

    def build_views(self, results: Mapping[str, Mapping[str, Any]], decision: DecisionConfig) -> dict[str, Any]:
        """Return one row per model and slice of the questions, both protocols side by side; none without slices."""
        rows = []
        for result in results.values():
            model, general = result["model"], result["general"]
            if general["log_likelihood"] is None:  # of an external model
                continue
            for name, known in general["log_likelihood"]["slices"].items():
                rows.append(
                    {
                        "slice": name,
                        "model": model["name"],
                        "title": model["title"],
                        "n": known["n"],
                        "log_likelihood": _accuracy(known),
                        "generative_strict": _accuracy(general["generative_strict"]["slices"][name]),
                    }
                )
        return {"slices": rows}

    def write_notes(self, results: Mapping[str, Mapping[str, Any]], config: NightforgeConfig) -> list[str]:
        """Return how the two protocols are read together, and who is below chance."""
        notes = [
            "Log-likelihood asks which letter is most likely and cannot see a lost answer format; the generative protocol "
            "wants the closing sentence word for word and cannot tell a lost format from lost knowledge. Their difference "
            "against the base is the format tax."
        ]
        written = {r["model"]["title"]: r["general"]["generative_strict"] for r in results.values()}
        below = [title for title, reading in written.items() if reading and reading["below_chance"]]
        if below:
            notes.append(
                f"Below chance in the generative protocol: {', '.join(below)}. Guessing would do better, so this is a failure "
                "of form; read it together with the log-likelihood and the schema-leak rate."
            )
        return notes


def _accuracy(reading: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return _to_figure(reading["accuracy"], reading["interval"], reading["n"]) if reading else None


def _to_figure(value: float | None, interval: Sequence[float], n: int) -> dict[str, Any]:
    return {"value": value, "low": interval[0], "high": interval[1], "n": n}
