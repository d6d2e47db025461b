"""Turns, how to ask for one, and how to follow them."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, ClassVar

import strawberry

from domain import conversations, errors, models, outputs, posts, turns
from schema.companions import with_companion
from schema.context import Info
from schema.enums import described_enum
from schema.errors import Payload
from schema.hints import hints
from schema.models import ImageModel
from schema.outputs import GenerationError, Output
from schema.parents import ParentNode
from schema.scalars import given
from schema.turn_inputs import NextTurnInput, PaidInput

if TYPE_CHECKING:
    from schema.conversations import Conversation
    from schema.posts import Post

described_enum(
    turns.TurnStatus,
    "The status of a turn, which follows from those of its outputs. "
    "`retryOutput` sets a turn that has ended back to GENERATING.",
    WAITING="It waits for the turn before it to end, and has no outputs yet.",
    PENDING="All outputs are queued.",
    GENERATING="At least one output has not ended.",
    COMPLETED="All outputs have ended, and at least one has delivered an image.",
    FAILED="All outputs have failed, or it could not begin after it had waited.",
    CANCELLED="All outputs have ended without an image, and at least one was cancelled; or it was "
    "cancelled while it waited.",
)


@strawberry.type(description="A message, and the output of each selected model.")
class Turn(ParentNode):
    source = turns.Turn

    turn_index: int = strawberry.field(
        description="The position of the turn in its conversation, starting at 0. It stays when "
        "other turns are deleted."
    )
    status: turns.TurnStatus = strawberry.field(
        description="The status, which follows from those of the outputs."
    )
    chosen_output: Output | None = strawberry.field(
        description="The output that the viewer continues from: see `chooseOutput`. Null if none "
        "is chosen. It stays chosen if its images are deleted, and has no `image` then."
    )
    error: GenerationError | None = strawberry.field(
        description="Why the turn failed: the error of its first output, or why it could not "
        "begin after it had waited. Null unless `status` is FAILED."
    )
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
        description="The models whose outputs have not ended; of a turn that waits, all selected "
        "ones. Empty once the turn has ended.",
        metadata=hints("outputs", "status", "selected_model_ids"),
    )
    @staticmethod
    def pending_models(turn: strawberry.Parent[turns.Turn], info: Info) -> list[models.ImageModel]:
        pending = [output.model_id for output in turn.outputs if output.unfinished]
        if turn.status is turns.TurnStatus.WAITING:
            pending = list(turn.selected_model_ids)
        return [info.context.services.registry.remembered(name) for name in pending]


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
class OutputPayload(Payload):
    turn: Annotated[
        turns.Turn | None,
        strawberry.field(
            graphql_type=Turn | None,
            description="The turn of the output. Null if the mutation was refused, or if the "
            "output belongs to a post.",
        ),
    ] = None
    post: Annotated[
        posts.Post | None,
        strawberry.field(
            graphql_type=Annotated["Post", strawberry.lazy("schema.posts")] | None,
            description="The post of the output. Null if the mutation was refused, or if the "
            "output belongs to a turn.",
        ),
    ] = None
    output: Annotated[
        outputs.Output | None,
        strawberry.field(
            graphql_type=Output | None, description="The output. Null if the mutation was refused."
        ),
    ] = None


@strawberry.input(description="The input of `sendEdit`: the next turn of a conversation.")
class SendEditInput(NextTurnInput, PaidInput):
    conversation_id: strawberry.ID = strawberry.field(description="The conversation to continue.")
    when_ready: bool | None = strawberry.field(
        default=False,
        description="If the latest turn has not ended: wait for it. The new turn is WAITING, and "
        "begins when the one before has ended. Its references are found, its models planned and "
        "its credits reserved only then, within `maxCredits`. It fails if the turn before fails or "
        "is cancelled, or if there are too few credits; `Turn.error` says why. `cancelTurn` "
        "cancels it. At most 20 turns of a viewer can wait.",
    )

    def to_command(self) -> turns.SendEdit:
        return turns.SendEdit(
            conversation_id=self.conversation_id,
            turn=self.to_request(),
            previous_output_ids=self.previous(),
            max_credits=given(self.max_credits),
            idempotency_key=given(self.idempotency_key),
            # Absent unless it is wanted: an idempotency key of an older client stays the same.
            when_ready=True if self.when_ready else None,
        )


@strawberry.type(description="The new turn. Its outputs are queued, unless it waits.")
class SendEditPayload(StartedTurnPayload):
    pass


@strawberry.input(description="The input of `rerunTurn`.")
class RerunTurnInput(PaidInput):
    turn_id: strawberry.ID = strawberry.field(description="The turn to run once more.")
    selected_models: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Other models to use instead, 1 to 8, by id or alias. If omitted: those of the "
        "turn's outputs, retries with another model included.",
    )

    def to_command(self) -> turns.RerunTurn:
        names = given(self.selected_models)
        return turns.RerunTurn(
            self.turn_id,
            selected_models=tuple(names) if names is not None else None,
            max_credits=given(self.max_credits),
            idempotency_key=given(self.idempotency_key),
        )


@strawberry.type(description="The new turn. Its outputs are queued.")
class RerunTurnPayload(StartedTurnPayload):
    pass


@strawberry.input(description="The input of `deleteTurn`.")
class DeleteTurnInput:
    turn_id: strawberry.ID = strawberry.field(description="A turn that nothing builds on.")


@strawberry.type(description="The result of `deleteTurn`.")
class DeleteTurnPayload(Payload):
    deleted_turn_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="The id of the deleted turn, to remove it from a cache. Null if the mutation "
        "was refused.",
    )


@strawberry.input(description="The input of `chooseOutput`.")
class ChooseOutputInput:
    output_id: strawberry.ID = strawberry.field(
        description="An output that has an image. REFERENCE_NOT_READY if it has none, or not yet."
    )
    chosen: bool | None = strawberry.field(
        default=True,
        description="True to choose it, in place of the output of the turn that was chosen before. "
        "False to take that back.",
    )

    def to_command(self) -> turns.ChooseOutput:
        return turns.ChooseOutput(self.output_id, chosen=self.chosen is not False)


@strawberry.type(description="The output and its turn after the change.")
class ChooseOutputPayload(TurnPayload):
    output: Annotated[
        outputs.Output | None,
        strawberry.field(
            graphql_type=Output | None, description="The output. Null if the mutation was refused."
        ),
    ] = None


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
class RetryOutputPayload(OutputPayload):
    cursor: str | None = strawberry.field(
        default=None,
        description="Pass it as `after` to `turnUpdated`, so that no change is missed. Null if "
        "the mutation was refused, or if the output belongs to a post.",
    )


@strawberry.input(description="The input of `cancelOutput`.")
class CancelOutputInput:
    output_id: strawberry.ID = strawberry.field(description="An output that has not ended.")


@strawberry.type(description="The cancelled output, and its turn or post.")
class CancelOutputPayload(OutputPayload):
    pass


@strawberry.input(description="The input of `cancelTurn`.")
class CancelTurnInput:
    turn_id: strawberry.ID = strawberry.field(
        description="A turn that has not ended, or that waits."
    )


@strawberry.type(description="The cancelled turn.")
class CancelTurnPayload(TurnPayload):
    pass
