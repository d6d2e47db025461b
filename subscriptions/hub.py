"""One change feed per process, fanned out to the subscribers of conversations, posts and accounts.

The feed brings changed turns. Those of conversations that have subscribers become one update each,
which is pushed to all of them. After changes that may have been missed, the subscribers read the
present state.
"""

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, contextmanager
from typing import Final, TypeAlias

import structlog

from domain.callbacks import Callbacks
from domain.changes import ClusterTime
from domain.cursors import TurnCursors
from domain.errors import Overloaded
from domain.ids import (
    ConversationId,
    PostId,
    ShareId,
    TurnId,
    ViewerId,
    conversation_of_turn,
    parse_turn_id,
)
from domain.partitions import FollowedPartitions
from domain.ports.changes import (
    READ_AT_ONCE,
    ChangedKind,
    ChangeFeed,
    FeedItem,
    HistoryLost,
    Reached,
)
from domain.ports.observers import Unobserved, UpdateObserver
from domain.retries import RetryPolicy
from domain.turns import Turn
from subscriptions.turn_channel import Subscriber, TurnChannel

log = structlog.get_logger(__name__)

Subject: TypeAlias = ConversationId | PostId | ShareId | ViewerId
"""Records that can be listened to."""

_PORTION: Final = 64
"""How many updates are pushed before the event loop runs others. Each may be answered and encoded
by itself.
"""
_OPEN_SECONDS: Final = 60
_PAUSE_SECONDS: Final = 0.25
_CANCEL_AGAIN_SECONDS: Final = 0.5
_CANCELLATIONS: Final = 20
_READ_AGAIN: Final = RetryPolicy(first_pause_seconds=0.5, longest_pause_seconds=0.5)


Changed: TypeAlias = dict[ConversationId, dict[TurnId, tuple[ClusterTime, Turn]]]
"""Turns that have changed, and when, by their conversations."""

FindAccounts: TypeAlias = Callable[[Collection[ViewerId]], Awaitable[Collection[ViewerId]]]
"""Returns those that have an account."""


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel until they have ended: one that meets the answer to a read can be lost in the driver,
    which then goes on with the next read.
    """
    waiting = set(tasks)
    for _ in range(_CANCELLATIONS):
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=_CANCEL_AGAIN_SECONDS)
        if not waiting:
            return
    log.error("subscriptions do not end", tasks=[task.get_name() for task in waiting])


async def pause_before_reading() -> None:
    """Pause before a failed read is repeated, with jitter, so that subscribers do not all read at
    once.
    """
    await asyncio.sleep(_READ_AGAIN.pause_seconds(1))


class Listener:
    """Is notified when one conversation, post, account or share has changed, so that it can be
    read.
    """

    def __init__(self) -> None:
        self.ended = False
        """Whether it is deleted."""
        self._changed = asyncio.Event()
        self._changed.set()  # Nothing is known yet.

    async def wait(self) -> None:
        """Return once the record may have changed since the last call."""
        await self._changed.wait()
        self._changed.clear()

    def notify(self, *, ended: bool = False) -> None:
        self.ended |= ended
        self._changed.set()


class _Subscribed:
    """A context that takes little memory: there is one for each subscriber."""

    __slots__ = ("_forget", "_subscriber")

    def __init__(self, subscriber: Subscriber, forget: Callable[[ConversationId], None]) -> None:
        self._subscriber = subscriber
        self._forget = forget

    def __enter__(self) -> Subscriber:
        self._subscriber.channel.subscribers.add(self._subscriber)
        return self._subscriber

    def __exit__(self, *_: object) -> None:
        subscriber, channel = self._subscriber, self._subscriber.channel
        channel.subscribers.discard(subscriber)
        subscriber.receive = None
        if not channel.subscribers:
            self._forget(channel.conversation_id)


class Hub:
    def __init__(
        self,
        feed: ChangeFeed,
        cursors: TurnCursors,
        find_accounts: FindAccounts | None = None,
        *,
        observer: UpdateObserver | None = None,
        partitions: FollowedPartitions | None = None,
    ) -> None:
        """`find_accounts` is only needed if `call_when_deleted` is called. `partitions`: those of
        the feed, if it is divided.
        """
        self._partitions = partitions = partitions or FollowedPartitions(1)
        self._feed = feed
        self._find_accounts = find_accounts
        self._history_lost = asyncio.Event()
        self._observer = observer or Unobserved()
        self._cursors = cursors
        self._channels: dict[ConversationId, TurnChannel] = {}
        self._listeners: dict[str, set[Listener]] = {}
        self._when_deleted = Callbacks[ViewerId](
            when_first=partitions.add, when_none=partitions.remove
        )
        self._read = self._pushed = 0
        """Since the event loop has run others."""
        self._opened = asyncio.Event()
        self.newest: ClusterTime | None = None
        """Until when the feed has brought all changes that have subscribers."""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Follow the feed. Raise Overloaded where it does not open in time."""
        tasks = [
            asyncio.create_task(self._follow(), name="change feed"),
            asyncio.create_task(self._find_deleted(), name="deleted viewers"),
        ]
        try:
            try:
                await asyncio.wait_for(self._opened.wait(), _OPEN_SECONDS)
            except TimeoutError:
                raise Overloaded("The database's change stream cannot be opened.") from None
            yield
        finally:
            await _end(tasks)

    def subscribe(self, conversation_id: ConversationId) -> AbstractContextManager[Subscriber]:
        """Subscribe to a conversation's turns.

        Every change after this call is offered: subscribe first, then read.
        """
        channel = self._channels.get(conversation_id)
        if channel is None:
            channel = self._channels[conversation_id] = TurnChannel(conversation_id, self._cursors)
            self._partitions.add(conversation_id)
        return _Subscribed(Subscriber(channel), self._forget)

    def _forget(self, conversation_id: ConversationId) -> None:
        """Drop the channel of a conversation that nobody subscribes to any more."""
        del self._channels[conversation_id]
        self._partitions.remove(conversation_id)

    @contextmanager
    def listen(self, subject: Subject) -> Iterator[Listener]:
        """Listen to a conversation's own record (not to its turns), a post, an account
        or a share.
        """
        listener = Listener()
        listeners = self._listeners.setdefault(subject, set())
        listeners.add(listener)
        if len(listeners) == 1:
            self._partitions.add(subject)
        try:
            yield listener
        finally:
            listeners.discard(listener)
            if not listeners:
                del self._listeners[subject]
                self._partitions.remove(subject)

    def call_when_deleted(
        self, viewer_id: ViewerId, callback: Callable[[], None]
    ) -> AbstractContextManager[None]:
        """Call back when the viewer's account is deleted."""
        return self._when_deleted.registered(viewer_id, callback)

    @property
    def conversation_count(self) -> int:
        """How many conversations have subscribers to their turns."""
        return len(self._channels)

    @property
    def subscriber_count(self) -> int:
        channels = (channel.subscribers for channel in self._channels.values())
        return sum(map(len, channels)) + sum(map(len, self._listeners.values()))

    async def _follow(self) -> None:
        while True:
            try:
                async with aclosing(self._feed.follow()) as batches:
                    async for batch in batches:
                        if batch is None:
                            self._open()
                            continue
                        await self._take(batch)
            except Exception:
                log.exception("change feed failed")
            await asyncio.sleep(_PAUSE_SECONDS)

    def _open(self) -> None:
        if self._opened.is_set():
            # Another feed has opened: changes before that may have been missed.
            self._fall_behind()
        self._opened.set()

    async def _take(self, items: Sequence[FeedItem]) -> None:
        changed: Changed = {}
        for item in items:
            self._route(item, changed)
        if changed:
            try:
                await self._give_out(changed)
            except Exception:
                log.exception("updates could not be made")
                self._fall_behind()
                await asyncio.sleep(_PAUSE_SECONDS)
        self._read += len(items)
        if self._read >= READ_AT_ONCE:
            self._read = 0
            await asyncio.sleep(0)

    def _route(self, change: FeedItem, changed: Changed) -> None:
        """Notify those who listen to what has changed. A turn that has subscribers is added to
        those that are to be given out.
        """
        if isinstance(change, HistoryLost):
            log.warning("history lost, subscribers read the present state")
            self._fall_behind()
            return
        if self.newest is None or change.cluster_time > self.newest:
            self.newest = change.cluster_time  # a feed may bring changes again
        if isinstance(change, Reached):
            return
        if change.kind is ChangedKind.TURN:
            turn_id = parse_turn_id(change.id)
            # Of one that is deleted, nothing is sent here: with its conversation, the subscription
            # ends; by itself, the conversation's record changes, which `conversationUpdated` says.
            if turn_id is None or change.read_turn is None:
                return
            conversation_id = conversation_of_turn(turn_id)
            if conversation_id in self._channels:
                turns = changed.setdefault(conversation_id, {})
                turns[turn_id] = change.cluster_time, change.read_turn()
            return
        for listener in self._listeners.get(change.id, ()):
            listener.notify(ended=change.deleted)
        if change.deleted:
            self._end(change.id)

    def _end(self, subject: str) -> None:
        """End the subscriptions to what has been deleted."""
        self._when_deleted.call(ViewerId(subject))
        channel = self._channels.get(ConversationId(subject))
        for subscriber in channel.subscribers if channel else ():
            subscriber.end()

    def _fall_behind(self) -> None:
        self._history_lost.set()
        for channel in self._channels.values():
            for subscriber in channel.subscribers:
                subscriber.fall_behind()
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.notify()

    async def _find_deleted(self) -> None:
        """After changes that may have been missed, find the viewers who have no account any more.

        The sockets of a viewer who never had one are closed as well: the client reconnects.
        """
        while True:
            await self._history_lost.wait()
            self._history_lost.clear()
            viewer_ids = list(self._when_deleted.keys)
            if self._find_accounts is None or not viewer_ids:
                continue
            try:
                found = await self._find_accounts(viewer_ids)
            except Overloaded:
                self._history_lost.set()
                await pause_before_reading()
                continue
            for viewer_id in set(viewer_ids) - set(found):
                self._when_deleted.call(viewer_id)

    async def _give_out(self, changed: Changed) -> None:
        for conversation_id, turns in changed.items():
            channel = self._channels.get(conversation_id)
            if channel is None:
                continue
            channel.give_out(turns, complete_until=max(at for at, _ in turns.values()))
            await self._push(channel)
            for _, turn in turns.values():
                self._observer.pushed(turn)

    async def _push(self, channel: TurnChannel) -> None:
        """Push what is pending to all subscribers, and let other tasks run now and then.

        A receiver that fails must not affect the others: its own task reads again, and fails.
        """
        for subscriber in tuple(channel.subscribers):
            try:
                self._pushed += subscriber.push()
            except Exception:
                log.exception("update could not be pushed")
                subscriber.fall_behind()
            if self._pushed >= _PORTION:
                self._pushed = 0
                await asyncio.sleep(0)
