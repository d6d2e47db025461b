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
from domain.ports.changes import ChangedKind, ChangeFeed, FeedItem, HistoryLost, Reached
from domain.ports.observers import Unobserved, UpdateObserver
from domain.retries import RetryPolicy
from domain.turns import Turn
from subscriptions.turn_channel import Subscriber, TurnChannel

log = structlog.get_logger(__name__)

Subject: TypeAlias = ConversationId | PostId | ShareId | ViewerId
"""Records that can be listened to."""

_BATCH: Final = 256
_PORTION: Final = 200
"""How many updates are pushed before the event loop runs others."""
READ_AT_ONCE: Final = 100
"""How many changes are read before the event loop runs others: a feed that has fallen behind has
many, and brings them without a pause.
"""
_OPEN_SECONDS: Final = 60
_PAUSE_SECONDS: Final = 0.25
_CANCEL_AGAIN_SECONDS: Final = 0.5
_CANCELLATIONS: Final = 20
_READ_AGAIN: Final = RetryPolicy(first_pause_seconds=0.5, longest_pause_seconds=0.5)


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
        self._changed: dict[TurnId, tuple[ClusterTime, Turn]] = {}
        self._pushed = 0
        self._work = asyncio.Event()
        self._opened = asyncio.Event()
        self.newest: ClusterTime | None = None
        """Until when the feed has brought all changes that have subscribers."""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Follow the feed. Raise Overloaded where it does not open in time."""
        tasks = [
            asyncio.create_task(self._follow(), name="change feed"),
            asyncio.create_task(self._give_out_changed(), name="changed turns"),
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
        """Nobody subscribes to its turns any more."""
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
            read = 0
            try:
                async with aclosing(self._feed.follow()) as changes:
                    async for change in changes:
                        self._route(change)
                        read += 1
                        if read % READ_AT_ONCE == 0:
                            await asyncio.sleep(0)
            except Exception:
                log.exception("change feed failed")
            await asyncio.sleep(_PAUSE_SECONDS)

    def _route(self, change: FeedItem | None) -> None:
        if change is None:
            if self._opened.is_set():
                # Another feed has opened: changes before that may have been missed.
                self._fall_behind()
            self._opened.set()
            return
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
            if conversation_of_turn(turn_id) in self._channels:
                self._changed[turn_id] = (change.cluster_time, change.read_turn())
                self._work.set()
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

    async def _give_out_changed(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._changed:
                batch = dict(list(self._changed.items())[:_BATCH])
                for turn_id in batch:
                    del self._changed[turn_id]
                try:
                    await self._give_out(batch)
                except Exception:
                    log.exception("updates could not be made")
                    self._fall_behind()
                    await asyncio.sleep(_PAUSE_SECONDS)

    async def _give_out(self, batch: dict[TurnId, tuple[ClusterTime, Turn]]) -> None:
        by_conversation: dict[ConversationId, list[Turn]] = {}
        complete_until: dict[ConversationId, ClusterTime] = {}
        for turn_id, (cluster_time, turn) in batch.items():
            conversation_id = conversation_of_turn(turn_id)
            by_conversation.setdefault(conversation_id, []).append(turn)
            latest = complete_until.get(conversation_id, cluster_time)
            complete_until[conversation_id] = max(cluster_time, latest)
        # No cursor may be newer than a change that has not been offered yet.
        for turn_id, (cluster_time, _) in self._changed.items():
            conversation_id = conversation_of_turn(turn_id)
            if conversation_id in complete_until:
                complete_until[conversation_id] = min(cluster_time, complete_until[conversation_id])
        for conversation_id, changed in by_conversation.items():
            channel = self._channels.get(conversation_id)
            if channel is None:
                continue
            changed_at = {turn.id: batch[turn.id][0] for turn in changed}
            channel.give_out(changed, changed_at, complete_until=complete_until[conversation_id])
            await self._push(channel)
            for turn in changed:
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
