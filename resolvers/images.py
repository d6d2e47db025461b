"""Root fields of images."""

from typing import Annotated

import strawberry

from resolvers.nodes import find_image
from schema.context import Info
from schema.images import Image


@strawberry.type
class ImageQueries:
    @strawberry.field(description="One of the viewer's images, or null.")
    async def image(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The image's id.")],
    ) -> Image | None:
        _ = info.context.viewer
        return await find_image(info, id)
