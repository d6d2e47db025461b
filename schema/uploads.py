"""Uploads: what a client declares, how it is to send it, and the image that comes of it."""

from base64 import b64decode
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, ClassVar, Final

import strawberry

from domain import images, uploads
from domain.errors import BadUserInput
from domain.uploads import DeclaredFile, UploadOffer, UploadRequest
from schema.companions import companion
from schema.enums import described_enum
from schema.errors import Payload
from schema.images import Image
from schema.scalars import given

_DIGEST_BYTES: Final = 32

described_enum(
    uploads.UploadMethod,
    "How the bytes are sent.",
    PUT="The bytes as they are, with the offer's headers.",
    POST="A form (`multipart/form-data`), as React Native sends it: the offer's fields first, then "
    "the bytes as `file`.",
)


@strawberry.input(description="One file, as it will be sent.")
class UploadFileInput:
    content_type: str = strawberry.field(
        description="`image/png`, `image/jpeg` or `image/webp`; what the bytes are, whatever the "
        "file is called."
    )
    byte_size: int = strawberry.field(
        description="The file's exact length: 1 to `viewer.limits.maxUploadBytes`."
    )
    filename: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="A label, cut to 255 characters on one line; never a path.",
    )
    sha256: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The file's SHA-256, in hex, or in standard base64 with padding. Then "
        "only these very bytes are taken.",
    )
    method: uploads.UploadMethod | None = strawberry.field(
        default=uploads.UploadMethod.PUT, description="How the bytes are to be sent."
    )

    def to_request(self) -> UploadRequest:
        digest = given(self.sha256)
        file = DeclaredFile(
            content_type=self.content_type,
            byte_size=self.byte_size,
            sha256=_read_digest(digest) if digest is not None else None,
        )
        return UploadRequest(file, given(self.filename), self.method or uploads.UploadMethod.PUT)


@strawberry.input(description="The files to send: all of them are offered a place, or none.")
class CreateUploadsInput:
    files: list[UploadFileInput] = strawberry.field(description="At most 100.")

    def to_requests(self) -> list[UploadRequest]:
        return [file.to_request() for file in self.files]


@strawberry.type(description="A header to send as it is.")
class HttpHeader:
    name: str = strawberry.field(description="E.g. `Content-Type`.")
    value: str = strawberry.field(description="To be sent as it is.")


@strawberry.type(description="A field of a form, to send as it is and before the file.")
class FormField:
    name: str = strawberry.field(description="E.g. `key`.")
    value: str = strawberry.field(description="To be sent as it is.")


@strawberry.type(
    description="A place for one file, and how to send it there. Send nothing else along: no "
    "token, no cookie. Then call `completeUpload`."
)
class Upload:
    source: ClassVar[type] = UploadOffer
    """With the upload that it is made for as companion."""

    url: str = strawberry.field(description="Where to: absolute, signed, good for this file only.")
    method: uploads.UploadMethod = strawberry.field(description="How: as was asked for.")
    expires_at: datetime = strawberry.field(description="When nothing is taken any more.")

    @strawberry.field(description="For `completeUpload`.")
    @staticmethod
    def id(offer: strawberry.Parent[UploadOffer]) -> strawberry.ID:
        return strawberry.ID(_upload_of(offer).id)

    @strawberry.field(description="The label, as it is kept.")
    @staticmethod
    def filename(offer: strawberry.Parent[UploadOffer]) -> str | None:
        return _upload_of(offer).filename

    @strawberry.field(description="Of a PUT. Clients add the length by themselves; none for POST.")
    @staticmethod
    def headers(offer: strawberry.Parent[UploadOffer]) -> list[HttpHeader]:
        return [HttpHeader(name=name, value=value) for name, value in offer.headers.items()]

    @strawberry.field(description="Of a POST's form, before `file`; none for PUT.")
    @staticmethod
    def fields(offer: strawberry.Parent[UploadOffer]) -> list[FormField]:
        return [FormField(name=name, value=value) for name, value in offer.fields.items()]


def _upload_of(offer: UploadOffer) -> uploads.Upload:
    upload = companion(offer, uploads.Upload)
    assert upload is not None
    return upload


@strawberry.type(description="The places that were offered.")
class CreateUploadsPayload(Payload):
    uploads: Annotated[
        Sequence[UploadOffer],
        strawberry.field(
            graphql_type=list[Upload],
            description="In the order of the files; none where it was refused.",
        ),
    ] = ()


@strawberry.input(description="Names the upload whose bytes have been sent.")
class CompleteUploadInput:
    upload_id: strawberry.ID = strawberry.field(description="The upload.")


@strawberry.type(description="What came of the upload.")
class CompleteUploadPayload(Payload):
    image: Annotated[
        images.Image | None,
        strawberry.field(
            graphql_type=Image | None,
            description="In the gallery from now on, and good as source or reference; null where "
            "it was refused.",
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
