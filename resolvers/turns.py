"""Root fields of turns and their outputs: read, add, retry, cancel, choose, delete, subscribe."""

from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Annotated, Any

import strawberry

from domain import turns
from domain.ports.changes import Receiver
from domain.posts import as_post
from resolvers.nodes import find_turn
from schema.context import Info
from schema.errors import Refusable
from schema.hints import hints
from schema.scalars import given
from schema.turns import (
    CancelOutputInput,
    CancelOutputPayload,
    CancelTurnInput,
    CancelTurnPayload,
    ChooseOutputInput,
    ChooseOutputPayload,
    DeleteTurnInput,
    DeleteTurnPayload,
    RerunTurnInput,
    RerunTurnPayload,
    RetryOutputInput,
    RetryOutputPayload,
    SendEditInput,
    SendEditPayload,
    Turn,
    TurnUpdate,
)


@strawberry.type
class TurnQueries:
    @strawberry.field(
        graphql_type=Turn | None,
        description="A turn of one of the viewer's conversations. Null if there is none with "
        "this id.",
    )
    async def turn(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The id of the turn.")],
    ) -> turns.Turn | None:
        _ = info.context.viewer
        return await find_turn(info, id)


@strawberry.type
class TurnMutations:
    @strawberry.mutation(
        description="Add the next turn to a conversation. The response does not wait for the "
        "models.",
        extensions=[Refusable()],
    )
    async def send_edit(
        self,
        info: Info,
        input: Annotated[SendEditInput, strawberry.argument(description="The turn to add.")],
    ) -> SendEditPayload:
        turn, bookmark = await info.context.services.turns.send_edit(
            info.context.viewer, input.to_command()
        )
        cursor = info.context.services.turn_cursors.make(turn.conversation_id, bookmark)
        return SendEditPayload(turn=turn, cursor=cursor)

    @strawberry.mutation(
        description="Run a failed or cancelled output again. It keeps its id and its position "
        "in the turn or post.",
        extensions=[Refusable()],
    )
    async def retry_output(
        self,
        info: Info,
        input: Annotated[
            RetryOutputInput, strawberry.argument(description="The output to run again.")
        ],
    ) -> RetryOutputPayload:
        parent, output, bookmark = await info.context.services.outputs.retry(
            info.context.viewer, input.to_command()
        )
        turn, cursors = turns.as_turn(parent), info.context.services.turn_cursors
        return RetryOutputPayload(
            output=output,
            turn=turn,
            post=as_post(parent),
            cursor=cursors.make(turn.conversation_id, bookmark) if turn else None,
        )

    @strawberry.mutation(
        description="Add a turn with the message, the references and the options of another one, "
        "and with new seeds: a new `options.seed` if all models support seeds. "
        "To change anything else, send them with `sendEdit`.",
        extensions=[Refusable()],
    )
    async def rerun_turn(
        self,
        info: Info,
        input: Annotated[
            RerunTurnInput, strawberry.argument(description="The turn to run once more.")
        ],
    ) -> RerunTurnPayload:
        turn, bookmark = await info.context.services.turns.rerun(
            info.context.viewer, input.to_command()
        )
        cursor = info.context.services.turn_cursors.make(turn.conversation_id, bookmark)
        return RerunTurnPayload(turn=turn, cursor=cursor)

    @strawberry.mutation(
        description="Delete a turn that nothing builds on, with the images of its outputs, except "
        "favourites. TURN_IN_USE if a turn has one of its images as a reference, or a conversation "
        "has one as source image. Outputs that have not ended are cancelled. The other turns keep "
        "their `turnIndex`. Subscribers of `conversationUpdated` receive the new `turnCount`; "
        "`turnUpdated` sends nothing.",
        extensions=[Refusable()],
    )
    async def delete_turn(
        self,
        info: Info,
        input: Annotated[DeleteTurnInput, strawberry.argument(description="The turn to delete.")],
    ) -> DeleteTurnPayload:
        deleted = await info.context.services.branches.delete_turn(
            info.context.viewer, input.turn_id
        )
        return DeleteTurnPayload(deleted_turn_id=strawberry.ID(deleted))

    @strawberry.mutation(
        description="Choose the output of a turn to continue from, one at a time. If its turn is "
        "the latest one with images, it is the base of the next turn, and the other outputs of its "
        "turn are no longer included automatically; name them in `previousOutputIds` to "
        "include them. It can be changed and taken back at any time.",
        extensions=[Refusable()],
    )
    async def choose_output(
        self,
        info: Info,
        input: Annotated[
            ChooseOutputInput, strawberry.argument(description="The output to choose.")
        ],
    ) -> ChooseOutputPayload:
        turn, output = await info.context.services.choices.choose(
            info.context.viewer, input.to_command()
        )
        return ChooseOutputPayload(output=output, turn=turn)

    @strawberry.mutation(
        description="Cancel an output that has not ended. The other outputs of the turn or post "
        "continue.",
        extensions=[Refusable()],
    )
    async def cancel_output(
        self,
        info: Info,
        input: Annotated[
            CancelOutputInput, strawberry.argument(description="The output to cancel.")
        ],
    ) -> CancelOutputPayload:
        parent, output = await info.context.services.outputs.cancel(
            info.context.viewer, input.output_id
        )
        return CancelOutputPayload(output=output, turn=turns.as_turn(parent), post=as_post(parent))

    @strawberry.mutation(
        description="Cancel all outputs of a turn that have not ended. Delivered images are "
        "kept. Closing a connection never cancels anything.",
        extensions=[Refusable()],
    )
    async def cancel_turn(
        self,
        info: Info,
        input: Annotated[CancelTurnInput, strawberry.argument(description="The turn to cancel.")],
    ) -> CancelTurnPayload:
        turn = await info.context.services.turns.cancel_turn(info.context.viewer, input.turn_id)
        return CancelTurnPayload(turn=turn)


def _deliver_updates(
    info: Info,
    *,
    conversation_id: str,
    after: str | None = strawberry.UNSET,
    to: Receiver[turns.TurnUpdate],
) -> Coroutine[Any, Any, None]:
    updates = info.context.services.updates.turns
    return updates.deliver(info.context.viewer, conversation_id, after=given(after), to=to)


@strawberry.type
class TurnSubscriptions:
    @strawberry.subscription(
        graphql_type=TurnUpdate,
        description="Changes of the turns of a conversation: a turn is added, a preview "
        "arrives, an output delivers its images or fails, a turn ends. Sends the "
        "latest turn and every turn that has not ended first, in their current "
        "state; with `after`, also every turn that has changed since that cursor. "
        "No delivered image is ever missed, even if a connection, process or "
        "database node is lost in between. The same state may be sent twice. "
        "Completes when the conversation is deleted.",
        metadata=hints(delivers=_deliver_updates),
    )
    async def turn_updated(
        self,
        info: Info,
        conversation_id: Annotated[
            strawberry.ID, strawberry.argument(description="The conversation to subscribe to.")
        ],
        after: Annotated[
            str | None,
            strawberry.argument(
                description="The newest cursor that the client has, to continue from there. "
                "If omitted, start with the current state."
            ),
        ] = strawberry.UNSET,
    ) -> AsyncGenerator[turns.TurnUpdate, None]:
        updates = info.context.services.updates.turns.of(
            info.context.viewer, conversation_id, after=given(after)
        )
        async with aclosing(updates):
            async for update in updates:
                yield update
