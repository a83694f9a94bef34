"""What a suite is to everybody else: planned, asked in shards, checked, measured, shown and gated on through these names only.

An object of the registry is one `Suite`; it plans one or several suites of a configuration, each with a name that is part of
object keys (`voc`; `mmlu_generative`; `lm_eval_ifeval`). The DAGs plan with it, so this module and the module of the object
import nothing heavy: numpy, pyarrow and lm_eval are imported inside methods. What a suite does not need it inherits.

Who calls what, in the order of the pipeline:

| Stage | Calls |
|---|---|
| preflight | `list_checks`, `list_metrics` |
| DAG | `plan` |
| wait, connect | `warm_up`, `import_answers` |
| the command of a shard | `commands`, each of which ends in `evaluation.shards.shard.run_shard` |
| gather | `load_questions`, `expect`, `list_problems`, `measure`, `pick_examples`, `list_items` |
| decide | `list_gates`, `read_value`, `compare` |
| report | `report`: a `ReportPart` |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from voc.arguments import RUN_ARGUMENTS, Command, argument
from voc.config.night import DecisionConfig, NightforgeConfig
from voc.run import ModelEntry, ModelKind, Run
from voc.store.manifest import Manifest

if TYPE_CHECKING:
    from evaluation.intervals import Bootstrap, PairedDifference
    from evaluation.items import Items

BASE = "base"
IMPORTED: ModelKind = "imported"
Line = dict[str, Any]
# One check of preflight: its subject, what is called, and with what; it raises a `VocError` or returns a value and a sentence.
PreflightCheck = tuple[str, Callable[..., tuple[Any, str]], tuple[Any, ...]]
Rule = Literal[">", ">=", "<="]
MODEL_ARGUMENT = argument("--model", required=True, help="name of a model in the run's models.json")
# What every command that asks a shard takes.
SHARD_ARGUMENTS = (
    argument("--shard", type=int, default=0, help="which shard, from 0"),
    argument("--num-shards", type=int, default=1, help="how many shards share the items"),
)
COMMAND_ARGUMENTS = (*RUN_ARGUMENTS, MODEL_ARGUMENT, *SHARD_ARGUMENTS)


MAX_EXAMPLES = 2  # raw answers of each kind
MAX_CHARACTERS = 600


def cut_text(text: str) -> str:
    """Return a raw answer as it is shown: its first 600 characters, and how long it was."""
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]} [cut: {len(text)} characters]"


@dataclass(frozen=True, slots=True)
class PlannedSuite:
    """One suite of a configuration: what is asked of every model whose kind it can measure.

    Attributes:
        name: Part of object keys, task ids and tables.
        num_shards: How many jobs share its items.
        command: The command of `python -m evaluation` that asks one shard.
        options: What the command is told beside run, model and shard.
        file_name: File of the lines in a shard's directory.
        kinds: Whom it can measure. A closed model scores no given tokens and takes no list of allowed answers; answers that
            were given elsewhere are imported and never asked for.
    """

    name: str
    num_shards: int
    command: str
    options: tuple[str, ...] = ()
    file_name: str = "samples.jsonl"
    kinds: frozenset[ModelKind] = frozenset({"vllm"})

    def measures(self, entry: ModelEntry) -> bool:
        """Tell whether this suite is part of a model's row."""
        return entry.kind in self.kinds

    def explain_skip(self, entry: ModelEntry) -> str | None:
        """Return why a model has nothing to answer, or None if it has."""
        if entry.kind == IMPORTED:
            return f"{self.name} {entry.name}: its answers are imported, nothing to ask"
        if not self.measures(entry):
            return f"{self.name} {entry.name}: a model of the kind {entry.kind} cannot be measured so"
        return None


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that a planned suite offers.

    Attributes:
        suite: Name of the planned suite.
        name: The figure, as configurations name it.
        higher_is_better: Its direction.
        unit: `ratio` (0 to 1), or what else it counts.
        interval: How its interval is made.
        paired: Whether two models can be compared in it item by item, so that it can be gated on by name.
    """

    suite: str
    name: str
    higher_is_better: bool = True
    unit: str = "ratio"
    interval: Literal["wilson", "bootstrap"] = "wilson"
    paired: bool = True


@dataclass(frozen=True, slots=True)
class Gate:
    """A limit that a candidate must keep.

    Attributes:
        suite: Name of the planned suite.
        metric: Which of its figures.
        title: What the check is called; a comparison adds the reference's name.
        limit: A change for comparisons, else a figure.
        rule: On which side of the limit the whole interval must be.
        against: Whose figure it is compared with; `base`: the champion's comparison is shown and does not bind; None: nobody's.
        higher_is_better: Whether a gain is the candidate's figure minus the reference's, else the other way round.
    """

    suite: str
    metric: str
    title: str
    limit: float
    rule: Rule
    against: Literal["base", "references"] | None
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Value:
    """One model's figure; `count` of `n` items where it is a share."""

    value: float
    n: int
    count: int | None = None

    @classmethod
    def of_share(cls, share: Mapping[str, Any]) -> Value:
        """Return a share as results keep it: `{ratio, count, n}`."""
        return cls(share["count"] / share["n"], share["n"], share["count"])


@dataclass(frozen=True, slots=True)
class ModelAnswers:
    """One model's lines, in the order of the questions, and the manifests of the shards that they come from.

    Attributes:
        entry: The model.
        digest: Of what was measured.
        lines: Per planned suite; none of one that cannot measure the model.
        shards: Likewise.
        num_expected: How many items each suite expects that knows them beforehand.
    """

    entry: ModelEntry
    digest: str
    lines: Mapping[str, Sequence[Line]]
    shards: Mapping[str, Sequence[Manifest]] = field(default_factory=dict)
    num_expected: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the study's table, which stands in page, text and history.

    Attributes:
        figure: The figure of a row that it shows.
        suite: The planned suite that the figure is measured in.
        group: Heading over it and its neighbours of the same group.
        title: Its heading below that.
        full_title: Its heading where no group stands over it.
        short_title: Its heading in a terminal.
        n: Items behind every figure.
        unit: What the items are, in the plural.
        note: What else must be known of the group's figures, such as an average.
        is_main: Set in bold. What no row beats in the first two main columns is the frontier.
        has_interval: Whether a terminal has room for its interval.
    """

    figure: str
    suite: str
    group: str
    title: str
    full_title: str
    short_title: str
    n: int
    unit: str
    note: str = ""
    is_main: bool = False
    has_interval: bool = True


@dataclass(frozen=True, slots=True)
class Yardstick:
    """A row below the models' that figures are held against, such as chance; a value by figure."""

    title: str
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page.

    Attributes:
        name: Its id; the template is `<name>.html.j2` in the folder of the part.
        title: What the navigation calls it.
        is_above_notes: Whether it belongs to what is read first.
    """

    name: str
    title: str
    is_above_notes: bool = False


class ReportPart:
    """What a suite says in the report. Pure: it gets what `results.json` holds and returns what `report.json` holds.

    Attributes:
        figures: Per planned suite, the figures of a row that come from it: rows of other nights are compared suite by suite.
        titles: What tables call its planned suites.
        example_titles: What the page calls the kinds of its examples.
        templates: Folder of its sections' templates.
        page_values: What its templates use beside `report`, `table` and `models`.
    """

    figures: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    titles: ClassVar[Mapping[str, str]] = {}
    example_titles: ClassVar[Mapping[str, str]] = {}
    templates: ClassVar[Path | None] = None
    page_values: ClassVar[Mapping[str, Any]] = {}

    def build_figures(self, results: Mapping[str, Any], decision: DecisionConfig) -> dict[str, Any]:
        """Return a model's figures of the row, `{value, low, high, n}` each; None where one was not measured.

        `below_chance` may list those whose whole interval is below what guessing reaches; they are marked.
        """
        return {}

    def describe_table(self, results: Mapping[str, Any], decision: DecisionConfig) -> dict[str, Any]:
        """Return what the table's figures are held against, from the first model's results."""
        return {}

    def list_columns(self, results: Mapping[str, Any], decision: DecisionConfig) -> Sequence[Column]:
        """Return its columns of the study's table, from the first model's results."""
        return ()

    def list_yardsticks(self, results: Mapping[str, Any], decision: DecisionConfig) -> Sequence[Yardstick]:
        """Return the rows below the table, from the first model's results."""
        return ()

    def build_views(self, results: Mapping[str, Mapping[str, Any]], decision: DecisionConfig) -> dict[str, Any]:
        """Return further keys of `report.json`, from the results of all models by name, in their order."""
        return {}

    def list_sections(self, results: Mapping[str, Mapping[str, Any]]) -> Sequence[Section]:
        """Return its sections of the page, in their order."""
        return ()

    def write_notes(self, results: Mapping[str, Mapping[str, Any]], config: NightforgeConfig) -> list[str]:
        """Return the sentences without which its figures would be read wrongly."""
        return []

    def describe_settings(self, config: NightforgeConfig) -> dict[str, Any]:
        """Return the settings that a reader of its figures needs: keys of `run` in `report.json`."""
        return {}

    def write_settings(self, config: NightforgeConfig) -> list[str]:
        """Return the same in words, for the foot of the page."""
        return []


class Suite:
    """One suite, or several that are asked and measured together.

    Attributes:
        name: Its name in the registry.
        commands: What `python -m evaluation` learns from it: how one shard is asked.
    """

    name: ClassVar[str]
    commands: ClassVar[Mapping[str, Command]]

    @property
    def report(self) -> ReportPart:
        """Its part of the report."""
        return ReportPart()

    def plan(self, config: NightforgeConfig) -> tuple[PlannedSuite, ...]:
        """Return the suites of a configuration, in the order of tables. Light."""
        raise NotImplementedError

    def list_checks(self, config: NightforgeConfig) -> Sequence[PreflightCheck]:
        """Return what must be checked before a night starts, in the Airflow environment too."""
        return ()

    def list_metrics(self, config: NightforgeConfig, suite: str) -> Sequence[Metric] | None:
        """Return the figures that a planned suite offers; None if only its first shard can tell. Light."""
        return ()

    def list_gates(self, config: NightforgeConfig) -> Sequence[Gate]:
        """Return the limits that the decision section states for this suite beside `decision.metrics`. Light."""
        return ()

    def warm_up(self, run: Run, model: str) -> None:
        """Ask a served model what makes the shards cheaper that are about to start; a failure is logged and nothing else."""

    def import_answers(self, run: Run, entry: ModelEntry, uri: str) -> None:
        """Write answers that were given elsewhere as finished shards; nothing if this suite knows no such file."""

    def load_questions(self, run: Run) -> Any:
        """Return what every model is asked; only this suite looks inside."""

    def expect(
        self, questions: Any, suite: str, entry: ModelEntry, shards: Sequence[Manifest]
    ) -> Mapping[str, str] | None:
        """Return the prompt hash of every expected item id of a planned suite; None if `list_problems` compares models instead.

        Raises:
            IntegrityError: If a shard was asked in another way than this run asks.
        """
        raise NotImplementedError

    def list_problems(self, config: NightforgeConfig, answers: Sequence[ModelAnswers]) -> list[str]:
        """Return why the answers of all models together, the base first, cannot be compared, a sentence each."""
        return []

    def measure(self, run: Run, questions: Any, answers: ModelAnswers, base: ModelAnswers) -> dict[str, Any]:
        """Return this suite's keys of `results.json`; figures that the model's kind cannot show are null."""
        raise NotImplementedError

    def pick_examples(self, questions: Any, answers: ModelAnswers) -> list[dict[str, Any]]:
        """Return a few telling raw answers: kind, suite, custom_id, question, expected, text."""
        return []

    def list_items(self, questions: Any, answers: ModelAnswers) -> list[dict[str, Any]]:
        """Return the rows of `items.parquet`: columns of `evaluation.items.SCHEMA`, other figures of an item under `metrics`."""
        raise NotImplementedError

    def read_value(self, suite: str, metric: str, results: Mapping[str, Any]) -> Value:
        """Return one model's figure from its `results.json`."""
        raise NotImplementedError

    def compare(self, suite: str, metric: str, items: Items, other: Items, bootstrap: Bootstrap) -> PairedDifference:
        """Return the difference of a paired figure, candidate minus reference, over the same items."""
        from evaluation.intervals import compare_values

        mine, reference = (side.values(suite, metric) for side in (items, other))
        return compare_values(mine, reference, bootstrap)
