"""The change feed on a real mongod under failures: it continues, and reports what it lost."""

import asyncio
import shutil
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, OperationFailure

from domain.ids import conversation_of_turn, new_conversation_id, turn_id_of
from domain.partitions import FollowedPartitions
from domain.ports.changes import Change, FeedItem, HistoryLost, Reached
from runtime.local_mongod import Mongod
from storage.mongo import change_feed
from storage.mongo.change_feed import MongoChangeFeed
from storage.mongo.change_stream import ChangeStream, open_stream
from storage.mongo.database import Database, cluster_time_of, open_database
from storage.mongo.stream_position import Position
from storage.mongo.transaction import Transaction
from tests.clients import Data
from tests.conftest import a_database_name
from tests.serving import free_port
from tests.tools import need_mongod
from tests.waits import PATIENCE_SECONDS, eventually

DIGITS_OF_IDS = "0123456789abcdefghjkmnpqrstvwxyz"

Item = FeedItem | None


class Following:
    """What a feed has reported, by the ids of the documents."""

    def __init__(self, batches: AsyncIterator[Sequence[FeedItem] | None]) -> None:
        self._batches = batches
        self._items: deque[FeedItem] = deque()

    async def next(self) -> Item:
        while not self._items:
            batch = await asyncio.wait_for(anext(self._batches), PATIENCE_SECONDS)
            if batch is None:
                return None
            self._items.extend(batch)
        return self._items.popleft()

    async def until(self, document_id: str) -> list[Item]:
        """Everything up to the change of this document."""
        received = [await self.next()]
        async with asyncio.timeout(3 * PATIENCE_SECONDS):
            while not (isinstance(received[-1], Change) and received[-1].id == document_id):
                received.append(await self.next())
        return received


@pytest.fixture(scope="module")
async def mongod(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mongod]:
    """A mongod that the test may kill."""
    mongod = Mongod(
        tmp_path_factory.mktemp("feed"), binary=need_mongod(), preferred_port=free_port()
    )
    await mongod.start()
    yield mongod
    await mongod.kill()


@pytest.fixture
async def database(mongod: Mongod) -> AsyncIterator[Database]:
    async with a_database_name(mongod.uri) as name, open_database(mongod.uri, name) as database:
        yield database


@asynccontextmanager
async def following(
    database: Database, partitions: FollowedPartitions | None = None
) -> AsyncIterator[Following]:
    feed = MongoChangeFeed(database, partitions or FollowedPartitions(1)).follow()
    following = Following(feed)
    try:
        assert await following.next() is None
        yield following
    finally:
        await feed.aclose()


@pytest.fixture(params=[1, 32], ids=["whole", "divided"])
def partitions(request: pytest.FixtureRequest) -> FollowedPartitions:
    """All of them are followed."""
    partitions = FollowedPartitions(request.param)
    if partitions.are_divided:
        for digit in DIGITS_OF_IDS:
            partitions.add(f"conv_{'0' * 20}{digit}00000")
    return partitions


async def a_turn(database: Database) -> str:
    """Write something that looks enough like a turn."""
    turn_id = turn_id_of(new_conversation_id(), 0)
    await database.turns.insert_one({"_id": turn_id, "version": 1, "outputs": []})
    return turn_id


async def test_every_write_of_a_version_is_reported_in_order(database: Database) -> None:
    async with following(database) as received:
        turn_id = await a_turn(database)
        await database.turns.update_one({"_id": turn_id}, {"$set": {"outputs": [1]}})
        await database.turns.update_one({"_id": turn_id}, {"$inc": {"version": 1}})
        await database.turns.delete_one({"_id": turn_id})

        changes = [await received.next() for _ in range(3)]

    assert [isinstance(one, Change) and (one.id, one.deleted) for one in changes] == [
        (turn_id, False),
        (turn_id, False),
        (turn_id, True),
    ]


async def test_a_write_in_a_transaction_is_reported_when_it_is_committed(
    database: Database,
) -> None:
    async with following(database) as received:
        first, second = (turn_id_of(new_conversation_id(), 0) for _ in range(2))

        async def work(transaction: Transaction) -> None:
            documents = [{"_id": one, "version": 1} for one in (first, second)]
            await transaction.turns.insert_many(documents)

        await database.transact(work)

        changes = [await received.next() for _ in range(2)]

    assert [isinstance(one, Change) and one.id for one in changes] == [first, second]


async def test_a_killed_cursor_loses_nothing(
    database: Database, partitions: FollowedPartitions
) -> None:
    async with following(database, partitions) as received:
        before = await a_turn(database)
        await received.until(before)

        await _kill_cursors(database)
        after = await a_turn(database)

        items = [one for one in await received.until(after) if not isinstance(one, Reached)]
        assert [type(one) for one in items] == [Change]


async def test_a_restart_of_mongod_loses_nothing(
    database: Database, mongod: Mongod, partitions: FollowedPartitions
) -> None:
    async with following(database, partitions) as received:
        before = await a_turn(database)
        await received.until(before)
        unseen = await a_turn(database)

        await mongod.kill()
        await mongod.start()
        after = await _once_writable(lambda: a_turn(database))
        changes = await received.until(after)

    seen = [one.id for one in changes if isinstance(one, Change)]
    assert unseen in seen
    assert seen[-1] == after


async def test_a_restart_of_mongod_before_the_first_event_loses_nothing(
    database: Database, mongod: Mongod, partitions: FollowedPartitions
) -> None:
    async with following(database, partitions) as received:
        unseen = await a_turn(database)

        await mongod.kill()
        await mongod.start()
        after = await _once_writable(lambda: a_turn(database))
        changes = await received.until(after)

    # Reported, or reported as missing.
    lost = any(isinstance(one, HistoryLost) for one in changes)
    assert lost or unseen in [one.id for one in changes if isinstance(one, Change)]


async def test_a_stepdown_of_the_primary_loses_nothing(
    database: Database, partitions: FollowedPartitions
) -> None:
    async with following(database, partitions) as received:
        before = await a_turn(database)
        await received.until(before)

        await _step_down(database)
        after = await _once_writable(lambda: a_turn(database))
        changes = await received.until(after)

    assert [one.id for one in changes if isinstance(one, Change)][-1] == after
    assert HistoryLost() not in changes


async def test_a_dropped_collection_is_reported_as_lost_history_and_the_feed_continues(
    database: Database, partitions: FollowedPartitions
) -> None:
    async with following(database, partitions) as received:
        await received.until(await a_turn(database))

        await database.turns.drop()
        after = await a_turn(database)
        changes = await received.until(after)

    assert HistoryLost() in changes


async def test_a_dropped_database_is_reported_as_lost_history_and_the_feed_continues(
    database: Database, partitions: FollowedPartitions
) -> None:
    async with following(database, partitions) as received:
        for _ in range(2):
            await received.until(await a_turn(database))

            await database.client.drop_database(database.commands.name)
            after = await a_turn(database)
            changes = await received.until(after)

            assert HistoryLost() in changes


async def test_history_that_the_oplog_no_longer_has_is_reported_as_lost(
    tmp_path: Path, partitions: FollowedPartitions
) -> None:
    mongod = Mongod(tmp_path, binary=need_mongod(), preferred_port=free_port())
    await mongod.start()
    try:
        async with (
            open_database(mongod.uri, "forgetful") as database,
            following(database, partitions) as received,
        ):
            await received.until(await a_turn(database))

            # As after a restored backup: the same replica set, and an oplog that begins later.
            await mongod.kill()
            shutil.rmtree(tmp_path / "mongod")
            await mongod.start()
            await _once_writable(lambda: a_turn(database))

            while isinstance(told_last := await received.next(), Reached):
                pass
            assert told_last == HistoryLost()
            await received.until(await a_turn(database))
    finally:
        await mongod.kill()


async def test_a_closed_feed_leaves_no_cursor_behind(database: Database) -> None:
    async with following(database) as received:
        await received.until(await a_turn(database))
        assert await _cursors(database) != []

    async def none_left() -> bool:
        return await _cursors(database) == []

    await eventually(none_left, what="the cursor is closed")


async def test_a_feed_that_fails_leaves_no_cursor_behind(
    database: Database, partitions: FollowedPartitions
) -> None:
    feed = MongoChangeFeed(database, partitions).follow()
    received = Following(feed)
    assert await received.next() is None
    await received.until(await a_turn(database))

    # Not one of the driver's errors, which are followed by another stream. What has caught it has
    # the frames with the stream as well.
    with pytest.raises(ZeroDivisionError) as caught:
        await feed.athrow(ZeroDivisionError())

    async def none_left() -> bool:
        return await _cursors(database) == []

    await eventually(none_left, what="the cursor is closed")
    del caught


async def _cursors(database: Database) -> list[Data]:
    """Cursors of change streams on this database, running or waiting."""
    stages = [{"$currentOp": {"idleCursors": True, "allUsers": True}}]
    name = database.commands.name
    return [
        found
        async for found in await database.client.admin.aggregate(stages)
        if found.get("cursor", {}).get("tailable") and found["ns"].startswith(f"{name}.")
    ]


async def _kill_cursors(database: Database) -> None:
    found = await _cursors(database)
    assert found, "the feed has no cursor"
    for one in found:
        collection = one["ns"].partition(".")[2]
        await database.commands.command(
            {"killCursors": collection, "cursors": [one["cursor"]["cursorId"]]}
        )


async def _step_down(database: Database) -> None:
    client: AsyncMongoClient[Data] = database.client
    with suppress(AutoReconnect):
        await client.admin.command({"replSetStepDown": 2, "force": True})


async def _once_writable(write: Callable[[], Awaitable[str]]) -> str:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await write()
            except (AutoReconnect, OperationFailure):
                await asyncio.sleep(0.05)


async def changed(received: Following, *, until: str) -> list[str]:
    """The ids of the changes up to that of this document."""
    return [one.id for one in await received.until(until) if isinstance(one, Change)]


async def test_a_partitioned_feed_reports_only_what_has_subscribers(
    database: Database,
) -> None:
    partitions = FollowedPartitions(32768)
    ids = [turn_id_of(new_conversation_id(), 0) for _ in range(6)]
    followed, unfollowed = ids[::2], ids[1::2]
    async with following(database, partitions) as received:
        for one in followed:
            partitions.add(conversation_of_turn(one))
        for one in [*unfollowed, *followed]:
            await database.turns.insert_one({"_id": one, "version": 1})

        assert await changed(received, until=followed[-1]) == followed

        partitions.remove(conversation_of_turn(followed[0]))
        partitions.add(conversation_of_turn(unfollowed[0]))
        for one in ids:
            await database.turns.update_one({"_id": one}, {"$inc": {"version": 1}})

        # The previous stream may still report what it has, also of an ended subscription.
        brought = {*await changed(received, until=unfollowed[0])}
        brought |= {*await changed(received, until=followed[-1])} - {followed[0]}
        assert brought - {followed[0]} == {unfollowed[0], *followed[1:]}


async def test_a_write_after_the_subscription_began_is_always_reported(
    database: Database,
) -> None:
    """Newcomers come all the time, and find a stream in the middle of anything."""
    partitions, random = FollowedPartitions(32768), Random(3)
    written: list[str] = []

    async def follow_and_write() -> None:
        for _ in range(25):
            await asyncio.sleep(random.uniform(0, 0.1))
            turn_id = turn_id_of(new_conversation_id(), 0)
            partitions.add(conversation_of_turn(turn_id))
            await database.turns.insert_one({"_id": turn_id, "version": 1})
            written.append(turn_id)

    async with following(database, partitions) as received:
        writing = asyncio.create_task(follow_and_write())
        brought: set[str] = set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not writing.done() or not brought.issuperset(written):
                item = await received.next()
                assert not isinstance(item, HistoryLost)
                if isinstance(item, Change):
                    brought.add(item.id)

    assert len(written) == 25


async def test_a_partitioned_feed_continues_while_subscribers_arrive_without_a_pause(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a stream takes longer to open than newcomers wait for the next one."""

    async def open_slowly(*arguments: Any, **options: Any) -> ChangeStream:
        await asyncio.sleep(0.3)
        return await open_stream(*arguments, **options)

    monkeypatch.setattr(change_feed, "open_stream", open_slowly)
    partitions = FollowedPartitions(32768)
    turn_id, last = (turn_id_of(new_conversation_id(), 0) for _ in range(2))
    for one in (turn_id, last):
        partitions.add(conversation_of_turn(one))

    async def follow_more() -> None:
        while True:
            partitions.add(new_conversation_id())
            await asyncio.sleep(0.01)

    async with following(database, partitions) as received:
        coming = asyncio.create_task(follow_more())
        reading = asyncio.create_task(changed(received, until=last))
        try:
            for version in range(50):
                document = {"$set": {"version": version}}
                await database.turns.update_one({"_id": turn_id}, document, upsert=True)
                await asyncio.sleep(0.05)
            await database.turns.insert_one({"_id": last, "version": 1})
            brought = await reading
        finally:
            coming.cancel()

    # Each replacement brings some again, and not all.
    assert 50 <= brought.count(turn_id) <= 200


async def test_a_new_subscriber_of_an_idle_feed_does_not_wait_for_its_next_response(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_feed, "LONGEST_ANSWER_MS", 6_000)
    partitions = FollowedPartitions(32768)
    async with following(database, partitions) as received:
        assert isinstance(await received.next(), Reached)
        turn_id = turn_id_of(new_conversation_id(), 0)
        partitions.add(conversation_of_turn(turn_id))
        await database.turns.insert_one({"_id": turn_id, "version": 1})
        asked_at = monotonic()

        assert await changed(received, until=turn_id) == [turn_id]

    assert monotonic() - asked_at < 5, "the stream before answers after six seconds"


async def test_a_partitioned_feed_returns_the_time_up_to_which_it_is_complete(
    database: Database,
) -> None:
    """A read that is to miss nothing has to be at least as new, even if nothing was brought."""
    async with following(database, FollowedPartitions(32)) as received:
        async with database.session() as session:
            await database.turns.insert_one(
                {"_id": turn_id_of(new_conversation_id(), 0), "version": 1}, session=session
            )
            written_at = cluster_time_of(session)
        reached = None
        while reached is None or reached < written_at:
            item = await received.next()
            assert isinstance(item, Reached)
            reached = item.cluster_time


async def test_newcomers_find_a_stream_that_continues_after_a_dropped_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come while it is opened, so it does not have them: the next one begins before them."""
    partitions = FollowedPartitions(32768)
    first, newcomer = (turn_id_of(new_conversation_id(), 0) for _ in range(2))
    partitions.add(conversation_of_turn(first))

    async def open_and_subscribe(*arguments: Any, **options: Any) -> ChangeStream:
        stream = await open_stream(*arguments, **options)
        if options["start_after"] is not None:
            partitions.add(conversation_of_turn(newcomer))
        return stream

    async with following(database, partitions) as received:
        await database.turns.insert_one({"_id": first, "version": 1})
        await received.until(first)
        monkeypatch.setattr(change_feed, "open_stream", open_and_subscribe)
        await database.client.drop_database(database.commands.name)
        while await received.next() != HistoryLost():
            pass

        # The stream that does not have the newcomer goes past its change.
        await database.turns.insert_one({"_id": newcomer, "version": 1})
        await database.turns.insert_one({"_id": first, "version": 1})

        await received.until(newcomer)


async def test_a_newcomer_reads_nothing_older_than_where_its_stream_begins(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads are as new as what the feed has reported: later changes have to be reported again."""
    partitions, begins = FollowedPartitions(32768), Position()
    turn_id = turn_id_of(new_conversation_id(), 0)
    partitions.add(conversation_of_turn(turn_id))

    async def open_from(*arguments: Any, **options: Any) -> ChangeStream:
        begins.token = options["resume_after"]
        return await open_stream(*arguments, **options)

    monkeypatch.setattr(change_feed, "open_stream", open_from)
    async with following(database, partitions) as received:
        for version in range(3):
            change = {"$set": {"version": version}}
            await database.turns.update_one({"_id": turn_id}, change, upsert=True)
            # It comes together with the time of these.
            await database.ledger.insert_many([{} for _ in range(10)])
            change_of_the_turn = (await received.until(turn_id))[-1]
            assert isinstance(change_of_the_turn, Change)

            newcomer = turn_id_of(new_conversation_id(), 0)
            partitions.add(conversation_of_turn(newcomer))
            await database.turns.insert_one({"_id": newcomer, "version": 1})
            await received.until(newcomer)

            assert begins.time is not None
            assert begins.time <= change_of_the_turn.cluster_time
