"""What the cleanup needs from the database."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from domain.ids import ConversationId, ExportId, ImageId, PostId, UploadId, ViewerId


@dataclass(frozen=True, slots=True)
class ReferencedKeys:
    """Keys that records refer to."""

    kept: frozenset[str]
    """Keys of objects that exist, since bytes are written before records."""
    awaited: frozenset[str]
    """Keys of uploads, whose bytes may exist, arrive later, or never arrive."""


class ReferencedObjectRepository(Protocol):
    async def read_shard(self, shard: str) -> ReferencedKeys:
        """The keys of one shard. Keys that are written or deleted in the meantime may be included
        or not.
        """

    async def find_owner(self) -> str:
        """An id that distinguishes this database from every other one, including a copy of it."""


@dataclass(frozen=True, slots=True)
class PeriodicJob:
    """A job that this process is to do now, and no other process."""

    times: int
    """How often the job has been started before."""
    now: datetime
    """By the database's clock."""


class PeriodicJobRepository(Protocol):
    async def begin(self, name: str, *, every: timedelta) -> PeriodicJob | None:
        """Begin a job that is due. No process can begin it again before the interval has passed.
        None: it is not due, or another process was faster.
        """


class ExpiringRepository(Protocol):
    """Records of all viewers that expire, some of them with bytes."""

    async def list_expired(self, *, limit: int) -> Mapping[str, Sequence[str]]:
        """Expired records, with the keys under which there may be bytes."""

    async def forget(self, ids: Iterable[str]) -> None:
        """Delete the records, after their bytes."""


class ErasureRepository(Protocol):
    """Deletes what belongs to a viewer. The account is the mark of an unfinished erasure."""

    async def begin(self, viewer_id: ViewerId, *, lease: timedelta) -> None:
        """Mark the viewer as being deleted: from then on nothing new is made for them.

        The caller holds the lease then, and may call this again to renew it.
        """

    async def take_over(self, *, lease: timedelta) -> ViewerId | None:
        """A viewer whose erasure was begun, and whose lease has expired."""

    async def renew(self, viewer_id: ViewerId, *, lease: timedelta) -> None: ...

    async def list_conversations(
        self, viewer_id: ViewerId, *, limit: int
    ) -> Sequence[ConversationId]: ...

    async def delete_turns_left(self, viewer_id: ViewerId) -> None:
        """Delete turns that have no conversation: those of imports that were not finished."""

    async def list_posts(self, viewer_id: ViewerId, *, limit: int) -> Sequence[PostId]: ...

    async def list_preview_keys(self, viewer_id: ViewerId) -> Sequence[str]: ...

    async def list_uploads(
        self, viewer_id: ViewerId, *, limit: int
    ) -> Mapping[UploadId, Sequence[str]]:
        """Uploads, and the keys under which there may be bytes."""

    async def delete_uploads(self, viewer_id: ViewerId, ids: Collection[UploadId]) -> None: ...

    async def list_trash(self, viewer_id: ViewerId, *, limit: int) -> Mapping[str, Sequence[str]]:
        """What is kept of deleted conversations, and the keys of its images."""

    async def delete_trash(self, viewer_id: ViewerId, ids: Collection[str]) -> None: ...

    async def list_images(
        self, viewer_id: ViewerId, *, limit: int
    ) -> Mapping[ImageId, Sequence[str]]:
        """Images, and the keys of all their renditions."""

    async def delete_images(self, viewer_id: ViewerId, ids: Collection[ImageId]) -> None: ...

    async def list_exports(self, viewer_id: ViewerId) -> Mapping[ExportId, Sequence[str]]:
        """Exports, and the keys of their ZIPs."""

    async def delete_imports(self, viewer_id: ViewerId) -> None:
        """Delete imports: a running one can write nothing from then on."""

    async def delete_exports(self, viewer_id: ViewerId, ids: Collection[ExportId]) -> None: ...

    async def delete_small_records(self, viewer_id: ViewerId) -> None:
        """Delete records without bytes: prompts, albums, counts of models, idempotency records."""

    async def delete_webhooks(self, viewer_id: ViewerId) -> None:
        """Delete webhooks and their deliveries. A request that is being sent at this moment still
        arrives.
        """

    async def anonymise_ledger(self, viewer_id: ViewerId, *, limit: int) -> bool:
        """Give entries of the ledger other ids and a name that cannot be traced to the viewer;
        False if there are none left.
        """

    async def finish(self, viewer_id: ViewerId) -> bool:
        """Delete the account, if nothing else is left of the viewer; False if something is.

        What is left in the account is forfeited in the ledger.
        """
