"""The viewer's own root fields."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import strawberry

from domain import viewers
from schema.companions import with_companion
from schema.context import Info
from schema.viewer import Viewer


@strawberry.type
class ViewerQueries:
    @strawberry.field(graphql_type=Viewer, description="The viewer that the token identifies.")
    def viewer(self, info: Info) -> viewers.Viewer:
        return info.context.viewer


@strawberry.type
class ViewerSubscriptions:
    @strawberry.subscription(
        graphql_type=Viewer,
        description="The viewer's credits and number of active outputs. Sends the current state "
        "first, then the new state at every change.",
    )
    async def viewer_updated(self, info: Info) -> AsyncGenerator[viewers.Viewer, None]:
        viewer = info.context.viewer
        updates = info.context.services.viewer_updates.of(viewer)
        async with aclosing(updates):
            async for account in updates:
                yield with_companion(viewer, account)
