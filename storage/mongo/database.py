"""MongoDB: clients, collections, indexes, transactions, and the translation of its errors.

There are two clients, because an open change stream holds a connection: the feed has its own, and
never starves commands of theirs.
"""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, TypeVar, cast
from weakref import WeakValueDictionary

import pymongo
from bson import CodecOptions, Timestamp
from pymongo import ASCENDING, DESCENDING, AsyncMongoClient, IndexModel
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from domain.changes import ClusterTime
from domain.errors import Overloaded

Document: TypeAlias = dict[str, Any]
Session: TypeAlias = AsyncClientSession

COMMAND_SECONDS: Final = 8
PLACE_SECONDS: Final = 2
PING_SECONDS: Final = 2
MAX_CALLS: Final = 80
"""Below the driver's own pool, which so never runs out."""
SELECTION_SECONDS: Final = 4
"""How long a command waits for a primary: longer than an election, shorter than a person waits."""
TRANSACTION_SECONDS: Final = 8
_LEAST_SECONDS: Final = 2.0
"""With less time left none is begun: an end that comes while it commits leaves nobody any wiser."""
LAST_SECONDS: Final = 3
"""What is under way at the end gets to come to its own. Nobody waits for it any more."""
GOODBYE_SECONDS: Final = 1
FEED_SILENCE_SECONDS: Final = 8
"""After which an unanswered read of the change stream is given up. A quiet one answers every
second.
"""
KEY_LIFE_SECONDS: Final = 48 * 3600
UPLOAD_LIFE_SECONDS: Final = 48 * 3600
"""For so long the same image is told again for an upload. Its bytes are gone much sooner."""
WITHDRAWN_SECONDS: Final = 3600
"""After which a model is offered again, for somebody to find out whether it is back."""
UNFINISHED_TURN: Final = {"$in": ["PENDING", "GENERATING"]}

_MAJORITY: Final = ReadConcern("majority")
_DURABLE: Final = WriteConcern("majority")
_INDEXES: Final[dict[str, list[IndexModel]]] = {
    "conversations": [
        IndexModel([("ownerId", ASCENDING), ("updatedAt", DESCENDING), ("_id", DESCENDING)]),
        IndexModel([("ownerId", ASCENDING), ("sourceImage.id", ASCENDING)]),
        IndexModel([("ownerId", ASCENDING), ("words", ASCENDING)]),
    ],
    "turns": [
        IndexModel([("ownerId", ASCENDING), ("status", ASCENDING)]),
        IndexModel([("references.image.id", ASCENDING)]),
        IndexModel(
            [("status", ASCENDING), ("outputs.leaseUntil", ASCENDING)],
            name="unfinished",
            partialFilterExpression={"status": UNFINISHED_TURN},
        ),
        # For whoever asks what of the object store is in use; so is the one of the images' keys.
        IndexModel(
            "outputs.preview.key",
            partialFilterExpression={"outputs.preview.key": {"$exists": True}},
        ),
    ],
    "images": [
        IndexModel([("ownerId", ASCENDING), ("createdAt", DESCENDING), ("_id", DESCENDING)]),
        IndexModel(
            [("ownerId", ASCENDING), ("createdAt", DESCENDING), ("_id", DESCENDING)],
            name="favourites",
            partialFilterExpression={"favourite": True},
        ),
        IndexModel("key"),
    ],
    "prompts": [
        IndexModel([("ownerId", ASCENDING), ("lastUsedAt", DESCENDING), ("_id", DESCENDING)]),
        IndexModel([("ownerId", ASCENDING), ("words", ASCENDING)]),
        IndexModel(
            [("ownerId", ASCENDING), ("lastUsedAt", DESCENDING), ("_id", DESCENDING)],
            name="favourites",
            partialFilterExpression={"favourite": True},
        ),
    ],
    "uploads": [
        IndexModel([("ownerId", ASCENDING), ("createdAt", DESCENDING)]),
        # Only while there may be bytes; `key` is looked for by whoever finds some.
        IndexModel("sweepAt", partialFilterExpression={"sweepAt": {"$exists": True}}),
        IndexModel("key", partialFilterExpression={"sweepAt": {"$exists": True}}),
        IndexModel("createdAt", expireAfterSeconds=UPLOAD_LIFE_SECONDS),
    ],
    "accounts": [],
    "ledger": [IndexModel([("ownerId", ASCENDING), ("createdAt", DESCENDING)])],
    "viewers": [],
    "idempotency": [IndexModel("createdAt", expireAfterSeconds=KEY_LIFE_SECONDS)],
    "chores": [],
    "withdrawals": [IndexModel("createdAt", expireAfterSeconds=WITHDRAWN_SECONDS)],
}

Result = TypeVar("Result")
Repository = TypeVar("Repository", bound=type)


class Abort(Exception):
    """Raised inside a transaction that found nothing to do. It is rolled back."""


class Calls:
    """Calls to the driver: so many at once, and each to its own end.

    A call that is cancelled while one of the driver's own limits runs out can leave the driver's
    pool locked for good. So nobody's cancellation reaches it: it ends by itself, within the time
    that it has.
    """

    def __init__(self, reconnect: Callable[[], Awaitable[None]]) -> None:
        self._reconnect = reconnect
        self._places = asyncio.Semaphore(MAX_CALLS)
        self._under_way: set[asyncio.Task[Any]] = set()

    async def run(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Raise Overloaded where there is no place in time, or the database is away."""
        try:
            async with asyncio.timeout(PLACE_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise Overloaded from None
        task = asyncio.create_task(self._to_its_end(work))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def ended(self) -> None:
        """Wait for what is still under way."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=LAST_SECONDS)

    async def _to_its_end(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        with translated():
            try:
                return await work()
            except ConfigurationError:
                await self._reconnect()
                raise

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._places.release()
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # whoever wanted to know has been told


@dataclass(frozen=True, slots=True)
class Database:
    """The collections, read and written by majority, and the database to be watched."""

    client: AsyncMongoClient[Document]
    commands: AsyncDatabase[Document]
    watched: AsyncDatabase[Document]
    calls: Calls
    _queues: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    """Of transactions that meet at one account."""

    @property
    def conversations(self) -> AsyncCollection[Document]:
        return self.commands["conversations"]

    @property
    def turns(self) -> AsyncCollection[Document]:
        return self.commands["turns"]

    @property
    def images(self) -> AsyncCollection[Document]:
        return self.commands["images"]

    @property
    def prompts(self) -> AsyncCollection[Document]:
        return self.commands["prompts"]

    @property
    def uploads(self) -> AsyncCollection[Document]:
        return self.commands["uploads"]

    @property
    def idempotency(self) -> AsyncCollection[Document]:
        return self.commands["idempotency"]

    @property
    def accounts(self) -> AsyncCollection[Document]:
        return self.commands["accounts"]

    @property
    def ledger(self) -> AsyncCollection[Document]:
        return self.commands["ledger"]

    @property
    def viewers(self) -> AsyncCollection[Document]:
        return self.commands["viewers"]

    @property
    def periodic_jobs(self) -> AsyncCollection[Document]:
        return self.commands["chores"]

    @property
    def withdrawals(self) -> AsyncCollection[Document]:
        return self.commands["withdrawals"]

    def session(self) -> Session:
        return self.client.start_session()

    async def transact(
        self, work: Callable[[Session], Awaitable[Result]], *, account: str | None = None
    ) -> tuple[Result, ClusterTime] | None:
        """Run a short transaction and tell when it was committed; None if it raised `Abort`.

        `work` may run several times. It makes no call but to this database. Those that move credits
        of the same `account` would conflict, and begin again and again: here they form a queue.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + TRANSACTION_SECONDS
        async with self._queued(account, until - _LEAST_SECONDS):
            with pymongo.timeout(until - clock()):
                return await self._transact(work)

    async def _transact(
        self, work: Callable[[Session], Awaitable[Result]]
    ) -> tuple[Result, ClusterTime] | None:
        async with self.session() as session:
            try:
                result = await session.with_transaction(
                    work,
                    read_concern=ReadConcern("snapshot"),
                    write_concern=_DURABLE,
                    read_preference=ReadPreference.PRIMARY,
                )
            except Abort:
                return None
            return result, moment_of(session)

    @asynccontextmanager
    async def _queued(self, account: str | None, until: float) -> AsyncIterator[None]:
        if account is None:
            yield
            return
        # Kept by those who wait for it or have it, and by nobody else.
        queue = self._queues.get(account)
        if queue is None:
            queue = self._queues[account] = asyncio.Lock()
        try:
            async with asyncio.timeout_at(until):
                await queue.acquire()
        except TimeoutError:
            raise Overloaded from None
        try:
            yield
        finally:
            queue.release()

    async def ping(self) -> None:
        """Raise Overloaded unless a primary answers soon."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self.calls.run(lambda: self.commands.command("ping"))
        except TimeoutError:
            raise Overloaded from None


@asynccontextmanager
async def open_database(uri: str, name: str) -> AsyncIterator[Database]:
    """Connect, make collections and indexes, close at the end."""
    options: Document = {
        "appname": "darkroom",
        "tz_aware": True,
        "serverSelectionTimeoutMS": SELECTION_SECONDS * 1000,
        "connectTimeoutMS": 5_000,
        "retryWrites": True,
        "retryReads": True,
    }
    client: AsyncMongoClient[Document] = AsyncMongoClient(
        uri,
        timeoutMS=COMMAND_SECONDS * 1000,
        waitQueueTimeoutMS=2_000,
        maxPoolSize=100,
        **options,
    )
    feed_client: AsyncMongoClient[Document] = AsyncMongoClient(
        uri,
        maxPoolSize=4,
        socketTimeoutMS=FEED_SILENCE_SECONDS * 1000,
        **options,
    )
    try:
        commands = client.get_database(
            name,
            codec_options=CodecOptions(tz_aware=True, tzinfo=UTC),
            read_preference=ReadPreference.PRIMARY,
            read_concern=_MAJORITY,
            write_concern=_DURABLE,
        )
        with translated():
            await _prepare(commands)
        calls = Calls(functools.partial(_reconnect, client))
        watched = feed_client.get_database(name, read_concern=_MAJORITY)
        try:
            yield Database(client, commands, watched, calls)
        finally:
            await calls.ended()
    finally:
        # Each says goodbye to its sessions, and would look for a primary to say it to.
        for one in (feed_client, client):
            with pymongo.timeout(GOODBYE_SECONDS):
                await one.close()


async def _reconnect(client: AsyncMongoClient[Document]) -> None:
    """Let no connection be used again.

    One that was made just while its server stepped down knows that no sessions can be had there,
    and would say so ever after. The driver has no public way to be rid of it.
    """
    for server in list(client._topology._servers.values()):
        await server.pool.reset_without_pause()


async def _prepare(database: AsyncDatabase[Document]) -> None:
    existing = set(await database.list_collection_names())
    for collection, indexes in _INDEXES.items():
        if collection not in existing:
            try:
                await database.create_collection(collection, check_exists=False)
            except OperationFailure as error:
                if error.code != _NAMESPACE_EXISTS:  # another process came first
                    raise
        if indexes:
            await database[collection].create_indexes(indexes)


_NAMESPACE_EXISTS: Final = 48


class translated:  # noqa: N801 (reads as a phrase: `with translated():`)
    """Turns errors of a database that cannot be reached into `Overloaded`; all others pass."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, PyMongoError) and is_passing(error):
            raise Overloaded from error


_PASSING_CODES: Final = frozenset({43, 91, 134, 189, 11600, 11602})
"""A cursor that went with its server; a server that shuts down, steps down, or has just come up."""


def is_passing(error: PyMongoError) -> bool:
    """Whether the same call may well succeed a little later."""
    return (
        isinstance(error, (ConnectionFailure, ExecutionTimeout, WTimeoutError, ConfigurationError))
        or (isinstance(error, OperationFailure) and error.code in _PASSING_CODES)
        or error.timeout
        or error.has_error_label("TransientTransactionError")
        or error.has_error_label("RetryableWriteError")
        or error.has_error_label("UnknownTransactionCommitResult")
    )


def repository(cls: Repository) -> Repository:
    """Run every public coroutine method of the class as one of its database's calls.

    Such a method calls no other one: a call inside a call could wait for a place for ever.
    """

    def running(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        @functools.wraps(method)
        async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls: Calls = self._database.calls
            return await calls.run(lambda: method(self, *args, **kwargs))

        return call

    for name, method in list(vars(cls).items()):
        if not name.startswith("_") and inspect.iscoroutinefunction(method):
            setattr(cls, name, running(method))
    return cls


def moment_of(session: Session) -> ClusterTime:
    """The database's time when the session's last operation was done."""
    return to_moment(cast("Timestamp", session.operation_time))


def to_moment(timestamp: Timestamp) -> ClusterTime:
    return ClusterTime(timestamp.time, timestamp.inc)


def from_moment(moment: ClusterTime) -> Timestamp:
    return Timestamp(moment.seconds, moment.increment)


def epoch_ms(instant: datetime) -> int:
    """Milliseconds since 1970: all that MongoDB keeps of an instant."""
    return round(instant.timestamp() * 1000)


def from_epoch_ms(value: int) -> datetime:
    return datetime.fromtimestamp(value / 1000, UTC)
