"""The viewer's own root field."""

import strawberry

from schema.context import Info
from schema.viewer import Viewer


@strawberry.type
class ViewerQueries:
    @strawberry.field(description="Whoever is asking. Needs a token.")
    def viewer(self, info: Info) -> Viewer:
        return Viewer.of(info.context.viewer)
