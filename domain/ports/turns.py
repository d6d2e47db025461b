"""Turns as use cases read them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from domain.changes import ClusterTime
from domain.ids import ConversationId, TurnId, ViewerId
from domain.pages import Page, PageRequest
from domain.stored import Wanted
from domain.turns import CurrentTurns, Turn, TurnsAsOf


class TurnRepository(Protocol):
    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[TurnId]
    ) -> Mapping[TurnId, Turn]: ...

    async def find_latest_of_many(
        self, viewer_id: ViewerId, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, Turn]: ...

    async def page(
        self,
        viewer_id: ViewerId,
        conversation_id: ConversationId,
        request: PageRequest,
        *,
        wanted: Wanted | None = None,
    ) -> Page[Turn]:
        """Oldest first. A position is a turn's index. Attributes that are not wanted need not be
        there.
        """

    async def find_latest_with_images(
        self, viewer_id: ViewerId, conversation_id: ConversationId
    ) -> Turn | None: ...

    async def list_in_progress(self, viewer_id: ViewerId) -> Sequence[Turn]: ...

    async def read_current(
        self,
        requests: Sequence[CurrentTurns],
        *,
        recent: timedelta,
        at_least: ClusterTime | None = None,
    ) -> Sequence[TurnsAsOf]:
        """For each request the latest turn, the unfinished ones, and those written after a cluster
        time; oldest first.

        Also those written so recently that a transaction may have committed them out of order.
        Without `changed_since`, only the index, the status and the version of those that have ended
        are read, but for the latest.

        They come in pages: where there are more, call again with the last one's index. Nothing that
        was committed by `at_least` is missing, even if a new primary answers.
        """
