"""The object store in a folder, and the signed URLs that open its objects.

An object is complete or does not exist, and never changes. A key is checked before the file system
is used: only what `new_key` and `rendition_key` make is a key. No symbolic link below the folder is
followed.
"""

import asyncio
import errno
import hmac
import os
import re
import secrets
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, Self, TypeVar, TypeVarTuple

from domain.errors import ObjectMissing, ObjectTooLarge, StoreUnavailable
from domain.images import FOLDERS
from domain.object_keys import (
    LINK_WINDOW_SECONDS,
    OFFER_SECONDS,
    checked,
    checked_offer,
    content_type_of,
    has_links,
    is_key,
)
from domain.ports.objects import MAX_OBJECT_BYTES, Link, StoredObject
from domain.signing import Signer
from domain.uploads import (
    EVERY_ABILITY,
    DeclaredFile,
    UploadAbilities,
    UploadMethod,
    UploadOffer,
)
from storage.objects.links import Links

LEFTOVER_PREFIX: Final = ".put-"
"""The beginning of the names of files that a killed process has left half written. Nothing reads
them; after an hour they can be removed.
"""

_THREADS: Final = 8
_LINK_PURPOSE: Final = "link"
_OFFER_PURPOSE: Final = "upload offer"
_QUERY: Final = re.compile(r"expires=([1-9][0-9]{9,10})&signature=([A-Za-z0-9_-]{22})")
_READ_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

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
        self._folder = folder
        self._public_url = public_url.rstrip("/")
        self._signer = signer
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="objects")
        # A page asks for each of its links several times, and its reader for the page again.
        self._links = Links(self._sign_link, clock)

    async def put(self, key: str, data: bytes) -> None:
        """Store an object. Returns once all of it is on the disk; until then it is not visible."""
        await self._run(self._put, checked(key), data, True)

    async def put_parts(self, key: str, parts: AsyncIterator[bytes]) -> None:
        """As `put`, part by part."""
        await self._put_parts(key, parts, True)

    async def put_new_parts(self, key: str, parts: AsyncIterator[bytes]) -> bool:
        """As `put_new`, part by part."""
        return await self._put_parts(key, parts, False)

    async def _put_parts(self, key: str, parts: AsyncIterator[bytes], replace: bool) -> bool:
        with ExitStack() as stack:
            # The loop closes it, and removes an unfinished file: neither waits for the disk.
            put = await self._run(self._begin, stack, checked(key), replace)
            async for part in parts:
                await self._run(put.file.write, part)
            return await self._run(put.finish, replace)

    async def put_new(self, key: str, data: bytes) -> bool:
        """As `put`, or return False if the object exists, and do not change it."""
        return await self._run(self._put, checked(key), data, False)

    async def get(self, key: str, *, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        """The whole object, or `ObjectMissing`, or `ObjectTooLarge`."""
        return await self._run(self._get, checked(key), max_bytes)

    async def delete(self, keys: Sequence[str]) -> None:
        await self._run(self._delete, [checked(key) for key in keys])

    async def delete_parts(self, key: str) -> None:
        """Delete an object, and the file that it was being written to."""
        await self._run(self._delete, [checked(key)], LEFTOVER_PREFIX)
        await self.delete([key])

    async def keys(
        self, shard: str, *, folders: Sequence[str] = FOLDERS
    ) -> AsyncIterator[StoredObject]:
        for folder in folders:
            for found in await self._run(self._list, f"{folder}/{shard}"):
                yield found

    async def size(self, key: str) -> int:
        """How many bytes the object has, or `ObjectMissing`."""
        return await self._run(self._size, checked(key))

    async def read(self, key: str, *, start: int, count: int) -> bytes:
        """Exactly `count` bytes of the object, or `ObjectMissing`.

        No file stays open between two reads, so a slow reader takes no descriptor.
        """
        return await self._run(self._read, checked(key), start, count)

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

    def offer(
        self,
        key: str,
        file: DeclaredFile,
        *,
        method: UploadMethod,
        owner: str = "",
        abilities: UploadAbilities = EVERY_ABILITY,  # noqa: ARG002 - it has all of them
    ) -> UploadOffer:
        """Presign an upload that the routes of `edge.signed_uploads` accept."""
        checked_offer(key, file)
        now = int(self._clock())
        expires = now + OFFER_SECONDS
        digest = file.sha256.hex() if file.sha256 else ""
        terms = f"{method}\n{key}\n{file.byte_size}\n{digest}\n{expires}\n{owner}"
        signed_terms = self._signer.sign(_OFFER_PURPOSE, terms.encode())
        put = method is UploadMethod.PUT
        return UploadOffer(
            url=f"{self._public_url}/{key}?offer={signed_terms}",
            method=method,
            headers={"Content-Type": file.content_type, "If-None-Match": "*"} if put else {},
            fields={} if put else {"key": key, "Content-Type": file.content_type},
            expires_at=datetime.fromtimestamp(expires, UTC),
        )

    def verify_offer(self, key: str, method: str, query: str) -> tuple[DeclaredFile, str] | None:
        """The file that an upload URL of this key allows by this method, and its owner; None if the
        URL is not valid, or not any more. It has to be exactly as `offer` made it.
        """
        terms = self._signer.verify(_OFFER_PURPOSE, query.removeprefix("offer="))
        if terms is None or not query.startswith("offer="):
            return None
        offered_method, offered_key, byte_size, digest, expires, owner = terms.decode().split("\n")
        if (offered_method, offered_key) != (method, key) or int(expires) <= self._clock():
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

    async def _run(self, work: Callable[[*Given], Result], *given: *Given) -> Result:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, work, *given)
        except OSError as error:
            raise StoreUnavailable(f"the store's folder failed: {error.strerror}") from error

    def _put(self, key: str, data: bytes, replace: bool) -> bool:
        with ExitStack() as stack:
            put = self._begin(stack, key, False)
            put.file.write(data)
            return put.finish(replace)

    def _begin(self, stack: ExitStack, key: str, findable: bool) -> "_Put":
        """Open a file for an object. The object exists once the file is finished within
        the stack. Where it is findable, nobody else may write this object at the same time.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder, name = stack.enter_context(self._parent(key, create=True))
        suffix = name if findable else secrets.token_hex(8)
        return stack.enter_context(_Put.open(folder, name, LEFTOVER_PREFIX + suffix))

    def _get(self, key: str, max_bytes: int) -> bytes:
        with self._file(key) as file:
            size = os.fstat(file).st_size
            if size > max_bytes:
                raise ObjectTooLarge(f"the object has {size} bytes")
            return _read_exactly(file, 0, size)

    def _size(self, key: str) -> int:
        with self._file(key) as file:
            return os.fstat(file).st_size

    def _read(self, key: str, start: int, count: int) -> bytes:
        with self._file(key) as file:
            return _read_exactly(file, start, count)

    def _delete(self, keys: Sequence[str], prefix: str = "") -> None:
        for key in keys:
            with (
                suppress(ObjectMissing),
                self._parent(key) as (folder, name),
                _translate_missing(),
            ):
                os.unlink(prefix + name, dir_fd=folder)

    def _list(self, folder: str) -> list[StoredObject]:
        found: list[StoredObject] = []
        with (
            suppress(ObjectMissing),
            self._parent(f"{folder}/") as (opened, _),
            os.scandir(opened) as entries,
        ):
            for entry in entries:
                key = f"{folder}/{entry.name}"
                if not is_key(key) or not entry.is_file(follow_symlinks=False):
                    continue
                with suppress(FileNotFoundError):  # It has just been deleted.
                    info = entry.stat(follow_symlinks=False)
                    modified_at = datetime.fromtimestamp(info.st_mtime, UTC)
                    found.append(StoredObject(key, info.st_size, modified_at))
        return found

    @contextmanager
    def _file(self, key: str) -> Iterator[int]:
        """The object's file, open. Raise `ObjectMissing` for anything that `put` cannot
        have made.
        """
        with self._parent(key) as (folder, name):
            with _translate_missing():
                file = os.open(name, _READ_FILE, dir_fd=folder)
            try:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise ObjectMissing("there is no such object")
                yield file
            finally:
                os.close(file)

    @contextmanager
    def _parent(self, key: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """The folder of the object's file, open, and the file's name in it.

        Each step starts from the open folder of the step before, not from a path: nobody can put a
        symbolic link into a place that has been checked already.
        """
        *folders, name = key.split("/")
        try:
            # The store's own folder may be a symbolic link: the operator decides that.
            folder = os.open(self._folder, _READ_FOLDER & ~os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise ObjectMissing("nothing has been put yet") from error
        try:
            for step in folders:
                if create and _make_folder(step, within=folder):
                    os.fsync(folder)
                with _translate_missing():
                    inner = os.open(step, _READ_FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder, name
        finally:
            os.close(folder)


@dataclass(frozen=True, slots=True)
class _Put:
    """A file that is being written, and will become an object's."""

    file: BinaryIO
    _temporary: str
    _name: str
    _folder: int

    @classmethod
    @contextmanager
    def open(cls, folder: int, name: str, temporary: str) -> Iterator[Self]:
        # In the same folder, so that the rename stays within one file system and is atomic.
        try:
            with os.fdopen(os.open(temporary, _NEW_FILE, 0o600, dir_fd=folder), "wb") as file:
                yield cls(file, temporary, name, folder)
        finally:
            with suppress(OSError):  # It has been renamed already.
                os.unlink(temporary, dir_fd=folder)

    def finish(self, replace: bool) -> bool:
        """Give the file its name. Return False if there is such an object, which must not be
        replaced.
        """
        self.file.flush()
        os.fsync(self.file.fileno())
        if replace:
            os.replace(
                self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder
            )
        elif not _move_without_replacing(self._temporary, self._name, within=self._folder):
            return False
        # The name has to survive a power cut as well as the bytes: a record will refer to it.
        os.fsync(self._folder)
        return True


def _make_folder(name: str, *, within: int) -> bool:
    try:
        os.mkdir(name, 0o700, dir_fd=within)
    except FileExistsError:
        return False
    return True


def _move_without_replacing(old: str, new: str, *, within: int) -> bool:
    try:
        # A second name for the file: unlike a rename, it never replaces another file.
        os.link(old, new, src_dir_fd=within, dst_dir_fd=within, follow_symlinks=False)
    except FileExistsError:
        return False
    finally:
        os.unlink(old, dir_fd=within)
    return True


@contextmanager
def _translate_missing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # A symbolic link, or something else in place of a folder, counts as missing.
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            raise ObjectMissing("there is no such object") from error
        raise


def _read_exactly(file: int, start: int, count: int) -> bytes:
    parts = []
    while count > 0:
        part = os.pread(file, count, start)
        if not part:
            raise OSError(errno.EIO, "the object is shorter than it was")
        parts.append(part)
        start += len(part)
        count -= len(part)
    return b"".join(parts)


def _link_signature(signer: Signer, key: str, expires: str) -> str:
    return signer.text_tag(_LINK_PURPOSE, f"{key}\n{expires}".encode())
