"""`turnUpdated`: the turns of a conversation as they stand now, then after each change.

State, not events: what is told is a turn as it stands, so a state may come twice and none that
matters is missed. Cursors are bookmarks in the database's own time, valid in every process.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from domain.changes import Bookmark, Moment
from domain.cursors import TurnCursors
from domain.errors import NotFound, Overloaded
from domain.ids import parse_conversation_id
from domain.ports import ConversationRepository, TurnRepository
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
        told = _Told(after_bookmark)
        begun = False
        with self.hub.listen(conversation_id) as listener:
            listener.tell(lost=True)  # nothing is known yet
            while not listener.ended:
                await listener.wait()
                if listener.lost:
                    # Before the read: what is lost during it has to be read again.
                    listener.lost = False
                    try:
                        if not await self.conversations.get_many(viewer.id, [conversation_id]):
                            if not begun:
                                raise NotFound
                            return
                        current = await self.turns.current(
                            conversation_id, changed_since=told.since, recent=_SLACK
                        )
                    except Overloaded:
                        listener.tell(lost=True)
                        await asyncio.sleep(_PAUSE_SECONDS)
                        continue
                    updates = told.again(current) if begun else told.first(current)
                    begun = True
                    for update in updates:
                        yield update
                for turn, moment in listener.take_turns():
                    if told.is_news(turn):
                        yield told.one(turn, moment)


@dataclass(slots=True)
class _Known:
    version: int
    outputs: dict[int, int]
    """Each output's version, by its slot."""
    moment: Moment


class _Told:
    """What one subscriber knows."""

    def __init__(self, after: Bookmark | None) -> None:
        self._moment = after.moment if after else None
        self._turns: dict[int, _Known] = {}
        if after is not None:
            # Of these the subscriber may know less than all outputs: the next update tells them
            # all.
            for turn_index, version in after.versions:
                self._turns[turn_index] = _Known(version, {}, after.moment)

    @property
    def since(self) -> Moment | None:
        return self._moment.earlier(_SLACK) if self._moment else None

    def first(self, current: TurnsAsOf) -> list[TurnUpdate]:
        """The latest turn and those at work in any case; the others where they are news.

        Without a cursor none of the others is: whoever has just come has missed nothing.
        """
        told: list[Turn] = []
        passed: list[Turn] = []
        newcomer = self._moment is None
        for turn in current.turns:
            due = turn.in_progress or turn is current.turns[-1]
            due = due or (not newcomer and self.is_news(turn))
            (told if due else passed).append(turn)
        for turn in passed:
            self._know(turn, current.moment)
        return self._all(told, current.moment)

    def again(self, current: TurnsAsOf) -> list[TurnUpdate]:
        return self._all([turn for turn in current.turns if self.is_news(turn)], current.moment)

    def is_news(self, turn: Turn) -> bool:
        known = self._turns.get(turn.turn_index)
        return known is None or turn.version > known.version

    def one(self, turn: Turn, moment: Moment) -> TurnUpdate:
        """Tell a turn; afterwards all that changed before `moment` has been told."""
        known = self._turns.get(turn.turn_index)
        known_outputs = known.outputs if known else {}
        changed = tuple(o for o in turn.outputs if o.version != known_outputs.get(o.slot))
        self._know(turn, moment, {o.slot: o.version for o in turn.outputs})
        self._moment = moment
        return TurnUpdate(turn, changed, Bookmark(moment, self._about(moment)))

    def _all(self, turns: list[Turn], moment: Moment) -> list[TurnUpdate]:
        """Until the last one is told, the subscriber stands where it stood."""
        before = self._moment or moment
        last = len(turns) - 1
        updates = [
            self.one(turn, moment if number == last else before)
            for number, turn in enumerate(turns)
        ]
        self._moment = moment
        return updates

    def _know(self, turn: Turn, moment: Moment, outputs: dict[int, int] | None = None) -> None:
        self._turns.pop(turn.turn_index, None)
        self._turns[turn.turn_index] = _Known(turn.version, outputs or {}, moment)
        if len(self._turns) > _REMEMBERED_TURNS:
            del self._turns[next(iter(self._turns))]

    def _about(self, moment: Moment) -> tuple[tuple[int, int], ...]:
        """The versions of turns that a resumption from this moment would find again."""
        recent = moment.earlier(_SLACK)
        found = [(i, known.version) for i, known in self._turns.items() if known.moment >= recent]
        return tuple(found[-_BOOKMARKED_TURNS:])
