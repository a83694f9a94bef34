"""The section of the configuration about models that others serve, or have served."""

from __future__ import annotations

from pydantic import Field

from voc.config.data import Name, PositiveInt, Section

_VARIABLE = r"^[A-Z_][A-Z0-9_]*$"


class OpenAIModelConfig(Section):
    """A model behind any server that speaks the OpenAI protocol."""

    name: Name = Field(description="part of object keys")
    title: str = Field(description="how tables call it")
    url: str = Field(description="base of the API, mostly ending in /v1", pattern=r"^https?://[^\s?#]+$")
    model: str = Field(min_length=1, description="name that requests give")
    named: str | None = Field(None, description="name that answers give, where it is another; any other is refused")
    key_variable: str = Field(pattern=_VARIABLE, description="environment variable that holds the key")
    concurrency: PositiveInt = Field(8, description="requests of one shard in flight, at most")


class BedrockBatchConfig(Section):
    """Batch inference, which takes hours; answers are joined on their ids."""

    role_arn: str = Field(pattern=r"^arn:\S+$", description="role that Bedrock takes to read and write the folder")
    folder: str = Field(pattern=r"^s3://\S+$", description="S3 folder for input and output")
    url: str | None = Field(None, description="another address of Bedrock's control plane")
    min_rows: int = Field(100, ge=1, description="fewer rows are asked one by one: the service refuses small batches")
    poll_s: PositiveInt = Field(60, description="between two looks at a job")
    timeout_s: PositiveInt = Field(86400, description="longest wait for a job")


class BedrockModelConfig(Section):
    """A model of Amazon Bedrock, asked through Converse with the AWS credentials of the environment."""

    name: Name = Field(description="part of object keys")
    title: str = Field(description="how tables call it")
    model: str = Field(min_length=1, description="model id or inference profile, such as us.amazon.nova-2-lite-v1:0")
    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d+$", description="AWS region")
    url: str | None = Field(None, description="another address of the service, such as a VPC endpoint")
    concurrency: PositiveInt = Field(8, description="requests of one shard in flight, at most")
    batch: BedrockBatchConfig | None = Field(None, description="ask in batches; unset: one by one")


class ImportedModelConfig(Section):
    """A model that the closed service tuned and evaluated itself: its outputs are imported and scored."""

    name: Name = Field(description="part of object keys")
    title: str = Field(description="how tables call it")
    uri: str = Field(description="path or URI of inference_output.jsonl")


class ExternalModelsConfig(Section):
    """Rows of the table for models that are not served here; they are neither promoted nor references of a decision."""

    openai: tuple[OpenAIModelConfig, ...] = Field((), description="behind an OpenAI-compatible URL")
    bedrock: tuple[BedrockModelConfig, ...] = Field((), description="behind Amazon Bedrock")
    imported: tuple[ImportedModelConfig, ...] = Field((), description="outputs of the closed service's own evaluation")

    @property
    def rows(self) -> tuple[OpenAIModelConfig | BedrockModelConfig | ImportedModelConfig, ...]:
        """All of them, in the order in which tables show them."""
        return (*self.openai, *self.bedrock, *self.imported)
