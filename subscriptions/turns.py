"""`turnUpdated`: the turns of a conversation as they are, then after each change.

State, not events: an update is a turn as it is, so a state may be sent twice, and the latest one is
never missed. Live updates are made once for all subscribers (`turn_channel`). Each subscriber
catches up on its own: when it subscribes, with or without a cursor, and after it fell behind.
Cursors are in the database's own time, valid in every process.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from domain.changes import Bookmark, ClusterTime
from domain.cursors import TurnCursors
from domain.errors import NotFound, Overloaded
from domain.ids import ConversationId, parse_conversation_id
from domain.ports.changes import Receiver
from domain.ports.turns import TurnRepository
from domain.turns import CurrentTurns, Turn, TurnsAsOf, TurnUpdate
from domain.viewers import Viewer
from subscriptions.hub import Hub, pause_before_reading
from subscriptions.shared_pages import SharedPages
from subscriptions.turn_channel import (
    BOOKMARKED_TURNS,
    CLOCK_SLACK,
    REMEMBERED_TURNS,
    Subscriber,
)

EndedBy: TypeAlias = Callable[[Callable[[], None]], AbstractContextManager[None]]
"""Calls the function that it is given once the subscription is to end, within the context."""


_NOTHING: Final = nullcontext()


def _nothing(_end: Callable[[], None]) -> AbstractContextManager[None]:
    return _NOTHING


@dataclass(slots=True)
class TurnUpdates:
    hub: Hub
    turns: TurnRepository
    cursors: TurnCursors
    _pages: SharedPages = field(init=False)

    def __post_init__(self) -> None:
        self._pages = SharedPages(self._read_pages)

    async def of(
        self,
        viewer: Viewer,
        raw_conversation_id: str,
        *,
        after: str | None = None,
        ended_by: EndedBy = _nothing,
    ) -> AsyncGenerator[TurnUpdate, None]:
        """Yield the updates. Ends when the conversation is deleted, or when `ended_by` ends it.

        Raise NotFound unless it is the viewer's, InvalidCursor for a cursor that is not its own.
        """
        conversation_id, catching_up = self._read(raw_conversation_id, after)
        with self.hub.subscribe(conversation_id) as subscriber, ended_by(subscriber.end):
            following = _Following(conversation_id, subscriber, catching_up)
            while not subscriber.ended:
                async with aclosing(self._catch_up(viewer, following)) as read:
                    async for update in read:
                        yield update
                for update in subscriber.take():
                    yield update
                await subscriber.wait()

    async def deliver(
        self,
        viewer: Viewer,
        raw_conversation_id: str,
        *,
        after: str | None = None,
        to: Receiver[TurnUpdate],
        ended_by: EndedBy = _nothing,
    ) -> None:
        """Give the same updates to a receiver, live ones without waking a task. Raise as `of`."""
        conversation_id, catching_up = self._read(raw_conversation_id, after)
        with self.hub.subscribe(conversation_id) as subscriber, ended_by(subscriber.end):
            following = _Following(conversation_id, subscriber, catching_up)
            del catching_up
            while not subscriber.ended:
                subscriber.receive = None
                await self._deliver_missed(viewer, following, to)
                while not subscriber.behind and not subscriber.ended:
                    subscriber.receive = to.take
                    subscriber.push()
                    await subscriber.wait()
                    await to.ready()

    async def _deliver_missed(
        self, viewer: Viewer, following: "_Following", to: Receiver[TurnUpdate]
    ) -> None:
        """Deliver what the subscriber has missed. This is not in the loop that waits for changes,
        whose frame would keep the last update in memory.
        """
        async with aclosing(self._catch_up(viewer, following)) as read:
            async for update in read:
                while not to.take(update):
                    await to.ready()

    def _read(
        self, raw_conversation_id: str, after: str | None
    ) -> tuple[ConversationId, "_CatchingUp"]:
        conversation_id = parse_conversation_id(raw_conversation_id)
        if conversation_id is None:
            raise NotFound
        bookmark = self.cursors.read(conversation_id, after) if after is not None else None
        return conversation_id, _CatchingUp.for_newcomer(bookmark)

    async def _catch_up(
        self, viewer: Viewer, following: "_Following"
    ) -> AsyncGenerator[TurnUpdate, None]:
        """Read what the subscriber has missed, and make it live. Return at once if it is live."""
        conversation_id, subscriber = following.conversation_id, following.subscriber
        while subscriber.behind and not subscriber.ended:
            # Set before the read: a change that the read misses makes it read again.
            subscriber.behind = False
            catching_up = following.catching_up or _CatchingUp.after_a_gap(subscriber)
            following.catching_up = catching_up
            try:
                catching_up.start()
                while not catching_up.done:
                    page = await self._pages.read(
                        CurrentTurns(
                            viewer.id, conversation_id, catching_up.since, catching_up.after_index
                        )
                    )
                    if not page.exists:
                        if subscriber.bookmark is None:
                            raise NotFound
                        subscriber.end()
                        return
                    for turn, bookmark in catching_up.take(page):
                        subscriber.channel.learn(turn)
                        subscriber.bookmark = bookmark
                        yield self._make_update(page, turn, bookmark)
            except Overloaded:
                subscriber.fall_behind()
                await pause_before_reading()
                continue
            subscriber.catch_up(catching_up.versions)
            following.catching_up = None

    async def _read_pages(self, requests: Sequence[CurrentTurns]) -> Sequence[TurnsAsOf]:
        return await self.turns.read_current(requests, recent=CLOCK_SLACK, at_least=self.hub.newest)

    def _make_update(self, page: TurnsAsOf, turn: Turn, bookmark: Bookmark) -> TurnUpdate:
        """Make an update once for all that read the same page and get the same bookmark with it."""
        known = self._pages.updates.get(page)
        known_update = known.get(turn.id) if known is not None else None
        if known_update is not None and known_update.bookmark == bookmark:
            return known_update
        update = TurnUpdate(
            turn=turn,
            changed_outputs=turn.outputs,
            bookmark=bookmark,
            cursor=self.cursors.make(turn.conversation_id, bookmark),
        )
        if known is not None:
            known[turn.id] = update
        return update


@dataclass(slots=True)
class _Following:
    """The present state of one subscriber."""

    conversation_id: ConversationId
    subscriber: Subscriber
    catching_up: "_CatchingUp | None"
    """None while it is live."""


class _CatchingUp:
    """Finds the turns of the present state that a subscriber does not have, page by page."""

    def __init__(self, after: Bookmark | None, versions: dict[int, int], *, first: bool) -> None:
        self.versions = versions
        """The version that it has of each turn, as far as it is remembered."""
        self._first = first
        self._has_cursor = after is not None
        self._stands_at = after.cluster_time if after else None
        self._moments: dict[int, ClusterTime] = (
            dict.fromkeys(versions, after.cluster_time) if after else {}
        )
        self.start()

    @classmethod
    def for_newcomer(cls, after: Bookmark | None) -> "_CatchingUp":
        """For a new subscriber. `after` is the bookmark of its cursor, if it resumes."""
        return cls(after, dict(after.versions) if after else {}, first=True)

    @classmethod
    def after_a_gap(cls, subscriber: Subscriber) -> "_CatchingUp":
        """For a subscriber that may have missed changes since its last update."""
        bookmark = subscriber.bookmark
        versions = dict(bookmark.versions) if bookmark else {}
        return cls(bookmark, versions | subscriber.known_versions(), first=bookmark is None)

    def start(self) -> None:
        """Begin with the first page."""
        self.done = False
        self.after_index = -1
        self._read_at: ClusterTime | None = None

    @property
    def since(self) -> ClusterTime | None:
        return self._stands_at.earlier(CLOCK_SLACK) if self._stands_at else None

    def take(self, page: TurnsAsOf) -> list[tuple[Turn, Bookmark]]:
        """The turns of a page to send, each with the subscriber's bookmark once it has the turn.

        The first time, the latest turn and those in progress are sent in any case. Other turns are
        sent if the subscriber has an older version; a subscriber without a cursor has missed none.
        The bookmark stays where it was until the last turn of the last page is sent.
        """
        self._read_at = self._read_at or page.cluster_time
        due: list[Turn] = []
        for turn in page.turns:
            latest = not page.more and turn is page.turns[-1]
            if self._first and (turn.in_progress or latest):
                due.append(turn)
            elif turn.version > self.versions.get(turn.turn_index, -1):
                if self._has_cursor:
                    due.append(turn)
                else:
                    self._know(turn)
        sent: list[tuple[Turn, Bookmark]] = []
        for turn in due:
            self._know(turn)
            last = not page.more and turn is due[-1]
            cluster_time = self._read_at if last else self._stands_at or self._read_at
            sent.append((turn, Bookmark(cluster_time, self._recent_versions(cluster_time))))
        if page.more:
            self.after_index = page.turns[-1].turn_index
        else:
            self.done, self._stands_at = True, self._read_at
        return sent

    def _know(self, turn: Turn) -> None:
        self.versions.pop(turn.turn_index, None)
        self.versions[turn.turn_index] = turn.version
        assert self._read_at is not None
        self._moments[turn.turn_index] = self._read_at
        if len(self.versions) > REMEMBERED_TURNS:
            oldest = next(iter(self.versions))
            del self.versions[oldest]
            self._moments.pop(oldest, None)

    def _recent_versions(self, cluster_time: ClusterTime) -> tuple[tuple[int, int], ...]:
        """The versions of turns that a resumption from this cluster time would find again."""
        recent = cluster_time.earlier(CLOCK_SLACK)
        found = [
            (index, version)
            for index, version in self.versions.items()
            if index in self._moments and self._moments[index] >= recent
        ]
        return tuple(found[-BOOKMARKED_TURNS:])
