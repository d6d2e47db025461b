"""What a subscriber receives when it subscribes and when it returns, on a real database."""

import asyncio
from datetime import UTC, datetime, timedelta

from domain.changes import Bookmark, ClusterTime
from domain.conflicts import Conflict
from domain.cursors import TurnCursors
from domain.errors import GenerationErrorCode
from domain.outputs import GenerationError
from domain.signing import Signer
from domain.turns import Turn, TurnUpdate
from domain.viewers import Viewer
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.database import Database
from storage.mongo.turns import MongoTurnRepository
from subscriptions.hub import Hub
from subscriptions.turns import TurnUpdates
from tests.storage.builders import ANA, a_claim, a_conversation, another_turn
from tests.subscriptions.test_hub import Feed

CURSORS = TurnCursors(Signer(b"of this test"))
FAILURE = GenerationError(GenerationErrorCode.TIMED_OUT, retryable=True)


async def an_old_conversation(database: Database, *, turns: int) -> list[Turn]:
    """Turns that are all over, and were long ago as far as the database can tell."""
    conversation, turn = await a_conversation(database)
    written = [turn]
    for _ in range(turns - 1):
        appended = await another_turn(database, conversation)
        assert not isinstance(appended, Conflict)
        conversation, turn = appended
        written.append(turn)
    for turn in written:
        await end(database, turn)
    return written


async def end(database: Database, turn: Turn) -> None:
    claim = await a_claim(database, turn.outputs[0].id)
    assert await MongoClaimRepository(database).fail(claim, FAILURE)
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    await database.turns.update_one({"_id": turn.id}, {"$set": {"updatedAt": long_ago}})


async def updates_after(
    database: Database, turn: Turn, bookmark: Bookmark | None
) -> list[TurnUpdate]:
    """All that comes at once."""
    turns = MongoTurnRepository(database)
    hub = Hub(Feed(), CURSORS)
    after = CURSORS.make(turn.conversation_id, bookmark) if bookmark else None
    updates: list[TurnUpdate] = []
    async with hub.serve():
        following = TurnUpdates(hub, turns, CURSORS).of(
            Viewer(ANA), turn.conversation_id, after=after
        )
        try:
            while True:
                updates.append(await asyncio.wait_for(anext(following), 0.5))
        except TimeoutError:
            return updates


def indexes(updates: list[TurnUpdate]) -> list[int]:
    return [update.turn.turn_index for update in updates]


async def test_a_new_subscriber_has_missed_nothing(database: Database) -> None:
    turns = await an_old_conversation(database, turns=3)

    assert indexes(await updates_after(database, turns[0], None)) == [2]


async def test_a_returning_subscriber_receives_what_changed_however_long_ago(
    database: Database,
) -> None:
    turns = await an_old_conversation(database, turns=4)
    long_before = Bookmark(ClusterTime(1, 1))

    assert indexes(await updates_after(database, turns[0], long_before)) == [0, 1, 2, 3]


async def test_after_a_long_absence_only_the_last_update_has_the_newest_cursor(
    database: Database,
) -> None:
    turns = await an_old_conversation(database, turns=55)
    long_before = Bookmark(ClusterTime(1, 1))

    updates = await updates_after(database, turns[0], long_before)

    assert indexes(updates) == list(range(55))
    assert {update.bookmark.cluster_time for update in updates[:-1]} == {long_before.cluster_time}
    assert updates[-1].bookmark.cluster_time > long_before.cluster_time


async def test_a_state_older_than_the_cursor_is_not_sent_again(database: Database) -> None:
    turns = await an_old_conversation(database, turns=3)
    standing = await MongoTurnRepository(database).get_many(ANA, [turn.id for turn in turns])
    known = tuple((turn.turn_index, turn.version) for turn in standing.values())

    updates = await updates_after(database, turns[0], Bookmark(ClusterTime(1, 1), known[:2]))

    assert indexes(updates) == [2]
