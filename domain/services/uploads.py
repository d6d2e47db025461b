"""Uploads: presigned uploads for files, and making images of the files that arrived."""

import asyncio
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from domain.errors import (
    ObjectMissing,
    ObjectTooLarge,
    Overloaded,
    PictureRefused,
    QueryTooComplex,
    RateLimited,
    Refused,
    StoreUnavailable,
    UserError,
    UserErrorCode,
)
from domain.execution.image_writer import ImageWriter
from domain.ids import new_upload_id, parse_upload_id
from domain.images import ARCHIVE, UPLOAD_EXTENSIONS, ImageOrigin, ImageRecord, new_key
from domain.ports.images import ImageRepository
from domain.ports.imaging import HEIC_UNSUPPORTED, UploadProcessor
from domain.ports.objects import UploadStore
from domain.ports.uploads import UploadRepository
from domain.refusals import Refusals, refuse
from domain.text import is_blank, shorten
from domain.uploads import (
    PresignedUpload,
    Upload,
    UploadAbilities,
    UploadMethod,
    UploadPurpose,
    UploadRequest,
)
from domain.viewers import Viewer
from domain.waiting import LimitedRounds, SemaphoresByKey, holding

MAX_FILES: Final = 100
"""The largest number of files of one request, and of open uploads of one viewer."""
MAX_FILENAME_LENGTH: Final = 255

_READ_AT_ONCE: Final = 4
"""Each holds its bytes, and more while they are decoded."""
_READ_AT_ONCE_OF_ONE: Final = 2
"""For each viewer, so that one who uploads many files does not delay the others."""
_MAX_WAIT_SECONDS: Final = 2.5
"""For capacity. With reading, decoding and storing, it is less than an operation may take."""
_WAIT_SECONDS: Final = 60


class UploadService:
    def __init__(
        self,
        uploads: UploadRepository,
        images: ImageRepository,
        *,
        store: UploadStore,
        image_processor: UploadProcessor,
        image_writer: ImageWriter,
        max_bytes: int,
        max_import_bytes: int,
    ) -> None:
        self.max_bytes = max_bytes
        self._max_import_bytes = max_import_bytes
        self._uploads = uploads
        self._images = images
        self._store = store
        self._image_processor = image_processor
        self._image_writer = image_writer
        self._abilities: UploadAbilities | None = None
        self._finding = asyncio.Lock()
        self._rounds = LimitedRounds(most=MAX_FILES)
        self._capacity = asyncio.Semaphore(_READ_AT_ONCE)
        self._capacity_by_viewer = SemaphoresByKey(_READ_AT_ONCE_OF_ONE)

    async def create(
        self, viewer: Viewer, requests: Sequence[UploadRequest]
    ) -> Sequence[tuple[Upload, PresignedUpload]]:
        """Open an upload for each file, in their order; all or none.

        Raise Refused, QueryTooComplex, RateLimited if too many uploads are open, or Overloaded if
        it cannot be found out what the store takes.
        """
        if len(requests) > MAX_FILES:
            raise QueryTooComplex("files", maximum=MAX_FILES, actual=len(requests))
        self._check(requests)
        if not requests:
            return []
        abilities = await self._find_abilities()
        now = datetime.now(UTC)
        # For a hundred files this takes 20 ms, and to presign them and write the answer takes 10.
        await self._rounds.wait(len(requests))
        uploads = [
            Upload(
                id=new_upload_id(),
                key=new_key("uploads", request.file.content_type),
                file=request.file,
                filename=_label(request.filename),
                created_at=now,
                purpose=request.purpose,
            )
            for request in requests
        ]
        if not await self._uploads.open(viewer.id, uploads, at_most=MAX_FILES):
            message = f"At most {MAX_FILES} uploads can be open. Complete some or try again later."
            raise RateLimited(message, retry_after_seconds=_WAIT_SECONDS)
        await self._rounds.wait(len(requests))
        return [
            (upload, self._presign(viewer, upload, requested=request.method, abilities=abilities))
            for upload, request in zip(uploads, requests, strict=True)
        ]

    def _presign(
        self, viewer: Viewer, upload: Upload, *, requested: UploadMethod, abilities: UploadAbilities
    ) -> PresignedUpload:
        return self._store.presign(
            upload.key,
            upload.file,
            # An export is sent by PUT, whatever was requested.
            method=UploadMethod.PUT
            if upload.purpose is UploadPurpose.IMPORT
            else abilities.choose_method(requested),
            owner=viewer.id,
            abilities=abilities,
        )

    async def _find_abilities(self) -> UploadAbilities:
        """Read what the store can do, or find it out and store that for all processes."""
        async with self._finding:
            if self._abilities is None:
                self._abilities = await self._uploads.get_abilities(self._store.name)
            if self._abilities is None:
                try:
                    found = await self._store.find_abilities()
                except StoreUnavailable as error:
                    raise Overloaded from error
                if found.takes_forms is None:
                    return found
                await self._uploads.remember_abilities(self._store.name, found)
                self._abilities = found
            return self._abilities

    async def complete(self, viewer: Viewer, raw_upload_id: str) -> ImageRecord:
        """Make the uploaded file an image, once; return the same image when called again.

        The bytes that are kept were read once and checked, and have a key to which no client can
        write. Raise Overloaded where too many are being made.
        """
        upload = await self._find(viewer, raw_upload_id)
        if upload.purpose is not UploadPurpose.IMAGE:
            message = "This upload is an export: call `importConversation`."
            refuse(UserErrorCode.UPLOAD_TYPE_UNSUPPORTED, message, "uploadId")
        if upload.image_id is None:
            capacity = self._capacity_by_viewer.get(viewer.id), self._capacity
            async with holding(*capacity, max_seconds=_MAX_WAIT_SECONDS):
                upload = await self._find(viewer, raw_upload_id)
                record = await self._make_once(viewer, upload) if upload.image_id is None else None
            if record is not None:
                return record
            upload = await self._find(viewer, raw_upload_id)
        found = await self._images.get_many(viewer.id, [upload.image_id] if upload.image_id else [])
        if not found:
            refuse(
                UserErrorCode.NOT_FOUND, "The image of this upload has been deleted.", "uploadId"
            )
        [record] = found.values()
        return record

    async def _make_once(self, viewer: Viewer, upload: Upload) -> ImageRecord | None:
        """Make the image; None if another request has done so at the same time."""
        try:
            record = await self._make(viewer, upload)
        except Refused:
            # The other request may have deleted the file already.
            if (await self._find(viewer, upload.id)).image_id is None:
                raise
            return None
        if not await self._uploads.complete(viewer.id, upload.id, record):
            await self._image_writer.delete(record.image.keys)
            return None
        await self._image_writer.delete([upload.key])
        return record

    def _check(self, requests: Sequence[UploadRequest]) -> None:
        refusals = Refusals()
        for index, request in enumerate(requests):
            file, path = request.file, ("files", str(index))
            is_import = request.purpose is UploadPurpose.IMPORT
            max_bytes = self._max_import_bytes if is_import else self.max_bytes
            if not 0 < file.byte_size <= max_bytes:
                message = f"A file must have 1 to {max_bytes:,} bytes."
                refusals.add(UserErrorCode.UPLOAD_TOO_LARGE, message, *path, "byteSize")
            accepted = [ARCHIVE] if is_import else self._image_processor.content_types
            if file.content_type not in accepted:
                message = f"The content type must be one of {', '.join(accepted)}."
                if file.content_type in UPLOAD_EXTENSIONS:
                    message = HEIC_UNSUPPORTED
                refusals.add(UserErrorCode.UPLOAD_TYPE_UNSUPPORTED, message, *path, "contentType")
        refusals.raise_if_any()

    async def _find(self, viewer: Viewer, raw_upload_id: str) -> Upload:
        upload_id = parse_upload_id(raw_upload_id)
        upload = await self._uploads.get(viewer.id, upload_id) if upload_id else None
        if upload is None:
            refuse(UserErrorCode.NOT_FOUND, "There is no such upload.", "uploadId")
        if upload.refusal is not None:
            refuse(upload.refusal.code, upload.refusal.message, "uploadId")
        return upload

    async def _make(self, viewer: Viewer, upload: Upload) -> ImageRecord:
        """Store the image's bytes, and return its record; or refuse the upload, which is final."""
        try:
            data = await self._read(upload)
            processed = await self._image_processor.process_upload(data)
            image = await self._image_writer.store(
                processed, origin=ImageOrigin.UPLOAD, created_at=datetime.now(UTC)
            )
        except PictureRefused as refused:
            await self._uploads.refuse(viewer.id, upload.id, UserError(refused.code, str(refused)))
            await self._image_writer.delete([upload.key])
            refuse(refused.code, str(refused), "uploadId")
        except StoreUnavailable as error:
            raise Overloaded from error
        return ImageRecord(image, prompt=None, made_from=())

    async def _read(self, upload: Upload) -> bytes:
        """Read the uploaded file, and refuse it if it is not the declared one."""
        file = upload.file
        try:
            data = await self._store.get(upload.key, max_bytes=file.byte_size)
        except ObjectMissing:
            refuse(UserErrorCode.UPLOAD_MISSING, "No file has been uploaded.", "uploadId")
        except ObjectTooLarge:
            data = b""
        # Not every store can refuse other bytes than the declared ones.
        if len(data) != file.byte_size or file.sha256 not in (None, sha256(data).digest()):
            message = "The uploaded file is not the declared one."
            refuse(UserErrorCode.UPLOAD_MISSING, message, "uploadId")
        return data


def _label(filename: str | None) -> str | None:
    """The name on one line, balanced and shortened; None if it has no visible characters."""
    head = (filename or "")[: 2 * MAX_FILENAME_LENGTH]  # A very long name would take too long.
    if is_blank(head):
        return None
    shown = (
        character
        for character in head
        if unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
    )
    return shorten("".join(shown).strip(), MAX_FILENAME_LENGTH)
