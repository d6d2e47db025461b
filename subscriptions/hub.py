"""One change feed per process, fanned out to the subscribers of each conversation and account.

The feed brings ids only. Turns of conversations that have subscribers are read once, in batches;
each becomes one update for all of them. After changes that may have been missed, the subscribers
read the present state.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import structlog

from domain.changes import Change, ChangedKind, ClusterTime, HistoryLost
from domain.cursors import TurnCursors
from domain.errors import Overloaded
from domain.ids import ConversationId, TurnId, ViewerId, conversation_of_turn, parse_turn_id
from domain.ports.changes import ChangeFeed
from domain.ports.repositories import TurnRepository
from domain.retries import RetryPolicy
from domain.turns import Turn
from subscriptions.turn_channel import Subscriber, TurnChannel

log = structlog.get_logger(__name__)

_BATCH: Final = 256
_OPEN_SECONDS: Final = 20
_PAUSE_SECONDS: Final = 0.25
_READ_AGAIN: Final = RetryPolicy(first_pause_seconds=0.5, longest_pause_seconds=0.5)


async def pause_before_reading() -> None:
    """Wait until a subscriber reads again that could not: jitter, so that not all read at once."""
    await asyncio.sleep(_READ_AGAIN.pause_seconds(1))


class Listener:
    """Is notified when one conversation or account, not its turns, has changed: read it then."""

    def __init__(self) -> None:
        self.ended = False
        """Whether it is deleted."""
        self._changed = asyncio.Event()
        self._changed.set()  # nothing is known yet

    async def wait(self) -> None:
        """Return once it may have changed since the last call."""
        await self._changed.wait()
        self._changed.clear()

    def notify(self, *, ended: bool = False) -> None:
        self.ended |= ended
        self._changed.set()


class Hub:
    def __init__(self, feed: ChangeFeed, turns: TurnRepository, cursors: TurnCursors) -> None:
        self._feed = feed
        self._turns = turns
        self._cursors = cursors
        self._channels: dict[ConversationId, TurnChannel] = {}
        self._listeners: dict[ConversationId | ViewerId, set[Listener]] = {}
        self._changed: dict[TurnId, ClusterTime] = {}
        self._work = asyncio.Event()
        self._opened = asyncio.Event()
        self.newest: ClusterTime | None = None
        """The time of the newest change that the feed has brought."""

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
                raise Overloaded("The database's change stream cannot be opened.") from None
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def subscribe(
        self, conversation_id: ConversationId
    ) -> Iterator[tuple[TurnChannel, Subscriber]]:
        """Subscribe to a conversation's turns. Every change after this call is offered, so: first
        subscribe, then read.
        """
        channel = self._channels.get(conversation_id)
        if channel is None:
            channel = self._channels[conversation_id] = TurnChannel(conversation_id, self._cursors)
        subscriber = Subscriber(channel)
        channel.subscribers.add(subscriber)
        try:
            yield channel, subscriber
        finally:
            channel.subscribers.discard(subscriber)
            if not channel.subscribers:
                del self._channels[conversation_id]

    @contextmanager
    def listen(self, subject: ConversationId | ViewerId) -> Iterator[Listener]:
        """Listen to a conversation's or an account's own record."""
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
    def subscriber_count(self) -> int:
        channels = (channel.subscribers for channel in self._channels.values())
        return sum(map(len, channels)) + sum(map(len, self._listeners.values()))

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
                self._fall_behind()  # another feed: changes may have been missed before it opened
            self._opened.set()
            return
        if isinstance(change, HistoryLost):
            log.warning("history lost, subscribers read the present state")
            self._fall_behind()
            return
        self.newest = change.cluster_time
        if change.kind is ChangedKind.TURN:
            turn_id = parse_turn_id(change.id)
            if turn_id is None or change.deleted:
                return
            if conversation_of_turn(turn_id) in self._channels:
                self._changed[turn_id] = change.cluster_time
                self._work.set()
        elif change.kind is ChangedKind.ACCOUNT:
            self._notify(ViewerId(change.id), deleted=change.deleted)
        else:
            conversation_id = ConversationId(change.id)
            self._notify(conversation_id, deleted=change.deleted)
            channel = self._channels.get(conversation_id)
            if channel is not None and change.deleted:
                for subscriber in channel.subscribers:
                    subscriber.end()

    def _notify(self, subject: ConversationId | ViewerId, *, deleted: bool) -> None:
        for listener in self._listeners.get(subject, ()):
            listener.notify(ended=deleted)

    def _fall_behind(self) -> None:
        for channel in self._channels.values():
            for subscriber in channel.subscribers:
                subscriber.fall_behind()
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.notify()

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
                    self._fall_behind()
                    await asyncio.sleep(_PAUSE_SECONDS)
                else:
                    self._give_out(turns, batch)

    def _give_out(self, turns: Iterable[Turn], batch: dict[TurnId, ClusterTime]) -> None:
        by_conversation: dict[ConversationId, list[Turn]] = {}
        for turn in turns:
            by_conversation.setdefault(turn.conversation_id, []).append(turn)
        complete_until: dict[ConversationId, ClusterTime] = {}
        for turn_id, cluster_time in batch.items():
            conversation_id = conversation_of_turn(turn_id)
            latest = complete_until.get(conversation_id, cluster_time)
            complete_until[conversation_id] = max(cluster_time, latest)
        # No cursor may be newer than a change that still has to be read.
        for turn_id, cluster_time in self._changed.items():
            conversation_id = conversation_of_turn(turn_id)
            if conversation_id in complete_until:
                complete_until[conversation_id] = min(cluster_time, complete_until[conversation_id])
        for conversation_id, changed in by_conversation.items():
            channel = self._channels.get(conversation_id)
            if channel is not None:
                channel.give_out(changed, batch, complete_until=complete_until[conversation_id])
