"""One change feed per process, fanned out to the listeners of each conversation and account.

The feed brings ids only. Turns that somebody listens to are read once, in batches, and the same
state is offered to all of their listeners. A slow listener's waiting states collapse into the
newest of each turn; one that falls too far behind is told to read anew.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from domain.changes import Change, ChangedKind, ClusterTime, HistoryLost
from domain.errors import Overloaded
from domain.ids import ConversationId, TurnId, ViewerId, conversation_of_turn, parse_turn_id
from domain.ports.changes import ChangeFeed
from domain.ports.repositories import TurnRepository
from domain.turns import Turn

log = structlog.get_logger(__name__)

MAX_WAITING_TURNS: Final = 64
_BATCH: Final = 256
_OPEN_SECONDS: Final = 20
_PAUSE_SECONDS: Final = 0.25


@dataclass(slots=True)
class _Waiting:
    turn: Turn
    first_moment: ClusterTime
    last_moment: ClusterTime


class Listener:
    """What one subscriber of a conversation or an account has not been told yet."""

    def __init__(self) -> None:
        self.ended = False
        """What is listened to is gone."""
        self.lost = False
        """Changes may have been missed: read anew."""
        self.changed = False
        """The conversation or account itself."""
        self._waiting: dict[TurnId, _Waiting] = {}
        self._news = asyncio.Event()

    async def wait(self) -> None:
        """Return once there is something to tell."""
        await self._news.wait()
        self._news.clear()

    def take_turns(self) -> Iterator[tuple[Turn, ClusterTime]]:
        """The waiting turns, longest waiting first, each with a moment before which all is told.

        None once something was lost: what has to be read anew must not be passed.
        """
        while self._waiting and not self.lost:
            waiting = self._waiting.pop(next(iter(self._waiting)))
            rest = [other.first_moment for other in self._waiting.values()]
            yield waiting.turn, min([waiting.last_moment, *rest])

    def forget_turns(self) -> None:
        self._waiting.clear()

    def offer(self, turn: Turn, changed: ClusterTime, read: ClusterTime) -> None:
        """A turn that changed at one moment, and holds all that had happened to it at another."""
        waiting = self._waiting.get(turn.id)
        if waiting is not None:
            waiting.last_moment = read
            if turn.version > waiting.turn.version:
                waiting.turn = turn
        elif len(self._waiting) < MAX_WAITING_TURNS:
            self._waiting[turn.id] = _Waiting(turn, changed, read)
        else:
            self.lost = True
        self._news.set()

    def tell(self, *, ended: bool = False, lost: bool = False, changed: bool = False) -> None:
        self.ended |= ended
        self.lost |= lost
        self.changed |= changed
        self._news.set()


class Hub:
    def __init__(self, feed: ChangeFeed, turns: TurnRepository) -> None:
        self._feed = feed
        self._turns = turns
        self._listeners: dict[ConversationId | ViewerId, set[Listener]] = {}
        self._changed: dict[TurnId, ClusterTime] = {}
        self._work = asyncio.Event()
        self._opened = asyncio.Event()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Follow the feed. Raise Overloaded where it does not open in time."""
        tasks = [
            asyncio.create_task(self._follow(), name="change feed"),
            asyncio.create_task(self._read_changed(), name="changed turns"),
        ]
        try:
            try:
                await asyncio.wait_for(self._opened.wait(), _OPEN_SECONDS)
            except TimeoutError:
                raise Overloaded("The database's change stream does not open.") from None
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def listen(self, subject: ConversationId | ViewerId) -> Iterator[Listener]:
        """Register first, then read: whatever changes after this call will be told."""
        listener = Listener()
        self._listeners.setdefault(subject, set()).add(listener)
        try:
            yield listener
        finally:
            listeners = self._listeners[subject]
            listeners.discard(listener)
            if not listeners:
                del self._listeners[subject]

    @property
    def listener_count(self) -> int:
        return sum(map(len, self._listeners.values()))

    async def _follow(self) -> None:
        while True:
            try:
                async for change in self._feed.follow():
                    self._route(change)
            except Exception:
                log.exception("change feed failed")
            await asyncio.sleep(_PAUSE_SECONDS)

    def _route(self, change: Change | HistoryLost | None) -> None:
        if change is None:
            if self._opened.is_set():
                self._tell_all_lost()  # another feed: nobody knows what went by before it opened
            self._opened.set()
        elif isinstance(change, HistoryLost):
            log.warning("history lost, listeners read anew")
            self._tell_all_lost()
        elif change.kind is ChangedKind.TURN:
            turn_id = parse_turn_id(change.id)
            if turn_id is None or change.deleted:
                return
            if conversation_of_turn(turn_id) in self._listeners:
                self._changed[turn_id] = change.moment
                self._work.set()
        else:
            kind = ViewerId if change.kind is ChangedKind.ACCOUNT else ConversationId
            for listener in self._listeners.get(kind(change.id), ()):
                listener.tell(ended=change.deleted, changed=True)

    def _tell_all_lost(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.tell(lost=True)

    async def _read_changed(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._changed:
                batch = dict(list(self._changed.items())[:_BATCH])
                for turn_id in batch:
                    del self._changed[turn_id]
                try:
                    turns = await self._turns.load_changed(batch, at_least=max(batch.values()))
                except Overloaded:
                    self._changed = {**batch, **self._changed}
                    await asyncio.sleep(_PAUSE_SECONDS)
                except Exception:
                    log.exception("changed turns could not be read")
                    self._tell_all_lost()
                    await asyncio.sleep(_PAUSE_SECONDS)
                else:
                    self._offer(turns, batch)

    def _offer(self, turns: Iterable[Turn], batch: dict[TurnId, ClusterTime]) -> None:
        newest: dict[ConversationId, ClusterTime] = {}
        for turn_id, moment in batch.items():
            conversation_id = conversation_of_turn(turn_id)
            newest[conversation_id] = max(moment, newest.get(conversation_id, moment))
        for turn in turns:
            for listener in self._listeners.get(turn.conversation_id, ()):
                listener.offer(turn, batch[turn.id], newest[turn.conversation_id])
