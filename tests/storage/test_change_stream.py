"""A change stream over one connection of the driver's pool, whatever interrupts its reads."""

import asyncio

import pytest
from pymongo.errors import AutoReconnect, OperationFailure

from domain.ids import new_conversation_id, turn_id_of
from storage.mongo import change_stream
from storage.mongo.change_stream import ChangeStream, open_stream
from storage.mongo.database import Database
from tests.waits import PATIENCE_SECONDS

MORE_THAN_CONNECTIONS = 10
"""The client of the feed has eight."""


async def opened(database: Database) -> ChangeStream:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await open_stream(
            database.watched, [], longest_answer_ms=3_000, resume_after=None, start_after=None
        )


async def written(database: Database) -> str:
    turn_id = turn_id_of(new_conversation_id(), 0)
    await database.turns.insert_one({"_id": turn_id, "version": 1})
    return turn_id


async def brought(stream: ChangeStream, document_id: str) -> bool:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            for event in await stream.next():
                if event["documentKey"]["_id"] == document_id:
                    return True


async def test_a_stream_brings_several_changes_with_one_read(database: Database) -> None:
    stream = await opened(database)
    ids = [await written(database) for _ in range(3)]
    events = list(await stream.next())
    while len(events) < len(ids):
        events += await stream.next()
    await stream.close()

    assert [event["documentKey"]["_id"] for event in events] == ids
    assert stream.token == events[-1]["_id"]


async def test_an_interrupted_read_leaves_no_answer_to_the_next_stream(
    database: Database,
) -> None:
    """Every connection of the pool would have one, if they were given back."""
    for _ in range(MORE_THAN_CONNECTIONS):
        stream = await opened(database)
        reading = asyncio.create_task(stream.next())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        await stream.close()
        assert reading.cancelled()

    stream = await opened(database)
    assert await brought(stream, await written(database))
    await stream.close()


async def test_a_closed_stream_gives_its_connection_back(database: Database) -> None:
    for _ in range(MORE_THAN_CONNECTIONS):
        stream = await opened(database)
        assert await brought(stream, await written(database))
        await stream.close()


async def test_a_read_without_an_answer_is_given_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_stream, "SILENCE_SECONDS", 0.1)
    stream = await opened(database)
    with pytest.raises(AutoReconnect):
        await stream.next()  # a quiet server answers after three seconds
    await stream.close()

    monkeypatch.undo()
    stream = await opened(database)
    assert await brought(stream, await written(database))
    await stream.close()


async def test_what_the_server_refuses_is_an_error_of_the_driver(database: Database) -> None:
    stream = await opened(database)
    await database.watched.command(
        {"killCursors": "$cmd.aggregate", "cursors": [stream._cursor_id]}
    )
    with pytest.raises(OperationFailure) as caught:
        await stream.next()
    await stream.close()

    assert caught.value.code == 43


async def test_a_stream_that_begins_with_its_end_asks_for_no_more(database: Database) -> None:
    stream = await opened(database)
    assert await brought(stream, await written(database))
    token = stream.token
    await stream.close()
    await database.client.drop_database(database.commands.name)

    stream = await open_stream(
        database.watched, [], longest_answer_ms=3_000, resume_after=token, start_after=None
    )
    events = list(await stream.next())
    while stream.alive:
        events += await stream.next()
    await stream.close()

    assert events[-1]["operationType"] == "invalidate"
