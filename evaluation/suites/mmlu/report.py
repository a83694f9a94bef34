"""MMLU's part of the report: the four readings, leaks, what was lost against the base, slices. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from evaluation.suites.protocol import Column, ReportPart, Section, Yardstick
from voc.config.night import DecisionConfig, NightforgeConfig

READINGS = ("log_likelihood", "generative_strict", "generative_lenient", "letter_constrained")


class MmluReport(ReportPart):
    """Accuracies of the readings and what their differences say."""

    figures: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "mmlu_log_likelihood": ("log_likelihood",),
        "mmlu_generative": ("generative_strict", "generative_lenient", "schema_leak"),
        "mmlu_letter": ("letter_constrained",),
    }
    titles: ClassVar[Mapping[str, str]] = {
        "mmlu_log_likelihood": "log-likelihood",
        "mmlu_generative": "generative",
        "mmlu_letter": "letter-constrained",
    }
    example_titles: ClassVar[Mapping[str, str]] = {
        "schema_leak": "Question answered in VOC JSON",
        "no_closing_sentence": "No closing sentence",
        "wrong_answer": "Wrong letter",
        "wrong_letter": "Wrong letter",
        "no_letter": "No letter in the answer",
        "other_form": "Right or wrong, in another form",
        "refusal": "Declined to answer",
        "truncated": "Cut at the longest length",
        "empty": "Empty answer",
        "forgotten": "The base knows it, this model does not",
    }
    templates: ClassVar[Path | None] = Path(__file__).parent / "templates"
    page_values: ClassVar[Mapping[str, Any]] = {
        "readings": READINGS,
        "reading_titles": {
            "log_likelihood": "log-likelihood",
            "generative_strict": "generative, strict",
            "generative_lenient": "generative, lenient",
            "letter_constrained": "letter-constrained",
        },
        "cause_classes": {"none": "go", "unclear": ""},  # every other cause is a loss
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

    def list_columns(self, results: Mapping[str, Any], decision: DecisionConfig) -> Sequence[Column]:
        """Return what is known, what is written, and how much of it leaks."""
        columns = (
            ("log_likelihood", "mmlu_log_likelihood", "Log-likelihood", "log-likelihood"),
            ("generative_strict", "mmlu_generative", "Generative, strict", "generative"),
            ("schema_leak", "mmlu_generative", "Schema leak", "schema leak"),
        )
        return [
            Column(
                figure=figure,
                suite=suite,
                group="General questions",
                title=title,
                full_title=title,
                short_title=short,
                n=results["general"]["generative_strict"]["n"],
                unit="questions",
                is_main=figure == "generative_strict",
                has_interval=figure != "schema_leak",
            )
            for figure, suite, title, short in columns
        ]

    def list_yardsticks(self, results: Mapping[str, Any], decision: DecisionConfig) -> Sequence[Yardstick]:
        """Return what guessing reaches."""
        chance = results["general"]["chance"]
        return [Yardstick("chance", {"log_likelihood": chance, "generative_strict": chance})]

    def list_sections(self, results: Mapping[str, Mapping[str, Any]]) -> Sequence[Section]:
        """Return which kind of loss it is."""
        return [Section("general", "Kind of loss", is_above_notes=True)]

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

    def describe_settings(self, config: NightforgeConfig) -> dict[str, Any]:
        """Return the questions and the number of examples before each."""
        suite = config.evaluation.mmlu
        return {"mmlu_dataset": suite.dataset, "mmlu_num_fewshot": suite.num_fewshot}

    def write_settings(self, config: NightforgeConfig) -> list[str]:
        """Return the same in words."""
        suite = config.evaluation.mmlu
        return [f"questions {suite.dataset}, {suite.num_fewshot} examples before each log-likelihood question"]


def _accuracy(reading: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return _to_figure(reading["accuracy"], reading["interval"], reading["n"]) if reading else None


def _to_figure(value: float | None, interval: Sequence[float], n: int) -> dict[str, Any]:
    return {"value": value, "low": interval[0], "high": interval[1], "n": n}
