"""The viewer's own root fields."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import strawberry

from domain import viewers
from schema.companions import with_companion
from schema.context import Info
from schema.errors import Refusable
from schema.viewer import DeleteViewerInput, DeleteViewerPayload, Viewer


@strawberry.type
class ViewerQueries:
    @strawberry.field(graphql_type=Viewer, description="The viewer that the token identifies.")
    def viewer(self, info: Info) -> viewers.Viewer:
        return info.context.viewer


@strawberry.type
class ViewerMutations:
    @strawberry.mutation(
        description="Delete the viewer with all conversations, posts, images, prompts and uploads, "
        "their files included. What is running is cancelled, credits are forfeited, subscriptions "
        "complete, and WebSockets are closed with 4403. Entries of the ledger are kept without a "
        "trace of the viewer. A large deletion may end after the response; until then, mutations "
        "that create something are answered with OVERLOADED. A later request with a token of the "
        "same person is that of a new viewer with the same id.",
        extensions=[Refusable()],
    )
    async def delete_viewer(
        self,
        info: Info,
        input: Annotated[
            DeleteViewerInput, strawberry.argument(description="The viewer to delete.")
        ],
    ) -> DeleteViewerPayload:
        deleted = await info.context.services.viewers.delete(info.context.viewer, input.viewer_id)
        return DeleteViewerPayload(deleted_viewer_id=strawberry.ID(deleted))


@strawberry.type
class ViewerSubscriptions:
    @strawberry.subscription(
        graphql_type=Viewer,
        description="The viewer's credits and number of active outputs. Sends the current state "
        "first, then the new state at every change.",
    )
    async def viewer_updated(self, info: Info) -> AsyncGenerator[viewers.Viewer, None]:
        viewer = info.context.viewer
        updates = info.context.services.updates.viewers.of(viewer)
        async with aclosing(updates):
            async for account in updates:
                yield with_companion(viewer, account)
