"""What became of a viewer's outputs, by model."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import strawberry

import domain.model_stats
import domain.models
from schema.context import Info
from schema.hints import hints
from schema.models import ImageModel


@strawberry.type(
    description="How a model did against another one, in turns in which both have delivered images."
)
class ModelComparison:
    source: ClassVar[type] = domain.model_stats.Comparison

    won: int = strawberry.field(description="How often this model's output was chosen.")
    lost: int = strawberry.field(description="How often the other model's output was chosen.")

    @strawberry.field(
        graphql_type=ImageModel, description="The other model.", metadata=hints("model_id")
    )
    @staticmethod
    def model(
        comparison: strawberry.Parent[domain.model_stats.Comparison], info: Info
    ) -> domain.models.ImageModel:
        return info.context.services.registry.remembered(comparison.model_id)


@strawberry.type(
    description="What became of the viewer's outputs by one model. An output counts on the day on "
    "which its turn began, each attempt by itself; what the viewer cancelled counts as asked only. "
    "Turns that are deleted still count, copies of turns do not."
)
class ModelStats:
    source: ClassVar[type] = domain.model_stats.ModelStats

    asked: int = strawberry.field(description="How many outputs were requested, retries included.")
    delivered: int = strawberry.field(description="How many of them have delivered images.")
    chosen: int = strawberry.field(
        description="How many of them are chosen, or were when they were deleted."
    )
    win_rate: float | None = strawberry.field(
        description="Of the turns in which an output is chosen and this model has delivered one: "
        "the share in which it is this model's, 0 to 1. Null if there are none."
    )
    median_seconds: float | None = strawberry.field(
        description="The median time from the start of a delivered output to its end, in seconds, "
        "within 2 %. Null if none was delivered."
    )
    failure_rate: float = strawberry.field(
        description="The share of failed outputs among those that were delivered or failed, 0 to 1."
    )
    credits_per_choice: float | None = strawberry.field(
        description="All credits that were charged for this model's outputs, divided by `chosen`. "
        "Null if none is chosen."
    )
    against: Annotated[
        Sequence[domain.model_stats.Comparison],
        strawberry.field(
            graphql_type=list[ModelComparison],
            description="The models that it won or lost against, the most frequent first. A turn "
            "in which a third model was chosen does not count.",
        ),
    ]

    @strawberry.field(graphql_type=ImageModel, description="The model.", metadata=hints("model_id"))
    @staticmethod
    def model(
        stats: strawberry.Parent[domain.model_stats.ModelStats], info: Info
    ) -> domain.models.ImageModel:
        return info.context.services.registry.remembered(stats.model_id)
