"""`turnUpdated`: the turns of a conversation as they stand now, then after each change.

State, not events: what is told is a turn as it stands, so a state may come twice and none that
matters is missed. Cursors are moments of the database, valid in every process.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Final

from domain.changes import Moment
from domain.cursors import TurnCursors
from domain.errors import NotFound, Overloaded
from domain.ids import TurnId, parse_conversation_id
from domain.ports import ConversationRepository, TurnRepository
from domain.turns import Turn, TurnsAsOf, TurnUpdate
from domain.viewers import Viewer
from subscriptions.hub import Hub

_SLACK_SECONDS: Final = 10
"""A turn's `changedAt` may be older than its commit by as long as a transaction may live."""
_REMEMBERED_TURNS: Final = 64
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
        since = self.cursors.read(conversation_id, after) if after is not None else None
        told = _Told()
        with self.hub.listen(conversation_id) as listener:
            if not await self.conversations.get_many(viewer.id, [conversation_id]):
                raise NotFound
            current = await self.turns.current(conversation_id, changed_since=_with_slack(since))
            for update in told.all_of(current, since):
                yield update

            while not listener.ended:
                await listener.wait()
                if listener.lost:
                    try:
                        if not await self.conversations.get_many(viewer.id, [conversation_id]):
                            return
                        current = await self.turns.current(
                            conversation_id, changed_since=_with_slack(told.moment)
                        )
                    except Overloaded:
                        listener.tell(lost=True)
                        await asyncio.sleep(_PAUSE_SECONDS)
                        continue
                    listener.lost = False
                    for update in told.all_of(current, told.moment):
                        yield update
                for turn, moment in listener.take_turns():
                    if (told_now := told.one(turn, moment)) is not None:
                        yield told_now


@dataclass(slots=True)
class _Told:
    """What one subscriber knows: each turn's version, and each output's."""

    moment: Moment | None = None
    _versions: dict[TurnId, tuple[int, dict[int, int]]] = field(default_factory=dict)

    def all_of(self, current: TurnsAsOf, since: Moment | None) -> list[TurnUpdate]:
        """One update for each turn that is news. Only the last one's cursor passes them all."""
        news = [turn for turn in current.turns if self._is_news(turn)]
        moments = [since or current.moment] * (len(news) - 1) + [current.moment]
        updates = [self.one(turn, moment) for turn, moment in zip(news, moments, strict=False)]
        self.moment = current.moment
        return [update for update in updates if update is not None]

    def one(self, turn: Turn, moment: Moment) -> TurnUpdate | None:
        """An update, or None where the subscriber knows as much already."""
        if not self._is_news(turn):
            return None
        _, known = self._versions.pop(turn.id, (0, {}))
        changed = tuple(o for o in turn.outputs if o.version != known.get(o.slot))
        self._versions[turn.id] = turn.version, {o.slot: o.version for o in turn.outputs}
        if len(self._versions) > _REMEMBERED_TURNS:
            del self._versions[next(iter(self._versions))]
        self.moment = moment
        return TurnUpdate(turn, changed, moment)

    def _is_news(self, turn: Turn) -> bool:
        return turn.version > self._versions.get(turn.id, (0, {}))[0]


def _with_slack(moment: Moment | None) -> Moment | None:
    return moment.earlier(_SLACK_SECONDS) if moment is not None else None
