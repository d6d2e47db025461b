"""Uploads: the declared file, how to send it, and the image that it becomes."""

from base64 import b64decode
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, ClassVar, Final

import strawberry

from domain import images, uploads
from domain.errors import BadUserInput
from domain.uploads import DeclaredFile, PresignedUpload, UploadRequest
from schema.companions import companion
from schema.enums import described_enum
from schema.errors import Payload
from schema.hints import hints
from schema.images import Image
from schema.scalars import given

_DIGEST_BYTES: Final = 32

described_enum(
    uploads.UploadPurpose,
    "What an uploaded file is for.",
    IMAGE="An image, for `completeUpload`.",
    IMPORT="The ZIP of an export, for `importConversation`.",
)
described_enum(
    uploads.UploadMethod,
    "How a file is sent to the upload URL.",
    PUT="The file is the body of the request. Send `Upload.headers` with it.",
    POST="A form (`multipart/form-data`), as React Native sends it: first "
    "`Upload.fields`, then the file as `file`.",
)


@strawberry.input(description="A file to upload.")
class UploadFileInput:
    content_type: str = strawberry.field(
        description="The type to send the file with: `image/png`, `image/jpeg`, `image/webp`, or "
        "`image/heic` or `image/heif` if this server can read HEIC. The image gets the type that "
        "its bytes have, if it is one of these; HEIC becomes JPEG, or WebP if it has transparency. "
        "Other names of a type, such as `image/jpg`, are accepted: `Upload.headers` and "
        "`Upload.fields` then have the usual one."
    )
    byte_size: int = strawberry.field(
        description="The exact size in bytes: 1 to `viewer.limits.maxUploadBytes`.",
        metadata=hints(clamped=True),
    )
    filename: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="A label to keep with the upload. It is shortened to 255 characters on one "
        "line.",
    )
    sha256: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The SHA-256 digest of the file, in hex or in standard base64 with padding. "
        "If it is given, no other file is accepted.",
    )
    method: uploads.UploadMethod | None = strawberry.field(
        default=uploads.UploadMethod.PUT,
        description="How the client would like to send the file. `Upload.method` says how it has "
        "to be sent.",
    )

    purpose: uploads.UploadPurpose | None = strawberry.field(
        default=uploads.UploadPurpose.IMAGE,
        description="What the file is for. IMPORT takes `application/zip`, with a limit of its own "
        "(1 GB by default), and is always sent by PUT.",
    )

    def to_request(self) -> UploadRequest:
        digest = given(self.sha256)
        file = DeclaredFile(
            content_type=images.usual_type(self.content_type),
            byte_size=self.byte_size,
            sha256=_read_digest(digest) if digest is not None else None,
        )
        return UploadRequest(
            file,
            given(self.filename),
            self.method or uploads.UploadMethod.PUT,
            self.purpose or uploads.UploadPurpose.IMAGE,
        )


@strawberry.input(
    description="The input of `createUploads`. Either all files are accepted, or none."
)
class CreateUploadsInput:
    files: list[UploadFileInput] = strawberry.field(description="The files: at most 100.")

    def to_requests(self) -> list[UploadRequest]:
        return [file.to_request() for file in self.files]


@strawberry.type(description="An HTTP header to send with the file.")
class HttpHeader:
    name: str = strawberry.field(description="The name, e.g. `Content-Type`.")
    value: str = strawberry.field(description="The value. Send it unchanged.")


@strawberry.type(description="A form field to send before the file.")
class FormField:
    name: str = strawberry.field(description="The name, e.g. `key`.")
    value: str = strawberry.field(description="The value. Send it unchanged.")


@strawberry.type(
    description="A presigned upload of one file. Send the file to `url` without a token or "
    "cookies, then call `completeUpload`."
)
class Upload:
    source: ClassVar[type] = PresignedUpload
    """With the upload that it is made for as companion."""

    url: str = strawberry.field(
        description="The upload URL: absolute and presigned, for this file only."
    )
    method: uploads.UploadMethod = strawberry.field(
        description="How to send the file. It is PUT, whatever was declared in `createUploads`, if "
        "the object store supports no POST forms."
    )
    expires_at: datetime = strawberry.field(description="When the upload URL expires.")

    @strawberry.field(description="The id of the upload, for `completeUpload`.")
    @staticmethod
    def id(presigned: strawberry.Parent[PresignedUpload]) -> strawberry.ID:
        return strawberry.ID(_upload_of(presigned).id)

    @strawberry.field(description="The label that is kept with the upload.")
    @staticmethod
    def filename(presigned: strawberry.Parent[PresignedUpload]) -> str | None:
        return _upload_of(presigned).filename

    @strawberry.field(
        description="The headers to send with a PUT. HTTP clients add `Content-Length` "
        "automatically. Empty for POST."
    )
    @staticmethod
    def headers(presigned: strawberry.Parent[PresignedUpload]) -> list[HttpHeader]:
        return [HttpHeader(name=name, value=value) for name, value in presigned.headers.items()]

    @strawberry.field(
        description="The fields to send in the form of a POST, before `file`. Empty for PUT."
    )
    @staticmethod
    def fields(presigned: strawberry.Parent[PresignedUpload]) -> list[FormField]:
        return [FormField(name=name, value=value) for name, value in presigned.fields.items()]


def _upload_of(presigned: PresignedUpload) -> uploads.Upload:
    upload = companion(presigned, uploads.Upload)
    assert upload is not None
    return upload


@strawberry.type(description="The uploads to send the files to.")
class CreateUploadsPayload(Payload):
    uploads: Annotated[
        Sequence[PresignedUpload],
        strawberry.field(
            graphql_type=list[Upload],
            description="The uploads in the order of the files. Empty if the mutation was refused.",
        ),
    ] = ()


@strawberry.input(description="The input of `completeUpload`. The file has to be sent before.")
class CompleteUploadInput:
    upload_id: strawberry.ID = strawberry.field(description="The id of the upload.")


@strawberry.type(description="The image that the upload has become.")
class CompleteUploadPayload(Payload):
    image: Annotated[
        images.Image | None,
        strawberry.field(
            graphql_type=Image | None,
            description="The new image. It is in the gallery and can be used as a source image or "
            "reference. Null if the mutation was refused.",
        ),
    ] = None


def _read_digest(text: str) -> bytes:
    in_hex = len(text) == 2 * _DIGEST_BYTES
    try:
        digest = bytes.fromhex(text) if in_hex else b64decode(text, validate=True)
    except ValueError:
        digest = b""
    if len(digest) != _DIGEST_BYTES:
        raise BadUserInput("`sha256` is written in hex, 64 characters, or in base64.")
    return digest
