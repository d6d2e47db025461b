"""Turns, how to ask for one, and how to follow them."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, ClassVar

import strawberry

from domain import conversations, errors, models, outputs, parents, turns
from domain.models import AspectRatio
from schema.companions import with_companion
from schema.context import Info
from schema.enums import described_enum
from schema.errors import Payload
from schema.hints import hints
from schema.images import Image
from schema.models import ImageModel
from schema.node import Node
from schema.outputs import GenerationError, Output, Reference
from schema.scalars import given
from schema.turn_inputs import NextTurnInput, PaidInput

if TYPE_CHECKING:
    from schema.conversations import Conversation

described_enum(
    turns.TurnStatus,
    "The status of a turn, which follows from those of its outputs. "
    "`retryOutput` sets a turn that has ended back to GENERATING.",
    PENDING="All outputs are queued.",
    GENERATING="At least one output has not ended.",
    COMPLETED="All outputs have ended, and at least one has delivered an image.",
    FAILED="All outputs have failed.",
    CANCELLED="All outputs have ended without an image, and at least one was cancelled.",
)


@strawberry.type(
    description="The options that the turn was requested with, to fill in a form again."
)
class TurnOptions:
    source: ClassVar[type] = parents.TurnOptions

    images_per_model: int = strawberry.field(description="The number of images of each model.")
    previews: int = strawberry.field(
        description="The number of previews of each model that shows any."
    )
    quality: models.Quality | None = strawberry.field(
        description="The quality. Null if none was chosen."
    )
    format: models.ImageFormat | None = strawberry.field(
        description="The file format. Null if none was chosen."
    )
    width: int | None = strawberry.field(
        description="The width in pixels. Null if none was chosen."
    )
    height: int | None = strawberry.field(
        description="The height in pixels. Null if none was chosen."
    )
    seed: str | None = strawberry.field(description="The seed. Null if none was given.")
    negative_prompt: str | None = strawberry.field(
        description="What the images should not show. Null if nothing was given."
    )
    context: parents.PromptContext = strawberry.field(description="What the models read.")
    mask: Image | None = strawberry.field(
        description="Where the edited image may change. Null if it may change everywhere."
    )
    feather: int | None = strawberry.field(
        description="The width of the mask's soft edge, in pixels. Null without a mask."
    )
    keep_outside: bool | None = strawberry.field(
        description="Whether the original is put back outside of the mask also if a model supports "
        "masks. Null without a mask."
    )


@strawberry.type(description="A message, and the output of each selected model.")
class Turn(Node):
    source = turns.Turn

    turn_index: int = strawberry.field(
        description="The position of the turn in its conversation, starting at 0."
    )
    user_message: str = strawberry.field(description="The message of the viewer.")
    references: list[Reference] = strawberry.field(
        description="The references in the order of their numbers: the previous outputs first, "
        "then the manual references. The first is @Image1."
    )
    aspect_ratio: AspectRatio = strawberry.field(
        description="The aspect ratio that was requested or inherited. The size of each image "
        "may differ from it."
    )
    resolution: models.Resolution = strawberry.field(
        description="The resolution that was requested or inherited. The size of each image may "
        "differ from it."
    )
    options: TurnOptions = strawberry.field(description="The other options that were requested.")
    status: turns.TurnStatus = strawberry.field(
        description="The status, which follows from those of the outputs."
    )
    outputs: list[Output] = strawberry.field(
        description="One output for each selected model, in the order of `selectedModels`."
    )
    error: GenerationError | None = strawberry.field(
        description="Why the turn failed: the error of its first output. Null unless `status` "
        "is FAILED."
    )
    created_at: datetime = strawberry.field(description="When the turn was requested.")
    updated_at: datetime = strawberry.field(description="When the turn last changed.")
    completed_at: datetime | None = strawberry.field(
        description="When the last output ended. Null while one has not."
    )

    @strawberry.field(
        graphql_type=Annotated["Conversation", strawberry.lazy("schema.conversations")],
        description="The conversation that the turn belongs to.",
        metadata=hints("id", "turn_index"),
    )
    @staticmethod
    async def conversation(
        turn: strawberry.Parent[turns.Turn], info: Info
    ) -> conversations.Conversation:
        load = info.context.reading(turn)
        conversation = await load.conversation.load(turn.conversation_id)
        if conversation is None:
            raise errors.NotFound("The conversation has just been deleted.")
        return with_companion(conversation, turn)

    @strawberry.field(
        graphql_type=list[ImageModel],
        description="The models that the viewer selected, or that were inherited.",
        metadata=hints("selected_model_ids"),
    )
    @staticmethod
    def selected_models(turn: strawberry.Parent[turns.Turn], info: Info) -> list[models.ImageModel]:
        return [info.context.services.registry.remembered(name) for name in turn.selected_model_ids]

    @strawberry.field(
        graphql_type=list[ImageModel],
        description="The models whose outputs have not ended. Empty once the turn has ended.",
        metadata=hints("outputs"),
    )
    @staticmethod
    def pending_models(turn: strawberry.Parent[turns.Turn], info: Info) -> list[models.ImageModel]:
        return [
            info.context.services.registry.remembered(output.model_id)
            for output in turn.outputs
            if output.unfinished
        ]


@strawberry.type(description="The state of a turn after a change.")
class TurnUpdate:
    source: ClassVar[type] = turns.TurnUpdate

    turn: Turn = strawberry.field(description="The turn in its current state.")
    changed_outputs: list[Output] = strawberry.field(
        description="The outputs that have changed since the previous update of this turn, "
        "possibly with others. In the first update, and after a gap, all of them."
    )
    cursor: str = strawberry.field(
        description="The position in the stream of updates. Pass the newest one as `after` when "
        "you subscribe again."
    )


@strawberry.type
class TurnPayload(Payload):
    turn: Annotated[
        turns.Turn | None,
        strawberry.field(
            graphql_type=Turn | None, description="The turn. Null if the mutation was refused."
        ),
    ] = None


@strawberry.type
class StartedTurnPayload(TurnPayload):
    cursor: str | None = strawberry.field(
        default=None,
        description="Pass it as `after` to `turnUpdated`, so that no change is missed. Null if "
        "the mutation was refused.",
    )


@strawberry.type
class OutputPayload(TurnPayload):
    output: Annotated[
        outputs.Output | None,
        strawberry.field(
            graphql_type=Output | None, description="The output. Null if the mutation was refused."
        ),
    ] = None


@strawberry.input(description="The input of `sendEdit`: the next turn of a conversation.")
class SendEditInput(NextTurnInput, PaidInput):
    conversation_id: strawberry.ID = strawberry.field(description="The conversation to continue.")

    def to_command(self) -> turns.SendEdit:
        return turns.SendEdit(
            conversation_id=self.conversation_id,
            turn=self.to_request(),
            previous_output_ids=self.previous(),
            max_credits=given(self.max_credits),
            idempotency_key=given(self.idempotency_key),
        )


@strawberry.type(description="The new turn. Its outputs are queued.")
class SendEditPayload(StartedTurnPayload):
    pass


@strawberry.input(description="The input of `retryOutput`.")
class RetryOutputInput(PaidInput):
    output_id: strawberry.ID = strawberry.field(description="A failed or cancelled output.")
    model_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET,
        description="Another model to use instead. If omitted: the same model.",
    )

    def to_command(self) -> turns.RetryOutput:
        return turns.RetryOutput(
            self.output_id,
            model_id=given(self.model_id),
            max_credits=given(self.max_credits),
            idempotency_key=given(self.idempotency_key),
        )


@strawberry.type(description="The output, queued for its next attempt.")
class RetryOutputPayload(OutputPayload, StartedTurnPayload):
    pass


@strawberry.input(description="The input of `cancelOutput`.")
class CancelOutputInput:
    output_id: strawberry.ID = strawberry.field(description="An output that has not ended.")


@strawberry.type(description="The cancelled output and its turn.")
class CancelOutputPayload(OutputPayload):
    pass


@strawberry.input(description="The input of `cancelTurn`.")
class CancelTurnInput:
    turn_id: strawberry.ID = strawberry.field(description="A turn that has not ended.")


@strawberry.type(description="The cancelled turn.")
class CancelTurnPayload(TurnPayload):
    pass
