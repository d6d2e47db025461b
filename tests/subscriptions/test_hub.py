"""The hub with a feed that does what one wants: nothing that has landed is passed over."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from domain.changes import Change, ChangedKind, ClusterTime, HistoryLost
from domain.ids import turn_id_of
from domain.turns import Turn
from storage.mongo.database import Database
from storage.mongo.turns import MongoTurnRepository
from subscriptions.hub import MAX_WAITING_TURNS, Hub, Listener
from tests.storage.builders import a_conversation


class Feed:
    """A ChangeFeed that says what it is told to say, and can break."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[Change | HistoryLost | Exception] = asyncio.Queue()
        self.opened = 0

    async def follow(self) -> AsyncIterator[Change | HistoryLost | None]:
        self.opened += 1
        yield None
        while True:
            said = await self.says.get()
            if isinstance(said, Exception):
                raise said
            yield said


def a_change(turn: Turn, seconds: int) -> Change:
    return Change(ChangedKind.TURN, turn.id, deleted=False, moment=ClusterTime(seconds, 0))


async def told(listener: Listener) -> None:
    async with asyncio.timeout(5):
        await listener.wait()


async def test_a_listener_is_told_of_its_conversation_only(database: Database) -> None:
    feed, (_, mine), (_, other) = (
        Feed(),
        await a_conversation(database),
        await a_conversation(database),
    )
    hub = Hub(feed, MongoTurnRepository(database))
    async with hub.serve():
        with hub.listen(mine.conversation_id) as listener:
            feed.says.put_nowait(a_change(other, 1))
            feed.says.put_nowait(a_change(mine, 2))
            await told(listener)

            assert [turn.id for turn, _ in listener.take_turns()] == [mine.id]
        assert hub.listener_count == 0


@pytest.mark.parametrize(
    "broken", [ValueError("anything"), HistoryLost()], ids=["an error", "lost history"]
)
async def test_after_a_gap_listeners_read_anew_once_the_feed_is_open(
    database: Database, broken: HistoryLost | Exception
) -> None:
    feed, (_, turn) = Feed(), await a_conversation(database)
    hub = Hub(feed, MongoTurnRepository(database))
    async with hub.serve():
        with hub.listen(turn.conversation_id) as listener:
            feed.says.put_nowait(broken)
            await told(listener)

            assert listener.lost
            assert feed.opened == (1 if isinstance(broken, HistoryLost) else 2)


def a_listener_with(turns: list[Turn]) -> Listener:
    listener = Listener()
    for seconds, turn in enumerate(turns):
        listener.offer(turn, ClusterTime(seconds, 0), ClusterTime(seconds, 0))
    return listener


async def test_what_waits_is_told_with_a_moment_that_passes_nothing(database: Database) -> None:
    turns = [(await a_conversation(database))[1] for _ in range(3)]
    listener = a_listener_with(turns)

    moments = [moment for _, moment in listener.take_turns()]

    assert moments == [ClusterTime(0, 0), ClusterTime(1, 0), ClusterTime(2, 0)]
    listener = a_listener_with(turns)
    listener.offer(turns[0], ClusterTime(9, 0), ClusterTime(9, 0))
    assert [moment for _, moment in listener.take_turns()] == [
        ClusterTime(1, 0),
        ClusterTime(1, 0),
        ClusterTime(2, 0),
    ]


async def test_once_something_is_lost_nothing_that_waits_is_told(database: Database) -> None:
    turns = [(await a_conversation(database))[1] for _ in range(3)]
    listener = a_listener_with(turns)
    taking = listener.take_turns()
    next(taking)

    listener.tell(lost=True)

    assert list(taking) == []


async def test_a_listener_that_falls_behind_has_to_read_anew(database: Database) -> None:
    _, turn = await a_conversation(database)
    listener = Listener()
    for number in range(MAX_WAITING_TURNS + 1):
        other = replace(turn, id=turn_id_of(turn.conversation_id, number))
        listener.offer(other, ClusterTime(number, 0), ClusterTime(number, 0))

    assert listener.lost
