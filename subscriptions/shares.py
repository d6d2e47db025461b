"""`sharedTurnUpdated`: a shared conversation's updates, as its readers may see them.

They are the updates of `turnUpdated`, made once for all readers of shares that show the same. A
subscription ends with its share, for whatever reason that ends: for each share with subscribers in
this process, one task notices it, at once by the change feed, and by a periodic check in any case.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final
from weakref import WeakKeyDictionary, WeakValueDictionary

import structlog

from domain.errors import NotFound, Overloaded
from domain.ids import ShareId
from domain.ports.changes import Receiver
from domain.services.shares import ShareService
from domain.shares import Share, ShareScope
from domain.shown import show_update
from domain.turns import TurnUpdate
from domain.viewers import Viewer
from subscriptions.hub import Hub, Listener
from subscriptions.turns import TurnUpdates

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 15.0
"""How long it may take to notice that a share has ended, if the change feed does not say so."""


@dataclass(frozen=True, slots=True)
class SharedTurnUpdates:
    hub: Hub
    updates: TurnUpdates
    shares: ShareService
    _views: WeakValueDictionary[ShareScope, "_View"] = field(default_factory=WeakValueDictionary)
    _watches: dict[ShareId, "_Watch"] = field(default_factory=dict)

    async def of(self, token: str, *, after: str | None = None) -> AsyncGenerator[TurnUpdate, None]:
        """Yield the updates. Ends with the share.

        Raise NotFound where it has ended, InvalidCursor as `turnUpdated`.
        """
        share = await self._find(token)
        view = self._view_of(share.scope)
        updates = self.updates.of(
            Viewer(share.owner_id),
            share.conversation_id,
            after=after,
            ended_by=partial(self._watch, share),
        )
        async with aclosing(updates):
            async for update in updates:
                yield view.of(update)

    async def deliver(
        self, token: str, *, after: str | None = None, to: Receiver[TurnUpdate]
    ) -> None:
        """Deliver the same updates to a receiver. Raise as `of`."""
        share = await self._find(token)
        await self.updates.deliver(
            Viewer(share.owner_id),
            share.conversation_id,
            after=after,
            to=_Showing(to, self._view_of(share.scope)),
            ended_by=partial(self._watch, share),
        )

    async def _find(self, token: str) -> Share:
        share = await self.shares.find(token)
        if share is None:
            raise NotFound("The share has ended or was revoked.")
        return share

    def _view_of(self, scope: ShareScope) -> "_View":
        """The view of a scope: one object for all its readers, so that none looks it up for an
        update.
        """
        view = self._views.get(scope)
        if view is None:
            view = self._views[scope] = _View(scope)
        return view

    @contextmanager
    def _watch(self, share: Share, end: Callable[[], None]) -> Iterator[None]:
        """A context within which `end` is called once the share has ended."""
        watch = self._watches.get(share.id)
        if watch is None:
            watch = self._watches[share.id] = _Watch(share, self.hub, self.shares)
        watch.ends.add(end)
        if watch.task.done():
            end()
        try:
            yield
        finally:
            watch.ends.discard(end)
            if not watch.ends:
                watch.task.cancel()
                del self._watches[share.id]


class _View:
    """What is shown in one scope."""

    __slots__ = ("__weakref__", "_scope", "_shown")

    def __init__(self, scope: ShareScope) -> None:
        self._scope = scope
        self._shown: WeakKeyDictionary[TurnUpdate, TurnUpdate] = WeakKeyDictionary()

    def of(self, update: TurnUpdate) -> TurnUpdate:
        """The update as it is shown: the same object for all that are given the same update."""
        shown = self._shown.get(update)
        if shown is None:
            shown = self._shown[update] = show_update(update, self._scope)
        return shown


class _Showing:
    """Receives updates, and passes on what is shown of them."""

    __slots__ = ("_show", "_to", "ready")

    def __init__(self, to: Receiver[TurnUpdate], view: _View) -> None:
        self._to = to
        self._show = view.of
        self.ready = to.ready

    def take(self, item: TurnUpdate) -> bool:
        return self._to.take(self._show(item))


class _Watch:
    """Notices when a share ends, and ends its subscriptions."""

    def __init__(self, share: Share, hub: Hub, shares: ShareService) -> None:
        self.ends: set[Callable[[], None]] = set()
        self._share = share
        self._hub = hub
        self._shares = shares
        self.task = asyncio.create_task(self._watch(), name="watch of a share")

    async def _watch(self) -> None:
        try:
            with self._hub.listen(self._share.id) as listener:
                while not await self._has_ended(listener):
                    try:
                        async with asyncio.timeout(self._seconds_until_look()):
                            await listener.wait()
                    except TimeoutError:
                        pass
        except Exception:
            # Its subscriptions end: nothing is shown of a share that cannot be read.
            log.exception("share could not be watched")
        for end in tuple(self.ends):
            end()

    async def _has_ended(self, listener: Listener) -> bool:
        if listener.ended or self._share.has_expired(datetime.now(UTC)):
            return True
        try:
            return not await self._shares.is_valid(self._share)
        except Overloaded:
            return False

    def _seconds_until_look(self) -> float:
        if self._share.expires_at is None:
            return LOOK_SECONDS
        left = (self._share.expires_at - datetime.now(UTC)).total_seconds()
        return max(0.0, min(LOOK_SECONDS, left))
