"""Turns, how to ask for one, and how to follow them."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, ClassVar

import strawberry

from domain import conversations, errors, models, outputs, turns
from domain.models import AspectRatio
from schema.companions import with_companion
from schema.context import Info
from schema.enums import described_enum
from schema.errors import Payload
from schema.models import ImageModel
from schema.node import Node
from schema.outputs import GenerationError, Output, Reference
from schema.scalars import given
from schema.turn_inputs import NextTurnInput, PaidInput

if TYPE_CHECKING:
    from schema.conversations import Conversation

described_enum(
    turns.TurnStatus,
    "Derived from the outputs, in the same write. A retry takes an ended turn back to GENERATING.",
    PENDING="Every output is queued.",
    GENERATING="Some output has not ended.",
    COMPLETED="All have ended, and at least one delivered.",
    FAILED="All have ended, none delivered, none was cancelled.",
    CANCELLED="All have ended, none delivered, at least one was cancelled.",
)


@strawberry.type(description="What was asked for, so that a form can be filled in again.")
class TurnOptions:
    source: ClassVar[type] = turns.TurnOptions

    images_per_model: int = strawberry.field(description="How many images of each model.")
    previews: int = strawberry.field(description="How many partial images, where a model has any.")
    quality: models.Quality | None = strawberry.field(description="Null where none was chosen.")
    format: models.ImageFormat | None = strawberry.field(description="Null where none was chosen.")
    width: int | None = strawberry.field(description="In pixels, instead of a ratio.")
    height: int | None = strawberry.field(description="In pixels, instead of a ratio.")
    seed: str | None = strawberry.field(description="Null where none was given.")
    negative_prompt: str | None = strawberry.field(description="What should not be seen.")


@strawberry.type(description="One message of a conversation, and what every model made of it.")
class Turn(Node):
    source = turns.Turn

    turn_index: int = strawberry.field(description="0, 1, 2, …")
    user_message: str = strawberry.field(description="What the viewer asked for.")
    references: list[Reference] = strawberry.field(
        description="One numbering for the whole turn: the previous outputs in their order, then "
        "the manual references. @Image1 is the first."
    )
    aspect_ratio: AspectRatio = strawberry.field(
        description="What was asked for or inherited; each image tells its true size."
    )
    resolution: models.Resolution = strawberry.field(
        description="What was asked for or inherited; each image tells its true size."
    )
    options: TurnOptions = strawberry.field(description="What else was asked for.")
    status: turns.TurnStatus = strawberry.field(description="Derived from the outputs.")
    outputs: list[Output] = strawberry.field(
        description="One per selected model, in the order of selectedModels."
    )
    error: GenerationError | None = strawberry.field(
        description="Why the whole turn failed: what its outputs' errors have in common, else the "
        "first one's; null otherwise."
    )
    created_at: datetime = strawberry.field(description="When it was asked for.")
    updated_at: datetime = strawberry.field(description="When it last changed.")
    completed_at: datetime | None = strawberry.field(description="When its last output ended.")

    @strawberry.field(
        graphql_type=Annotated["Conversation", strawberry.lazy("schema.conversations")],
        description="The conversation that it is part of.",
    )
    @staticmethod
    async def conversation(
        turn: strawberry.Parent[turns.Turn], info: Info
    ) -> conversations.Conversation:
        conversation = await info.context.load.conversation.load(turn.conversation_id)
        if conversation is None:
            raise errors.NotFound("The conversation has just been deleted.")
        return with_companion(conversation, turn)

    @strawberry.field(
        graphql_type=list[ImageModel], description="What the viewer chose, or what was inherited."
    )
    @staticmethod
    def selected_models(turn: strawberry.Parent[turns.Turn], info: Info) -> list[models.ImageModel]:
        return [info.context.registry.remembered(name) for name in turn.selected_model_ids]

    @strawberry.field(
        graphql_type=list[ImageModel],
        description="Models still at work; empty once the turn is over.",
    )
    @staticmethod
    def pending_models(turn: strawberry.Parent[turns.Turn], info: Info) -> list[models.ImageModel]:
        return [
            info.context.registry.remembered(output.model_id)
            for output in turn.outputs
            if output.unfinished
        ]


@strawberry.type(description="A turn that has changed.")
class TurnUpdate:
    source: ClassVar[type] = turns.TurnUpdate

    turn: Turn = strawberry.field(description="The turn as it stands.")
    changed_outputs: list[Output] = strawberry.field(
        description="At least the outputs that changed since this subscriber's previous update of "
        "this turn; all of them in the first, and after a gap."
    )

    cursor: str = strawberry.field(
        description="Pass the newest one as `after` when subscribing again."
    )


@strawberry.type
class TurnPayload(Payload):
    turn: Annotated[
        turns.Turn | None,
        strawberry.field(graphql_type=Turn | None, description="Null where it was refused."),
    ] = None


@strawberry.type
class StartedTurnPayload(TurnPayload):
    cursor: str | None = strawberry.field(
        default=None,
        description="Pass it as `after` to `turnUpdated`: nothing is missed. Null where it was "
        "refused.",
    )


@strawberry.type
class OutputPayload(TurnPayload):
    output: Annotated[
        outputs.Output | None,
        strawberry.field(graphql_type=Output | None, description="Null where it was refused."),
    ] = None


@strawberry.input(description="Asks for the next turn of a conversation.")
class SendEditInput(NextTurnInput, PaidInput):
    conversation_id: strawberry.ID = strawberry.field(description="The conversation to go on.")

    def to_command(self) -> turns.SendEdit:
        return turns.SendEdit(
            conversation_id=self.conversation_id,
            turn=self.to_request(),
            previous_output_ids=self.previous(),
            max_credits=given(self.max_credits),
            idempotency_key=given(self.idempotency_key),
        )


@strawberry.type(description="The turn that was written; its outputs are at work.")
class SendEditPayload(StartedTurnPayload):
    pass


@strawberry.input(description="Asks for an output again.")
class RetryOutputInput(PaidInput):
    output_id: strawberry.ID = strawberry.field(description="A failed or cancelled output.")
    model_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="Another model in the failed one's place."
    )

    def to_command(self) -> turns.RetryOutput:
        return turns.RetryOutput(
            self.output_id,
            model_id=given(self.model_id),
            max_credits=given(self.max_credits),
            idempotency_key=given(self.idempotency_key),
        )


@strawberry.type(description="The output that waits for its next attempt.")
class RetryOutputPayload(OutputPayload, StartedTurnPayload):
    pass


@strawberry.input(description="Names the output to cancel.")
class CancelOutputInput:
    output_id: strawberry.ID = strawberry.field(description="An output that has not ended.")


@strawberry.type(description="The output that was cancelled.")
class CancelOutputPayload(OutputPayload):
    pass


@strawberry.input(description="Names the turn to cancel.")
class CancelTurnInput:
    turn_id: strawberry.ID = strawberry.field(description="A turn that is not over.")


@strawberry.type(description="The turn that was cancelled.")
class CancelTurnPayload(TurnPayload):
    pass
