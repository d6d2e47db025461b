"""Where bytes are kept. A store that does not answer raises `StoreUnavailable`."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from domain.images import FOLDERS
from domain.uploads import (
    EVERY_ABILITY,
    DeclaredFile,
    PresignedUpload,
    UploadAbilities,
    UploadMethod,
)


@dataclass(frozen=True, slots=True)
class Link:
    """A signed, absolute URL of an object, and when it expires."""

    url: str
    expires_at: datetime


MAX_OBJECT_BYTES: Final = 64_000_000


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a listing of the object store says about one object."""

    key: str
    byte_size: int
    modified_at: datetime
    """When it was stored, by the store's clock."""


class ObjectStore(Protocol):
    """Stores bytes by key. Keys have endings like file names, which tell their content type.

    An object is complete or does not exist. Raises ValueError for a name that is not a key.
    """

    async def put(self, key: str, data: bytes) -> None:
        """Store an object. Returns once all of it is stored."""

    async def get(self, key: str, *, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        """The whole object. Raise `ObjectMissing`, or `ObjectTooLarge` without reading
        all of it.
        """

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects. Keys that do not exist are skipped."""

    def list_keys(
        self, shard: str, *, folders: Sequence[str] = FOLDERS
    ) -> AsyncIterator[StoredObject]:
        """All objects of one shard of `domain.images.SHARDS`, in no particular order.

        Objects that are stored or deleted in the meantime may be included or not.
        """

    def link(self, key: str) -> Link:
        """A link that stays the same for some time, so that clients can cache the object.

        Uploads have no links, since their bytes have not been checked: ValueError.
        """


class ArchiveStore(ObjectStore, Protocol):
    """Stores large objects, too."""

    async def put_parts(self, key: str, parts: AsyncIterator[bytes]) -> None:
        """As `put`, for an object that is not entirely in memory. What the parts raise is raised,
        and nothing is kept. Nobody else may store this object at the same time.
        """

    async def delete_parts(self, key: str) -> None:
        """Delete an object, and what a process that was killed has stored of it part by part. If
        one is still storing it, that fails.
        """

    async def get_size(self, key: str) -> int:
        """How many bytes the object has, or `ObjectMissing`."""

    async def read(self, key: str, *, start: int, count: int) -> bytes:
        """Exactly `count` bytes of the object, at least one, or `ObjectMissing`."""


class UploadStore(Protocol):
    """Takes files from clients, under keys whose folder is `uploads`, and reads them back."""

    @property
    def name(self) -> str:
        """The name of the store, the same in every process."""

    async def find_abilities(self) -> UploadAbilities:
        """Find out what kinds of uploads the store takes, by sending it small files as a client
        would. None of them is kept. Raise StoreUnavailable where it takes nothing at the moment.
        """

    def presign(
        self,
        key: str,
        file: DeclaredFile,
        *,
        method: UploadMethod,
        owner: str = "",
        abilities: UploadAbilities = EVERY_ABILITY,
    ) -> PresignedUpload:
        """Presign an upload of this file under a new key. The store itself enforces it.

        Only the given abilities are relied on: ValueError for a POST to a store that takes no
        forms. A store with little room does not give all of it to one owner.

        The store refuses another length or type, and files that come after 15 minutes; if it can,
        also another digest and, by PUT, a second file. A POST may replace the first file: a file
        that has been read and checked has to be kept under another key.
        """

    async def get(self, key: str, *, max_bytes: int) -> bytes:
        """As of an `ObjectStore`."""

    async def delete(self, keys: Sequence[str]) -> None: ...


class Objects(ArchiveStore, UploadStore, Protocol):
    """The store of images and uploads."""
