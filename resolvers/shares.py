"""Root fields of shares: give a link and take it back; read and follow what it leads to."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, TypeAlias

import strawberry

from domain import shown, turns
from domain.ports.changes import Receiver
from schema.context import Info
from schema.errors import Refusable
from schema.hints import hints
from schema.scalars import given
from schema.shares import (
    CreateShareInput,
    CreateSharePayload,
    RevokeShareInput,
    RevokeSharePayload,
    SharedConversation,
)
from schema.turns import TurnUpdate

Token: TypeAlias = Annotated[
    str, strawberry.argument(description="The token: the last part of the share's `url`.")
]


@strawberry.type
class ShareQueries:
    @strawberry.field(
        graphql_type=SharedConversation | None,
        description="What the link of a share leads to. Needs no token of a viewer. Null once the "
        "share has ended or was revoked. Each answer counts as a view.",
    )
    async def shared(self, info: Info, token: Token) -> shown.SharedConversation | None:
        return await info.context.services.shares.view(token)


@strawberry.type
class ShareMutations:
    @strawberry.mutation(
        description="Create a link by which anyone can read a conversation and follow it live. A "
        "conversation can have several.",
        extensions=[Refusable()],
    )
    async def create_share(
        self,
        info: Info,
        input: Annotated[
            CreateShareInput, strawberry.argument(description="What to share, and for how long.")
        ],
    ) -> CreateSharePayload:
        share = await info.context.services.shares.create(info.context.viewer, input.to_command())
        return CreateSharePayload(share=share)

    @strawberry.mutation(
        description="End a share at once. Its subscriptions complete. URLs of images that readers "
        "have already been given work until they expire.",
        extensions=[Refusable()],
    )
    async def revoke_share(
        self,
        info: Info,
        input: Annotated[RevokeShareInput, strawberry.argument(description="The share to revoke.")],
    ) -> RevokeSharePayload:
        revoked = await info.context.services.shares.revoke(info.context.viewer, input.share_id)
        return RevokeSharePayload(revoked_share_id=strawberry.ID(revoked))


async def _deliver_shared_updates(
    info: Info,
    *,
    token: str,
    after: str | None = strawberry.UNSET,
    to: Receiver[turns.TurnUpdate],
) -> None:
    await info.context.services.updates.shared_turns.deliver(token, after=given(after), to=to)


@strawberry.type
class ShareSubscriptions:
    @strawberry.subscription(
        graphql_type=TurnUpdate,
        description="As `turnUpdated`, for anyone who has the link of a share. Needs no token of a "
        "viewer. Completes when the share ends or is revoked, and when the conversation is "
        "deleted.",
        metadata=hints(delivers=_deliver_shared_updates, for_all=True),
    )
    async def shared_turn_updated(
        self,
        info: Info,
        token: Token,
        after: Annotated[
            str | None,
            strawberry.argument(
                description="The newest cursor that the client has, to continue from there. "
                "If omitted, start with the current state."
            ),
        ] = strawberry.UNSET,
    ) -> AsyncGenerator[turns.TurnUpdate, None]:
        updates = info.context.services.updates.shared_turns.of(token, after=given(after))
        async with aclosing(updates):
            async for update in updates:
                yield update
