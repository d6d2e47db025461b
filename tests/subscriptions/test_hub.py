"""The hub with a scripted feed: no delivered state is missed."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import replace

import pytest

from domain.batches import in_batches
from domain.changes import ClusterTime
from domain.cursors import TurnCursors
from domain.errors import Overloaded
from domain.ids import ViewerId
from domain.ports.changes import READ_AT_ONCE, Change, ChangedKind, HistoryLost
from domain.signing import Signer
from domain.turns import Turn
from storage.mongo.database import Database
from subscriptions.hub import Hub
from subscriptions.turn_channel import Subscriber
from tests.storage.builders import a_conversation

CURSORS = TurnCursors(Signer(b"of this test"))


class Feed:
    """A ChangeFeed that reports what the test gives it, and can fail."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[Change | HistoryLost | Exception] = asyncio.Queue()
        self.opened = 0

    async def follow(self) -> AsyncGenerator[Sequence[Change | HistoryLost] | None, None]:
        self.opened += 1
        yield None
        while True:
            said = [await self.says.get()]
            while not self.says.empty():
                said.append(self.says.get_nowait())
            changes = [one for one in said if not isinstance(one, Exception)]
            for some in in_batches(changes, READ_AT_ONCE):
                yield some
            for one in said:
                if isinstance(one, Exception):
                    raise one


def a_change(turn: Turn, seconds: int) -> Change:
    return Change(
        ChangedKind.TURN,
        turn.id,
        deleted=False,
        cluster_time=ClusterTime(seconds, 0),
        read_turn=lambda: turn,
    )


async def notified(subscriber: Subscriber) -> None:
    async with asyncio.timeout(5):
        await subscriber.wait()


def a_hub(feed: Feed) -> Hub:
    return Hub(feed, CURSORS)


async def test_a_subscriber_is_notified_of_its_own_conversation_only(database: Database) -> None:
    feed, (_, mine), (_, other) = (
        Feed(),
        await a_conversation(database),
        await a_conversation(database),
    )
    hub = a_hub(feed)
    async with hub.serve():
        with hub.subscribe(mine.conversation_id) as subscriber:
            subscriber.behind = False
            feed.says.put_nowait(a_change(other, 1))
            feed.says.put_nowait(a_change(mine, 2))
            await notified(subscriber)

            assert [update.turn.id for update in subscriber.take()] == [mine.id]
        assert hub.subscriber_count == 0


@pytest.mark.parametrize(
    "broken", [ValueError("anything"), HistoryLost()], ids=["an error", "lost history"]
)
async def test_after_a_gap_subscribers_are_behind_once_the_feed_is_open(
    database: Database, broken: HistoryLost | Exception
) -> None:
    feed, (_, turn) = Feed(), await a_conversation(database)
    hub = a_hub(feed)
    async with hub.serve():
        with hub.subscribe(turn.conversation_id) as subscriber:
            subscriber.behind = False
            feed.says.put_nowait(broken)
            await notified(subscriber)

            assert subscriber.behind
            assert feed.opened == (1 if isinstance(broken, HistoryLost) else 2)


async def test_many_changes_at_once_do_not_keep_the_event_loop_from_others(
    database: Database,
) -> None:
    feed, (_, turn) = Feed(), await a_conversation(database)
    hub, read = a_hub(feed), 0

    def read_turn() -> Turn:
        nonlocal read
        read += 1
        return turn

    async with hub.serve():
        with hub.subscribe(turn.conversation_id):
            for seconds in range(5 * READ_AT_ONCE):
                feed.says.put_nowait(replace(a_change(turn, seconds), read_turn=read_turn))
            before = 0
            async with asyncio.timeout(30):
                while read < 5 * READ_AT_ONCE:
                    assert read - before <= READ_AT_ONCE
                    before = read
                    await asyncio.sleep(0)
            assert read - before <= READ_AT_ONCE


async def test_a_deleted_conversation_ends_its_subscribers_and_listeners(
    database: Database,
) -> None:
    feed, (_, turn) = Feed(), await a_conversation(database)
    hub = a_hub(feed)
    deleted = Change(
        ChangedKind.CONVERSATION, turn.conversation_id, deleted=True, cluster_time=ClusterTime(1, 0)
    )
    async with hub.serve():
        with (
            hub.subscribe(turn.conversation_id) as subscriber,
            hub.listen(turn.conversation_id) as listener,
        ):
            feed.says.put_nowait(deleted)
            await notified(subscriber)

            assert subscriber.ended
            assert listener.ended


async def test_after_lost_history_deleted_viewers_are_detected() -> None:
    ana, bob, ids = ViewerId("ana"), ViewerId("bob"), list[ViewerId]()
    answers: asyncio.Queue[list[ViewerId] | Overloaded] = asyncio.Queue()

    async def find_accounts(asked: Collection[ViewerId]) -> Collection[ViewerId]:
        ids.extend(asked)
        answer = answers.get_nowait()
        if isinstance(answer, Overloaded):
            raise answer
        return answer

    feed, gone, there = Feed(), asyncio.Event(), asyncio.Event()
    hub = Hub(feed, CURSORS, find_accounts)
    async with hub.serve():
        with hub.call_when_deleted(ana, gone.set), hub.call_when_deleted(bob, there.set):
            # The database may be away just then.
            answers.put_nowait(Overloaded())
            answers.put_nowait([bob])
            feed.says.put_nowait(HistoryLost())
            async with asyncio.timeout(5):
                await gone.wait()

    assert not there.is_set()
    assert ids == [ana, bob] * 2
