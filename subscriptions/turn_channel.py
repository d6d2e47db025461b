"""The live updates of one conversation: each is made once, and all subscribers get the same object.

What must stay true: a subscriber that receives every update offered to it, in order, has missed
nothing when it holds an update's cursor; and `changed_outputs` holds at least the outputs that
changed since the state that the subscriber had before.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from weakref import WeakKeyDictionary

from domain.changes import Bookmark, ClusterTime
from domain.cursors import TurnCursors
from domain.ids import ConversationId, TurnId
from domain.turns import Turn, TurnUpdate

CLOCK_SLACK: Final = timedelta(seconds=10)
"""How much older than its commit a turn's `changedAt` may be: as long as a transaction may live."""
MAX_PENDING_TURNS: Final = 64
"""The pending updates of one subscriber. With more it falls behind, and reads the present state."""
REMEMBERED_TURNS: Final = 64
"""How many turns' versions are remembered. Updates of other turns contain all their outputs."""
BOOKMARKED_TURNS: Final = 16
"""How many turns' versions a cursor contains. After a resumption, other recent turns may be sent
again.
"""


@dataclass(frozen=True, slots=True)
class LiveUpdate:
    """An update as it is offered to every subscriber of the conversation."""

    update: TurnUpdate
    since_version: int | None
    """The version of the turn that `changed_outputs` starts from; None if it contains
    all outputs.
    """
    changed_at: ClusterTime
    """The time of the earliest change in it that no earlier update contained."""

    @property
    def turn_index(self) -> int:
        return self.update.turn.turn_index

    def followed_by(self, later: "LiveUpdate") -> "LiveUpdate":
        """Both updates as one, for a subscriber that has received neither."""
        turn = later.update.turn
        changed = {output.slot for part in (self, later) for output in part.update.changed_outputs}
        outputs = tuple(output for output in turn.outputs if output.slot in changed)
        return LiveUpdate(
            replace(later.update, changed_outputs=outputs), self.since_version, self.changed_at
        )


class Subscriber:
    """One subscriber of a conversation: what has been offered to it, and what it has been sent."""

    __slots__ = (
        "_is_woken",
        "_pending",
        "_read_versions",
        "_waiter",
        "behind",
        "bookmark",
        "channel",
        "ended",
        "live",
        "receive",
    )

    def __init__(self, channel: "TurnChannel") -> None:
        self.channel = channel
        self._pending: tuple[LiveUpdate, ...] = ()
        """One for each turn, the longest pending first. Mostly there is none, or one: a dict would
        take three times the memory, and the processor's cache holds little of 1,000 subscribers.
        """
        self._read_versions: dict[int, int] = {}
        """The versions of turns that it has read, until an update is newer than they are."""
        self._is_woken = False
        self._waiter: asyncio.Future[None] | None = None
        """A future of its task. An `asyncio.Event` would take ten times the memory."""
        self.behind = True
        """Whether it has to read the present state, because it may have missed changes."""
        self.live = False
        """Whether it has read the present state, and every later change was sent or is pending."""
        self.ended = False
        """Whether the conversation is deleted."""
        self.bookmark: Bookmark | None = None
        """The bookmark of the last sent update."""
        self.receive: Callable[[TurnUpdate], bool] | None = None
        """Receives an update at once, or returns False when it is full. None: the subscriber's task
        takes what is pending.
        """

    async def wait(self) -> None:
        """Return once there is something to do."""
        if not self._is_woken:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._is_woken = False

    def wake(self) -> None:
        self._is_woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def offer(self, live: LiveUpdate) -> None:
        if not self._pending:
            self._pending = (live,)
            return
        index = live.turn_index
        for place, pending in enumerate(self._pending):
            if pending.turn_index == index:
                merged = pending.followed_by(live)
                self._pending = (*self._pending[:place], merged, *self._pending[place + 1 :])
                return
        if len(self._pending) < MAX_PENDING_TURNS:
            self._pending = (*self._pending, live)
        else:
            # The update is dropped, and its change has to be read.
            self.behind, self.live = True, False

    def push(self) -> int:
        """Give pending updates to the receiver, and return how many it has taken. Wake the
        subscriber's task if it cannot take all.
        """
        receive, taken = self.receive, 0
        if receive is None or self.behind or not self.live:
            self.wake()
            return 0
        while self._pending:
            pending = self._pending
            live, self._pending = pending[0], pending[1:]
            known = self._read_versions.get(live.turn_index)
            update: TurnUpdate | None = live.update
            if known is not None or self._pending:
                update = self._present(live, known)
            if update is not None:
                if not receive(update):
                    self._pending = pending
                    self.receive = None
                    self.wake()
                    return taken
                taken += 1
                self.bookmark = update.bookmark
            if known is not None:
                self._forget_read(live.update.turn, known)
        return taken

    def fall_behind(self) -> None:
        self.behind = True
        self.wake()

    def end(self) -> None:
        self.ended = True
        self.wake()

    def catch_up(self, versions: Mapping[int, int]) -> None:
        """Mark the subscriber as live, unless it has fallen behind in the meantime. It has read
        these versions of turns.
        """
        self._read_versions = dict(versions)
        self.live = not self.behind

    def known_versions(self) -> dict[int, int]:
        """The version of each turn that it has certainly received, as far as it is remembered."""
        given = {} if not self.live else self.channel.given_versions()
        unsent = self._unsent()
        return {
            index: version
            for index, version in (given | self._read_versions).items()
            if index not in unsent
        }

    def take(self) -> Iterator[TurnUpdate]:
        """The pending updates, the longest pending first. Yields nothing once it is behind: no
        cursor may be newer than a change that still has to be read.
        """
        while self._pending and not self.behind:
            live, self._pending = self._pending[0], self._pending[1:]
            known = self._read_versions.get(live.turn_index)
            update = self._present(live, known)
            if known is not None:
                self._forget_read(live.update.turn, known)
            if update is not None:
                self.bookmark = update.bookmark
                yield update

    def _present(self, live: LiveUpdate, known: int | None) -> TurnUpdate | None:
        """The update for this subscriber, for most of them the same object. None if it has read
        this version of the turn, or a later one.
        """
        update, turn = live.update, live.update.turn
        if known is not None:
            if turn.version <= known:
                return None
            if live.since_version is not None and live.since_version > known:
                update = replace(update, changed_outputs=turn.outputs)
        return self._limit_cursor(update) if self._pending else update

    def _forget_read(self, turn: Turn, known: int) -> None:
        """Forget the version that the subscriber has read, if what it is given now is as new."""
        if turn.version >= known:
            del self._read_versions[turn.turn_index]

    def _unsent(self) -> set[int]:
        return {pending.turn_index for pending in self._pending}

    def _limit_cursor(self, update: TurnUpdate) -> TurnUpdate:
        """The update with a cursor that does not cover what is pending for this subscriber."""
        cluster_time = min(
            update.bookmark.cluster_time, *(pending.changed_at for pending in self._pending)
        )
        unsent = self._unsent()
        versions = tuple(pair for pair in update.bookmark.versions if pair[0] not in unsent)
        return self.channel.with_bookmark(update, Bookmark(cluster_time, versions))


@dataclass(slots=True)
class _Known:
    version: int
    outputs: dict[int, int]
    """The version of each output, by its slot."""
    cluster_time: ClusterTime | None
    """As of when it was given out; None if a subscriber has only read it."""


class TurnChannel:
    """Makes the updates of one conversation, and offers them to its subscribers."""

    def __init__(self, conversation_id: ConversationId, cursors: TurnCursors) -> None:
        self.conversation_id = conversation_id
        self._cursors = cursors
        self._known: dict[int, _Known] = {}
        self._with_bookmarks: WeakKeyDictionary[TurnUpdate, TurnUpdate] = WeakKeyDictionary()
        """The latest combination that was made of an update, for as long as that is pending for any
        subscriber.
        """
        self.subscribers: set[Subscriber] = set()

    def give_out(
        self,
        turns: Mapping[TurnId, tuple[ClusterTime, Turn]],
        *,
        complete_until: ClusterTime,
    ) -> None:
        """Offer these turns as they are, each with the time of its change.

        Everything that changed before `complete_until` is in them, or was offered earlier.
        """
        ahead = list(turns.values())
        while ahead:
            changed_at, turn = ahead.pop(0)
            # A subscriber may disconnect before it receives the later turns: a newer cursor would
            # claim that it has them.
            cluster_time = min([complete_until, *(later_at for later_at, _ in ahead)])
            live = self._make(turn, changed_at, cluster_time)
            if live is not None:
                for subscriber in self.subscribers:
                    subscriber.offer(live)

    def learn(self, turn: Turn) -> None:
        """Remember what a subscriber has read while catching up: the next update starts from it.

        Not if another subscriber is live already: its version is unknown.
        """
        if turn.turn_index in self._known or any(one.live for one in self.subscribers):
            return
        self._remember(turn, None)

    def given_versions(self) -> dict[int, int]:
        """The version of each turn that was last offered to all."""
        return {
            i: known.version for i, known in self._known.items() if known.cluster_time is not None
        }

    def with_bookmark(self, update: TurnUpdate, bookmark: Bookmark) -> TurnUpdate:
        """The same object for all that ask for the same, one after another."""
        latest = self._with_bookmarks.get(update)
        if latest is None or latest.bookmark != bookmark:
            cursor = self._cursors.make(self.conversation_id, bookmark)
            latest = replace(update, bookmark=bookmark, cursor=cursor)
            self._with_bookmarks[update] = latest
        return latest

    def _make(
        self, turn: Turn, changed_at: ClusterTime, cluster_time: ClusterTime
    ) -> LiveUpdate | None:
        known = self._known.get(turn.turn_index)
        if known is not None and known.cluster_time is not None and turn.version <= known.version:
            return None
        changed = tuple(
            output
            for output in turn.outputs
            if known is None or output.version != known.outputs.get(output.slot)
        )
        since_version = known.version if known is not None else None
        self._remember(turn, cluster_time)
        bookmark = Bookmark(cluster_time, self._recent_versions(cluster_time))
        cursor = self._cursors.make(self.conversation_id, bookmark)
        return LiveUpdate(
            TurnUpdate(turn=turn, changed_outputs=changed, bookmark=bookmark, cursor=cursor),
            since_version,
            changed_at,
        )

    def _remember(self, turn: Turn, cluster_time: ClusterTime | None) -> None:
        self._known.pop(turn.turn_index, None)
        outputs = {output.slot: output.version for output in turn.outputs}
        self._known[turn.turn_index] = _Known(turn.version, outputs, cluster_time)
        if len(self._known) > REMEMBERED_TURNS:
            del self._known[next(iter(self._known))]

    def _recent_versions(self, cluster_time: ClusterTime) -> tuple[tuple[int, int], ...]:
        """The versions of turns that a resumption from this cluster time would find again."""
        recent = cluster_time.earlier(CLOCK_SLACK)
        found = [
            (index, known.version)
            for index, known in self._known.items()
            if known.cluster_time is not None and known.cluster_time >= recent
        ]
        return tuple(found[-BOOKMARKED_TURNS:])
