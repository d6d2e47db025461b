"""Root fields of turns: read one, ask for one, follow them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import strawberry

from domain import turns
from resolvers.nodes import find_turn
from schema.context import Info
from schema.errors import Refusable
from schema.scalars import given
from schema.turns import (
    CancelOutputInput,
    CancelOutputPayload,
    CancelTurnInput,
    CancelTurnPayload,
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
        description="A turn of one of the viewer's conversations, or null.",
    )
    async def turn(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The turn's id.")],
    ) -> turns.Turn | None:
        _ = info.context.viewer
        return await find_turn(info, id)


@strawberry.type
class TurnMutations:
    @strawberry.mutation(
        description="Asks for the next round of edits. Answers before any model has started.",
        extensions=[Refusable()],
    )
    async def send_edit(
        self,
        info: Info,
        input: Annotated[SendEditInput, strawberry.argument(description="What to change.")],
    ) -> SendEditPayload:
        turn, bookmark = await info.context.turns.send_edit(info.context.viewer, input.to_command())
        cursor = info.context.turn_cursors.make(turn.conversation_id, bookmark)
        return SendEditPayload(turn=turn, cursor=cursor)

    @strawberry.mutation(
        description="Runs a failed or cancelled output again, in place.",
        extensions=[Refusable()],
    )
    async def retry_output(
        self,
        info: Info,
        input: Annotated[RetryOutputInput, strawberry.argument(description="Which one.")],
    ) -> RetryOutputPayload:
        turn, output, bookmark = await info.context.turns.retry_output(
            info.context.viewer, input.to_command()
        )
        return RetryOutputPayload(
            output=output,
            turn=turn,
            cursor=info.context.turn_cursors.make(turn.conversation_id, bookmark),
        )

    @strawberry.mutation(
        description="Stops an output that is still at work. Its siblings go on.",
        extensions=[Refusable()],
    )
    async def cancel_output(
        self,
        info: Info,
        input: Annotated[CancelOutputInput, strawberry.argument(description="Which one.")],
    ) -> CancelOutputPayload:
        turn, output = await info.context.turns.cancel_output(info.context.viewer, input.output_id)
        return CancelOutputPayload(output=output, turn=turn)

    @strawberry.mutation(
        description="Stops what is still at work; what has landed stays. Closing a connection "
        "never cancels anything.",
        extensions=[Refusable()],
    )
    async def cancel_turn(
        self,
        info: Info,
        input: Annotated[CancelTurnInput, strawberry.argument(description="Which one.")],
    ) -> CancelTurnPayload:
        turn = await info.context.turns.cancel_turn(info.context.viewer, input.turn_id)
        return CancelTurnPayload(turn=turn)


@strawberry.type
class TurnSubscriptions:
    @strawberry.subscription(
        graphql_type=TurnUpdate,
        description="Every change of every turn of a conversation: a turn begins, a preview "
        "arrives, an output lands or fails, the turn ends. On subscribing, the latest turn, "
        "whatever its state, and every turn still at work come first, as they stand now; with "
        "`after`, so does every turn that changed since that cursor. Nothing that has landed is "
        "ever missed, whatever connection, process or database node was lost in between; a state "
        "may come twice. Ends by itself when the conversation is deleted.",
    )
    async def turn_updated(
        self,
        info: Info,
        conversation_id: Annotated[
            strawberry.ID, strawberry.argument(description="The conversation to follow.")
        ],
        after: Annotated[
            str | None, strawberry.argument(description="The newest cursor that one has seen.")
        ] = strawberry.UNSET,
    ) -> AsyncGenerator[turns.TurnUpdate, None]:
        updates = info.context.turn_updates.of(
            info.context.viewer, conversation_id, after=given(after)
        )
        async with aclosing(updates):
            async for update in updates:
                yield update
