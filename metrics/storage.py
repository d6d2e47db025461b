"""Counts calls to the database and the object store, and the credits and objects that they move and
delete.
"""

from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Final, TypeVar

from domain.cleanup.reconciliation import Comparison, ObjectReconciler
from domain.credits import Movement, MovementKind
from domain.errors import Overloaded, StoreUnavailable, UserError
from domain.ids import UploadId, ViewerId
from domain.images import FOLDERS
from domain.ports.objects import (
    MAX_OBJECT_BYTES,
    Link,
    Objects,
    StoredObject,
)
from domain.ports.observers import DatabaseObserver
from domain.traces import span
from domain.uploads import (
    EVERY_ABILITY,
    DeclaredFile,
    PresignedUpload,
    UploadAbilities,
    UploadMethod,
)
from metrics.series import Metrics
from storage.mongo.database import Database
from storage.mongo.uploads import MongoUploadRepository

_Result = TypeVar("_Result")


class DatabaseMetrics(DatabaseObserver):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._seconds_of = cache(metrics.database_calls.labels)

    def call_ended(self, repository: str, seconds: float, failure: BaseException | None) -> None:
        self._seconds_of(repository, _outcome(failure)).observe(seconds)

    def credits_moved(self, movements: Sequence[Movement]) -> None:
        for movement in movements:
            for kind, amount in _parts(movement):
                self._metrics.credits.labels(kind).inc(amount)


def _parts(movement: Movement) -> Iterable[tuple[str, int]]:
    match movement.kind:
        case MovementKind.GRANT:
            yield "granted", movement.balance
        case MovementKind.RESERVE:
            yield "reserved", movement.reserved
        case MovementKind.CAPTURE:
            # A part of what was reserved may be released.
            yield "captured", -movement.balance
            yield "released", movement.balance - movement.reserved
        case MovementKind.RELEASE:
            yield "released", -movement.reserved
        case MovementKind.FORFEIT:
            yield "forfeited", max(0, -movement.balance)


def _outcome(failure: BaseException | None) -> str:
    if failure is None:
        return "ok"
    return "away" if isinstance(failure, Overloaded | StoreUnavailable) else "failed"


class ObservedObjects:
    """A store whose calls are measured."""

    def __init__(self, store: Objects, metrics: Metrics) -> None:
        self._store = store
        self._calls: Final = metrics.store_calls

    @property
    def name(self) -> str:
        return self._store.name

    async def put(self, key: str, data: bytes) -> None:
        await self._measure("put", self._store.put(key, data))

    async def put_parts(self, key: str, parts: AsyncIterator[bytes]) -> None:
        await self._measure("put_parts", self._store.put_parts(key, parts))

    async def delete_parts(self, key: str) -> None:
        await self._measure("delete_parts", self._store.delete_parts(key))

    async def get_size(self, key: str) -> int:
        return await self._measure("size", self._store.get_size(key))

    async def read(self, key: str, *, start: int, count: int) -> bytes:
        return await self._measure("read", self._store.read(key, start=start, count=count))

    async def get(self, key: str, *, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        return await self._measure("get", self._store.get(key, max_bytes=max_bytes))

    async def delete(self, keys: Sequence[str]) -> None:
        await self._measure("delete", self._store.delete(keys))

    def list_keys(
        self, shard: str, *, folders: Sequence[str] = FOLDERS
    ) -> AsyncIterator[StoredObject]:
        return self._store.list_keys(shard, folders=folders)

    def link(self, key: str) -> Link:
        return self._store.link(key)

    async def find_abilities(self) -> UploadAbilities:
        return await self._store.find_abilities()

    def presign(
        self,
        key: str,
        file: DeclaredFile,
        *,
        method: UploadMethod,
        owner: str = "",
        abilities: UploadAbilities = EVERY_ABILITY,
    ) -> PresignedUpload:
        return self._store.presign(key, file, method=method, owner=owner, abilities=abilities)

    async def _measure(self, call: str, running: Awaitable[_Result]) -> _Result:
        began_at, failure = perf_counter(), None
        try:
            with span(f"store {call}", outwards=True):
                return await running
        except BaseException as error:
            failure = error
            raise
        finally:
            self._calls.labels(call, _outcome(failure)).observe(perf_counter() - began_at)


class ObservedUploads(MongoUploadRepository):
    def __init__(self, database: Database, metrics: Metrics) -> None:
        super().__init__(database)
        self._metrics = metrics

    async def refuse(self, viewer_id: ViewerId, upload_id: UploadId, refusal: UserError) -> None:
        await super().refuse(viewer_id, upload_id, refusal)
        self._metrics.uploads_refused.labels(refusal.code.value).inc()


@dataclass(frozen=True)
class ObservedReconciler(ObjectReconciler):
    metrics: Metrics

    async def compare(self, shard: str) -> Comparison:
        found = await super().compare(shard)
        self.metrics.missing_objects.inc(len(found.missing))
        return found

    async def delete(self, orphans: Iterable[StoredObject]) -> None:
        deleted = list(orphans)
        await super().delete(deleted)
        self.metrics.orphaned_objects.inc(len(deleted))
        self.metrics.orphaned_bytes.inc(sum(orphan.byte_size for orphan in deleted))
