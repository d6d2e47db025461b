"""Root fields of images."""

from typing import Annotated

import strawberry

from domain import images
from resolvers.nodes import find_image
from schema.context import Info
from schema.errors import Refusable
from schema.images import (
    DeleteImageInput,
    DeleteImagePayload,
    DeleteImagesInput,
    DeleteImagesPayload,
    Image,
)


@strawberry.type
class ImageQueries:
    @strawberry.field(
        graphql_type=Image | None,
        description="An image of the viewer. Null if there is none with this id.",
    )
    async def image(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The id of the image.")],
    ) -> images.Image | None:
        _ = info.context.viewer
        return await find_image(info, id)


@strawberry.type
class ImageMutations:
    @strawberry.mutation(
        description="Delete an image and its files. Refused with IMAGE_IN_USE if it is the "
        "source image or a reference of a conversation. The output that delivered "
        "it is kept, without the image.",
        extensions=[Refusable()],
    )
    async def delete_image(
        self,
        info: Info,
        input: Annotated[DeleteImageInput, strawberry.argument(description="The image to delete.")],
    ) -> DeleteImagePayload:
        deleted = await info.context.services.images.delete(info.context.viewer, input.image_id)
        return DeleteImagePayload(deleted_image_id=strawberry.ID(deleted))

    @strawberry.mutation(
        description="Delete up to 100 images and their files, all or none. Refused as "
        "`deleteImage` is, with an error for each image that cannot be deleted; its `path` ends "
        "with the index in `imageIds`.",
        extensions=[Refusable()],
    )
    async def delete_images(
        self,
        info: Info,
        input: Annotated[
            DeleteImagesInput, strawberry.argument(description="The images to delete.")
        ],
    ) -> DeleteImagesPayload:
        deleted = await info.context.services.images.delete_many(
            info.context.viewer, input.image_ids
        )
        return DeleteImagesPayload(
            deleted_image_ids=[strawberry.ID(image_id) for image_id in deleted]
        )
