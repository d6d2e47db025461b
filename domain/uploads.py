"""Uploads: what a client says it will send, the presigned URL for that, and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from domain.errors import UserError
from domain.ids import ImageId, UploadId


class UploadMethod(StrEnum):
    PUT = "PUT"
    """The bytes as they are."""
    POST = "POST"
    """A form (`multipart/form-data`): the presigned fields first, then the bytes as `file`."""


class UploadPurpose(StrEnum):
    IMAGE = "IMAGE"
    IMPORT = "IMPORT"
    """An export, to be taken back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadAbilities:
    """What an object store can do of what uploads would like it to. The folder can do all."""

    takes_forms: bool | None = True
    """It takes a POST. Cloudflare R2 and Backblaze B2 do not. None: not known at the
    moment.
    """
    takes_once: bool = True
    """It takes a PUT that is conditional on being the first one. Backblaze B2 does not."""

    def choose_method(self, requested: UploadMethod) -> UploadMethod:
        """The requested method if the store is known to support it, otherwise PUT."""
        return requested if self.takes_forms else UploadMethod.PUT


EVERY_ABILITY: Final = UploadAbilities()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredFile:
    """One file as its client declares it. What arrives has to be just so."""

    content_type: str
    byte_size: int
    sha256: bytes | None = None
    """The digest's 32 bytes, where the client has computed it."""


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """A file that a client wants to send."""

    file: DeclaredFile
    filename: str | None
    method: UploadMethod
    purpose: UploadPurpose = UploadPurpose.IMAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class PresignedUpload:
    """How to send one object to the store: good for one file and a limited time, for
    anyone who has it.
    """

    url: str
    method: UploadMethod
    headers: Mapping[str, str]
    """To be sent as they are. Clients add the length by themselves."""
    fields: Mapping[str, str]
    """Of the form, to be sent as they are, and before the file; none for PUT."""
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One file, as it is kept from its presigned URL on."""

    id: UploadId
    key: str
    """Where the store puts what comes. Once there is an image, nothing is read from it."""
    file: DeclaredFile
    filename: str | None
    """What the client calls it: a label, never a part of a key or a path."""
    created_at: datetime
    purpose: UploadPurpose = UploadPurpose.IMAGE
    image_id: ImageId | None = None
    """What was made of it."""
    refusal: UserError | None = None
    """Why nothing will ever be made of it."""
