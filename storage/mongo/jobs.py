"""Jobs as documents, with a lease that every write of their progress renews."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Final, Generic

from pymongo import ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection

from domain.conflicts import Conflict
from domain.errors import GenerationErrorCode
from domain.ids import ViewerId
from domain.jobs import AnyJob, Export, JobClaim
from domain.outputs import MAX_COUNT, GenerationError, OutputStatus
from storage.mongo.collections import UNFINISHED_JOB, Document
from storage.mongo.credits import touch_account
from storage.mongo.database import Database, repository
from storage.mongo.output_rules import from_now
from storage.mongo.periodic import surely_expired
from storage.mongo.stored_outputs import error_document
from storage.mongo.transaction import Abort, Transaction


@repository
class MongoJobRepository(Generic[AnyJob]):
    """See `domain.ports.jobs.JobRepository`."""

    _name: str
    """The name of the collection."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, job: AnyJob, *, at_most: int) -> AnyJob | None:
        running = {"ownerId": job.owner_id, "status": UNFINISHED_JOB}

        async def work(transaction: Transaction) -> AnyJob:
            # Two of a viewer's transactions conflict here, so that the second finds the first.
            await touch_account(transaction, job.owner_id, f"{self._name}At")
            jobs = transaction.collection(self._name)
            known = await jobs.find_one({"_id": job.id, "ownerId": job.owner_id})
            if known is not None:
                return self._read(known)
            if await jobs.count_documents(running, limit=at_most) >= at_most:
                raise Abort(Conflict.LIMIT_REACHED)
            await jobs.insert_one(
                {
                    "_id": job.id,
                    "ownerId": job.owner_id,
                    "status": job.status.value,
                    "progress": None,
                    "error": None,
                    "fence": 0,
                    "leaseUntil": None,
                    "createdAt": job.created_at,
                    "expiresAt": None,
                    **self._to_document(job),
                }
            )
            return job

        done = await self._database.transact(work, account=job.owner_id)
        return None if isinstance(done, Conflict) else done.result

    async def get_many(self, viewer_id: ViewerId, ids: Iterable[str]) -> Mapping[str, AnyJob]:
        query = {"_id": {"$in": list(set(ids))}, "ownerId": viewer_id}
        return {document["_id"]: self._read(document) async for document in self._jobs.find(query)}

    async def claim(self, *, lease: timedelta) -> JobClaim[AnyJob] | None:
        # Missing sorts before every date: a job that was never claimed has no lease.
        is_free = {"$expr": {"$lte": ["$leaseUntil", "$$NOW"]}}
        document = await self._jobs.find_one_and_update(
            {"status": UNFINISHED_JOB, **is_free},
            [
                {
                    "$set": {
                        "status": OutputStatus.GENERATING.value,
                        "fence": {"$add": ["$fence", 1]},
                        "leaseUntil": from_now(lease),
                    }
                }
            ],
            sort=[("createdAt", 1)],
            return_document=ReturnDocument.AFTER,
        )
        return JobClaim(self._read(document), document["fence"]) if document else None

    async def renew(
        self, claim: JobClaim[AnyJob], *, progress: float | None, lease: timedelta
    ) -> bool:
        return await self._write(
            claim, [{"$set": {"progress": progress, "leaseUntil": from_now(lease)}}]
        )

    async def expect_bytes(self, claim: JobClaim[AnyJob], keys: Sequence[str]) -> bool:
        return await self._write(claim, [{"$set": {"keysLeft": list(keys)}}])

    async def fail(
        self, claim: JobClaim[AnyJob], error: GenerationError, *, kept: timedelta
    ) -> bool:
        return await self._write(
            claim, ending(OutputStatus.FAILED, kept=kept, error=error_document(error))
        )

    @property
    def _jobs(self) -> AsyncCollection[Document]:
        return self._database.collection(self._name)

    async def _write(self, claim: JobClaim[AnyJob], update: list[Document]) -> bool:
        written = await self._jobs.update_one(held_by(claim), update)
        return written.matched_count == 1

    def _to_document(self, job: AnyJob) -> Document:
        raise NotImplementedError

    def _read(self, document: Document) -> AnyJob:
        raise NotImplementedError


@repository
class MongoExportRepository(MongoJobRepository[Export]):
    """See `domain.ports.jobs.ExportRepository`."""

    _name = "exports"

    async def complete(
        self, claim: JobClaim[Export], *, key: str, byte_size: int, kept: timedelta
    ) -> bool:
        update = ending(OutputStatus.COMPLETED, kept=kept, key=key, byteSize=byte_size)
        return await self._write(claim, [*update, {"$unset": "keysLeft"}])

    async def list_expired(self, *, limit: int) -> Mapping[str, Sequence[str]]:
        # For all viewers, as for uploads.
        cursor = self._jobs.find({"expiresAt": {"$lt": surely_expired()}}, EXPORT_KEYS).limit(limit)
        return {document["_id"]: export_keys(document) async for document in cursor}

    async def forget(self, ids: Iterable[str]) -> None:
        await self._jobs.delete_many({"_id": {"$in": list(ids)}})

    def _to_document(self, job: Export) -> Document:
        return {"conversationId": job.conversation_id, "key": None, "byteSize": None}

    def _read(self, document: Document) -> Export:
        byte_size = document["byteSize"]
        return Export(
            id=document["_id"],
            conversation_id=document["conversationId"],
            key=document["key"],
            byte_size=byte_size if byte_size is None or byte_size <= MAX_COUNT else None,
            **common_fields(document),
        )


EXPORT_KEYS: Final[Mapping[str, int]] = {"key": 1, "keysLeft": 1}
"""What `export_keys` needs of a document."""


def export_keys(export: Document) -> list[str]:
    """The keys of an export's ZIP, and of one that an interrupted try may have left."""
    return [*([export["key"]] if export["key"] else []), *export.get("keysLeft", ())]


def held_by(claim: JobClaim[AnyJob]) -> Document:
    return {
        "_id": claim.job.id,
        "ownerId": claim.job.owner_id,
        "status": UNFINISHED_JOB,
        "fence": claim.fence,
    }


def ending(status: OutputStatus, *, kept: timedelta, **more: object) -> list[Document]:
    ended = {"status": status.value, "progress": None, "expiresAt": from_now(kept)}
    return [{"$set": {**ended, **{name: {"$literal": value} for name, value in more.items()}}}]


def read_error(document: Document) -> GenerationError:
    return GenerationError(GenerationErrorCode(document["code"]), document["retryable"])


def common_fields(document: Document) -> Document:
    error = document["error"]
    return {
        "owner_id": document["ownerId"],
        "status": OutputStatus(document["status"]),
        "progress": document["progress"],
        "error": read_error(error) if error else None,
        "created_at": document["createdAt"],
        "expires_at": document["expiresAt"],
        "keys_left": document.get("keysLeft", ()),
    }
