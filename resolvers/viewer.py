"""The viewer's own root fields."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import strawberry

from schema.context import Info
from schema.viewer import Viewer


@strawberry.type
class ViewerQueries:
    @strawberry.field(description="Whoever is asking. Needs a token.")
    def viewer(self, info: Info) -> Viewer:
        return Viewer.of(info.context.viewer)


@strawberry.type
class ViewerSubscriptions:
    @strawberry.subscription(
        description="The viewer's credits and active outputs: first as they stand now, then at "
        "every change."
    )
    async def viewer_updated(self, info: Info) -> AsyncGenerator[Viewer, None]:
        viewer = info.context.viewer
        updates = info.context.viewer_updates.of(viewer)
        async with aclosing(updates):
            async for account in updates:
                yield Viewer.of(viewer, at_hand=account)
