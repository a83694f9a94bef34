"""The part of the configuration tree that names further lm-eval tasks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from voc.config.data import Name, PositiveInt, Section

Scoring = Literal["auto", "logprob_token_ids", "top_logprobs", "echo"]
DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


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
