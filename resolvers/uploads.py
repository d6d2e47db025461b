"""Root fields of uploads."""

from typing import Annotated

import strawberry

from schema.context import Info
from schema.errors import Refusable
from schema.images import Image
from schema.uploads import (
    CompleteUploadInput,
    CompleteUploadPayload,
    CreateUploadsInput,
    CreateUploadsPayload,
    Upload,
)


@strawberry.type
class UploadMutations:
    @strawberry.mutation(
        description="Asks for places to upload reference or source images to; the bytes go "
        "straight to the object store.",
        extensions=[Refusable(CreateUploadsPayload)],
    )
    async def create_uploads(
        self,
        info: Info,
        input: Annotated[CreateUploadsInput, strawberry.argument(description="Which files.")],
    ) -> CreateUploadsPayload:
        offered = await info.context.uploads.create(info.context.viewer, input.to_requests())
        return CreateUploadsPayload(uploads=[Upload.of(*one) for one in offered])

    @strawberry.mutation(
        description="Reads what was uploaded once, checks it, turns it upright, takes all metadata "
        "out, and makes it an image of its own: later writes to the upload change nothing. "
        "Repeatable: the same image again.",
        extensions=[Refusable(CompleteUploadPayload)],
    )
    async def complete_upload(
        self,
        info: Info,
        input: Annotated[CompleteUploadInput, strawberry.argument(description="Which upload.")],
    ) -> CompleteUploadPayload:
        record = await info.context.uploads.complete(info.context.viewer, input.upload_id)
        return CompleteUploadPayload(image=Image.of_record(record))
