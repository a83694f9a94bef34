"""The training part of the configuration tree: the engine, the update rule, what is watched, what is kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from voc.config.data import PositiveInt, Ratio, Section


class OptimizerConfig(Section):
    """The update rule and its schedule: linear warm-up, then linear to final_learning_rate_ratio."""

    name: Literal["adamw", "adamw_8bit", "muon"] = Field(
        "adamw",
        description="adamw; adamw_8bit: AdamW with both moments in 8 bits per block (torchao); "
        "muon: Muon on matrices, AdamW on the rest",
    )
    learning_rate: float = Field(gt=0, description="peak rate of AdamW")
    muon_learning_rate: float = Field(0.02, gt=0, description="peak rate of Muon; unused with adamw")
    beta1: Ratio = Field(0.9, description="AdamW beta 1")
    beta2: Ratio = Field(0.98, description="AdamW beta 2")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    warmup_steps: int = Field(20, ge=0, description="steps from 0 to the peak rate")
    final_learning_rate_ratio: Ratio = Field(0.1, description="rate of the last step over the peak rate")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this global norm")


class ExpertsConfig(Section):
    """Mixture-of-experts models; with a dense model what is not neutral is an error."""

    implementation: Literal["grouped_mm", "loop"] = Field(
        "grouped_mm", description="grouped_mm: one kernel over all experts of a layer; loop: one expert after the other"
    )
    router_aux_loss_weight: float = Field(
        0.0,
        ge=0,
        description="weight of the load-balancing loss, which is minimised beside the reported loss: 1 where all experts "
        "have the same load, mean over layers; transformers' router_aux_loss_coef times num_experts_per_tok; 0: none",
    )
    parallel_size: PositiveInt = Field(
        1,
        description="ranks that share one set of experts, each with rows of its own; divides num_workers and the "
        "number of experts",
    )


class EarlyStopConfig(Section):
    """Stop when the model loses what it knew: the general loss on held-out rows rises."""

    patience: int = Field(
        0,
        ge=0,
        description="evaluations in a row above the limit after which training stops and the model of the last step is "
        "exported; 0: never",
    )
    max_general_rise_ratio: float = Field(
        0.1, ge=0, description="held-out loss of general sources over its value before the first step, less 1"
    )


class ValidationConfig(Section):
    """Loss on rows that were held out of every arm, per source and category."""

    every_steps: int = Field(
        0, ge=0, description="optimizer steps between evaluations, also before the first and after the last; 0: none"
    )
    rows_per_stratum: PositiveInt = Field(
        64, description="rows held out of each source and general category, at most one in ten of its usable rows"
    )
    early_stop: EarlyStopConfig = EarlyStopConfig()


class GuardConfig(Section):
    """What happens to a step whose loss is out of line; a loss that is no number always stops the run."""

    spike_ratio: float = Field(
        0.0, ge=0, description="a loss above this times the median of the window is a spike; 0: no guard"
    )
    window_steps: Annotated[int, Field(ge=2)] = Field(32, description="steps of the median; shorter at the beginning")
    on_spike: Literal["report", "skip", "stop"] = Field(
        "report",
        description="report: the step's samples are logged and in bad_steps.jsonl; skip: the weights also stay as they are; "
        "stop: the run ends, as it does after window_steps skipped steps in a row",
    )


class CheckpointConfig(Section):
    """What is kept so that a training can go on."""

    every_steps: PositiveInt = Field(100, description="optimizer steps between checkpoints")
    keep: PositiveInt = Field(2, description="how many of the newest checkpoints stay")
    keep_best: bool = Field(
        True, description="also keep the checkpoint with the least held-out loss (with validation.every_steps)"
    )
    asynchronous: bool = Field(True, description="write while training goes on; at most one is being written")
    preemption_grace_s: PositiveInt = Field(
        120,
        description="from SIGTERM to the end of the process at the latest; the step under way is saved if there is time",
    )


class ExportConfig(Section):
    """How the trained model is written and proven; dtypes, names and shapes are always the base's."""

    max_shard_gib: float = Field(
        4.0, gt=0, description="largest safetensors file, and about what writing needs in memory"
    )
    vllm_smoke: bool = Field(
        True,
        description="let vLLM load the export and answer some training prompts before the arm counts as trained; on the "
        "devices of one copy of the serving section's engine",
    )


class TrackingConfig(Section):
    """Where the step figures go besides metrics.jsonl."""

    backends: tuple[Literal["tensorboard", "mlflow"], ...] = Field(
        ("tensorboard",),
        description="tensorboard: event files beside metrics.jsonl; mlflow: the server of MLFLOW_TRACKING_URI",
    )
    mlflow_experiment: str = Field("nightforge", description="experiment of MLflow runs")


# Keys of the training section that say where, how visibly and how long an arm is trained, not what comes out: neither prepared
# data nor a trained model depends on them. Every other key, a new one too, counts.
PLACEMENT = (
    "num_workers",
    "cpus_per_worker",
    "gpus_per_worker",
    "gpu_memory_gib",
    "checkpoint",
    "export",
    "tracking",
    "log_every_steps",
    "max_failures",
    "start_timeout_s",
)


class TrainingConfig(Section):
    """Full-parameter fine-tuning; every arm takes the same number of optimizer steps."""

    num_workers: PositiveInt = Field(1, description="Ray Train workers (GPUs, or CPU processes)")
    cpus_per_worker: PositiveInt = Field(1, description="CPUs that a worker reserves")
    gpus_per_worker: int = Field(0, ge=0, le=1, description="GPUs that a worker reserves")
    gpu_memory_gib: float | None = Field(
        None, gt=0, description="memory of one GPU, which preflight plans for; unset: whether it fits is not checked"
    )
    max_steps: PositiveInt = Field(description="optimizer steps of every arm")
    max_wall_s: PositiveInt | None = Field(
        None,
        description="time for the steps of one arm, resumed ones included, evaluations and checkpoints not; the step that "
        "uses it up is the last, and the model is exported as it is then",
    )
    batch_unit: Literal["samples", "rows"] = Field(
        "samples",
        description="what global_batch_size counts: samples (laid out in rows step by step), or rows packed over the "
        "whole order (the densest; the number of samples follows from them)",
    )
    global_batch_size: PositiveInt = Field(description="samples or rows per optimizer step, over all workers")
    max_seq_len: PositiveInt = Field(description="tokens of one packed row; a longer sample is refused, never cut")
    micro_batch_size: PositiveInt = Field(
        1, description="a forward pass holds at most this many times max_seq_len tokens, documents end to end"
    )
    param_dtype: Literal["float32", "bfloat16"] = Field("bfloat16", description="dtype of forward and backward")
    master_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="dtype of the weights that are updated, their gradients and the optimizer's state"
    )
    activation_checkpointing: Literal["none", "selective", "full"] = Field(
        "none",
        description="what the backward pass computes again: nothing; all but matrix products and attention; each decoder layer",
    )
    compile: Literal["none", "layers"] = Field(
        "none", description="layers: torch.compile of each decoder layer, passes padded to one length"
    )
    shared_prefixes: Literal["auto", "on", "off"] = Field(
        "auto",
        description="compute what samples of a forward pass have in common at their beginning, such as a prompt's "
        "instructions, once; same loss and gradients; auto: on, but not on GPUs (not measured there), with "
        "compile: layers or with a router_aux_loss_weight",
    )
    gradient_sync: Literal["last_pass", "every_pass"] = Field(
        "last_pass",
        description="last_pass: gradients are reduced once per step, whole ones are held until then; "
        "every_pass: after each forward pass, only shards are held",
    )
    loss_kernel: Literal["auto", "chunked", "liger", "plain"] = Field(
        "auto",
        description="cross-entropy of the output layer; chunked: never more than loss_chunk_tokens x vocabulary logits; "
        "liger: the same in Triton kernels; plain: all logits; auto: liger on CUDA where it is installed, else chunked",
    )
    loss_chunk_tokens: PositiveInt = Field(512, description="places whose logits are held at once by the chunked loss")
    experts: ExpertsConfig = ExpertsConfig()
    optimizer: OptimizerConfig
    validation: ValidationConfig = ValidationConfig()
    guard: GuardConfig = GuardConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    export: ExportConfig = ExportConfig()
    tracking: TrackingConfig = TrackingConfig()
    log_every_steps: PositiveInt = Field(10, description="optimizer steps between progress lines")
    max_failures: int = Field(1, ge=0, description="worker-group restarts that Ray Train may make")
    start_timeout_s: PositiveInt = Field(1800, description="wait for the workers' resources (autoscaling included)")

    @model_validator(mode="after")
    def _check_fit(self) -> TrainingConfig:
        problems = []
        if self.num_workers > self.global_batch_size:
            problems.append(
                f"num_workers {self.num_workers} is more than global_batch_size {self.global_batch_size}: "
                "a step would have fewer samples than workers"
            )
        elif self.global_batch_size % self.num_workers:
            problems.append(
                f"global_batch_size {self.global_batch_size} is not a multiple of training.num_workers {self.num_workers}"
            )
        if self.num_workers % self.experts.parallel_size:
            problems.append(
                f"experts.parallel_size {self.experts.parallel_size} does not divide training.num_workers {self.num_workers}"
            )
        if self.experts.parallel_size > 1 and self.optimizer.name == "adamw_8bit":
            problems.append(
                "optimizer.name adamw_8bit needs experts.parallel_size 1: its blocks do not know divided experts"
            )
        if self.validation.early_stop.patience and not self.validation.every_steps:
            problems.append("validation.early_stop.patience needs validation.every_steps above 0")
        if self.shared_prefixes == "on" and self.compile == "layers":
            problems.append(
                "shared_prefixes on saves nothing with compile: layers, whose passes are padded to one length"
            )
        if self.shared_prefixes == "on" and self.experts.router_aux_loss_weight:
            problems.append(
                "shared_prefixes on would change the load-balancing loss, which counts tokens: set "
                "experts.router_aux_loss_weight to 0"
            )
        if self.master_dtype == "bfloat16" and self.param_dtype == "float32":
            problems.append("param_dtype float32 with master_dtype bfloat16 computes more digits than there are")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def shares_prefixes(self) -> bool:
        """Whether common beginnings of a pass's samples are computed once."""
        if self.shared_prefixes == "auto":
            return not self.gpus_per_worker and self.compile == "none" and not self.experts.router_aux_loss_weight
        return self.shared_prefixes == "on"
