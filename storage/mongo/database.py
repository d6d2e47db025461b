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
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

import pymongo
from bson import CodecOptions, Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from domain.changes import ClusterTime
from domain.conflicts import Conflict
from domain.errors import NotBegun, Overloaded
from domain.ports.observers import DatabaseObserver, Unobserved
from domain.retries import RetryPolicy, retry
from domain.waiting import SemaphoresByKey, holding, seconds_left
from storage.mongo.calls import Calls, Inside, NestedCall, inside, translated
from storage.mongo.change_stream import SILENCE_SECONDS
from storage.mongo.collections import Collections, Document
from storage.mongo.new_primaries import CaughtUpPool
from storage.mongo.preparation import prepare
from storage.mongo.transaction import Abort, Transaction

Session: TypeAlias = AsyncClientSession

COMMAND_SECONDS: Final = 8
PING_SECONDS: Final = 2
_POOL_SIZE: Final = 100
"""More than there are calls at the same time: see `MAX_CALLS`."""
SELECTION_SECONDS: Final = 4
"""How long a command waits for a primary: longer than an election takes, shorter than a person
waits.
"""
TRANSACTION_SECONDS: Final = 8
_LEAST_SECONDS: Final = 2.0
"""With less time left, no transaction is begun: if time runs out during a commit, its outcome is
unknown.
"""
CLOSE_SECONDS: Final = 1
SHOWN: Final = CodecOptions[Document](tz_aware=False)
"""For documents that are only shown: times without a zone take half the time to decode."""
START_SECONDS: Final = 60.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_WITHOUT_ZONE: Final = _EPOCH.replace(tzinfo=None)
_MILLISECOND: Final = timedelta(milliseconds=1)
_MAJORITY: Final = ReadConcern("majority")
_DURABLE: Final = WriteConcern("majority")

Result = TypeVar("Result")
Repository = TypeVar("Repository", bound=type)


@dataclass(frozen=True, slots=True)
class Committed(Generic[Result]):
    """What a transaction has written, and the database's time of its commit."""

    result: Result
    cluster_time: ClusterTime


@dataclass(frozen=True, slots=True)
class Database(Collections[AsyncCollection[Document]]):
    """The collections, read and written by majority, and the database to be watched."""

    client: AsyncMongoClient[Document]
    commands: AsyncDatabase[Document]
    watched: AsyncDatabase[RawBSONDocument]
    """The collection with undecoded documents, which stay bytes until they are read."""
    calls: Calls
    observer: DatabaseObserver
    _queues: SemaphoresByKey = field(default_factory=lambda: SemaphoresByKey(1))
    """Queues for transactions that write to the same account."""
    outbox_filled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a transaction of this process has added something to deliver to webhooks."""

    def collection(self, name: str) -> AsyncCollection[Document]:
        return self.commands[name]

    def session(self) -> Session:
        return self.client.start_session()

    async def transact(
        self, work: Callable[[Transaction], Awaitable[Result]], *, account: str | None = None
    ) -> Committed[Result] | Conflict:
        """Run a short transaction. If it raises `Abort`, return the conflict.

        `work` may run several times, and calls nothing but its transaction: a repository's method
        would not be part of it, so it raises `NestedCall`. Transactions that move credits of the
        same `account` would conflict and start again and again; they wait for one another instead.
        Raise NotBegun where too little time is left for a transaction, or this wait takes too long.
        """
        if inside.get() is Inside.TRANSACTION:
            raise NestedCall
        clock = asyncio.get_running_loop().time
        left = seconds_left()
        seconds = TRANSACTION_SECONDS if left is None else min(left, TRANSACTION_SECONDS)
        if seconds < _LEAST_SECONDS:
            raise NotBegun
        until = clock() + seconds
        queues = [self._queues.get(account)] if account is not None else []
        async with holding(*queues, max_seconds=seconds - _LEAST_SECONDS):
            with pymongo.timeout(until - clock()):
                return await self._transact(work)

    async def _transact(
        self, work: Callable[[Transaction], Awaitable[Result]]
    ) -> Committed[Result] | Conflict:
        transaction: Transaction

        async def run(session: Session) -> Result:
            nonlocal transaction
            transaction = Transaction(self.commands, session)
            outside = inside.set(Inside.TRANSACTION)
            try:
                return await work(transaction)
            finally:
                inside.reset(outside)
                transaction.end()

        async with self.session() as session:
            try:
                result = await session.with_transaction(
                    run,
                    read_concern=ReadConcern("snapshot"),
                    write_concern=_DURABLE,
                    read_preference=ReadPreference.PRIMARY,
                )
            except Abort as abort:
                return abort.conflict
            self.observer.credits_moved(transaction.movements)
            if transaction.fills_outbox:
                self.outbox_filled.set()
            return Committed(result, cluster_time_of(session))

    async def ping(self) -> None:
        """Raise Overloaded unless a primary answers soon."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self.calls.run(lambda: self.commands.command("ping"))
        except TimeoutError:
            raise Overloaded from None


@asynccontextmanager
async def open_database(
    uri: str,
    name: str,
    *,
    observer: DatabaseObserver | None = None,
    start_seconds: float = START_SECONDS,
) -> AsyncIterator[Database]:
    """Connect, make collections and indexes, and close at the end. Raise Overloaded if the database
    cannot be reached for `start_seconds`.
    """
    observer = observer or Unobserved()
    client, feed_client = _make_clients(uri, name)
    try:
        commands = client.get_database(
            name,
            codec_options=CodecOptions(tz_aware=True, tzinfo=UTC),
            read_preference=ReadPreference.PRIMARY,
            read_concern=_MAJORITY,
            write_concern=_DURABLE,
        )
        starting = RetryPolicy(
            first_pause_seconds=0.2, longest_pause_seconds=1.0, max_seconds=start_seconds
        )
        await retry(functools.partial(_prepare, commands), on=Overloaded, policy=starting)
        calls = Calls(functools.partial(_reconnect, client), observer=observer)
        in_bytes = CodecOptions(document_class=RawBSONDocument)
        watched = feed_client.get_database(name, codec_options=in_bytes, read_concern=_MAJORITY)
        try:
            yield Database(client, commands, watched, calls, observer)
        finally:
            await calls.wait_until_ended()
    finally:
        # Closing ends the server's sessions, and would wait for a primary to do so.
        for one in (feed_client, client):
            with pymongo.timeout(CLOSE_SECONDS):
                await one.close()


def _make_clients(
    uri: str, name: str
) -> tuple[AsyncMongoClient[Document], AsyncMongoClient[RawBSONDocument]]:
    """A client for commands and one for the change feed, neither of them connected yet."""
    options: Document = {
        "appname": "darkroom",
        "tz_aware": True,
        "serverSelectionTimeoutMS": SELECTION_SECONDS * 1000,
        "connectTimeoutMS": 5_000,
        "retryWrites": True,
        "retryReads": True,
        "_pool_class": functools.partial(CaughtUpPool, database=name),
    }
    client: AsyncMongoClient[Document] = AsyncMongoClient(
        uri,
        timeoutMS=COMMAND_SECONDS * 1000,
        waitQueueTimeoutMS=2_000,
        maxPoolSize=_POOL_SIZE,
        # Where calls wait for one of few that connect, each holds the pool's lock for a round of
        # the event loop or more. While rounds are long, none of them gets on.
        maxConnecting=_POOL_SIZE,
        **options,
    )
    feed_client: AsyncMongoClient[RawBSONDocument] = AsyncMongoClient(
        uri,
        maxPoolSize=8,
        socketTimeoutMS=SILENCE_SECONDS * 1000,
        **options,
    )
    return client, feed_client


async def _prepare(commands: AsyncDatabase[Document]) -> None:
    with translated():
        await prepare(commands)


async def _reconnect(client: AsyncMongoClient[Document]) -> None:
    """Close every pooled connection.

    A connection that was opened while its server stepped down has noted that the server offers no
    sessions, and would never notice otherwise. The driver has no public way to close it.
    """
    for server in list(client._topology._servers.values()):
        await server.pool.reset_without_pause()


def repository(cls: Repository) -> Repository:
    """Run every public coroutine method of the class as one of its database's calls.

    Such a method must not call another one: that raises `NestedCall`.
    """

    repository_name = cls.__name__.removeprefix("Mongo").removesuffix("Repository")

    def running(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        @functools.wraps(method)
        async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls: Calls = self._database.calls
            return await calls.run(
                lambda: method(self, *args, **kwargs), repository=repository_name
            )

        return call

    for name, method in list(vars(cls).items()):
        if not name.startswith("_") and inspect.iscoroutinefunction(method):
            setattr(cls, name, running(method))
    return cls


def cluster_time_of(session: Session) -> ClusterTime:
    """The database's time of the session's last operation."""
    return to_cluster_time(cast("Timestamp", session.operation_time))


def to_cluster_time(timestamp: Timestamp) -> ClusterTime:
    return ClusterTime(timestamp.time, timestamp.inc)


def from_cluster_time(cluster_time: ClusterTime) -> Timestamp:
    return Timestamp(cluster_time.seconds, cluster_time.increment)


def epoch_ms(instant: datetime) -> int:
    """Milliseconds since 1970: MongoDB's precision."""
    return (instant - (_EPOCH if instant.tzinfo else _EPOCH_WITHOUT_ZONE)) // _MILLISECOND


def from_epoch_ms(value: int) -> datetime:
    return datetime.fromtimestamp(value / 1000, UTC)
