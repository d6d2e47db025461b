"""Viewers whom an operator has blocked: every process knows all of them, a few seconds later."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Final

from domain.callbacks import Callbacks
from domain.ids import ViewerId
from domain.ports.viewers import ViewerRepository
from domain.refreshing import refreshing

_EVERY_SECONDS: Final = 5.0


class BlockedViewers:
    def __init__(self, viewers: ViewerRepository) -> None:
        self._viewers = viewers
        self._ids: frozenset[ViewerId] = frozenset()
        self._callbacks = Callbacks[ViewerId]()

    def __contains__(self, viewer_id: object) -> bool:
        return viewer_id in self._ids

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Keep up with the database until the block ends."""
        name = "blocked viewers"
        async with refreshing(self.refresh, every_seconds=_EVERY_SECONDS, name=name):
            yield

    async def refresh(self) -> None:
        before, self._ids = self._ids, frozenset(await self._viewers.list_blocked())
        for viewer_id in self._ids - before:
            self._callbacks.call(viewer_id)

    def call_when_blocked(
        self, viewer_id: ViewerId, callback: Callable[[], None]
    ) -> AbstractContextManager[None]:
        """Call back when the viewer is blocked, within the context."""
        return self._callbacks.registered(viewer_id, callback)
