"""The one configuration tree: what a night does, from data to promotion.

Read from YAML (`configs/*.yaml`), checked as a whole (all mistakes at once, with file and key path), saved as JSON in the
run it made. `${NAME}` and `${NAME:-default}` in any string take the environment's value, so that addresses differ between
a laptop and a cluster and nothing else does.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from voc.config.arms import ArmConfig, derive_arm
from voc.config.data import DataConfig, Name, PositiveInt, Ratio, Section, SourceConfig
from voc.config.external import ExternalModelsConfig
from voc.config.serving import ServingConfig
from voc.config.training import TrainingConfig

Scoring = Literal["auto", "logprob_token_ids", "top_logprobs", "echo"]
DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


class StoreConfig(Section):
    """Where the stages meet."""

    uri: str = Field(description="file:///folder or s3://bucket/prefix; everything a run writes is below it")


class ModelConfig(Section):
    """The model that every arm starts from, which is also the first reference."""

    base: str = Field(description="path or URI of a folder in the Hugging Face layout")


class PromptConfig(Section):
    """How a comment becomes a prompt."""

    variant: Literal["internalized", "taxonomy"] = Field(
        "internalized", description="internalized: no label list (tuned models); taxonomy: all leaves in the prompt"
    )


class ExtraModelConfig(Section):
    """A model that is evaluated but not trained here."""

    name: Name = Field(description="part of object keys")
    title: str = Field(description="how tables call it")
    uri: str = Field(description="path or URI of a folder in the Hugging Face layout")


class VocSuiteConfig(Section):
    """The Voice-of-Customer test set."""

    shards: PositiveInt = Field(1, description="tasks that share the items of this suite")
    limit: PositiveInt | None = Field(None, description="only the first items; unset: all")
    max_tokens: PositiveInt = Field(1024, description="longest answer")
    structured_output: bool = Field(False, description="constrain answers to the taxonomy's JSON schema")
    concurrency: PositiveInt = Field(64, description="requests of one shard in flight")


class MmluSuiteConfig(Section):
    """Multiple-choice questions in the layout of cais/mmlu, through lm-eval."""

    dataset: str = Field(description="folder or URI with dev.parquet and test.parquet, or a hub dataset id (cais/mmlu)")
    shards: PositiveInt = Field(1, description="tasks that share the items of each protocol")
    limit: PositiveInt | None = Field(None, description="only the first items; unset: all")
    num_fewshot: int = Field(0, ge=0, le=5, description="examples before each log-likelihood question")
    scoring: Scoring = Field(
        "auto",
        description="how log-likelihoods are got; auto: the first that server and tokenizer allow. All models that are "
        "compared must be scored in one way",
    )
    system_prompt: str | None = Field(None, description="system turn of the chats (generative, letter); unset: none")
    max_tokens: PositiveInt = Field(512, description="longest generative answer")
    concurrency: PositiveInt = Field(64, description="requests of one shard in flight")


class LmEvalTaskConfig(Section):
    """An lm-eval task that is measured on every model beside MMLU: IFEval, or any other, by its name."""

    name: Name = Field(description="part of object keys, task ids and tables")
    task: str | None = Field(None, description="lm-eval's name of a task or group; unset: the name above")
    folder: str | None = Field(
        None, description="path or URI of a folder with task files of your own; unset: lm-eval's"
    )
    data_files: dict[str, str] = Field(
        {},
        description="split: path or URI of a .jsonl, .json, .csv or .parquet file that takes the place of the task's hub "
        "data set (single tasks only); IFEval's split is train",
    )
    num_fewshot: int | None = Field(None, ge=0, description="examples before each question; unset: the task's own")
    limit: PositiveInt | None = Field(None, description="only the first questions of every task; unset: all")
    max_tokens: PositiveInt | None = Field(None, description="longest answer; unset: the task's own")
    shards: PositiveInt = Field(1, description="jobs that share the questions")
    concurrency: PositiveInt = Field(64, description="requests of one shard in flight")
    scoring: Scoring | None = Field(
        None, description="how log-likelihoods are got, of tasks that choose; unset: evaluation.mmlu.scoring"
    )

    @property
    def task_name(self) -> str:
        """lm-eval's name."""
        return self.task or self.name

    @model_validator(mode="after")
    def _check_files(self) -> LmEvalTaskConfig:
        suffixes = {next((s for s in DATA_SUFFIXES if uri.endswith(s)), None) for uri in self.data_files.values()}
        if None in suffixes or len(suffixes) > 1:
            raise ValueError(f"data_files must all end in one of {', '.join(DATA_SUFFIXES)}, the same one")
        return self


class EvaluationConfig(Section):
    """What is measured on every model."""

    voc: VocSuiteConfig
    mmlu: MmluSuiteConfig
    lm_eval_tasks: tuple[LmEvalTaskConfig, ...] = Field(
        (), description="further lm-eval tasks, such as ifeval; part of the decision where decision.metrics names them"
    )
    bootstrap_resamples: PositiveInt = Field(1000, description="resamples behind each interval")
    cache: bool = Field(
        True, description="take a shard from an earlier run of the store if everything that it depends on is the same"
    )

    @field_validator("lm_eval_tasks")
    @classmethod
    def _check_task_names(cls, tasks: tuple[LmEvalTaskConfig, ...]) -> tuple[LmEvalTaskConfig, ...]:
        if twice := _repeated([task.name for task in tasks]):
            raise ValueError("; ".join(f"{name!r} appears twice" for name in twice))
        return tasks

    def lm_eval_task(self, name: str) -> LmEvalTaskConfig:
        """Return the further task with this name.

        Raises:
            ValueError: If there is none.
        """
        for task in self.lm_eval_tasks:
            if task.name == name:
                return task
        raise ValueError(f"no task {name!r}; there are {', '.join(t.name for t in self.lm_eval_tasks) or 'none'}")


class GatedMetricConfig(Section):
    """A figure of a suite that a candidate may not lose, compared item by item with the base."""

    suite: str = Field(description="the suite's name as in object keys: lm_eval_ifeval, mmlu_letter")
    metric: str = Field(
        description="one of its figures; of an lm-eval task `metric,filter`: prompt_level_strict_acc,none"
    )
    max_loss: Ratio = Field(description="how much worse than the base it may be, with its whole interval")


class DecisionConfig(Section):
    """When a candidate is better."""

    voc_average: Literal["micro", "macro", "weighted", "samples"] = Field(
        "micro", description="the F1 average that decides"
    )
    min_voc_gain: float = Field(0.0, ge=-1, le=1, description="F1 gain over every reference that must be exceeded")
    max_general_drop: Ratio = Field(0.05, description="accuracy that may be lost against base, per protocol")
    max_schema_leak_ratio: Ratio = Field(0.02, description="share of general answers that may look like VOC JSON")
    max_parse_failure_ratio: Ratio = Field(0.05, description="share of VOC answers that may be unreadable")
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        0.95, description="two-sided confidence of the paired intervals"
    )
    metrics: tuple[GatedMetricConfig, ...] = Field(
        (), description="further figures that may not be lost, by name, beside the limits above"
    )


class PromotionConfig(Section):
    """What happens with a GO."""

    enabled: bool = Field(True, description="false: the champion log is never written")


class NightforgeConfig(Section):
    """A night."""

    name: Name = Field(description="name of this configuration, part of every run id")
    preset: str | None = Field(
        None,
        description="recipe of a model that the training section is laid over: a name of configs/models, or the path or URI "
        "of such a file; what comes out is what is saved with the run",
    )
    seed: int = Field(0, ge=0, description="seed of mixing, ordering and resampling")
    store: StoreConfig
    data: DataConfig
    model: ModelConfig
    prompt: PromptConfig = PromptConfig()
    arms: tuple[ArmConfig, ...] = Field((), description="the candidates to train")
    extra_models: tuple[ExtraModelConfig, ...] = Field((), description="further models to evaluate as candidates")
    external_models: ExternalModelsConfig = ExternalModelsConfig()
    training: TrainingConfig
    serving: ServingConfig
    evaluation: EvaluationConfig
    decision: DecisionConfig = DecisionConfig()
    promotion: PromotionConfig = PromotionConfig()

    @field_validator("arms")
    @classmethod
    def _derive_sources(cls, arms: tuple[ArmConfig, ...], info: ValidationInfo) -> tuple[ArmConfig, ...]:
        data: DataConfig | None = info.data.get("data")  # None: its own mistakes are reported
        if data is None:
            return arms
        problems: list[str] = []
        derived = tuple(arm if arm.data_mixing is None else derive_arm(arm, data, problems) for arm in arms)
        if problems:
            raise ValueError("; ".join(problems))
        return derived

    @model_validator(mode="after")
    def _check_names(self) -> NightforgeConfig:
        sources = [source.name for source in self.data.sources]
        arms = [arm.name for arm in self.arms]
        problems = [f"data.sources: {n!r} appears twice" for n in _repeated(sources)]
        candidates = arms + [model.name for model in self.extra_models]
        names = candidates + [model.name for model in self.external_models.rows]
        problems += [f"arms, extra_models and external_models: {n!r} appears twice" for n in _repeated(names)]
        problems += [f"data.sources: the name {n!r} is reserved" for n in sources if n == "test"]
        problems += [
            f"arms, extra_models and external_models: {n!r} is reserved" for n in names if n in {"base", "champion"}
        ]
        if not candidates:
            problems.append("arms and extra_models are both empty: there is nothing to train and nothing to evaluate")
        for arm in self.arms:
            names = [source.name for source in arm.sources]
            problems += [f"arms.{arm.name}.sources: {n!r} appears twice" for n in _repeated(names)]
            problems += [
                f"arms.{arm.name}.sources: {n!r} is not one of data.sources ({', '.join(sources)})"
                for n in names
                if n not in sources
            ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def source(self, name: str) -> SourceConfig:
        """Return the source with this name (names were checked when the config was read)."""
        return next(source for source in self.data.sources if source.name == name)

    def arm(self, name: str) -> ArmConfig:
        """Return the arm with this name.

        Raises:
            ValueError: If there is none.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise ValueError(f"no arm {name!r}; there are {', '.join(a.name for a in self.arms)}")


def _repeated(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
