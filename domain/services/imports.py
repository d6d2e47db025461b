"""Imports: create one from an uploaded export, and read its progress."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NoReturn

from domain.errors import (
    ObjectMissing,
    Overloaded,
    RateLimited,
    StoreUnavailable,
    UserErrorCode,
)
from domain.execution.export_check import TookTooLong, check_export
from domain.ids import import_id_of, parse_upload_id
from domain.import_format.facts import NotAnExport
from domain.jobs import MAX_RUNNING_JOBS, Import
from domain.ports.jobs import ImportRepository
from domain.ports.objects import ArchiveStore
from domain.ports.uploads import UploadRepository
from domain.refusals import refuse
from domain.services.accounts import AccountService
from domain.uploads import Upload, UploadPurpose
from domain.viewers import Viewer
from domain.waiting import holding

_CHECKED_WHOLE_BYTES: Final = 50_000_000
"""A larger file is checked by the job: a request has no time for it."""
_CHECK_SECONDS: Final = 4.0
"""Less than an operation may take. What is not checked by then, the job checks."""
_CHECKED_AT_ONCE: Final = 2
"""Each may hold a part of a file in memory, as objects."""
_MAX_WAIT_SECONDS: Final = 2.0
_WAIT_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class ImportService:
    imports: ImportRepository
    uploads: UploadRepository
    accounts: AccountService
    objects: ArchiveStore
    begin: Callable[[], None]
    """Called when an import has been created. Without the call, the next search finds it."""
    _capacity: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(_CHECKED_AT_ONCE)
    )

    async def get_many(self, viewer: Viewer, ids: Iterable[str]) -> Mapping[str, Import]:
        return await self.imports.get_many(viewer.id, ids)

    async def create(self, viewer: Viewer, raw_upload_id: str) -> Import:
        """Begin to import an upload; later, return the same import again.

        Raise Refused, RateLimited where too many are running, or Overloaded.
        """
        upload = await self._find(viewer, raw_upload_id)
        job = Import(
            id=import_id_of(upload.id),
            owner_id=viewer.id,
            upload_id=upload.id,
            key=upload.key,
            created_at=datetime.now(UTC),
        )
        known = await self.imports.get_many(viewer.id, [job.id])
        if job.id in known:
            return known[job.id]
        await self._check(upload, job)
        await self.accounts.open(viewer.id)
        stored = await self.imports.create(job, at_most=MAX_RUNNING_JOBS)
        if stored is None:
            message = f"At most {MAX_RUNNING_JOBS} imports can run. Try again later."
            raise RateLimited(message, retry_after_seconds=_WAIT_SECONDS)
        self.begin()
        return stored

    async def _find(self, viewer: Viewer, raw_upload_id: str) -> Upload:
        upload_id = parse_upload_id(raw_upload_id)
        upload = await self.uploads.get(viewer.id, upload_id) if upload_id else None
        if upload is None:
            refuse(UserErrorCode.NOT_FOUND, "There is no such upload.", "uploadId")
        if upload.purpose is not UploadPurpose.IMPORT:
            message = "This upload is an image: create one with the purpose IMPORT."
            refuse(UserErrorCode.UPLOAD_TYPE_UNSUPPORTED, message, "uploadId")
        return upload

    async def _check(self, upload: Upload, job: Import) -> None:
        try:
            byte_size = await self.objects.get_size(upload.key)
            if byte_size != upload.file.byte_size:
                _refuse_missing("The uploaded file is not the declared one.")
            async with holding(self._capacity, max_seconds=_MAX_WAIT_SECONDS):
                await check_export(
                    self.objects,
                    job,
                    byte_size=byte_size,
                    with_files=byte_size <= _CHECKED_WHOLE_BYTES,
                    max_seconds=_CHECK_SECONDS,
                )
        except NotAnExport as error:
            refuse(UserErrorCode.EXPORT_INVALID, str(error), "uploadId")
        except ObjectMissing:
            _refuse_missing("No file has been uploaded.")
        except TookTooLong:
            return  # The job checks it too, and has more time.
        except (StoreUnavailable, TimeoutError) as error:
            raise Overloaded from error


def _refuse_missing(message: str) -> NoReturn:
    refuse(UserErrorCode.UPLOAD_MISSING, message, "uploadId")
