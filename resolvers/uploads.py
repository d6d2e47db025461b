"""Root fields of uploads."""

from typing import Annotated

import strawberry

from schema.companions import with_companion
from schema.context import Info
from schema.errors import Refusable
from schema.images import image_of
from schema.uploads import (
    CompleteUploadInput,
    CompleteUploadPayload,
    CreateUploadsInput,
    CreateUploadsPayload,
)


@strawberry.type
class UploadMutations:
    @strawberry.mutation(
        description="Asks for places to upload reference or source images to; the bytes go "
        "straight to the object store.",
        extensions=[Refusable()],
    )
    async def create_uploads(
        self,
        info: Info,
        input: Annotated[CreateUploadsInput, strawberry.argument(description="Which files.")],
    ) -> CreateUploadsPayload:
        offered = await info.context.uploads.create(info.context.viewer, input.to_requests())
        return CreateUploadsPayload(
            uploads=[with_companion(offer, upload) for upload, offer in offered]
        )

    @strawberry.mutation(
        description="Reads what was uploaded once, checks it, turns it upright, takes all metadata "
        "out, and makes it an image of its own: later writes to the upload change nothing. "
        "Repeatable: the same image again.",
        extensions=[Refusable()],
    )
    async def complete_upload(
        self,
        info: Info,
        input: Annotated[CompleteUploadInput, strawberry.argument(description="Which upload.")],
    ) -> CompleteUploadPayload:
        record = await info.context.uploads.complete(info.context.viewer, input.upload_id)
        return CompleteUploadPayload(image=image_of(record))
