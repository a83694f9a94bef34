"""The arms of the configuration tree: how each candidate's data are mixed, in our words or in the closed service's."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from voc.config.data import DataConfig, Name, Section
from voc.config.data_mixing import is_customer_only, parse_data_mixing
from voc.errors import ConfigError


class SourceWeight(Section):
    """A source's share of an arm's mixture."""

    name: Name = Field(description="one of data.sources")
    weight: float = Field(gt=0, description="share of the final mixture; only ratios matter")
    categories: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="shares of the source's categories inside its own share; empty: as they occur"
    )


class ArmConfig(Section):
    """One way to mix the data, by its `sources` or by a `data_mixing` block; each arm trains one candidate."""

    name: Name = Field(description="name of the candidate")
    title: str = Field(description="how tables call it")
    unit: Literal["samples", "tokens", "assistant_tokens"] = Field("samples", description="what the weights count")
    sources: tuple[SourceWeight, ...] = Field(
        (), min_length=1, description="shares of the mixture; required where data_mixing is not given"
    )
    data_mixing: dict[str, Any] | None = Field(
        None,
        description="in place of sources: the block of the closed service's recipe as it is (dataset_catalog; sources with "
        "customer_data.percent and percents of categories in nova_data); customer_data is the one source with format voc, "
        "nova_data the one with format general",
    )

    @field_validator("data_mixing")
    @classmethod
    def _check_block(cls, block: dict[str, Any] | None) -> dict[str, Any] | None:
        if block is not None:
            try:
                parse_data_mixing(block, needs_customer=True)
            except ConfigError as error:
                raise ValueError(error.problem) from error
        return block

    @model_validator(mode="after")
    def _check_one_form(self) -> ArmConfig:
        if bool(self.sources) == (self.data_mixing is not None):
            seen = "both sources and data_mixing are" if self.sources else "neither sources nor data_mixing is"
            raise ValueError(f"{seen} given, expected exactly one of them")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_what_follows(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write the form that was given, so that what is saved can be read again."""
        tree: dict[str, Any] = handler(self)
        tree.pop("data_mixing" if self.data_mixing is None else "sources", None)
        return tree


def derive_arm(arm: ArmConfig, data: DataConfig, problems: list[str]) -> ArmConfig:
    """Return an arm with the sources that its `data_mixing` block stands for.

    Args:
        arm: An arm with a block that was checked.
        data: Where the sources are.
        problems: What is wrong is added here.
    """
    percent, percents = parse_data_mixing(arm.data_mixing)
    parts: list[tuple[str, str, float, dict[str, float]]] = [("voc", "customer_data", percent, {})]
    if not is_customer_only(percent):
        categories = {name: share for name, share in percents.items() if share}
        parts.append(("general", "nova_data", 100 - percent, categories))
    weights = []
    for kind, block_name, weight, categories in parts:
        names = [source.name for source in data.sources if source.format == kind]
        if len(names) == 1:
            # Percents, not ratios: whole numbers stay exact.
            weights.append(SourceWeight(name=names[0], weight=weight, categories=categories))
            continue
        seen = f"{len(names)} sources ({', '.join(names)})" if names else "no source"
        problems.append(
            f"arms.{arm.name}.data_mixing: {block_name} is the source with format {kind}, but data.sources has {seen} with "
            "that format, expected exactly one; write the arm with sources"
        )
    return arm.model_copy(update={"sources": tuple(weights)})
