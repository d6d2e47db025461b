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
        description="Get presigned upload URLs for source images or references. The files go "
        "directly to the object store.",
        extensions=[Refusable()],
    )
    async def create_uploads(
        self,
        info: Info,
        input: Annotated[
            CreateUploadsInput, strawberry.argument(description="The files to upload.")
        ],
    ) -> CreateUploadsPayload:
        created = await info.context.services.uploads.create(
            info.context.viewer, input.to_requests()
        )
        return CreateUploadsPayload(
            uploads=[with_companion(presigned, upload) for upload, presigned in created]
        )

    @strawberry.mutation(
        description="Make an image of an uploaded file: check it, rotate it upright and remove "
        "all metadata. What is sent to the upload URL later does not change the "
        "image. Calling it again returns the same image.",
        extensions=[Refusable()],
    )
    async def complete_upload(
        self,
        info: Info,
        input: Annotated[
            CompleteUploadInput, strawberry.argument(description="The upload to complete.")
        ],
    ) -> CompleteUploadPayload:
        record = await info.context.services.uploads.complete(info.context.viewer, input.upload_id)
        return CompleteUploadPayload(image=image_of(record))
