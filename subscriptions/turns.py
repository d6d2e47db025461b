"""`turnUpdated`: the turns of a conversation as they stand now, then after each change.

State, not events: what is told is a turn as it stands, so a state may come twice and none that
matters is missed. Cursors are bookmarks in the database's own time, valid in every process.
"""

import asyncio
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from domain.changes import Bookmark, ClusterTime
from domain.cursors import TurnCursors
from domain.errors import NotFound, Overloaded
from domain.ids import ConversationId, parse_conversation_id
from domain.ports.repositories import ConversationRepository, TurnRepository
from domain.turns import Turn, TurnsAsOf, TurnUpdate
from domain.viewers import Viewer
from subscriptions.hub import Hub

_SLACK: Final = timedelta(seconds=10)
"""A turn's `changedAt` may be older than its commit by as long as a transaction may live."""
_REMEMBERED_TURNS: Final = 64
_BOOKMARKED_TURNS: Final = 16
_PAUSE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class TurnUpdates:
    hub: Hub
    turns: TurnRepository
    conversations: ConversationRepository
    cursors: TurnCursors

    async def of(
        self, viewer: Viewer, name: str, *, after: str | None = None
    ) -> AsyncGenerator[TurnUpdate, None]:
        """Ends when the conversation is deleted.

        Raise NotFound for what is not the viewer's, InvalidCursor for what is not a cursor of it.
        """
        conversation_id = parse_conversation_id(name)
        if conversation_id is None:
            raise NotFound
        after_bookmark = self.cursors.read(conversation_id, after) if after is not None else None
        seen = _Seen(after_bookmark)
        with self.hub.listen(conversation_id) as listener:
            listener.tell(lost=True)  # nothing is known yet
            while not listener.ended:
                await listener.wait()
                if listener.lost:
                    # Before the read: what is lost during it has to be read again.
                    listener.lost = False
                    try:
                        if not await self.conversations.get_many(viewer.id, [conversation_id]):
                            if not seen.begun:
                                raise NotFound
                            return
                        async for update in self._standing(viewer, conversation_id, seen):
                            yield update
                    except Overloaded:
                        listener.tell(lost=True)
                        await asyncio.sleep(_PAUSE_SECONDS * random.uniform(0.5, 1.5))
                        continue
                for turn, moment in listener.take_turns():
                    if seen.is_news(turn):
                        yield seen.one(turn, moment)

    async def _standing(
        self, viewer: Viewer, conversation_id: ConversationId, seen: "_Seen"
    ) -> AsyncGenerator[TurnUpdate, None]:
        """All that the subscriber does not know yet, page by page."""
        since, moment, after_index = seen.since, None, -1
        while True:
            page = await self.turns.current(
                viewer.id,
                conversation_id,
                changed_since=since,
                recent=_SLACK,
                after_index=after_index,
            )
            moment = moment or page.moment
            for update in seen.page(page, moment):
                yield update
            if not page.more:
                return
            after_index = page.turns[-1].turn_index


@dataclass(slots=True)
class _Known:
    version: int
    outputs: dict[int, int]
    """Each output's version, by its slot."""
    moment: ClusterTime


class _Seen:
    """What one subscriber knows."""

    def __init__(self, after: Bookmark | None) -> None:
        self.begun = False
        """Whether it has been told all that stood when it came."""
        self._newcomer = after is None
        self._moment = after.moment if after else None
        self._turns: dict[int, _Known] = {}
        if after is not None:
            # Of these the subscriber may know less than all outputs: the next update tells them
            # all.
            for turn_index, version in after.versions:
                self._turns[turn_index] = _Known(version, {}, after.moment)

    @property
    def since(self) -> ClusterTime | None:
        return self._moment.earlier(_SLACK) if self._moment else None

    def page(self, page: TurnsAsOf, moment: ClusterTime) -> list[TurnUpdate]:
        """What is due of a page of turns as they stand.

        At first the latest turn and those at work are due in any case, the others where they are
        news; without a cursor none of the others is, for whoever has just come has missed nothing.
        Until the last turn of the last page is told, the subscriber stands where it stood.
        """
        due: list[Turn] = []
        for turn in page.turns:
            latest = not page.more and turn is page.turns[-1]
            if not self.begun and (turn.in_progress or latest):
                due.append(turn)
            elif not self.is_news(turn):
                continue
            elif self.begun or not self._newcomer:
                due.append(turn)
            else:
                self._know(turn, moment)
        before = self._moment or moment
        moments = [before] * len(due)
        if due and not page.more:
            moments[-1] = moment
        updates = [self.one(turn, at) for turn, at in zip(due, moments, strict=True)]
        if not page.more:
            self._moment, self.begun = moment, True
        return updates

    def is_news(self, turn: Turn) -> bool:
        known = self._turns.get(turn.turn_index)
        return known is None or turn.version > known.version

    def one(self, turn: Turn, moment: ClusterTime) -> TurnUpdate:
        """Tell a turn; afterwards all that changed before `moment` has been told."""
        known = self._turns.get(turn.turn_index)
        known_outputs = known.outputs if known else {}
        changed = tuple(o for o in turn.outputs if o.version != known_outputs.get(o.slot))
        self._know(turn, moment, {o.slot: o.version for o in turn.outputs})
        self._moment = moment
        return TurnUpdate(turn, changed, Bookmark(moment, self._about(moment)))

    def _know(self, turn: Turn, moment: ClusterTime, outputs: dict[int, int] | None = None) -> None:
        self._turns.pop(turn.turn_index, None)
        self._turns[turn.turn_index] = _Known(turn.version, outputs or {}, moment)
        if len(self._turns) > _REMEMBERED_TURNS:
            del self._turns[next(iter(self._turns))]

    def _about(self, moment: ClusterTime) -> tuple[tuple[int, int], ...]:
        """The versions of turns that a resumption from this moment would find again."""
        recent = moment.earlier(_SLACK)
        found = [(i, known.version) for i, known in self._turns.items() if known.moment >= recent]
        return tuple(found[-_BOOKMARKED_TURNS:])
