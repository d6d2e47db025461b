"""The object store in a folder, and the signed URLs that open its objects.

A key is checked before the file system is used: only what `new_key` and `rendition_key` make is a
key. `folder_files` has what is done with the files.
"""

import asyncio
import hmac
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

from domain.errors import StoreUnavailable
from domain.images import FOLDERS
from domain.object_keys import (
    LINK_WINDOW_SECONDS,
    UPLOAD_URL_SECONDS,
    checked,
    checked_upload,
    content_type_of,
    has_links,
)
from domain.ports.objects import MAX_OBJECT_BYTES, Link, StoredObject
from domain.signing import Signer
from domain.uploads import (
    EVERY_ABILITY,
    DeclaredFile,
    PresignedUpload,
    UploadAbilities,
    UploadMethod,
)
from domain.waiting import finish
from storage.objects.folder_files import LEFTOVER_PREFIX, FolderFiles
from storage.objects.links import Links

_THREADS: Final = 8
_WRITE_SECONDS: Final = 5.0
"""How long a cancelled call waits for its write."""
_LINK_PURPOSE: Final = "link"
_UPLOAD_PURPOSE: Final = "upload offer"
_QUERY: Final = re.compile(r"expires=([1-9][0-9]{9,10})&signature=([A-Za-z0-9_-]{22})")

Given = TypeVarTuple("Given")
Result = TypeVar("Result")


class FolderObjectStore:
    """An `ObjectStore` in a folder, which is made when the first object is stored.

    Raises ValueError for a name that is not a key. Files are accessed in threads of its own, so
    that a slow disk delays nothing else.
    """

    def __init__(
        self,
        folder: Path,
        *,
        public_url: str,
        signer: Signer,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._files = FolderFiles(folder)
        self._public_url = public_url.rstrip("/")
        self._signer = signer
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="objects")
        # A page asks for each of its links several times, and its reader for the page again.
        self._links = Links(self._sign_link, clock)

    async def put(self, key: str, data: bytes) -> None:
        """Store an object. Returns once all of it is on the disk; until then it is not visible."""
        await self._write(self._files.put, checked(key), data)

    async def put_parts(self, key: str, parts: AsyncIterator[bytes]) -> None:
        """As `put`, part by part."""
        await self._put_parts(key, parts, True)

    async def put_new_parts(self, key: str, parts: AsyncIterator[bytes]) -> bool:
        """As `put_parts`, or return False if the object exists, and do not change it."""
        return await self._put_parts(key, parts, False)

    async def _put_parts(self, key: str, parts: AsyncIterator[bytes], replace: bool) -> bool:
        with ExitStack() as stack:
            # The loop closes it, and removes an unfinished file: neither waits for the disk.
            put = await self._write(self._files.begin, stack, checked(key), replace)
            async for part in parts:
                await self._write(put.file.write, part)
            return await self._write(put.finish, replace)

    async def get(self, key: str, *, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        """The whole object, or `ObjectMissing`, or `ObjectTooLarge`."""
        return await self._run(self._files.get, checked(key), max_bytes)

    async def delete(self, keys: Sequence[str]) -> None:
        await self._run(self._files.delete, [checked(key) for key in keys])

    async def delete_parts(self, key: str) -> None:
        """Delete an object, and the file that it was being written to."""
        await self._run(self._files.delete, [checked(key)], LEFTOVER_PREFIX)
        await self.delete([key])

    async def list_keys(
        self, shard: str, *, folders: Sequence[str] = FOLDERS
    ) -> AsyncIterator[StoredObject]:
        for folder in folders:
            for found in await self._run(self._files.list, f"{folder}/{shard}"):
                yield found

    async def get_size(self, key: str) -> int:
        """How many bytes the object has, or `ObjectMissing`."""
        return await self._run(self._files.size, checked(key))

    async def read(self, key: str, *, start: int, count: int) -> bytes:
        """Exactly `count` bytes of the object, or `ObjectMissing`.

        No file stays open between two reads, so a slow reader takes no descriptor.
        """
        return await self._run(self._files.read, checked(key), start, count)

    def link(self, key: str) -> Link:
        """A link that is valid for 30 to 60 minutes, and the same for a window of 30."""
        return self._links.find(key)

    def _sign_link(self, key: str, begin: int) -> Link:
        expires = begin + 2 * LINK_WINDOW_SECONDS
        signature = _link_signature(self._signer, key, str(expires))
        return Link(
            f"{self._public_url}/objects/{key}?expires={expires}&signature={signature}",
            datetime.fromtimestamp(expires, UTC),
        )

    @property
    def name(self) -> str:
        return "folder"

    async def find_abilities(self) -> UploadAbilities:
        return EVERY_ABILITY

    def presign(
        self,
        key: str,
        file: DeclaredFile,
        *,
        method: UploadMethod,
        owner: str = "",
        abilities: UploadAbilities = EVERY_ABILITY,  # noqa: ARG002 - it has all of them
    ) -> PresignedUpload:
        """Presign an upload that the routes of `edge.signed_uploads` accept."""
        checked_upload(key, file)
        now = int(self._clock())
        expires = now + UPLOAD_URL_SECONDS
        digest = file.sha256.hex() if file.sha256 else ""
        terms = f"{method}\n{key}\n{file.byte_size}\n{digest}\n{expires}\n{owner}"
        signed_terms = self._signer.sign(_UPLOAD_PURPOSE, terms.encode())
        put = method is UploadMethod.PUT
        return PresignedUpload(
            url=f"{self._public_url}/{key}?offer={signed_terms}",
            method=method,
            headers={"Content-Type": file.content_type, "If-None-Match": "*"} if put else {},
            fields={} if put else {"key": key, "Content-Type": file.content_type},
            expires_at=datetime.fromtimestamp(expires, UTC),
        )

    def verify_upload_url(
        self, key: str, method: str, query: str
    ) -> tuple[DeclaredFile, str] | None:
        """The file that an upload URL of this key allows by this method, and its owner; None if the
        URL is not valid, or not any more. It has to be exactly as `presign` made it.
        """
        terms = self._signer.verify(_UPLOAD_PURPOSE, query.removeprefix("offer="))
        if terms is None or not query.startswith("offer="):
            return None
        signed_method, signed_key, byte_size, digest, expires, owner = terms.decode().split("\n")
        if (signed_method, signed_key) != (method, key) or int(expires) <= self._clock():
            return None
        file = DeclaredFile(
            content_type=content_type_of(key),
            byte_size=int(byte_size),
            sha256=bytes.fromhex(digest) or None,
        )
        return file, owner

    def seconds_left(self, key: str, query: str) -> float | None:
        """How long the query of a link remains valid for the key; None if it is not valid. It has
        to be exactly as `link` made it. Whether there is such an object does not matter.
        """
        parts = _QUERY.fullmatch(query)
        if parts is None or not has_links(key):
            return None
        expires, signature = parts.groups()
        if not any(
            hmac.compare_digest(_link_signature(signer, key, expires), signature)
            for signer in self._signer.accepted
        ):
            return None
        left = int(expires) - self._clock()
        return left if left > 0 else None

    async def aclose(self) -> None:
        """Wait for the files that are being read or written."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _write(self, work: Callable[[*Given], Result], *given: *Given) -> Result:
        """Write to a file, to the end even where the caller is cancelled: an object must not appear
        after the caller has deleted it, and no file is closed while a thread writes to it.
        """
        return await finish(self._run(work, *given), max_seconds=_WRITE_SECONDS)

    async def _run(self, work: Callable[[*Given], Result], *given: *Given) -> Result:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, work, *given)
        except OSError as error:
            raise StoreUnavailable(f"the store's folder failed: {error.strerror}") from error


def _link_signature(signer: Signer, key: str, expires: str) -> str:
    return signer.text_tag(_LINK_PURPOSE, f"{key}\n{expires}".encode())
