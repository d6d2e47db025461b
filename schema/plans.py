"""A dry run of a turn: what it would cost, and what each model would be given."""

from collections.abc import Sequence
from typing import ClassVar

import strawberry

from domain import errors, turns
from schema.companions import companion
from schema.errors import UserError
from schema.models import ImageModel
from schema.outputs import Reference
from schema.scalars import given
from schema.turn_inputs import NextTurnInput


@strawberry.input(description="A turn as it could be asked for.")
class PlanTurnInput(NextTurnInput):
    conversation_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET,
        description="The conversation that the turn would go on; left out, a new one.",
    )
    source_image_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET,
        description="What a new conversation would begin with; of no meaning where one goes on.",
    )

    def to_command(self) -> turns.PlanTurn:
        return turns.PlanTurn(
            conversation_id=given(self.conversation_id),
            source_image_id=given(self.source_image_id),
            turn=self.to_request(),
            previous_output_ids=self.previous(),
        )


@strawberry.type(description="One model's part of a turn that has not been asked for.")
class ModelPlan:
    source: ClassVar[type] = turns.PlannedOutput

    model: ImageModel = strawberry.field(
        description="The model that would run: an editing sibling may have taken the place of the "
        "one asked for."
    )
    requested_model_id: strawberry.ID = strawberry.field(description="The one asked for.")
    credits: int = strawberry.field(description="What its images would cost.")
    references: list[Reference] = strawberry.field(
        description="What it would be given: those of the turn's that it takes."
    )
    dropped_references: list[Reference] = strawberry.field(
        description="What it would not be given, because it takes fewer."
    )


@strawberry.type(description="What a turn would be, if it were asked for now.")
class TurnPlan:
    source: ClassVar[type] = turns.TurnPlan
    """With what is wrong with it as companion, a tuple of user errors."""

    credits: int = strawberry.field(description="What it would cost in all.")
    references: list[Reference] = strawberry.field(
        description="The turn's references, numbered: @Image1 is the first."
    )

    @strawberry.field(
        graphql_type=list[ModelPlan], description="One for each chosen model that could run."
    )
    @staticmethod
    def models(plan: strawberry.Parent[turns.TurnPlan]) -> Sequence[turns.PlannedOutput]:
        return plan.outputs

    @strawberry.field(
        graphql_type=list[UserError],
        description="All that the mutation would refuse it for; empty where it would be done.",
    )
    @staticmethod
    def user_errors(plan: strawberry.Parent[turns.TurnPlan]) -> Sequence[errors.UserError]:
        return companion(plan, tuple) or ()
