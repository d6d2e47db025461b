"""The driver's connections: a read ends when it has to, although no task looks after it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.pool import Pool
from pymongo.errors import AutoReconnect, DocumentTooLarge, NetworkTimeout, ProtocolError
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from storage.mongo.calls import MAX_CALLS
from storage.mongo.collections import Document
from storage.mongo.database import Database
from storage.mongo.driver_connections import DirectConnection, DirectPool
from tests.waits import PATIENCE_SECONDS

SLOW: Document = {"$where": f"sleep({int(3_000 * PATIENCE_SECONDS)}) || true"}
"""It is not answered before the patience of these tests has ended."""


class _Sent(CommandListener):
    """Says when a search has been sent."""

    def __init__(self) -> None:
        self.search = asyncio.Event()

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name == "find":
            self.search.set()

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


@dataclass(frozen=True, slots=True)
class _Client:
    """A client with one connection, and a collection with one document."""

    client: AsyncMongoClient[Document]
    collection: AsyncCollection[Document]
    sent: _Sent

    @property
    def pool(self) -> Pool:
        (server,) = self.client._topology._servers.values()
        pool: Pool = server.pool
        return pool

    async def begin_slow_read(self) -> asyncio.Task[Document | None]:
        """Begin a read that is not answered. Return once it has been sent."""
        reading = asyncio.create_task(self.collection.find_one(SLOW))
        await asyncio.wait_for(self.sent.search.wait(), PATIENCE_SECONDS)
        return reading

    async def ping(self) -> None:
        await self.client.admin.command("ping")


@asynccontextmanager
async def _connected(uri: str, database: Database, **options: Any) -> AsyncIterator[_Client]:
    await database.turns.insert_one({"_id": "x"})
    sent = _Sent()
    async with AsyncMongoClient[Document](
        uri,
        maxPoolSize=1,
        retryReads=False,
        event_listeners=[sent],
        _pool_class=DirectPool,
        **options,
    ) as client:
        yield _Client(client, client[database.commands.name].turns, sent)


@pytest.fixture
async def client(mongodb_uri: str, database: Database) -> AsyncIterator[_Client]:
    async with _connected(mongodb_uri, database) as client:
        yield client


async def test_the_database_has_such_connections(database: Database) -> None:
    await database.ping()

    (server,) = database.client._topology._servers.values()
    assert server.pool.conns
    assert all(isinstance(one, DirectConnection) for one in server.pool.conns)


def test_no_call_waits_for_another_one_to_connect(database: Database) -> None:
    assert database.client.options.pool_options.max_connecting >= MAX_CALLS


async def test_a_read_ends_at_its_limit(mongodb_uri: str, database: Database) -> None:
    async with _connected(mongodb_uri, database, socketTimeoutMS=2_000) as client:
        reading = await client.begin_slow_read()
        with pytest.raises(NetworkTimeout, match="timed out"):
            await asyncio.wait_for(reading, PATIENCE_SECONDS)

        await client.ping()


async def test_a_read_ends_when_the_driver_gives_up_its_connection(client: _Client) -> None:
    reading = await client.begin_slow_read()

    # As the driver does where a server does not answer its monitor.
    await client.pool.reset(interrupt_connections=True)

    with pytest.raises(AutoReconnect, match="cancelled"):
        await asyncio.wait_for(reading, PATIENCE_SECONDS)


async def test_the_connection_of_a_cancelled_read_is_not_used_again(client: _Client) -> None:
    reading = await client.begin_slow_read()
    reading.cancel()
    await asyncio.wait([reading])

    assert reading.cancelled()
    assert not client.pool.conns
    await client.ping()


async def test_an_answer_to_another_message_closes_the_connection(client: _Client) -> None:
    await client.ping()
    (connection,) = client.pool.conns
    earlier = asyncio.get_running_loop().create_future()
    earlier.set_result((2013, None, -1, b"of an earlier message"))
    connection.conn.get_conn._done_messages.append(earlier)

    with pytest.raises(ProtocolError, match="response id"):
        await client.ping()

    assert connection.closed
    await client.ping()


async def test_a_document_that_is_too_large_is_refused(client: _Client) -> None:
    with pytest.raises(DocumentTooLarge):
        await client.collection.insert_one({"_id": "y", "text": "x" * (17 * 1024 * 1024)})
