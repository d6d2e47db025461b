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


@strawberry.input(
    description="The input of `planTurn`: that of the `startConversation` or `sendEdit` to plan."
)
class PlanTurnInput(NextTurnInput):
    conversation_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET,
        description="The conversation to continue. If omitted, the plan is for a new conversation.",
    )
    source_image_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET,
        description="The image that a new conversation would start from. Ignored if "
        "`conversationId` is given.",
    )

    def to_command(self) -> turns.PlanTurn:
        return turns.PlanTurn(
            conversation_id=given(self.conversation_id),
            source_image_id=given(self.source_image_id),
            turn=self.to_request(),
            previous_output_ids=self.previous(),
        )


@strawberry.type(description="The part of a planned turn or post that one model would make.")
class ModelPlan:
    source: ClassVar[type] = turns.PlannedOutput

    model: ImageModel = strawberry.field(
        description="The model that would run. It may be the `editModel` of the selected one."
    )
    requested_model_id: strawberry.ID = strawberry.field(
        description="The id of the model that was selected."
    )
    credits: int = strawberry.field(description="The price of its images in credits.")
    references: list[Reference] = strawberry.field(
        description="The references that it would be given. The first is the image that is "
        "edited: the previous output that was selected, or that of the previous turn by the same "
        "model, else by the first one, or the source image."
    )
    dropped_references: list[Reference] = strawberry.field(
        description="The references of the turn that it would not be given, because it accepts "
        "fewer. What the message mentions is never among them, and the image that is edited only "
        "if the message mentions as many others as the model accepts."
    )


@strawberry.type(description="What a turn or a post would cost and use, if it were requested now.")
class TurnPlan:
    source: ClassVar[type] = turns.TurnPlan
    """With what is wrong with it as companion, a tuple of user errors."""

    credits: int = strawberry.field(description="The price in credits, that of a caption included.")
    references: list[Reference] = strawberry.field(
        description="The references in the order of their numbers: the first is @Image1."
    )

    @strawberry.field(
        graphql_type=list[ModelPlan], description="The selected models that could run."
    )
    @staticmethod
    def models(plan: strawberry.Parent[turns.TurnPlan]) -> Sequence[turns.PlannedOutput]:
        return plan.outputs

    @strawberry.field(
        graphql_type=list[UserError],
        description="Everything that the mutation would be refused for. Empty if it would be "
        "accepted.",
    )
    @staticmethod
    def user_errors(plan: strawberry.Parent[turns.TurnPlan]) -> Sequence[errors.UserError]:
        return companion(plan, tuple) or ()
