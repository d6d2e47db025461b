"""Where bytes are kept. A store that does not answer raises `StoreUnavailable`."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from domain.images import FOLDERS
from domain.uploads import (
    EVERY_ABILITY,
    DeclaredFile,
    UploadAbilities,
    UploadMethod,
    UploadOffer,
)


@dataclass(frozen=True, slots=True)
class Link:
    """A signed, absolute link to bytes, and when it ends."""

    url: str
    expires_at: datetime


MAX_OBJECT_BYTES: Final = 64_000_000


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a listing of the object store tells of one object."""

    key: str
    byte_size: int
    modified_at: datetime
    """By the store's clock: when it was put."""


class ObjectStore(Protocol):
    """Bytes by key. Keys end like file names, which tells their content type.

    An object is whole or not there. What is not a key is answered with ValueError.
    """

    async def put(self, key: str, data: bytes) -> None:
        """Return once the whole object is kept."""

    async def get(self, key: str, *, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        """The whole object. Raise `ObjectMissing`, or `ObjectTooLarge` without reading it all."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Keys that are not there are passed over."""

    def keys(self, shard: str, *, folders: Sequence[str] = FOLDERS) -> AsyncIterator[StoredObject]:
        """All that is there of one shard of `domain.images.SHARDS`, in no particular order. What is
        put or deleted meanwhile may be included or not.
        """

    def link(self, key: str) -> Link:
        """The same link for a good while, so that clients can cache what it gives.

        There is none to an upload, whose bytes nobody has looked at: ValueError.
        """


class ArchiveStore(ObjectStore, Protocol):
    """Takes large objects, too."""

    async def put_parts(self, key: str, parts: AsyncIterator[bytes]) -> None:
        """As `put`, for one that is not all in memory. What the parts raise is raised, and nothing
        is kept.
        """

    async def size(self, key: str) -> int:
        """How many bytes the object has, or `ObjectMissing`."""

    async def read(self, key: str, *, start: int, count: int) -> bytes:
        """Exactly `count` bytes of the object, at least one, or `ObjectMissing`."""


class UploadStore(Protocol):
    """Takes bytes from clients, under keys whose folder is `uploads`, and reads them back."""

    @property
    def name(self) -> str:
        """Which store it is, the same in every process."""

    async def find_abilities(self) -> UploadAbilities:
        """Find out what it takes, by sending it small files as a client would. None is left.

        Raise StoreUnavailable where it takes nothing at the moment.
        """

    def offer(
        self,
        key: str,
        file: DeclaredFile,
        *,
        method: UploadMethod,
        owner: str = "",
        abilities: UploadAbilities = EVERY_ABILITY,
    ) -> UploadOffer:
        """An offer to take this file under a new key, which the store itself keeps to.

        It asks nothing of the store that is not among its abilities: ValueError for a POST to one
        that takes no forms.

        A store that has few places lets none of its owners have all of them.

        It refuses another length or type, and what comes after 15 minutes. Another digest, and
        by PUT a second file, are refused by stores that can. A POST may replace the first file:
        what has been read and checked has to be kept elsewhere.
        """

    async def get(self, key: str, *, max_bytes: int) -> bytes:
        """As of an `ObjectStore`."""

    async def delete(self, keys: Sequence[str]) -> None: ...


class Objects(ArchiveStore, UploadStore, Protocol):
    """The store of images and uploads."""
