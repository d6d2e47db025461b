"""History that is lost at the worst moment: while the previously lost part is being read again."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from domain.cursors import TurnCursors
from domain.ids import TurnId, ViewerId
from domain.ports.changes import FeedItem, HistoryLost
from domain.signing import Signer
from domain.turns import TurnsAsOf
from domain.viewers import Viewer
from storage.mongo.database import Database, open_database
from storage.mongo.turns import MongoTurnRepository
from subscriptions.hub import Hub
from subscriptions.turns import TurnUpdates
from tests.conftest import darkrooms
from tests.operations import conversation_with
from tests.waits import PATIENCE_SECONDS


class SilentFeed:
    """A feed that has just been opened, and reports nothing but lost history."""

    def __init__(self) -> None:
        self.lost: asyncio.Queue[HistoryLost] = asyncio.Queue()

    async def follow(self) -> AsyncGenerator[Sequence[FeedItem] | None, None]:
        yield None
        while True:
            yield [await self.lost.get()]
            self.lost.task_done()


class InterruptedTurns(MongoTurnRepository):
    """The real turns; something happens between a read and its answer."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.after_reading: Callable[[], Awaitable[None]] | None = None

    async def read_current(self, *given: Any, **named: Any) -> Sequence[TurnsAsOf]:
        found = await super().read_current(*given, **named)
        if self.after_reading is not None:
            happens, self.after_reading = self.after_reading, None
            await happens()
        return found


async def test_changes_during_the_read_after_lost_history_are_read_as_well(
    mongodb_uri: str, tmp_path: Path
) -> None:
    async with darkrooms(mongodb_uri, tmp_path) as start:
        darkroom = await start()
        client = darkroom.client()
        payload = await conversation_with(client)
        turn_id = TurnId(payload["turn"]["id"])
        name = darkroom.settings.mongodb_database
        async with open_database(mongodb_uri, name) as database:
            feed, turns = SilentFeed(), InterruptedTurns(database)
            cursors = TurnCursors(Signer(b"x" * 32))
            hub = Hub(feed, cursors)
            stored = await database.turns.find_one({"_id": turn_id})
            assert stored is not None
            viewer = Viewer(
                id=ViewerId(stored["ownerId"]), expires_at=datetime.now(UTC) + timedelta(hours=1)
            )
            async with hub.serve():
                updates = TurnUpdates(hub, turns, cursors).of(viewer, payload["conversation"]["id"])
                first = await asyncio.wait_for(anext(updates), PATIENCE_SECONDS)

                async def a_change_is_lost_too() -> None:
                    await database.turns.update_one({"_id": turn_id}, {"$inc": {"version": 1}})
                    feed.lost.put_nowait(HistoryLost())
                    await feed.lost.join()

                turns.after_reading = a_change_is_lost_too
                feed.lost.put_nowait(HistoryLost())
                second = await asyncio.wait_for(anext(updates), PATIENCE_SECONDS)
                await updates.aclose()

    assert second.turn.version == first.turn.version + 1
